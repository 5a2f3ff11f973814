package life

import (
	"cmp"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

// order puts the steps into the order in which they happened, as far as that is known: nothing happened later than what must
// have come after it. Stages report in intervals of their own, so what came first is often told last.
func (t *teller) order() {
	steps := t.life.Steps
	notAfter := func(which func(Step) bool, than func(a, b Step) bool) {
		for i := range steps {
			if !which(steps[i]) || steps[i].Source != streams.Ledger {
				continue
			}
			for j := range steps {
				if i != j && than(steps[i], steps[j]) && steps[j].Latest.Before(steps[i].Latest) {
					steps[i].until(steps[j].Latest)
				}
			}
		}
	}
	is := func(marks ...ledger.Mark) func(Step) bool {
		return func(s Step) bool { return slices.Contains(marks, ledger.Mark(s.What)) }
	}
	predicted, forwarded, taken := is(ledger.Predicted), is(ledger.Forwarded), is(ledger.Taken)
	for i := range steps { // told as predicted, answered at a time that is known
		if predicted(steps[i]) && steps[i].Source == streams.Ledger {
			for _, a := range t.life.Answers {
				if a.Model == steps[i].Model {
					steps[i].until(a.StoredAt)
				}
			}
		}
	}
	same := func(a, b Step) bool { return a.Stage == b.Stage && a.Instance == b.Instance }
	notAfter(taken, func(a, b Step) bool { // whoever has taken it can do more with it
		return same(a, b) && b.rank >= a.rank && !taken(b) && (b.What != string(ledger.Returned) || b.Again >= a.Again)
	})
	for _, a := range t.life.Answers { // and whoever gave the answer had the frame by then
		for i, s := range steps {
			if taken(s) && s.Latest.After(a.PredictedAt) && slices.ContainsFunc(steps, func(b Step) bool { return predicted(b) && b.Model == a.Model && same(s, b) }) {
				steps[i].until(a.PredictedAt)
			}
		}
	}
	notAfter(forwarded, func(a, b Step) bool { return taken(b) && b.rank == rankInfer && a.Model == b.Model })
	notAfter(taken, func(a, b Step) bool { return same(a, b) && forwarded(b) })
	notAfter(is(ledger.Published), func(_, b Step) bool {
		return b.Source == streams.Ledger && b.rank >= rankPreprocess && b.rank < rankOther
	})
	notAfter(is(ledger.Captured), func(_, b Step) bool { return b.Source == streams.Ledger && b.rank > rankCaptured && b.rank < rankOther })
	for i := range steps {
		if steps[i].What == string(ledger.Captured) && !t.life.CapturedAt.IsZero() {
			steps[i].Earliest, steps[i].Latest = t.life.CapturedAt, t.life.CapturedAt
		}
		if s := &steps[i]; s.Source == streams.Ledger && s.Earliest.Before(t.life.CapturedAt) && !s.Latest.Before(t.life.CapturedAt) {
			s.Earliest = t.life.CapturedAt
		}
	}
	slices.SortStableFunc(steps, func(a, b Step) int {
		return cmp.Or(a.Latest.Compare(b.Latest), cmp.Compare(a.rank, b.rank), cmp.Compare(a.Again, b.Again))
	})
}

// until says that a step happened not later than at a time.
func (s *Step) until(at time.Time) {
	s.Latest = at
	if s.Earliest.After(at) {
		s.Earliest = at
	}
}

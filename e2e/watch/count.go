package watch

import (
	"context"
	"fmt"
	"time"

	"github.com/sightline-dev/sightline/chaos/audit"
	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/ledger"
)

const (
	// countWithin bounds one count, a broker that elects leaders included.
	countWithin = time.Minute
	// stepWithin bounds a part of it: what is under way has its patience, the books are read in seconds.
	stepWithin = 20 * time.Second
	// explainWithin is how long the books may take to say what became of frames: they wait until they are sure.
	explainWithin = 30 * time.Second
)

// Count is what became of frames since the Watch was opened.
type Count struct {
	Findings []audit.Finding
	Doubled  []string
	// Missing is how many frames of every_frame cameras have no answer, whatever the books say of them.
	Missing uint64
}

// Lost is the total, by camera and model.
func (c Count) Lost() map[string]uint64 {
	out := map[string]uint64{}
	for _, f := range c.Findings {
		out[f.Camera+" "+f.Model] = f.Lost()
	}
	return out
}

// Count takes a mark, gives what is under way the patience to end, and reads PREDICTIONS, DLQ and the books. It repeats that
// while more is lost than was known, until the books have said what they can. known is an earlier Count or nil.
func (w *Watch) Count(ctx context.Context, known *Count, patience time.Duration) (*Count, error) {
	if known == nil {
		known = &Count{}
	}
	lost := known.Lost()
	for began := time.Now(); ; {
		c, err := w.count(ctx, known.Missing, patience)
		if err != nil {
			return nil, err
		}
		more := false
		for key, n := range c.Lost() {
			more = more || n > lost[key]
		}
		for _, f := range c.Findings {
			more = more || f.Unknown || f.Unbalanced
		}
		if !more || time.Since(began) > explainWithin || !clock.Pause(ctx, time.Second) {
			return c, nil
		}
	}
}

// bounded bounds a step: one that begins while nobody leads may never end.
func bounded(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, stepWithin)
	defer cancel()
	return step(ctx)
}

func (w *Watch) count(ctx context.Context, known uint64, patience time.Duration) (*Count, error) {
	ctx, cancel := context.WithTimeout(ctx, countWithin)
	defer cancel()
	mark := w.Facts.Now()
	out := &Count{}
	var lines []ledger.Line
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) (err error) {
			out.Missing, err = w.Reader.Settle(ctx, mark, w.EveryFrame(), w.Model, known, patience)
			return err
		},
		func(ctx context.Context) error {
			all, unreadable, err := ledger.Balance(ctx, w.JS)
			if err == nil && unreadable > 0 {
				return fmt.Errorf("%d records of the ledger cannot be read", unreadable)
			}
			lines = all
			return err
		},
		func(ctx context.Context) error { return w.Reader.Read(ctx) },
	} {
		err := bounded(ctx, step)
		for err != nil && clock.Pause(ctx, time.Second) { // a broker that elects a leader answers nobody
			err = bounded(ctx, step)
		}
		if err != nil {
			return nil, fmt.Errorf("count: %w", err)
		}
	}
	out.Findings, out.Doubled = w.Facts.Compare(mark, lines), w.Facts.Doubled()
	return out, nil
}

// Agree says in what PREDICTIONS and the books do not agree, or what is in flight: when nothing is captured any more, nothing.
func (w *Watch) Agree(c *Count) []string {
	var out []string
	for _, f := range c.Findings {
		answers := w.Facts.Answers(f.Camera, f.Model)
		if f.Books.InFlight > 0 || f.Books.Predicted != answers || f.Unbalanced {
			out = append(out, fmt.Sprintf("%s: %d stored in PREDICTIONS, books %+v", f.Camera, answers, f.Books))
		}
	}
	return out
}

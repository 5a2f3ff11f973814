package life

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

// findPlaces looks where a frame is that has not got its fate for every model: in which stream, and in whose hands.
func (t *teller) findPlaces(ctx context.Context) error {
	t.judged = t.books.Judge(t.name, t.now)
	open := slices.ContainsFunc(t.judged, func(j ledger.Judgment) bool { return !isFate(j.Mark) && !t.answered(j.Model) })
	if !open {
		return nil
	}
	names := []string{streams.FrameSubject(t.route.Delivery, t.name.Camera)}
	for _, j := range t.judged {
		for _, lane := range []streams.Lane{streams.LaneStable, streams.LaneCanary, streams.LaneShadow} {
			names = append(names, streams.TensorSubject(t.route.Delivery, j.Model, lane, t.name.Camera))
		}
	}
	for i, n := range names {
		stream := map[bool]string{true: streams.FramesLive, false: streams.TensorsLive}[i == 0]
		if t.route.Delivery == streams.EveryFrame {
			stream = map[bool]string{true: streams.Frames, false: streams.Tensors}[i == 0]
		}
		if err := t.findIn(ctx, stream, n); err != nil {
			return err
		}
		if twin, ok := streams.Twin(n); ok {
			if err := t.findIn(ctx, map[bool]string{true: streams.FramesTwin, false: streams.TensorsTwin}[i == 0], twin); err != nil {
				return err
			}
		}
	}
	return t.findHolders(ctx)
}

// findIn searches a subject by halves: a camera's frames are in its order.
func (t *teller) findIn(ctx context.Context, stream, subject string) error {
	s, err := t.js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", stream, err)
	}
	for lo, hi := s.CachedInfo().State.FirstSeq, s.CachedInfo().State.LastSeq+1; lo < hi; {
		mid := lo + (hi-lo)/2
		m, err := s.GetMsg(ctx, mid, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			hi = mid
			continue
		}
		if err != nil {
			return fmt.Errorf("search %s: %w", stream, err)
		}
		n, err := frame.ParseName(m.Header.Get(frame.HeaderName))
		switch {
		case err != nil:
			return nil //nolint:nilerr // not a frame: nothing is in order here
		case n == t.name:
			t.headers(m.Header)
			t.life.Places = append(t.life.Places, Place{Stream: stream, Subject: subject, Sequence: m.Sequence, Since: m.Time.UTC()})
			return nil
		case n.Epoch < t.name.Epoch || n.Epoch == t.name.Epoch && n.Seq < t.name.Seq:
			lo = m.Sequence + 1
		default:
			hi = mid
		}
	}
	return nil
}

// findHolders looks up who claims the messages that were found.
func (t *teller) findHolders(ctx context.Context) error {
	if len(t.life.Places) == 0 {
		return nil
	}
	kv, err := t.js.KeyValue(ctx, streams.WorkersBucket)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", streams.WorkersBucket, err)
	}
	keys, err := kv.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return fmt.Errorf("list bucket %s: %w", streams.WorkersBucket, err)
	}
	for _, key := range keys {
		e, err := kv.Get(ctx, key)
		if err != nil { // it left meanwhile
			continue
		}
		w, err := fleet.Decode(e.Value())
		if err != nil || w.State != fleet.Alive {
			continue
		}
		for _, c := range w.Claims {
			for i, p := range t.life.Places {
				if c.Stream == p.Stream && slices.ContainsFunc(c.Held, func(d fleet.Delivery) bool { return d.Sequence() == p.Sequence }) {
					t.life.Places[i].Worker = w.Instance
				}
			}
		}
	}
	return nil
}

func (t *teller) answered(model string) bool {
	return slices.ContainsFunc(t.life.Answers, func(a Answer) bool { return a.Model == model })
}

func (t *teller) quarantined(model string) bool {
	return slices.ContainsFunc(t.life.DeadLetter, func(d DeadLetter) bool { return d.Model == model || d.Stage == "preprocess" })
}

// conclude gives the frame its fates, and says what is not known.
func (t *teller) conclude() {
	l := &t.life
	l.Known = len(t.mentioned) > 0 || len(l.Answers) > 0 || len(l.DeadLetter) > 0 || len(l.Places) > 0
	if t.routed {
		l.Delivery, l.MaxAge = t.route.Delivery, t.route.MaxAge
	}
	for _, j := range t.judged {
		f := Fate{Model: j.Model, Fate: j.Mark, Reason: j.Reason, By: byTold}
		switch {
		case t.answered(j.Model):
			f = Fate{Model: j.Model, Fate: ledger.Predicted, By: byStored}
		case !isFate(j.Mark) && t.quarantined(j.Model):
			f = Fate{Model: j.Model, Fate: ledger.Quarantined, By: byStored}
		case j.Mark == ledger.Waiting && len(l.Places) > 0:
			f.Fate, f.By = ledger.InFlight, byStored
		case j.Mark == ledger.Waiting:
			f.Fate, f.By = ledger.Lost, byConcluded
		case j.Concluded, !isFate(j.Mark):
			f.By = byConcluded
		}
		l.Fates = append(l.Fates, f)
		if f.Fate == ledger.Predicted && !t.answered(j.Model) {
			t.unknown("what %s answered: its answer is not in %s any more (24 hours, or 2 GiB)", j.Model, streams.Predictions)
		}
		if f.Fate == ledger.Quarantined && len(l.DeadLetter) == 0 {
			t.unknown("why %s quarantined it: %s does not hold it any more: it was replayed or dropped, or is older than 7 days", j.Model, streams.DLQ)
		}
	}
	if len(l.Fates) == 0 {
		for _, a := range l.Answers {
			l.Fates = append(l.Fates, Fate{Model: a.Model, Fate: ledger.Predicted, By: byStored})
		}
		for _, d := range l.DeadLetter {
			l.Fates = append(l.Fates, Fate{Model: d.Model, Fate: ledger.Quarantined, By: byStored})
		}
	}
	if len(t.mentioned) == 0 {
		t.unknown("%s", t.whyUnknown())
	} else if !t.routed && len(t.judged) == 0 {
		t.unknown("what the books say of it: nobody told how the frames of epoch %d are judged", t.name.Epoch)
	}
	if l.Known && l.TraceID == "" {
		t.unknown("its trace: no message of it that is still stored carries a trace id")
	}
}

// whyUnknown says why LEDGER does not mention the frame.
func (t *teller) whyUnknown() string {
	e, number := t.edge, func(n uint64) string { return strconv.FormatUint(n, 10) }
	reports := "stages report within half a second, 5 seconds with very many cameras"
	switch {
	case !e.known:
		return fmt.Sprintf("who had it, and when: %s has no record of a captured frame of camera %s: it never delivered one, not within 24 hours, or the name is wrong (sightline cameras)", streams.Ledger, t.name.Camera)
	case e.first.compare(t.name.Epoch, t.name.Seq) < 0:
		return fmt.Sprintf("who had it, and when: it is older than what %s remembers (24 hours): of %s that begins with frame %d/%d at %s",
			streams.Ledger, t.name.Camera, e.first.epoch, e.first.from, e.first.at.UTC().Format(timeForm))
	case t.name.Epoch > e.last.epoch:
		return fmt.Sprintf("everything: epoch %d of %s was not told of yet: the last frame that was is %d/%d, at %s; %s", t.name.Epoch, t.name.Camera, e.last.epoch, e.last.to, e.last.at.UTC().Format(timeForm), reports)
	case t.name.Epoch == e.last.epoch:
		return fmt.Sprintf("who had it, and when: it was not reported yet, or not captured: the last frame of epoch %d that was reported is %d, at %s; %s", e.last.epoch, e.last.to, e.last.at.UTC().Format(timeForm), reports)
	case e.lastOfEpoch > 0:
		return fmt.Sprintf("everything: no such frame: epoch %d of %s ended with frame %s", t.name.Epoch, t.name.Camera, number(e.lastOfEpoch))
	}
	return fmt.Sprintf("everything: no such frame: %s tells of no epoch %d of %s", streams.Ledger, t.name.Epoch, t.name.Camera)
}

const timeForm = "2006-01-02T15:04:05.000Z07:00"

package life

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// before is how much earlier than the record that the search found reading begins: records come late when the broker was
	// away, and the route of an epoch is told once a minute.
	before = 2 * time.Minute
	// after is how much longer than a frame may live records of it are waited for.
	after = time.Minute
	// told is how much longer after a frame's last fate others may mention it.
	told = 10 * time.Second
)

// readLedger reads what LEDGER says of the frame.
func (t *teller) readLedger(ctx context.Context) error {
	s, err := t.js.Stream(ctx, streams.Ledger)
	if err != nil {
		return fmt.Errorf("stream %s: %w", streams.Ledger, err)
	}
	err = t.locate(ctx, s)
	far := errors.Is(err, errFar)
	if err != nil && !far {
		return err
	}
	if !far && t.near.IsZero() { // the ledger knows nothing of the camera
		return nil
	}
	if !far {
		if err := t.readFrom(ctx, t.near.Add(-before)); err != nil {
			return err
		}
	}
	inside := t.edge.first.compare(t.name.Epoch, t.name.Seq) >= 0 && t.edge.last.compare(t.name.Epoch, t.name.Seq) <= 0
	if far || len(t.mentioned) == 0 && inside { // told late, or never
		return t.readFrom(ctx, time.Time{})
	}
	return nil
}

// readReplays reads what LEDGER says of the frame after somebody took it out of DLQ and put it back.
func (t *teller) readReplays(ctx context.Context) error {
	quarantined := func(s Step) bool { return s.What == string(ledger.Quarantined) }
	if !slices.ContainsFunc(t.life.Steps, quarantined) {
		return nil
	}
	err := t.scanEvents(ctx, t.mentioned[0].Add(-outage), time.Time{}, []string{streams.EventSubject("dlq", "*", t.name.Camera)}, func(e events.Event) {
		if e.Facts["frame"] != t.life.Frame {
			return
		}
		t.takeEvent(e)
		if e.Kind == "replayed" {
			t.replayed = e.At
			t.ended = slices.DeleteFunc(t.ended, func(m string) bool { return e.Facts["stage"] != "infer" || e.Facts["model"] == m })
		}
	})
	if err != nil || t.replayed.IsZero() {
		return err
	}
	return t.readFrom(ctx, t.replayed.Add(-told))
}

// readFrom reads the camera's records from a time on until nothing more can be said of the frame.
func (t *teller) readFrom(ctx context.Context, from time.Time) error {
	cfg := jetstream.ConsumerConfig{FilterSubjects: []string{streams.LedgerSubject(t.name.Camera), streams.IncidentSubject}}
	if !from.IsZero() {
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	}
	err := streams.Scan(ctx, t.js, streams.Ledger, cfg, false, func(m jetstream.Msg, meta *jetstream.MsgMetadata) bool {
		message, err := ledger.DecodeMessage(m.Subject(), m.Data(), meta.Timestamp)
		if err != nil {
			return true
		}
		t.books.Take(message)
		if message.Record != nil {
			t.takeRecord(*message.Record)
		} else {
			t.takeIncident(*message.Incident)
		}
		return !t.over(meta.Timestamp)
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", streams.Ledger, err)
	}
	return nil
}

// takeRecord notes what a record says of the frame.
func (t *teller) takeRecord(r ledger.Record) {
	if r.Epoch != t.name.Epoch {
		return
	}
	every := max(time.Duration(r.Every)*time.Millisecond, ledger.FlushInterval)
	t.pace = max(t.pace, every)
	if r.Route != nil {
		t.route, t.routed = *r.Route, true
	}
	for _, e := range r.Entries {
		if !has(e.Frames, t.name.Seq) {
			continue
		}
		t.mentioned = append(t.mentioned, r.At)
		if t.hands == nil {
			t.hands = map[hand]bool{}
		}
		t.hands[hand{r.Stage, r.Instance}] = true
		step := Step{
			Earliest: r.At.Add(-2 * every), Latest: r.At, Source: streams.Ledger, Stage: r.Stage, Instance: r.Instance,
			What: string(e.Mark), Model: e.Model, Again: e.Again, Detail: e.Reason, rank: rank(e),
		}
		if !slices.ContainsFunc(t.life.Steps, func(s Step) bool { return said(s) == said(step) }) { // records may come twice
			t.life.Steps = append(t.life.Steps, step)
		}
		if isFate(e.Mark) {
			models := []string{e.Model}
			if e.Model == "" {
				models = t.route.Models
			}
			for _, m := range models {
				if !slices.Contains(t.ended, m) {
					t.ended = append(t.ended, m)
				}
			}
		}
	}
}

// said is what a step says, whoever repeats it.
func said(s Step) Step {
	s.Earliest, s.Latest = time.Time{}, time.Time{}
	return s
}

// takeIncident notes the death of somebody who told of having had the frame.
func (t *teller) takeIncident(i ledger.Incident) {
	if i.Kind != ledger.WorkerEnded || !t.hands[hand{i.Stage, i.Instance}] {
		return
	}
	t.life.Steps = append(t.life.Steps, Step{
		Earliest: i.At, Latest: i.At, Source: streams.Ledger, Stage: i.Stage, Instance: i.Instance, What: "worker_ended",
		Detail: "declared dead: what it had in hand came back", rank: rankOther,
	})
}

// over says whether records that were stored at a time are too late to say more of the frame.
func (t *teller) over(at time.Time) bool {
	if len(t.mentioned) == 0 {
		return false
	}
	last := t.mentioned[len(t.mentioned)-1]
	if last.Before(t.replayed) {
		return false
	}
	if t.routed && len(t.ended) > 0 && !slices.ContainsFunc(t.route.Models, func(m string) bool { return !slices.Contains(t.ended, m) }) {
		return at.Sub(last) > told+2*t.pace
	}
	if !t.routed || t.route.Delivery == streams.EveryFrame || !t.replayed.IsZero() {
		return false // it may wait for hours
	}
	return at.Sub(t.mentioned[0]) > max(t.route.MaxAge, streams.LiveMaxAge)+after+4*t.pace
}

func has(r ledger.Ranges, seq uint64) bool {
	_, found := slices.BinarySearchFunc(r, seq, func(e [2]uint64, seq uint64) int {
		switch {
		case e[1] < seq:
			return -1
		case e[0] > seq:
			return 1
		}
		return 0
	})
	return found
}

func isFate(m ledger.Mark) bool {
	switch m {
	case ledger.Predicted, ledger.Superseded, ledger.Expired, ledger.Quarantined:
		return true
	default:
		return false
	}
}

// The order of a frame's life.
const (
	rankCaptured = iota
	rankPublished
	rankPreprocess
	rankForwarded
	rankInfer
	rankFate
	rankOther
)

func rank(e ledger.Entry) int {
	switch e.Mark {
	case ledger.Captured:
		return rankCaptured
	case ledger.Published:
		return rankPublished
	case ledger.Taken, ledger.Returned:
		if e.Model != "" {
			return rankInfer
		}
		return rankPreprocess
	case ledger.Forwarded:
		return rankForwarded
	default:
		return rankFate
	}
}

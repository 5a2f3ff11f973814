package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// explainMargin is how long before the ledger heard of a frame its fate may have been stored, and how long after the
	// last word of an epoch somebody who was killed may have stored another.
	explainMargin = 10 * time.Second
	// explainTail is how many frames before and after the last one that was reported are looked up when an epoch has
	// ended: what a killed process did in its last half second is reported by nobody.
	explainTail = 128
)

// question is what the books cannot explain: frames of one epoch without a fate for a model.
type question struct {
	camera, model string
	epoch         uint64
	frames        Ranges
	since         time.Time // nothing of them is older
	until         time.Time // nor younger, if not zero
}

// explain asks the streams that hold outcomes. A worker stores an answer before it reports it, half a second later at
// most; one that is killed in between leaves the answer without the report.
func (b *Books) explain(ctx context.Context, js jetstream.JetStream, now time.Time, held Held) error {
	for _, q := range b.questions(now, held) {
		answers := []struct {
			stream, subject string
			mark            Mark
		}{
			{streams.Predictions, streams.PredictionSubject(q.model, q.camera), Predicted},
			{streams.DLQ, streams.DLQSubject("*", q.camera), Quarantined},
		}
		for _, a := range answers {
			found, err := q.find(ctx, js, a.stream, a.subject)
			if err != nil {
				return fmt.Errorf("explain frames of %s: %w", q.camera, err)
			}
			if len(found) > 0 {
				b.Apply(Record{Camera: q.camera, Epoch: q.epoch, At: now, Entries: []Entry{{Mark: a.mark, Model: q.model, Frames: found}}})
			}
		}
	}
	return nil
}

func (b *Books) questions(now time.Time, held Held) []question {
	var out []question
	for name, c := range b.cameras {
		last := c.last()
		for id, e := range c.epochs {
			route, known := c.routeOf(id)
			if !known {
				continue
			}
			for _, model := range e.modelNames(route) {
				v := c.judge(id, last, model, now)
				open := v.lost
				if held != nil && v.waiting.Count() > held(name, model) {
					open.AddAll(v.waiting)
				}
				q := question{camera: name, model: model, epoch: id, frames: open}
				if heard := e.clock.last(); !heard.IsZero() && now.Sub(heard) > explainMargin { // it has ended
					for _, f := range v.fates {
						if f.concluded {
							q.frames.AddAll(f.frames)
						}
					}
					known := e.captured.Last()
					q.frames.Add(known+1, known+explainTail)
					q.until = heard.Add(explainMargin)
				}
				if len(q.frames) > 0 {
					q.since = e.clock.since(q.frames[0][0])
					out = append(out, q)
				}
			}
		}
	}
	return out
}

// find reads the headers of a subject and returns those of the frames that it has.
func (q question) find(ctx context.Context, js jetstream.JetStream, stream, subject string) (Ranges, error) {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}, HeadersOnly: true}
	if !q.since.IsZero() {
		since := q.since.Add(-explainMargin)
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &since
	}
	c, err := js.OrderedConsumer(ctx, stream, cfg)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", subject, err)
	}
	var found Ranges
	if info, err := c.Info(ctx); err != nil {
		return nil, fmt.Errorf("read %s: %w", subject, err)
	} else if info.NumPending == 0 {
		return nil, nil
	}
	for {
		batch, err := c.Fetch(readBatch, jetstream.FetchMaxWait(readWait))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", subject, err)
		}
		end := false
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", subject, err)
			}
			end = end || meta.NumPending == 0 || !q.until.IsZero() && meta.Timestamp.After(q.until)
			if seq, ok := q.match(m.Headers()); ok {
				found.Add(seq, seq)
			}
		}
		if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) {
			return nil, fmt.Errorf("read %s: %w", subject, err)
		}
		if end || found.Count() == q.frames.Count() {
			return found, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read %s: %w", subject, context.Cause(ctx))
		}
	}
}

// match says whether a message is about one of the frames, as far as this model is concerned.
func (q question) match(h nats.Header) (uint64, bool) {
	get := func(key string) string {
		if v := h[key]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	name, err := frame.ParseName(get(frame.HeaderName))
	if err != nil || name.Camera != q.camera || name.Epoch != q.epoch {
		return 0, false
	}
	if m := get(frame.HeaderModel); m != "" && m != q.model {
		return 0, false
	}
	return name.Seq, len(q.frames.And(Ranges{{name.Seq, name.Seq}})) > 0
}

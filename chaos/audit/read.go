package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/streams"
)

const (
	readBatch  = 512
	readWait   = 500 * time.Millisecond
	readForget = time.Minute
)

// Reader reads what PREDICTIONS and DLQ store into Facts, each message once. It is for one goroutine.
type Reader struct {
	js    jetstream.JetStream
	facts *Facts
	next  map[string]uint64 // by stream
}

// NewReader begins at the beginning.
func NewReader(js jetstream.JetStream, facts *Facts) *Reader {
	return &Reader{js: js, facts: facts, next: map[string]uint64{streams.Predictions: 1, streams.DLQ: 1}}
}

// Read goes on to the end of both streams as of now.
func (r *Reader) Read(ctx context.Context) error {
	for _, name := range []string{streams.Predictions, streams.DLQ} {
		if err := r.read(ctx, name); err != nil {
			return fmt.Errorf("audit %s: %w", name, err)
		}
	}
	return nil
}

func (r *Reader) read(ctx context.Context, name string) error {
	stream, err := r.js.Stream(ctx, name)
	if err != nil {
		return err
	}
	end := stream.CachedInfo().State.LastSeq
	if end < r.next[name] {
		return nil
	}
	c, err := r.js.CreateConsumer(ctx, name, jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.next[name],
		InactiveThreshold: readForget, MemoryStorage: true, Replicas: 1, HeadersOnly: true,
	})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = r.js.DeleteConsumer(ctx, name, c.CachedInfo().Name) // or the broker forgets it by itself
	}()
	for r.next[name] <= end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		batch, err := c.Fetch(readBatch, jetstream.FetchMaxWait(readWait))
		if err != nil {
			return err
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return err
			}
			if meta.Sequence.Stream < r.next[name] {
				continue
			}
			r.next[name] = meta.Sequence.Stream + 1
			r.take(name, m)
			if meta.NumPending == 0 && meta.Sequence.Stream < end { // the last ones were removed
				r.next[name] = end + 1
			}
		}
		if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) && !errors.Is(err, nats.ErrTimeout) {
			return err
		}
	}
	return nil
}

func (r *Reader) take(stream string, m jetstream.Msg) {
	h := m.Headers()[frame.HeaderName]
	if len(h) == 0 {
		return // a gap record
	}
	n, err := frame.ParseName(h[0])
	if err != nil {
		return
	}
	if stream == streams.DLQ {
		r.facts.Buried(n)
		return
	}
	r.facts.Answered(n, ModelOf(m.Subject()))
}

// ModelOf is the model of a subject of PREDICTIONS.
func ModelOf(subject string) string {
	_, rest, _ := strings.Cut(subject, ".")
	model, _, _ := strings.Cut(rest, ".")
	return model
}

// Settle reads until no more than the known number of frames of these cameras up to the mark is missing, or nothing more
// has come for the patience. It returns how many are missing.
func (r *Reader) Settle(ctx context.Context, mark Mark, cameras []string, model string, known uint64, patience time.Duration) (uint64, error) {
	last := known
	changed := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for first := true; ; first = false {
		if err := r.Read(ctx); err != nil { // the broker may be about to come back
			if time.Since(changed) > patience || ctx.Err() != nil {
				return last, err
			}
			<-tick.C
			continue
		}
		var missing uint64
		for _, c := range cameras {
			_, n := r.facts.Missing(mark, c, model)
			missing += n
		}
		if first || missing != last {
			last, changed = missing, time.Now()
		}
		if missing <= known || time.Since(changed) > patience {
			return missing, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return missing, context.Cause(ctx)
		}
	}
}

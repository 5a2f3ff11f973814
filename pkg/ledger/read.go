package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// warmUp is the part of a ledger that begins in the middle which is only read for its routes: of the frames in
	// it something may already be forgotten.
	warmUp = 5 * time.Second
	// closeEvery keeps the books small while they are read.
	closeEvery = time.Minute

	readWait   = 500 * time.Millisecond // of one pull; Follow ends that late
	readBatch  = 512
	readAgain  = 250 * time.Millisecond
	readForget = time.Minute // until the broker drops the consumer of a reader that is gone
)

// Read folds everything that LEDGER holds now. Records that cannot be read are skipped and counted.
func Read(ctx context.Context, js jetstream.JetStream) (*Books, error) {
	books := &Books{}
	stream, err := js.Stream(ctx, streams.Ledger)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", streams.Ledger, err)
	}
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		return books, nil
	}
	var began, closed time.Time
	t := tail{js: js, next: state.FirstSeq, end: state.LastSeq, take: func(r Record, err error) {
		if err != nil {
			books.Unreadable++
			return
		}
		if began.IsZero() {
			began, closed = r.At, r.At
		}
		if state.FirstSeq > 1 && r.At.Sub(began) < warmUp {
			books.begin(r)
			return
		}
		books.Apply(r)
		if r.At.Sub(closed) > closeEvery {
			closed = r.At
			books.close(r.At, nil, true)
		}
	}}
	if err := t.read(ctx); err != nil {
		return nil, fmt.Errorf("read %s: %w", streams.Ledger, err)
	}
	return books, nil
}

// Balance are the books as of now: it asks what the streams hold, gives the fates of what has just left them time
// to be told, and reads. What a worker that was killed did not get round to report is looked up in PREDICTIONS and DLQ.
func Balance(ctx context.Context, js jetstream.JetStream) (lines []Line, unreadable uint64, err error) {
	held := HeldFrom(ctx, js)
	t := time.NewTimer(4 * FlushInterval)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, 0, fmt.Errorf("balance: %w", context.Cause(ctx))
	}
	books, err := Read(ctx, js)
	if err != nil {
		return nil, 0, err
	}
	now := time.Now()
	if err := books.explain(ctx, js, now, held); err != nil {
		return nil, 0, err
	}
	return books.Lines(now, held), books.Unreadable, nil
}

// Follow hands every record from a stream sequence on (0 is the beginning) to take, in order, until ctx ends. It
// survives restarts of the broker; when the stream was made anew it begins again, which does the books no harm.
// Records that cannot be read are skipped and counted.
func Follow(ctx context.Context, js jetstream.JetStream, from uint64, take func(Record)) (unreadable uint64, err error) {
	t := tail{js: js, next: max(from, 1), take: func(r Record, err error) {
		if err != nil {
			unreadable++
			return
		}
		take(r)
	}}
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return unreadable, nil
		case <-retry.C:
		}
		// What went wrong is the broker's absence; the next attempt says whether it is over.
		if stream, err := js.Stream(ctx, streams.Ledger); err == nil {
			if stream.CachedInfo().State.LastSeq+1 < t.next {
				t.next = 1
			}
			_ = t.read(ctx)
		}
		retry.Reset(readAgain)
	}
}

// tail reads LEDGER in order, without a gap.
type tail struct {
	js   jetstream.JetStream
	next uint64 // stream sequence
	end  uint64 // the last to read; 0: until ctx ends
	take func(Record, error)
}

// read goes on until the end, an error, or ctx's end, which is an error only when an end was asked for. Records come
// with the broker's time: one clock for all.
func (t *tail) read(ctx context.Context) error {
	c, err := t.js.CreateConsumer(ctx, streams.Ledger, jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: t.next,
		InactiveThreshold: readForget, MemoryStorage: true, Replicas: 1,
	})
	if err != nil {
		return err
	}
	name := c.CachedInfo().Name
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = t.js.DeleteConsumer(ctx, streams.Ledger, name) // or the broker forgets it by itself
	}()
	for delivered := uint64(0); ; {
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
			if delivered++; meta.Sequence.Consumer != delivered {
				return fmt.Errorf("gap before %d", meta.Sequence.Stream)
			}
			r, err := Decode(m.Data())
			r.At = meta.Timestamp
			t.take(r, err)
			t.next = meta.Sequence.Stream + 1
			if t.end != 0 && (t.next > t.end || meta.NumPending == 0) {
				return nil
			}
		}
		if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) {
			return err
		}
	}
}

// HeldFrom asks the every_frame streams what they hold. It is nil, that is unknown, when they do not answer.
func HeldFrom(ctx context.Context, js jetstream.JetStream) Held {
	counts := map[string]uint64{}
	for stream, filter := range map[string]string{
		streams.Frames:  streams.FrameSubject(streams.EveryFrame, "*"),
		streams.Tensors: streams.TensorSubject(streams.EveryFrame, "*", "*", "*"),
	} {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return nil
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
		if err != nil {
			return nil
		}
		maps.Copy(counts, info.State.Subjects)
	}
	return func(camera, model string) uint64 {
		n := counts[streams.FrameSubject(streams.EveryFrame, camera)]
		for _, lane := range []streams.Lane{streams.LaneStable, streams.LaneCanary, streams.LaneShadow} {
			n += counts[streams.TensorSubject(streams.EveryFrame, model, lane, camera)]
		}
		return n
	}
}

package dlq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

const (
	readBatch   = 512
	readWait    = 500 * time.Millisecond // of one pull
	idleFor     = 5 * time.Minute        // until the broker drops the consumer of a reader that was killed
	closeWithin = time.Second

	headerSize = "Nats-Msg-Size" // of a payload that is not sent along
)

// List returns what a filter chooses, oldest first; with a Limit the newest of it.
func List(ctx context.Context, js jetstream.JetStream, f Filter) ([]Entry, error) {
	s, err := newest(ctx, js, f)
	if err != nil {
		return nil, err
	}
	defer s.close(ctx)
	var out []Entry
	err = s.read(ctx, readBatch, func(batch []Entry) error {
		out = append(out, batch...)
		if f.Limit > 0 && len(out) > f.Limit {
			out = append(out[:0], out[len(out)-f.Limit:]...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Count tells how many messages a filter chooses, and the last sequence that DLQ has now. It reads none of them.
func Count(ctx context.Context, js jetstream.JetStream, f Filter) (n, last uint64, err error) {
	if last, err = lastSequence(ctx, js); err != nil {
		return 0, 0, err
	}
	s, err := open(ctx, js, f, 0)
	if err != nil {
		return 0, 0, err
	}
	s.close(ctx)
	return s.pending, last, nil
}

// Get returns one message with its payload and headers, or ErrGone.
func Get(ctx context.Context, js jetstream.JetStream, seq uint64) (Entry, error) {
	s, err := js.Stream(ctx, streams.DLQ)
	if err != nil {
		return Entry{}, fmt.Errorf("stream %s: %w", streams.DLQ, err)
	}
	return get(ctx, s, seq)
}

func get(ctx context.Context, s jetstream.Stream, seq uint64) (Entry, error) {
	m, err := s.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		err = ErrGone
	}
	if err != nil {
		return Entry{}, fmt.Errorf("message %d: %w", seq, err)
	}
	e := entry(m.Subject, m.Sequence, m.Time, m.Header)
	e.Header, e.Data, e.Bytes = own(m.Header), m.Data, len(m.Data)
	return e, nil
}

func lastSequence(ctx context.Context, js jetstream.JetStream) (uint64, error) {
	s, err := js.Stream(ctx, streams.DLQ)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", streams.DLQ, err)
	}
	return s.CachedInfo().State.LastSeq, nil
}

// newest begins so late that not many more than Limit messages follow. A consumer that has just been made tells how many
// match from its beginning on, so the place is found without reading.
func newest(ctx context.Context, js jetstream.JetStream, f Filter) (*scan, error) {
	s, err := open(ctx, js, f, 0)
	limit := uint64(max(f.Limit, 0))
	if err != nil || limit == 0 || s.pending <= limit {
		return s, err
	}
	s.close(ctx)
	last, err := lastSequence(ctx, js)
	if err != nil {
		return nil, err
	}
	for window := 2 * limit; ; window *= 2 {
		from := last - min(window, last) + 1
		s, err := open(ctx, js, f, from)
		if err != nil || s.pending >= limit || from == 1 {
			return s, err
		}
		s.close(ctx)
	}
}

// scan reads headers, oldest first, up to what DLQ held when it began.
type scan struct {
	js       jetstream.JetStream
	consumer jetstream.Consumer
	pending  uint64 // when it began
	through  uint64
}

// open begins at a sequence, or with 0 where the filter says.
func open(ctx context.Context, js jetstream.JetStream, f Filter, from uint64) (*scan, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	cfg := jetstream.ConsumerConfig{
		FilterSubject: f.subject(), HeadersOnly: true, AckPolicy: jetstream.AckNonePolicy,
		InactiveThreshold: idleFor, MemoryStorage: true, Replicas: 1,
	}
	switch {
	case from > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from
	case !f.Since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &f.Since
	}
	c, err := js.CreateConsumer(ctx, streams.DLQ, cfg)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", streams.DLQ, err)
	}
	return &scan{js: js, consumer: c, pending: c.CachedInfo().NumPending, through: f.Through}, nil
}

func (s *scan) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	_ = s.js.DeleteConsumer(ctx, streams.DLQ, s.consumer.CachedInfo().Name) // or the broker forgets it by itself
}

// read hands everything to take, in batches of at most size.
func (s *scan) read(ctx context.Context, size int, take func([]Entry) error) error {
	for delivered, left := uint64(0), s.pending; left > 0; {
		if ctx.Err() != nil {
			return fmt.Errorf("read %s: %w", streams.DLQ, context.Cause(ctx))
		}
		fetched, err := s.consumer.Fetch(size, jetstream.FetchMaxWait(readWait))
		if err != nil {
			return fmt.Errorf("read %s: %w", streams.DLQ, err)
		}
		var batch []Entry
		for m := range fetched.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return fmt.Errorf("read %s: %w", streams.DLQ, err)
			}
			if delivered++; meta.Sequence.Consumer != delivered {
				return fmt.Errorf("read %s: the connection lost what comes before message %d", streams.DLQ, meta.Sequence.Stream)
			}
			if left--; meta.NumPending == 0 || s.through > 0 && meta.Sequence.Stream >= s.through {
				left = 0
			}
			if s.through > 0 && meta.Sequence.Stream > s.through {
				break
			}
			e := entry(m.Subject(), meta.Sequence.Stream, meta.Timestamp, m.Headers())
			e.Bytes, _ = strconv.Atoi(m.Headers().Get(headerSize))
			batch = append(batch, e)
			if left == 0 {
				break
			}
		}
		if err := fetched.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) {
			return fmt.Errorf("read %s: %w", streams.DLQ, err)
		}
		if len(batch) == 0 && left > 0 { // somebody dropped the rest meanwhile, or the broker is slow
			info, err := s.consumer.Info(ctx)
			if err != nil {
				return fmt.Errorf("read %s: %w", streams.DLQ, err)
			}
			left = info.NumPending
			continue
		}
		if err := take(batch); err != nil {
			return err
		}
	}
	return nil
}

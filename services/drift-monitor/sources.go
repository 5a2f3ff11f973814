package driftmonitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

const (
	readAgain = 500 * time.Millisecond
	// beforeStart is what a monitor that begins without a position still takes into account.
	beforeStart = 10 * time.Second
)

// input is one thing to look at: exactly one of its members is not nil.
type input struct {
	prediction *predictions.Prediction
	event      *events.Event
	labelled   *labelled
	request    *drift.Request
	sequence   uint64
	stored     time.Time // of a prediction
}

// sources feed in until their context ends; one that is full makes them wait.
func (m *monitor) sources() []func(context.Context, chan<- input) {
	return []func(context.Context, chan<- input){m.readPredictions(m.position.Predictions), m.readEvents(m.position.Events), m.readFeedback(m.position.Feedback), m.readRequests}
}

func offer(ctx context.Context, in chan<- input, x input) bool {
	select {
	case in <- x:
		return true
	case <-ctx.Done():
		return false
	}
}

func (m *monitor) readPredictions(after uint64) func(context.Context, chan<- input) {
	return func(ctx context.Context, in chan<- input) {
		client, err := predictions.Open(m.deps.JS.Conn())
		if err != nil {
			m.deps.Log.ErrorContext(ctx, "predictions cannot be read", slog.Any("error", err))
			return
		}
		all := client.SubscribeSince(ctx, time.Now().Add(-beforeStart), predictions.Filter{})
		if after > 0 {
			all = client.SubscribeAfter(ctx, after, predictions.Filter{})
		}
		for msg, err := range all {
			if malformed, ok := errors.AsType[*predictions.MalformedError](err); ok {
				m.deps.Log.DebugContext(ctx, "a prediction makes no sense", slog.Any("error", malformed))
				continue
			}
			if err != nil {
				m.deps.Log.WarnContext(ctx, "reading predictions", slog.Any("error", err))
				continue
			}
			p := msg.Prediction
			if !offer(ctx, in, input{prediction: &p, sequence: msg.Seq, stored: msg.Time}) {
				return
			}
		}
	}
}

func (m *monitor) readEvents(after uint64) func(context.Context, chan<- input) {
	return func(ctx context.Context, in chan<- input) {
		m.tail(ctx, tailed{stream: streams.Events, subject: streams.EventSubject("camera", "integrity", "*"), after: after}, func(data []byte, seq uint64) bool {
			e, err := events.Decode(data)
			return err != nil || offer(ctx, in, input{event: &e, sequence: seq})
		})
	}
}

// tailed is what is read of a stream: all that is stored after a sequence, or, if that is 0, all there is, or else the last message of
// every subject.
type tailed struct {
	stream, subject string
	after           uint64
	all             bool
}

// tail hands messages to take until ctx ends. It survives whatever happens to the broker; a stream that was made anew is read from its
// beginning. A message that take does not want yet is handed to it again.
func (m *monitor) tail(ctx context.Context, t tailed, take func(data []byte, sequence uint64) bool) {
	for ctx.Err() == nil {
		next, err := m.tailOnce(ctx, t, take)
		t.after = next
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.deps.Log.DebugContext(ctx, "reading again", slog.String("stream", t.stream), slog.Any("error", err))
		}
		clock.Pause(ctx, readAgain)
	}
}

func (m *monitor) tailOnce(ctx context.Context, t tailed, take func([]byte, uint64) bool) (uint64, error) {
	after := t.after
	s, err := m.deps.JS.Stream(ctx, t.stream)
	if err != nil {
		return after, fmt.Errorf("stream %s: %w", t.stream, err)
	}
	if after > s.CachedInfo().State.LastSeq {
		after = 0
	}
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{t.subject}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy}
	switch {
	case after > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, after+1
	case t.all:
		cfg.DeliverPolicy = jetstream.DeliverAllPolicy
	}
	c, err := s.OrderedConsumer(ctx, cfg)
	if err != nil {
		return after, fmt.Errorf("consumer of %s: %w", t.stream, err)
	}
	messages, err := c.Messages()
	if err != nil {
		return after, fmt.Errorf("read %s: %w", t.stream, err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for {
		msg, err := messages.Next()
		if err != nil {
			return after, err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return after, err
		}
		if !take(msg.Data(), meta.Sequence.Stream) {
			return after, nil
		}
		after = meta.Sequence.Stream
	}
}

func (m *monitor) readRequests(ctx context.Context, in chan<- input) {
	for ; ctx.Err() == nil; clock.Pause(ctx, readAgain) {
		kv, err := m.deps.JS.KeyValue(ctx, streams.ReferencesBucket)
		if err != nil {
			continue
		}
		w, err := kv.Watch(ctx, drift.RequestPrefix+".>", jetstream.IgnoreDeletes())
		if err != nil {
			continue
		}
		for e := range w.Updates() {
			if e == nil { // that was what was there before
				continue
			}
			if r, ok := drift.ParseRequest(e.Key()); ok && !offer(ctx, in, input{request: &r}) {
				break
			}
		}
		_ = w.Stop()
	}
}

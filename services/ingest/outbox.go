package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// liveBacklog is how many frames of a freshest camera wait for the broker: the stream keeps no more either.
	liveBacklog = streams.LiveRing
	// everyBacklog and everyBacklogBytes bound what an every_frame camera keeps while the broker is away: half a minute
	// at 10 fps of frames at network size.
	everyBacklog      = 300
	everyBacklogBytes = 32 << 20

	livePublishTimeout  = 500 * time.Millisecond
	everyPublishTimeout = 2 * time.Second
	outboxRetry         = 50 * time.Millisecond
	outboxRetryTo       = time.Second
)

// Publisher is the part of JetStream that ingest publishes with.
type Publisher interface {
	PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error)
}

// outgoing is one captured frame on its way to the broker.
type outgoing struct {
	facts    frame.Facts
	received time.Time
	jpeg     []byte
	trace    trace.SpanContext // of its capture; not valid when nobody wants it
	queued   time.Time
}

// permit says whether what was captured at a time may be published; see tenure.Await.
type permit func(ctx context.Context, captured time.Time) error

// outbox carries one epoch's frames of a camera to the broker, in order and one at a time, so that the newest is stored
// last. put never blocks: while the broker is away a bounded number of frames waits, and what falls out is in the ledger.
type outbox struct {
	js       Publisher
	marks    *ledger.Reporter
	measure  *cameraMeasure
	delivery streams.Delivery
	permit   permit
	stored   func()
	refused  func(error) // a frame that no stream will ever take

	mu     sync.Mutex
	frames []outgoing
	bytes  int
	wake   chan struct{}
	closed chan struct{} // no more frames come
}

func newOutbox(js Publisher, marks *ledger.Reporter, m *cameraMeasure, d streams.Delivery, p permit, stored func(), refused func(error)) *outbox {
	return &outbox{
		js: js, marks: marks, measure: m, delivery: d, permit: p, stored: stored, refused: refused,
		wake: make(chan struct{}, 1), closed: make(chan struct{}),
	}
}

// close says that no more frames come. Call it once.
func (o *outbox) close() { close(o.closed) }

// put queues a frame. What no longer fits is superseded: the oldest goes first.
func (o *outbox) put(f outgoing) {
	o.marks.Add(f.facts.Name, ledger.Captured, "", "")
	o.measure.captured.Inc()
	o.mu.Lock()
	o.frames = append(o.frames, f)
	o.bytes += len(f.jpeg)
	limit, limitBytes := liveBacklog, everyBacklogBytes
	if o.delivery == streams.EveryFrame {
		limit = everyBacklog
	}
	var out []outgoing
	for len(o.frames) > limit || (o.bytes > limitBytes && len(o.frames) > 1) {
		out = append(out, o.frames[0])
		o.bytes -= len(o.frames[0].jpeg)
		o.frames[0] = outgoing{}
		o.frames = o.frames[1:]
	}
	o.mu.Unlock()
	o.measure.wait(1 - len(out))
	for _, f := range out {
		o.drop(f, ledger.Superseded, "ingest_backlog")
	}
	o.signal()
}

// drop gives a frame that is not published its fate.
func (o *outbox) drop(f outgoing, fate ledger.Mark, reason string) {
	o.marks.Add(f.facts.Name, fate, "", reason)
	o.measure.drop(f, fate, reason)
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// next takes the oldest waiting frame.
func (o *outbox) next() (outgoing, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.frames) == 0 {
		return outgoing{}, false
	}
	f := o.frames[0]
	o.frames[0] = outgoing{}
	o.frames = o.frames[1:]
	o.bytes -= len(f.jpeg)
	o.measure.wait(-1)
	return f, true
}

func (o *outbox) newerWaits() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.frames) > 0
}

// run publishes until the outbox is closed and empty. Once ctx ends, what is left is only accounted for.
func (o *outbox) run(ctx context.Context) {
	for closed := false; ; {
		if f, ok := o.next(); ok {
			o.send(ctx, f)
			continue
		}
		if closed {
			return
		}
		select {
		case <-o.wake:
		case <-o.closed:
			closed = true // and what came before that is there now
		}
	}
}

// send publishes one frame, however long the broker is away, unless its time passes or the camera was taken over before.
func (o *outbox) send(ctx context.Context, f outgoing) {
	msg := o.message(f)
	sent := o.measure.send(ctx, f, msg)
	var failed error
	defer func() { sent(failed) }()
	timeout := livePublishTimeout
	if o.delivery == streams.EveryFrame {
		timeout = everyPublishTimeout
	}
	for pause := outboxRetry; ; pause = min(2*pause, outboxRetryTo) {
		attempt, cancel := context.WithTimeout(ctx, timeout)
		err := o.permit(attempt, f.received)
		if err == nil {
			var ack *jetstream.PubAck
			if ack, err = o.js.PublishMsg(attempt, msg, jetstream.WithRetryAttempts(0)); err == nil {
				o.measure.stored(ack)
			}
		}
		cancel()
		failed = err
		switch {
		case err == nil:
			o.marks.Add(f.facts.Name, ledger.Published, "", "")
			o.stored()
			return
		case errors.Is(err, errOldEpoch):
			o.drop(f, ledger.Superseded, reasonOldEpoch)
			return
		case streams.Hopeless(err): // those behind it must not wait for it
			o.drop(f, ledger.Superseded, "refused_by_broker")
			o.refused(fmt.Errorf("publish a frame of %d bytes: %w", len(msg.Data), err))
			return
		case ctx.Err() != nil || o.giveUp(f):
			o.account(f)
			return
		}
		o.measure.service.publishErrors.Inc()
		clock.Pause(ctx, pause)
	}
}

// reasonOldEpoch is why a frame is refused that was captured when another instance had the camera already.
const reasonOldEpoch = "old_epoch"

// giveUp says that a frame that could not be published should make way: late is wrong for a freshest camera.
func (o *outbox) giveUp(f outgoing) bool {
	return o.delivery != streams.EveryFrame && (o.newerWaits() || time.Now().After(f.facts.Deadline))
}

// account gives a frame that will not be published its fate. Should the broker have stored it after all, its prediction
// takes precedence in the books.
func (o *outbox) account(f outgoing) {
	switch {
	case !f.facts.Deadline.IsZero() && time.Now().After(f.facts.Deadline):
		o.drop(f, ledger.Expired, "broker_away")
	default:
		o.drop(f, ledger.Superseded, "broker_away")
	}
}

func (o *outbox) message(f outgoing) *nats.Msg {
	f.facts.Timings = frame.Timings{{Stage: "ingest", Took: time.Since(f.received)}}
	msg := &nats.Msg{Subject: streams.FrameSubject(o.delivery, f.facts.Name.Camera), Header: nats.Header{}, Data: f.jpeg}
	f.facts.Encode(msg.Header)
	msg.Header[jetstream.MsgIDHeader] = []string{f.facts.Name.String()}
	return msg
}

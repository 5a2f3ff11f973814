package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// primaryTimeout bounds an attempt on a stream that has a twin. A live stream answers within milliseconds; waiting
	// longer would make a frame late that its twin takes at once.
	primaryTimeout = 250 * time.Millisecond
	// awayFor is how long a stream that did not answer is passed over before one message probes it; it doubles to awayTo.
	awayFor = 2 * time.Second
	awayTo  = 10 * time.Second
)

// Publisher is the part of JetStream that publishes.
type Publisher interface {
	PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error)
}

// Failover publishes to live streams, and to a stream's twin while its node of the broker is away: the first message
// that meets a dead node is 250 ms late, those after it are not. Every other subject passes through untouched.
//
// A message that the stream took although its answer did not arrive in time is stored in the twin, too: its Msg-Id stays,
// and so do the ids of what is made of it. A refusal is no absence: a message that the stream does not want goes to no
// twin. Options that expect something of one stream (WithExpectStream, WithExpectLastSequence) cannot be met by another.
//
// A Failover is safe for concurrent use. The caller's message is never changed but by options, as JetStream does.
type Failover struct {
	js Publisher
	// One breaker for each kind of stream that has a twin.
	frames, tensors breaker
}

var _ Publisher = (*Failover)(nil)

// NewFailover returns a Failover that publishes with js.
func NewFailover(js Publisher) *Failover { return &Failover{js: js} }

// quick is for callers without options: one attempt.
var quick = []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)}

// PublishMsg publishes a message and waits until a stream has taken it.
func (f *Failover) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	b := f.breaker(msg.Subject)
	if b == nil {
		return f.js.PublishMsg(ctx, msg, opts...)
	}
	try, probe := b.tryPrimary()
	if !try {
		ack, err := f.second(ctx, msg, opts)
		if err == nil || !absent(err) || ctx.Err() != nil {
			return ack, err
		}
		// Both seem to be away. The first may be back already.
	}
	ack, err := f.first(ctx, msg, opts)
	switch {
	case err == nil:
		b.present()
		return ack, nil
	case ctx.Err() != nil || !absent(err):
		b.undecided(probe)
		return nil, err
	}
	ack, second := f.second(ctx, msg, opts)
	if second != nil { // a broker that is wholly away says nothing about one stream
		b.undecided(probe)
		return nil, fmt.Errorf("%w (its twin: %w)", err, second)
	}
	b.absent(probe)
	return ack, nil
}

// Away reports whether messages of a subject go to its twin at this moment.
func (f *Failover) Away(subject string) bool {
	b := f.breaker(subject)
	return b != nil && b.isAway()
}

// breaker is that of a subject's stream, nil if it has no twin. It is streams.Twin without making a string of it.
func (f *Failover) breaker(subject string) *breaker {
	switch {
	case strings.HasPrefix(subject, liveFrames):
		return &f.frames
	case strings.HasPrefix(subject, liveTensors):
		return &f.tensors
	}
	return nil
}

// What the subjects begin with that streams.Twin knows.
const liveFrames, liveTensors = "frames.live.", "tensors.live."

// first publishes to the stream itself, once and in a hurry. When the caller has little time, half of it is the twin's.
func (f *Failover) first(ctx context.Context, msg *nats.Msg, opts []jetstream.PublishOpt) (*jetstream.PubAck, error) {
	bound := primaryTimeout
	if deadline, ok := ctx.Deadline(); ok {
		bound = min(bound, time.Until(deadline)/2)
	}
	try, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	once := quick
	if len(opts) > 0 {
		once = slices.Concat(opts, quick)
	}
	return f.js.PublishMsg(try, msg, once...)
}

func (f *Failover) second(ctx context.Context, msg *nats.Msg, opts []jetstream.PublishOpt) (*jetstream.PubAck, error) {
	subject, _ := streams.Twin(msg.Subject)
	return f.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Header: msg.Header, Data: msg.Data}, opts...)
}

// absent reports errors by which a stream shows that nobody answers for it, rather than that it refuses.
func absent(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return slices.Contains(unavailable, api.ErrorCode)
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse)
}

// unavailable are the answers of a server that cannot reach, or is not, what holds the stream. nats.go has no names for them.
var unavailable = []jetstream.ErrorCode{
	10008, // the cluster has no leader
	10009, // this server is not the leader
	10023, // no resources left
	10118, // the stream's nodes are away
}

// breaker remembers that a stream is away, so that not every message waits for it.
type breaker struct {
	mu      sync.Mutex
	pause   time.Duration // 0: the stream is there
	retry   time.Time     // when the next probe is due
	probing bool
}

// tryPrimary says whether a message should go to the stream itself: always while it is there, and one message at a time
// as a probe when it is worth asking again.
func (b *breaker) tryPrimary() (try, probe bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.pause == 0:
		return true, false
	case b.probing || time.Now().Before(b.retry):
		return false, false
	}
	b.probing = true
	return true, true
}

func (b *breaker) isAway() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pause > 0
}

// present notes that the stream answered.
func (b *breaker) present() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pause, b.probing = 0, false
}

// absent notes that the stream did not answer and its twin did. Of messages that were on their way together, the first
// decides.
func (b *breaker) absent(probe bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.pause == 0:
		b.pause = awayFor
	case probe:
		b.pause, b.probing = min(2*b.pause, awayTo), false
	default:
		return
	}
	b.retry = time.Now().Add(b.pause)
}

// undecided notes an attempt that told nothing about the stream.
func (b *breaker) undecided(probe bool) {
	if !probe {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
}

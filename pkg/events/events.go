// Package events tells what happened: one message on events.<area>.<kind>.<name> per thing that an operator
// would want to know afterwards. Nothing is told per frame.
//
// # Delivery
//
// A Publisher never blocks its caller: it queues a bounded number of events, retries while the broker is away,
// and counts what it had to drop (the oldest).
package events

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

// Event is something that happened. Detail never holds a secret: whoever writes it redacts it.
type Event struct {
	Area     string            `json:"area"` // camera, worker, model, stream
	Kind     string            `json:"kind"` // state, lease, loaded, refused
	Name     string            `json:"name"` // of the camera, model, instance
	At       time.Time         `json:"at"`
	Instance string            `json:"instance"` // who tells
	State    string            `json:"state,omitempty"`
	Cause    string            `json:"cause,omitempty"`
	Detail   string            `json:"detail,omitempty"`
	Facts    map[string]string `json:"facts,omitempty"`
}

// Decode reads an event from a message.
func Decode(data []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("event: %w", err)
	}
	return e, nil
}

const (
	queueLimit = 1024
	retryEvery = 250 * time.Millisecond
	timeout    = 5 * time.Second
)

// JetStream is the part of JetStream that a Publisher needs.
type JetStream interface {
	PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error)
}

// Publisher publishes events in order. Run does the work.
type Publisher struct {
	js       JetStream
	instance string

	mu      sync.Mutex
	queue   []Event
	wake    chan struct{}
	dropped atomic.Uint64
}

// NewPublisher returns a Publisher for one instance of a service.
func NewPublisher(js JetStream, instance string) *Publisher {
	return &Publisher{js: js, instance: instance, wake: make(chan struct{}, 1)}
}

// Tell queues an event. At and Instance are filled in.
func (p *Publisher) Tell(e Event) {
	if e.At.IsZero() {
		e.At = time.Now().UTC()
	}
	e.Instance = p.instance
	p.mu.Lock()
	p.queue = append(p.queue, e)
	if len(p.queue) > queueLimit {
		p.queue = p.queue[1:]
		p.dropped.Add(1)
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Dropped counts the events that fell out of the queue.
func (p *Publisher) Dropped() uint64 { return p.dropped.Load() }

// Run publishes until ctx ends and then makes one last attempt at what is queued.
func (p *Publisher) Run(ctx context.Context) error {
	for n := uint64(1); ; {
		e, ok := p.next()
		switch {
		case !ok && ctx.Err() != nil:
			return nil
		case !ok:
			select {
			case <-p.wake:
			case <-ctx.Done():
			}
		default:
			last := ctx.Err() != nil
			if err := p.publish(context.WithoutCancel(ctx), e, n); err == nil {
				p.done()
				n++
			} else if last {
				return err
			} else {
				pause(ctx, retryEvery)
			}
		}
	}
}

func (p *Publisher) next() (Event, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return Event{}, false
	}
	return p.queue[0], true
}

func (p *Publisher) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 {
		p.queue = p.queue[1:]
	}
}

func (p *Publisher) publish(ctx context.Context, e Event, n uint64) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("event %s.%s: %w", e.Area, e.Kind, err)
	}
	msg := nats.NewMsg(streams.EventSubject(e.Area, e.Kind, e.Name))
	msg.Data = data
	msg.Header.Set(jetstream.MsgIDHeader, p.instance+"/"+strconv.FormatInt(e.At.UnixNano(), 10)+"/"+strconv.FormatUint(n, 10))
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if _, err := p.js.PublishMsg(ctx, msg); err != nil {
		return fmt.Errorf("publish %s: %w", msg.Subject, err)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

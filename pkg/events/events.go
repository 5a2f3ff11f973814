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
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/clock"
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
	timeout    = 5 * time.Second // of one attempt, and of all the last ones together
)

// JetStream is the part of JetStream that a Publisher needs.
type JetStream interface {
	PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error)
}

// Publisher publishes events in order. Run does the work.
type Publisher struct {
	js       JetStream
	instance string
	ids      string // what the ids of its events begin with

	mu      sync.Mutex
	queue   []numbered
	last    uint64 // number of the newest event
	wake    chan struct{}
	dropped atomic.Uint64
}

type numbered struct {
	Event
	n uint64
}

// NewPublisher returns a Publisher for one instance of a service.
func NewPublisher(js JetStream, instance string) *Publisher {
	// The time makes the ids differ from those of another Publisher of that name.
	ids := instance + "/" + strconv.FormatInt(time.Now().UnixNano(), 36) + "/"
	return &Publisher{js: js, instance: instance, ids: ids, wake: make(chan struct{}, 1)}
}

// Tell queues an event. At and Instance are filled in.
func (p *Publisher) Tell(e Event) {
	if e.At.IsZero() {
		e.At = time.Now().UTC()
	}
	e.Instance = p.instance
	p.mu.Lock()
	p.last++
	p.queue = append(p.queue, numbered{e, p.last})
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

// Dropped counts the events that fell out of the queue, and those that no broker would take.
func (p *Publisher) Dropped() uint64 { return p.dropped.Load() }

// Run publishes until ctx ends and then, for a few seconds, what is still queued. It reports what it had to leave.
func (p *Publisher) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := p.flush(ctx); err != nil {
			clock.Pause(ctx, retryEvery)
			continue
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	for {
		err := p.flush(last)
		if err == nil || last.Err() != nil {
			return err
		}
		clock.Pause(last, retryEvery)
	}
}

// flush publishes the queue in order, up to the first failure.
func (p *Publisher) flush(ctx context.Context) error {
	for {
		e, ok := p.next()
		if !ok {
			return nil
		}
		err := p.publish(ctx, e.Event, e.n)
		if hopeless(err) { // nobody behind it shall wait for it
			p.dropped.Add(1)
			err = nil
		}
		if err != nil {
			return err
		}
		p.done(e.n)
	}
}

// hopeless reports errors that the same event will always meet.
func hopeless(err error) bool {
	_, unmarshalable := errors.AsType[*json.MarshalerError](err)
	return unmarshalable || errors.Is(err, nats.ErrMaxPayload)
}

func (p *Publisher) next() (numbered, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return numbered{}, false
	}
	return p.queue[0], true
}

// done removes a published event, unless it fell out of the queue meanwhile: then it was not dropped after all.
func (p *Publisher) done(n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 && p.queue[0].n == n {
		p.queue = p.queue[1:]
	} else {
		p.dropped.Add(^uint64(0))
	}
}

// token makes a subject token of a name that may be a host's: the event itself keeps the name.
func token(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == '.' || r == '*' || r == '>' {
			return '_'
		}
		return r
	}, s)
	if s == "" {
		return "_"
	}
	return s
}

func (p *Publisher) publish(ctx context.Context, e Event, n uint64) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("event %s.%s: %w", e.Area, e.Kind, err)
	}
	msg := nats.NewMsg(streams.EventSubject(token(e.Area), token(e.Kind), token(e.Name)))
	msg.Data = data
	msg.Header.Set(jetstream.MsgIDHeader, p.ids+strconv.FormatUint(n, 10))
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if _, err := p.js.PublishMsg(ctx, msg); err != nil {
		return fmt.Errorf("publish %s: %w", msg.Subject, err)
	}
	return nil
}

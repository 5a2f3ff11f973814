package stage

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/pkg/fleet"
)

// beatEvery is how often messages in hand are kept alive, unless a consumer's AckWait asks for less.
const beatEvery = 2 * time.Second

// item is a message in this process.
type item struct {
	raw       jetstream.Msg
	msg       Message
	consumer  string
	delivered uint64
	release   func()        // gives its place back to the source; more than once does no harm
	settled   chan struct{} // of a suspect: closed when its fate is written down
	strikes   int           // of a suspect: with this attempt; 0 when they are not known

	mu    sync.Mutex
	begun bool       // no longer waiting for a handler
	over  bool       // somebody has settled it, or is about to
	span  trace.Span // of its processing, from when a handler got it; nil before, and when nobody wants it
}

// begin reports whether the message may be worked on: it may have been handed back while it waited.
func (it *item) begin() bool {
	it.mu.Lock()
	defer it.mu.Unlock()
	it.begun = true
	return !it.over
}

func (it *item) waiting() bool {
	it.mu.Lock()
	defer it.mu.Unlock()
	return !it.begun
}

// claim reports whether the caller is the one who settles the message. Nobody keeps it alive from then on.
func (it *item) claim() bool {
	it.mu.Lock()
	defer it.mu.Unlock()
	if it.over {
		return false
	}
	it.over = true
	return true
}

// gone reports whether somebody has settled the message, or it was taken away.
func (it *item) gone() bool {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.over
}

func (it *item) beat() {
	it.mu.Lock()
	defer it.mu.Unlock()
	if !it.over {
		_ = it.raw.InProgress() // fire and forget: AckWait is the backstop
	}
}

// held are the messages in this process, and those that it handed back for a while.
type held struct {
	mu      sync.Mutex
	items   map[*item]struct{}
	resting map[message]rest
	closed  bool
	beat    time.Duration
	pace    chan time.Duration
}

// add reports false when the stage has given up: the message must be handed back.
func (h *held) add(it *item) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.items[it] = struct{}{}
	}
	return !h.closed
}

func (h *held) remove(it *item) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.items, it)
}

// rest is a message that was handed back with a delay.
type rest struct {
	consumer  string
	delivered uint64
	until     time.Time
}

// restUntil notes that a message comes back by itself at that time.
func (h *held) restUntil(it *item, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.resting == nil {
		h.resting = map[message]rest{}
	}
	if len(h.resting) < restingLimit {
		h.resting[message{it.msg.Stream, it.msg.Sequence}] = rest{it.consumer, it.delivered, until}
	}
}

// restingLimit bounds what an entry of the fleet says of messages that rest; one beyond it may come back early.
const restingLimit = 4096

// claims are what this process has, by work group.
func (h *held) claims(now time.Time) []fleet.Claim {
	type group struct{ stream, consumer string }
	h.mu.Lock()
	defer h.mu.Unlock()
	groups := map[group]*fleet.Claim{}
	at := func(stream, consumer string) *fleet.Claim {
		k := group{stream, consumer}
		if groups[k] == nil {
			groups[k] = &fleet.Claim{Stream: stream, Consumer: consumer}
		}
		return groups[k]
	}
	for it := range h.items {
		if it.consumer != "" {
			c := at(it.msg.Stream, it.consumer)
			c.Held = append(c.Held, fleet.Delivery{it.msg.Sequence, it.delivered})
		}
	}
	for m, r := range h.resting {
		if now.After(r.until) {
			delete(h.resting, m)
			continue
		}
		c := at(m.stream, r.consumer)
		c.Resting = append(c.Resting, fleet.Delivery{m.seq, r.delivered})
	}
	out := make([]fleet.Claim, 0, len(groups))
	for _, c := range groups {
		out = append(out, *c)
	}
	return out
}

// close refuses further messages and returns those in hand.
func (h *held) close() []*item {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	return h.all()
}

func (h *held) all() []*item {
	h.mu.Lock()
	defer h.mu.Unlock()
	items := make([]*item, 0, len(h.items))
	for it := range h.items {
		items = append(items, it)
	}
	return items
}

// atLeast quickens the keep-alive to three times per ackWait.
func (h *held) atLeast(ackWait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if every := ackWait / 3; every > 0 && every < h.beat {
		h.beat = every
		select {
		case <-h.pace:
		default:
		}
		h.pace <- every
	}
}

// keepAlive restarts the AckWait of messages in hand until ctx ends.
func (h *held) keepAlive(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case every := <-h.pace:
			tick.Reset(every)
		case <-tick.C:
			for _, it := range h.all() {
				it.beat()
			}
		}
	}
}

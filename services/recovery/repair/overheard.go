package repair

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/streams"
)

// Purges remembers the purges of the last ten seconds. A purge leaves nothing to mend: one that nobody hears of, because nobody
// leads at that moment, would make what is gone look lost. So every replica has one from its start to its end.
type Purges struct {
	self string
	sub  *nats.Subscription

	mu    sync.Mutex
	heard []overheard
}

// overheard is a purge, and when it was heard of by the clock of this machine.
type overheard struct {
	deed

	heard time.Time
}

// Listen makes Purges that hear until they are closed.
func Listen(nc *nats.Conn) (*Purges, error) {
	p := &Purges{self: nc.Opts.Name}
	sub, err := nc.Subscribe(audit, p.onCall)
	if err != nil {
		return nil, fmt.Errorf("repair: listen to %s: %w", audit, err)
	}
	p.sub = sub
	return p, nil
}

// Close ends it.
func (p *Purges) Close() { _ = p.sub.Unsubscribe() }

func (p *Purges) onCall(m *nats.Msg) {
	d, ok := done(m, p.self)
	if !ok || d.verb != purged {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget()
	if len(p.heard) < ordersKept {
		p.heard = append(p.heard, overheard{d, time.Now()})
	}
}

// forget drops what is over. The caller holds mu.
func (p *Purges) forget() {
	p.heard = slices.DeleteFunc(p.heard, func(o overheard) bool { return time.Since(o.heard) > deedFor })
}

// recent are the purges of the last ten seconds, oldest first.
func (p *Purges) recent() []overheard {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget()
	return slices.Clone(p.heard)
}

// adopt makes orders of purges that were heard before this Repair ran.
func (r *Repair) adopt() {
	var recent []overheard
	if r.cfg.Purges != nil {
		recent = r.cfg.Purges.recent()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.ordered, func(_ order, since time.Time) bool { return time.Since(since) > 2*deedFor })
	for _, o := range recent {
		if r.declared(o.target) {
			o.before = true
			r.order(o.deed)
		}
	}
}

// order notes a deed that is to be told; a purge may be heard of twice. The caller holds mu.
func (r *Repair) order(d deed) {
	key := order{d.target, d.at.UnixNano()}
	if _, twice := r.ordered[key]; len(r.orders) >= ordersKept || d.verb == purged && twice {
		return
	}
	r.ordered[key] = time.Now()
	r.orders = append(r.orders, d)
}

// order identifies a deed by what it was done to, and when.
type order struct {
	target string
	at     int64
}

// toldBefore reports whether a leader before this one told of a purge. The books may still have to be told.
func (r *Repair) toldBefore(ctx context.Context, d deed) bool {
	if !d.before {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var m *jetstream.RawStreamMsg
	s, err := r.js.Stream(ctx, streams.Events)
	if err == nil {
		m, err = s.GetLastMsgForSubject(ctx, streams.EventSubject("recovery", "operator", d.target))
	}
	if err != nil { // better twice than not at all
		return false
	}
	e, err := events.Decode(m.Data)
	return err == nil && e.State == purged && !e.At.Before(d.at)
}

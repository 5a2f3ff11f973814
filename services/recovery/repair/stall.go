package repair

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// stalledAfter is how long a consumer must deliver nothing, although messages wait and workers ask, before it is
	// mended, and how long a remedy has to work.
	stalledAfter = 3 * time.Second
	// lastRemedyAgain paces the last remedy.
	lastRemedyAgain = 30 * time.Second
	// unservedAfter is how long messages must wait and nobody ask for them before that is told.
	unservedAfter = 10 * time.Second
)

// remedy is what is tried with a consumer that has stopped, in this order.
type remedy int

const (
	none remedy = iota
	declare
	passOn
	replace
)

// mark is how far a consumer has come.
type mark struct{ delivered, floor uint64 }

func markOf(c *jetstream.ConsumerInfo) mark { return mark{c.Delivered.Consumer, c.AckFloor.Consumer} }

// stall follows one consumer.
type stall struct {
	at    mark
	since time.Time // of the first look that found it waiting there; zero: it does not look stopped
	last  remedy
	tried time.Time
}

// look says what to try now. A consumer has stopped when messages wait, workers ask, it may deliver, and it has not
// delivered at any look for a while. One that has handed out as much as it may is not stopped: what rests counts.
func (s *stall) look(c *jetstream.ConsumerInfo, now time.Time) remedy {
	waits := c.NumPending > 0 && c.NumWaiting > 0 && (c.Config.MaxAckPending <= 0 || c.NumAckPending < c.Config.MaxAckPending)
	if !waits || markOf(c) != s.at || s.since.IsZero() {
		if markOf(c) != s.at || c.NumPending == 0 {
			s.last = none
		}
		s.at, s.since = markOf(c), time.Time{}
		if waits {
			s.since = now
		}
		return none
	}
	pause := stalledAfter
	if s.last == replace {
		pause = lastRemedyAgain
	}
	if now.Sub(s.since) < stalledAfter || s.last != none && now.Sub(s.tried) < pause {
		return none
	}
	next := min(s.last+1, replace)
	if next == passOn && !replicated(c) {
		next = replace
	}
	s.last, s.tried = next, now
	if next == replace {
		s.at = mark{} // that of a new consumer: it has yet to show that it is better
	}
	return next
}

// replicated reports whether another node could answer for a consumer.
func replicated(c *jetstream.ConsumerInfo) bool {
	return c.Cluster != nil && len(c.Cluster.Replicas) > 0
}

// suspects reports whether a consumer looks as if it had stopped.
func (r *Repair) suspects() bool {
	for _, s := range r.stalls {
		if !s.since.IsZero() {
			return true
		}
	}
	return false
}

// watch mends a consumer that has stopped delivering.
func (r *Repair) watch(ctx context.Context, g streams.WorkGroup, info *jetstream.ConsumerInfo, now time.Time) {
	target := targetOf(g)
	s := r.stalls[target]
	if s == nil {
		s = &stall{}
		r.stalls[target] = s
	}
	if next := s.look(info, now); next != none {
		r.remedy(ctx, g, info, next, s.since)
	}
}

// remedy tries one remedy.
func (r *Repair) remedy(ctx context.Context, g streams.WorkGroup, info *jetstream.ConsumerInfo, next remedy, since time.Time) {
	a := action{
		target: targetOf(g), cause: "stalled", began: since,
		detail: fmt.Sprintf("%d messages wait, %d requests for them wait, nothing is delivered", info.NumPending, info.NumWaiting),
	}
	switch next {
	case passOn:
		a.name, a.do = "leader_step_down", func(ctx context.Context) error { return streams.PassGroup(ctx, r.js, g) }
	case replace:
		a.name, a.do = "delete_and_create", func(ctx context.Context) error { return streams.ReplaceGroup(ctx, r.js, g) }
		r.known[a.target] = seen{}
	default:
		a.name, a.do = "declare_again", func(ctx context.Context) error { return streams.MendGroup(ctx, r.js, g) }
	}
	r.act(ctx, a)
	r.wasDeleted(a.target) // that was us
}

// load is what waits for a service, over its work groups.
type load struct {
	stage, model string
	pending      uint64
	asking       int
	moved        uint64
}

func newLoad(g streams.WorkGroup) *load {
	if lane, ok := strings.CutPrefix(g.Config.Durable, "infer-"); ok {
		return &load{stage: "infer", model: strings.TrimSuffix(lane, "-"+string(streams.LaneStable))}
	}
	return &load{stage: g.Config.Durable}
}

func (l *load) name() string {
	if l.model != "" {
		return l.model
	}
	return l.stage
}

func (l *load) add(c *jetstream.ConsumerInfo) {
	l.pending += c.NumPending
	l.asking += c.NumWaiting
	l.moved += c.Delivered.Consumer + c.AckFloor.Consumer
}

// service is one that is to be served: preprocess, or a model.
type service struct {
	moved uint64
	since time.Time // since when nobody serves it; zero: somebody does
	told  bool
}

func (r *Repair) workers(l *load) int {
	if r.cfg.Workers == nil {
		return 0
	}
	return r.cfg.Workers(l.stage, l.model)
}

// judge tells of services for which work waits and nobody works: that is nothing to mend in the broker.
func (r *Repair) judge(ctx context.Context, served map[string]*load, now time.Time) {
	for durable, l := range served {
		s := r.services[durable]
		if s == nil {
			s = &service{moved: l.moved}
			r.services[durable] = s
		}
		idle := l.pending > 0 && l.asking == 0 && l.moved == s.moved && r.workers(l) == 0
		s.moved = l.moved
		switch {
		case idle && s.since.IsZero():
			s.since = now
		case idle && !s.told && now.Sub(s.since) >= unservedAfter:
			s.told = r.tellService(ctx, l, "unserved", fmt.Sprintf("%d messages wait and nobody asks for them", l.pending))
		case !idle:
			if s.told {
				s.told = !r.tellService(ctx, l, "served", "")
			}
			s.since = time.Time{}
		}
	}
	for durable := range r.services {
		if served[durable] == nil {
			delete(r.services, durable) // no longer declared
		}
	}
}

func (r *Repair) tellService(ctx context.Context, l *load, state, detail string) bool {
	if !r.confirmed(ctx) {
		return false
	}
	r.cfg.Events.Tell(events.Event{
		Area: "recovery", Kind: "unserved", Name: l.name(), State: state, Detail: detail,
		Facts: map[string]string{"subject": l.name(), "stage": l.stage, "token": r.token()},
	})
	return true
}

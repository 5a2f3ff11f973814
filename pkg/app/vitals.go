package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/health"
)

// The checks of every service, and the facts.
const (
	checkBroker     = "broker"     // ready: connected
	checkDeclared   = "declared"   // ready: streams and buckets are there
	checkMember     = "member"     // ready: has a place in the fleet, and may act
	checkService    = "service"    // ready: what the service says
	checkBeat       = "beat"       // live: it still tries to beat
	checkConnection = "connection" // live: not closed for good
	checkCrash      = "crash"      // live: nothing in it said that it hangs

	factBroker = "broker"
	factWorker = "worker"
)

var (
	errNoBroker  = errors.New("waiting for the broker")
	errNoStreams = errors.New("streams and buckets are not all there yet")
	errNoPlace   = errors.New("has no place in the fleet yet")
	errMayNotAct = errors.New("no beat of it was stored for a second: it may have been declared dead, and does nothing before one is")
	errClosed    = errors.New("the connection to the broker is closed for good")
	errNoBeat    = fmt.Errorf("connected, and no beat was tried for %s: something in it hangs", hungAfter*pulseEvery)
)

// vitals are what the life of a process says of its health.
type vitals struct {
	broker, declared, place, closed, crashed, beating health.Flag
}

// report makes a board of them.
func (v *vitals) report(name string, p config.Process, log *slog.Logger) *health.Board {
	b := health.New(health.Config{Service: name, Instance: p.Instance, Log: log})
	v.broker.Set(errNoBroker)
	v.declared.Set(errNoStreams)
	v.place.Set(errNoPlace)
	b.Ready(checkBroker, v.broker.Check)
	b.Ready(checkDeclared, v.declared.Check)
	b.Ready(checkMember, v.place.Check)
	b.Live(checkConnection, v.closed.Check)
	b.Live(checkCrash, v.crashed.Check)
	b.Live(checkBeat, v.beating.Check)
	b.Fact(factBroker, func() any { return p.NATS.String() })
	return b
}

// alongside runs work until the returned function is called, which waits for it. That ctx ends does not end it.
func alongside(ctx context.Context, work func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { work(ctx) })
	return func() { cancel(); wg.Wait() }
}

// follow notes what becomes of the connection, until stop is called.
func (v *vitals) follow(ctx context.Context, nc *nats.Conn) (stop func()) {
	return alongside(ctx, func(ctx context.Context) { v.connection(ctx, nc) })
}

// connection notes what becomes of the connection until ctx ends. Nobody else asks it for its state: that waits while a
// server is dialled.
func (v *vitals) connection(ctx context.Context, nc *nats.Conn) {
	changes := nc.StatusChanged()
	defer nc.RemoveStatusListener(changes)
	for status := nc.Status(); ; {
		switch {
		case status == nats.CONNECTED:
			v.broker.Set(nil)
		case status == nats.CLOSED:
			v.broker.Set(errClosed)
			v.closed.Set(errClosed)
		case nc.LastError() != nil:
			v.broker.Set(fmt.Errorf("%w: %w", errNoBroker, nc.LastError()))
		default:
			v.broker.Set(errNoBroker)
		}
		select {
		case <-ctx.Done():
			return
		case status = <-changes:
		}
	}
}

// member makes the place in the fleet a check once there is one.
func (v *vitals) member(b *health.Board, m *fleet.Member) {
	b.Ready(checkMember, func() error {
		switch {
		case v.place.Check() != nil:
			return v.place.Check()
		case !m.MayAct():
			return errMayNotAct
		}
		return nil
	})
	b.Fact(factWorker, func() any { return brief(m.Entry()) })
}

// brief is an entry without what it has many of.
func brief(w fleet.Worker) any {
	holds := 0
	for _, c := range w.Claims {
		holds += len(c.Held)
	}
	w.Claims, w.Ready = nil, nil
	return struct {
		fleet.Worker
		Holds int `json:"holds"`
	}{w, holds}
}

const (
	pulseEvery = time.Second
	// hungAfter is how many seconds in a row without a beat are no accident: a beat takes less than three, whatever the
	// broker does, as long as it is connected.
	hungAfter = 30
)

// watch looks after the beats of a member, until stop is called.
func (v *vitals) watch(ctx context.Context, m *fleet.Member) (stop func()) {
	return alongside(ctx, func(ctx context.Context) { v.pulse(ctx, pulseEvery, func() time.Time { return m.Entry().At }) })
}

// pulse fails the check of a process that is connected and does not even try to beat: what fills in its entry, or what
// holds its messages, hangs, and recovery has long declared it dead. Seconds are counted, not measured: a process that was
// stopped counts none.
func (v *vitals) pulse(ctx context.Context, every time.Duration, beat func() time.Time) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	last, missed := beat(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if at := beat(); !at.Equal(last) || v.broker.Check() != nil {
			last, missed = at, 0
		} else {
			missed++
		}
		if missed >= hungAfter {
			v.beating.Set(errNoBeat)
		} else {
			v.beating.Set(nil)
		}
	}
}

// Answer answers questions about b at an address, until the returned function is called. At "off" nobody answers.
func Answer(ctx context.Context, address string, b *health.Board, log *slog.Logger) (stop func(), err error) {
	if address == config.HTTPOff {
		return func() {}, nil
	}
	l, err := health.Listen(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("SIGHTLINE_HTTP: %w", err)
	}
	return alongside(ctx, func(ctx context.Context) {
		if err := b.Serve(ctx, l); err != nil { // whoever asks notices
			log.ErrorContext(ctx, "nobody answers for this process any more", slog.Any("error", err))
		}
	}), nil
}

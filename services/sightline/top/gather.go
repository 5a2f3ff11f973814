package top

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/services/sightline/watch"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// Every is how often a picture is made.
	Every = time.Second
	// booksRest is how long the books are left alone between two readings, at least; it is ten times what one reading takes.
	booksRest = time.Second
	notesKept = 50
)

// Gatherer listens to a system.
type Gatherer struct {
	js      jetstream.JetStream
	log     *slog.Logger
	watcher *watch.Watcher
	workers *fleet.View
	drift   *drift.View // nil: nobody ever watched for it

	mu      sync.Mutex
	lines   []ledger.Line
	booked  time.Time
	problem error
	history *history
	notes   []string
}

// Gather begins to listen. Run keeps it up.
func Gather(ctx context.Context, js jetstream.JetStream, log *slog.Logger) (*Gatherer, error) {
	g := &Gatherer{js: js, log: log, history: newHistory(), watcher: watch.New(js, watch.Start{Time: time.Now()})}
	var err error
	if g.workers, err = fleet.Follow(ctx, js, "", log); err != nil {
		return nil, err
	}
	if _, err := js.KeyValue(ctx, streams.DriftBucket); err == nil {
		if g.drift, err = drift.Follow(ctx, js, log); err != nil {
			return nil, err
		}
	}
	var told []events.Event
	cfg := jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubject: streams.EventSubject("camera", "state", "*")}
	err = streams.Scan(ctx, js, streams.Events, cfg, false, func(m jetstream.Msg, _ *jetstream.MsgMetadata) bool {
		if e, err := events.Decode(m.Data()); err == nil {
			told = append(told, e)
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", streams.Events, err)
	}
	g.watcher.Seed(told)
	return g, nil
}

// Run listens until ctx ends. It survives restarts of the broker.
func (g *Gatherer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	watching := make(chan error, 1)
	go func() {
		for {
			err := g.watcher.Run(ctx)
			if ctx.Err() != nil {
				watching <- nil
				return
			}
			g.note(err)
			clock.Pause(ctx, Every)
		}
	}()
	for ctx.Err() == nil {
		began := time.Now()
		lines, _, err := ledger.Balance(ctx, g.js)
		if err == nil {
			g.mu.Lock()
			g.lines, g.booked, g.problem = lines, time.Now(), nil
			g.mu.Unlock()
		} else if ctx.Err() == nil {
			g.note(err)
		}
		clock.Pause(ctx, max(booksRest, 10*(time.Since(began)-2*time.Second)))
	}
	cancel()
	return <-watching
}

// note keeps what stands in the way.
func (g *Gatherer) note(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.problem = err
}

// Picture is the system now. Every call adds to what later ones show of the past.
func (g *Gatherer) Picture(now time.Time) Picture {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := sample{at: now, booked: g.booked, cameras: g.watcher.CamerasOf(now, g.lines), workers: g.workers.All()}
	if g.drift != nil {
		s.drift, _ = g.drift.All()
	}
	p := g.history.add(s)
	p.Server = g.js.Conn().ConnectedServerName()
	g.notes = append(g.notes, g.watcher.Notes()...)
	g.notes = g.notes[max(0, len(g.notes)-notesKept):]
	p.Notes = append(p.Notes, g.notes...)
	switch {
	case !g.js.Conn().IsConnected():
		p.Problem = "the broker is away: what is shown is old"
	case g.problem != nil:
		p.Problem = g.problem.Error()
	}
	return p
}

// Booked waits until the books were read, so that a single picture is whole.
func (g *Gatherer) Booked(ctx context.Context) {
	for {
		g.mu.Lock()
		done := !g.booked.IsZero() || g.problem != nil
		g.mu.Unlock()
		if done || ctx.Err() != nil {
			return
		}
		clock.Pause(ctx, Every/10)
	}
}

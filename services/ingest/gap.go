package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// gapBacklog bounds the records that wait for the broker; they come at the pace of reconnects. The oldest goes first.
const gapBacklog = 64

// gapTeller tells applications when nobody can look at a camera: unknown is not nothing. It outlives leases and sessions,
// so that what it opened it also closes, and it has a queue of its own, so that no frame waits for it.
//
// Records wait for the lease as frames do: what another instance sees now is not to be called unknown. Which gap is open is
// also told as an event, where the next owner finds it: an answer that was on its way hides a record from it.
type gapTeller struct {
	js       Publisher
	instance string
	camera   string
	models   []string

	mu     sync.Mutex
	permit permit // nil: nothing forbids it
	open   *predictions.Gap
	seen   time.Time // when the first picture came under this lease
	queue  []*nats.Msg
	wake   chan struct{}
	idle   chan struct{} // closes when the queue is empty
}

func newGapTeller(js Publisher, instance, camera string, models []string) *gapTeller {
	idle := make(chan struct{})
	close(idle)
	return &gapTeller{js: js, instance: instance, camera: camera, models: models, wake: make(chan struct{}, 1), idle: idle}
}

// under makes records wait for a lease.
func (g *gapTeller) under(p permit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.permit = p
}

// begin makes records wait for a lease under which nothing has been seen yet.
func (g *gapTeller) begin(p permit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.permit, g.seen = p, time.Time{}
}

// forget drops what is known and what waits: another instance has the camera.
func (g *gapTeller) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open, g.permit = nil, nil
	g.take(len(g.queue))
}

// take removes the oldest records of the queue. The caller holds mu.
func (g *gapTeller) take(n int) {
	if len(g.queue) == 0 {
		return
	}
	if g.queue = g.queue[n:]; len(g.queue) == 0 {
		close(g.idle)
	}
}

// settle waits until everything is published, or ctx ends.
func (g *gapTeller) settle(ctx context.Context) {
	g.mu.Lock()
	idle := g.idle
	g.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// down opens a gap, or tells that the open one has another reason.
func (g *gapTeller) down(reason Cause, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != nil && g.open.Reason == string(reason) {
		return
	}
	from := at.UTC()
	if g.open != nil { // the same silence, for another reason
		from = g.open.From
	}
	g.open = &predictions.Gap{Reason: string(reason), From: from}
	g.put(*g.open)
}

// up closes the gap, if there is one.
func (g *gapTeller) up(at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.seen.IsZero() {
		g.seen = at.UTC()
	}
	if g.open == nil {
		return
	}
	closed := *g.open
	closed.To = at.UTC()
	g.open = nil
	g.put(closed)
}

// The states of a gap's event.
const (
	gapOpen   = "open"
	gapClosed = "closed"
	factFrom  = "from"
)

// adopt takes over a gap that a predecessor left open, so that it is closed once somebody looks again. One that left none
// and looks no more ended without a word: the gap since then is told now. silent is zero when there was no predecessor.
func (g *gapTeller) adopt(ctx context.Context, told jetstream.Stream, silent time.Time) error {
	gap := predictions.Gap{Reason: string(causeIngestLost), From: silent.UTC()}
	msg, err := told.GetLastMsgForSubject(ctx, g.eventSubject())
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("last gap of %s: %w", g.camera, err)
	}
	known := false // it was told when it began
	if err == nil {
		if e, err := events.Decode(msg.Data); err == nil && e.State == gapOpen {
			if from, err := time.Parse(time.RFC3339Nano, e.Facts[factFrom]); err == nil {
				gap, known = predictions.Gap{Reason: e.Cause, From: from}, true
			}
		}
	}
	if gap.From.IsZero() {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.open != nil: // the camera is down: it is the same silence, and it began earlier
		if gap.From.Before(g.open.From) {
			g.open.From = gap.From
			g.put(*g.open)
		}
	case !g.seen.IsZero(): // it is over
		if gap.From.Before(g.seen) {
			gap.To = g.seen
			g.put(gap)
		}
	default:
		g.open = &gap
		if !known {
			g.put(gap)
		}
	}
	return nil
}

func (g *gapTeller) eventSubject() string { return streams.EventSubject("camera", "gap", g.camera) }

// put queues the event, and one record per model. The caller holds mu.
func (g *gapTeller) put(gap predictions.Gap) {
	if len(g.queue) == 0 {
		g.idle = make(chan struct{})
	}
	e := events.Event{
		Area: "camera", Kind: "gap", Name: g.camera, Instance: g.instance, At: gap.From, State: gapOpen, Cause: gap.Reason,
		Facts: map[string]string{factFrom: gap.From.Format(time.RFC3339Nano)},
	}
	if !gap.To.IsZero() {
		e.State, e.At = gapClosed, gap.To
	}
	g.queue = append(g.queue, record(g.eventSubject(), "gap/"+g.camera+"/"+g.instance+"/"+e.State+"/"+gap.Reason+"/"+strconv.FormatInt(e.At.UnixNano(), 36), e))
	for _, m := range g.models {
		p := predictions.Prediction{
			Schema: predictions.SchemaID, Kind: predictions.KindGap, Status: predictions.StatusUnknown,
			Camera: g.camera, Model: m, Gap: &gap,
		}
		g.queue = append(g.queue, record(streams.PredictionSubject(m, g.camera), p.ID(), p))
	}
	g.take(max(0, len(g.queue)-gapBacklog))
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

func record(subject, id string, content any) *nats.Msg {
	data, err := json.Marshal(content)
	if err != nil {
		panic(fmt.Sprintf("a gap record is plain data: %v", err))
	}
	msg := nats.NewMsg(subject)
	msg.Data = data
	msg.Header.Set(jetstream.MsgIDHeader, id)
	return msg
}

// run publishes until ctx ends, and then makes one more attempt at what waits.
func (g *gapTeller) run(ctx context.Context) {
	for ctx.Err() == nil {
		if g.publish(ctx) {
			select {
			case <-g.wake:
			case <-ctx.Done():
			}
		} else {
			clock.Pause(ctx, outboxRetryTo)
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	g.publish(last)
}

// publish sends what waits, in order, and reports whether nothing waits any more.
func (g *gapTeller) publish(ctx context.Context) bool {
	for {
		g.mu.Lock()
		if len(g.queue) == 0 {
			g.mu.Unlock()
			return true
		}
		msg, may := g.queue[0], g.permit
		g.mu.Unlock()
		attempt, cancel := context.WithTimeout(ctx, everyPublishTimeout)
		var err error
		if may != nil {
			err = may(attempt, time.Now())
		}
		if err == nil {
			_, err = g.js.PublishMsg(attempt, msg)
		}
		cancel()
		if err != nil && !streams.Hopeless(err) && !errors.Is(err, errOldEpoch) {
			return false
		}
		g.mu.Lock()
		if len(g.queue) > 0 && g.queue[0] == msg { // else it fell out meanwhile
			g.take(1)
		}
		g.mu.Unlock()
	}
}

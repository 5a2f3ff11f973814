package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// gapBacklog bounds the records that wait for the broker; they come at the pace of reconnects. The oldest goes first.
const gapBacklog = 64

// gapTeller tells applications when nobody can look at a camera: unknown is not nothing. It outlives leases and sessions,
// so that what it opened it also closes, and it has a queue of its own, so that no frame waits for it.
type gapTeller struct {
	js     Publisher
	camera string
	models []string

	mu    sync.Mutex
	open  *predictions.Gap
	queue []*nats.Msg
	wake  chan struct{}
}

func newGapTeller(js Publisher, camera string, models []string) *gapTeller {
	return &gapTeller{js: js, camera: camera, models: models, wake: make(chan struct{}, 1)}
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
	if g.open == nil {
		return
	}
	closed := *g.open
	closed.To = at.UTC()
	g.open = nil
	g.put(closed)
}

// adopt takes over a gap that a predecessor left open, so that it is closed once somebody looks again.
func (g *gapTeller) adopt(ctx context.Context, stream jetstream.Stream) {
	for _, m := range g.models {
		msg, err := stream.GetLastMsgForSubject(ctx, streams.PredictionSubject(m, g.camera))
		if err != nil {
			continue // nothing there, or not to be had: the next picture tells that somebody looks
		}
		if p, err := predictions.Decode(msg.Data); err == nil && p.Kind == predictions.KindGap && p.Gap.To.IsZero() {
			g.mu.Lock()
			if g.open == nil {
				g.open = p.Gap
			}
			g.mu.Unlock()
			return
		}
	}
}

// put queues one record per model. The caller holds mu.
func (g *gapTeller) put(gap predictions.Gap) {
	for _, m := range g.models {
		p := predictions.Prediction{
			Schema: predictions.SchemaID, Kind: predictions.KindGap, Status: predictions.StatusUnknown,
			Camera: g.camera, Model: m, Gap: &gap,
		}
		data, err := json.Marshal(p)
		if err != nil {
			panic(fmt.Sprintf("a gap record is plain data: %v", err))
		}
		msg := nats.NewMsg(streams.PredictionSubject(m, g.camera))
		msg.Data = data
		msg.Header.Set(jetstream.MsgIDHeader, p.ID())
		g.queue = append(g.queue, msg)
	}
	g.queue = g.queue[max(0, len(g.queue)-gapBacklog):]
	select {
	case g.wake <- struct{}{}:
	default:
	}
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
			wait(ctx, outboxRetryTo)
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
		msg := g.queue[0]
		g.mu.Unlock()
		attempt, cancel := context.WithTimeout(ctx, everyPublishTimeout)
		_, err := g.js.PublishMsg(attempt, msg)
		cancel()
		if err != nil && !streams.Hopeless(err) {
			return false
		}
		g.mu.Lock()
		if len(g.queue) > 0 && g.queue[0] == msg { // else it fell out meanwhile
			g.queue = g.queue[1:]
		}
		g.mu.Unlock()
	}
}

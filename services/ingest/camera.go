package ingest

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// flushTimeout is how long a camera that is given up may take to publish what it captured.
	flushTimeout = 3 * time.Second
	// everyFlushTimeout is how long an every_frame camera may take, as long as the broker stores a frame within each
	// flushTimeout. A process has 20 seconds to stop.
	everyFlushTimeout = 12 * time.Second
	// evidenceTimeout is how long it may take when another instance has taken over: nobody waits for it.
	evidenceTimeout = 10 * time.Second
)

// routeEvery is how often the ledger is told how a camera is judged, so that a reader that starts late knows it too.
const routeEvery = time.Minute

// camera is one camera that this instance captures: it turns pictures into frames with names, and silence into gap
// records. Should its lease expire and nobody take it over, it goes on under the next epoch.
type camera struct {
	cfg    config.Camera
	models []model.Declaration

	js     Publisher
	marks  *ledger.Reporter
	events *events.Publisher
	gaps   *gapTeller
	share  func() float64 // of its pictures that are wanted at this moment

	measure *cameraMeasure

	mu       sync.Mutex
	epoch    uint64
	seq      uint64 // of the last frame of this epoch
	outbox   *outbox
	outboxes []*outbox     // of all epochs, oldest first: their frames leave in that order
	more     chan struct{} // another outbox was begun
	stored   chan struct{} // a frame was stored
	ended    bool

	sampler *sampler
	motion  motion
	claims  claims
	stats   func() Stats // of the session that is captured
	renewed atomic.Bool  // another epoch has begun
	size    int          // of the last JPEG, to size the next buffer
	failing bool         // pictures cannot be coded
	seen    time.Time

	refusal string // what was told of frames that no stream takes
}

// begin gives the frames from now on the epoch of a lease. The first call comes before run.
func (c *camera) begin(t *tenure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	if c.outbox != nil {
		c.outbox.close()
	}
	c.epoch, c.seq = t.lease.Epoch, 0
	c.outbox = newOutbox(c.js, c.marks, c.measure, c.cfg.Delivery, t.Await, c.onStored, c.onRefused)
	c.outboxes = append(c.outboxes, c.outbox)
	c.tellRoute()
	c.renewed.Store(true)
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// end says that nothing more is captured.
func (c *camera) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.outbox.close()
	close(c.more)
}

// send empties the outboxes, one after the other, until there is none and none will come.
func (c *camera) send(ctx context.Context) {
	for {
		c.mu.Lock()
		var next *outbox
		if len(c.outboxes) > 0 {
			next, c.outboxes = c.outboxes[0], c.outboxes[1:]
		}
		c.mu.Unlock()
		if next != nil {
			next.run(ctx)
			continue
		}
		if _, open := <-c.more; !open {
			return
		}
	}
}

// run captures what a feed sees until ctx ends, closes the feed, and then publishes what it still has.
func (c *camera) run(ctx context.Context, f *feed) {
	c.sampler = newSampler(float64(c.cfg.FPS))
	abandon, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	captured, stopCaptured := context.WithCancel(abandon) // ends when nothing more will be captured
	defer stopCaptured()

	var sending sync.WaitGroup
	sending.Go(func() { c.send(abandon) })
	sending.Go(func() { c.repeatRoute(captured) })
	c.stats, c.claims.tell = f.session.Stats, c.tellClaim
	f.attach(c)
	<-ctx.Done()
	f.close()
	c.claims.end()
	stopCaptured()
	c.end()
	if errors.Is(context.Cause(ctx), lease.ErrLost) { // it is another's already, whose state is newer
		defer time.AfterFunc(evidenceTimeout, cancel).Stop()
		sending.Wait()
		return
	}
	c.events.Tell(events.Event{Area: "camera", Kind: "state", Name: c.cfg.Name, State: "released", Facts: c.epochFact()})
	flushed, stopFlushing := context.WithCancel(abandon)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		c.limitFlush(flushed, cancel)
	}()
	sending.Wait()
	stopFlushing()
	<-sent
}

// limitFlush abandons what is still to be published when it takes too long, unless ctx ends before.
func (c *camera) limitFlush(ctx context.Context, abandon func()) {
	late, stalled := time.NewTimer(everyFlushTimeout), time.NewTimer(flushTimeout)
	defer late.Stop()
	defer stalled.Stop()
	for {
		select {
		case <-c.stored:
			if c.cfg.Delivery == streams.EveryFrame {
				stalled.Reset(flushTimeout)
			}
			continue
		case <-stalled.C:
		case <-late.C:
		case <-ctx.Done():
			return
		}
		abandon()
		return
	}
}

// onStored notes that the broker takes frames.
func (c *camera) onStored() {
	select {
	case c.stored <- struct{}{}:
	default:
	}
}

// tellRoute says how the epoch's frames are judged. The caller holds mu.
func (c *camera) tellRoute() {
	route := ledger.Route{Delivery: c.cfg.Delivery, Models: c.cfg.Models}
	if c.cfg.Delivery == streams.Freshest {
		route.MaxAge = c.cfg.MaxAge
	}
	c.marks.SetRoute(c.cfg.Name, c.epoch, route)
}

func (c *camera) repeatRoute(ctx context.Context) {
	tick := time.NewTicker(routeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.mu.Lock()
			c.tellRoute()
			c.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// lastPicture is when the last picture was seen, or otherwise when there was none.
func (c *camera) lastPicture(otherwise time.Time) time.Time {
	if c.seen.IsZero() {
		return otherwise
	}
	return c.seen
}

// onPicture names, scales and codes a picture that is wanted. From here on it has a fate.
func (c *camera) onPicture(p Picture) {
	share := c.share()
	c.measure.picture(p.Received(), c.seen, share)
	c.seen = p.Received()
	if c.renewed.Swap(false) {
		c.claims.again()
	}
	c.claims.picture(p.PTS(), p.Received(), c.stats)
	c.sampler.lower(share)
	if !c.sampler.pick(p.PTS(), p.Received()) {
		return
	}
	width, height := p.Size()
	w, h, err := frameSize(width, height, c.cfg.ROI, c.models)
	var jpeg []byte
	if err == nil {
		jpeg, err = p.JPEG(make([]byte, 0, c.size+c.size/4+1024), w, h, c.cfg.JPEGQuality)
	}
	if failed := err != nil; failed != c.failing { // once, not for every picture
		c.failing = failed
		if failed {
			c.tellError(CauseCodec, err)
			c.gaps.down(CauseCodec, p.Received())
		} else {
			c.gaps.up(p.Received())
		}
	}
	if err != nil { // not captured: it has no name yet
		return
	}
	c.size = len(jpeg)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	facts := frame.Facts{
		Name:     frame.Name{Camera: c.cfg.Name, Epoch: c.epoch, Seq: c.seq},
		Captured: p.Received(), SourceW: width, SourceH: height, ROI: c.cfg.ROI, Models: c.cfg.Models,
	}
	if c.cfg.Delivery != streams.EveryFrame {
		facts.Deadline = p.Received().Add(c.cfg.MaxAge)
	}
	if diff, ok := c.motion.difference(p); ok {
		facts.TemporalDifference = &diff
	}
	if c.sampler.lowered() {
		facts.Status = string(predictions.StatusDegraded)
	}
	ctx, span := c.measure.capture(facts)
	if facts.Trace = telemetry.Header(span); facts.Trace == "" {
		facts.Trace = newTrace()
	}
	c.outbox.put(outgoing{facts: facts, received: p.Received(), jpeg: jpeg, trace: trace.SpanContextFromContext(ctx), queued: time.Now()})
	span.End()
}

// onRefused tells once for each reason why frames are not accepted.
func (c *camera) onRefused(err error) {
	if text := err.Error(); c.refusal != text {
		c.refusal = text
		c.tellError(CauseConfig, err)
	}
}

func (c *camera) tellError(cause Cause, err error) {
	c.events.Tell(events.Event{Area: "camera", Kind: "error", Name: c.cfg.Name, Cause: string(cause), Detail: err.Error()})
}

// onState tells operators what happens, and applications when nobody can look: unknown is not nothing.
func (c *camera) onState(s State) {
	c.events.Tell(events.Event{
		Area: "camera", Kind: "state", Name: c.cfg.Name, At: s.At, State: string(s.Phase), Cause: string(s.Cause), Detail: s.Detail,
		Facts: c.epochFact(),
	})
	c.measure.up.SetBool(s.Phase == PhaseLive)
	switch s.Phase {
	case PhaseDown:
		c.gaps.down(s.Cause, c.lastPicture(s.At))
	case PhaseLive:
		c.gaps.up(s.At)
	case PhaseConnecting:
	}
}

func (c *camera) epochFact() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return epochFact(c.epoch)
}

func epochFact(epoch uint64) map[string]string {
	return map[string]string{factEpoch: strconv.FormatUint(epoch, 10)}
}

// factEpoch is the fact of an event that names an epoch.
const factEpoch = "epoch"

// newTrace begins a W3C trace. It is not sampled until somebody decides so.
func newTrace() string {
	b := make([]byte, 0, 55)
	b = append(b, "00-"...)
	for range 2 {
		b = appendHex(b, rand.Uint64()|1) //nolint:gosec // an identifier, not a secret
	}
	b = append(b, '-')
	b = appendHex(b, rand.Uint64()|1) //nolint:gosec // an identifier, not a secret
	return string(append(b, "-00"...))
}

func appendHex(b []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[v>>shift&15])
	}
	return b
}

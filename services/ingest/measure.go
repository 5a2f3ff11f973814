package ingest

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/streams"
)

// measure is what an instance says of itself, over all cameras.
type measure struct {
	t      *telemetry.Telemetry
	tracer telemetry.Tracer

	queue, work, publish      *telemetry.Histogram
	age                       map[streams.Delivery]*telemetry.Histogram
	duplicates, publishErrors *telemetry.Counter
}

func newMeasure(t *telemetry.Telemetry) *measure {
	const stage = telemetry.StageIngest
	s := t.Set()
	m := &measure{
		t: t, tracer: t.Tracer(),
		queue:      s.Histogram(telemetry.StageDuration, stage, telemetry.PhaseQueue),
		work:       s.Histogram(telemetry.StageDuration, stage, telemetry.PhaseWork),
		publish:    s.Histogram(telemetry.StageDuration, stage, telemetry.PhasePublish),
		age:        map[streams.Delivery]*telemetry.Histogram{},
		duplicates: s.Counter(telemetry.DuplicatesSuppressed, stage), publishErrors: s.Counter(telemetry.PublishErrors, stage),
	}
	for _, d := range []streams.Delivery{streams.Freshest, streams.EveryFrame} {
		m.age[d] = s.Histogram(telemetry.FrameAge, stage, string(d))
	}
	return m
}

// cameraMeasure is what an instance says of a camera that it owns. It ends with that.
type cameraMeasure struct {
	service *measure
	set     *telemetry.Set
	cfg     config.Camera

	received, captured, published, damaged, outboxDropped *telemetry.Counter
	interval                                              *telemetry.Histogram
	up, last, sampling, outbox                            *telemetry.Gauge

	waiting atomic.Int64 // frames in its outboxes
}

func (m *measure) camera(cfg config.Camera) *cameraMeasure {
	s := m.t.Set()
	c := &cameraMeasure{
		service: m, set: s, cfg: cfg,
		received:  s.Counter(telemetry.FramesReceived, cfg.Name),
		captured:  s.Counter(telemetry.FramesCaptured, cfg.Name),
		published: s.Counter(telemetry.FramesPublished, cfg.Name),
		damaged:   s.Counter(telemetry.DecodeErrors, cfg.Name), outboxDropped: s.Counter(telemetry.OutboxDropped, cfg.Name),
		interval: s.Histogram(telemetry.FrameInterval, cfg.Name),
		up:       s.Gauge(telemetry.CameraUp, cfg.Name),
		last:     s.Gauge(telemetry.CameraLastFrame, cfg.Name),
		sampling: s.Gauge(telemetry.CameraSampling, cfg.Name),
		outbox:   s.Gauge(telemetry.OutboxFrames, cfg.Name),
	}
	c.up.Set(0)
	c.outbox.Set(0)
	return c
}

func (c *cameraMeasure) close() { c.set.Close() }

// reconnect notes a connection that failed.
func (c *cameraMeasure) reconnect(cause Cause) {
	c.set.Counter(telemetry.Reconnects, c.cfg.Name, string(cause)).Inc()
}

// picture notes a picture before sampling, the time of the one before, and the share of them that is wanted.
func (c *cameraMeasure) picture(at, before time.Time, share float64) {
	c.received.Inc()
	c.last.SetTime(at)
	c.sampling.Set(share)
	if !before.IsZero() {
		c.interval.Took(at.Sub(before))
	}
}

// capture begins the trace of a frame. The span covers what was done since the picture arrived.
func (c *cameraMeasure) capture(f frame.Facts) (context.Context, trace.Span) {
	c.service.work.Since(f.Captured)
	tracer := c.service.tracer
	if !tracer.On() {
		return tracer.Start(context.Background(), "") // nothing
	}
	return tracer.Root(context.Background(), "capture", c.cfg.TraceRatio, trace.WithTimestamp(f.Captured), trace.WithAttributes(
		attribute.String(telemetry.AttrFrame, f.Name.String()), attribute.String(telemetry.AttrCamera, f.Name.Camera),
		attribute.Int("sightline.source.width", f.SourceW), attribute.Int("sightline.source.height", f.SourceH),
	))
}

// wait notes that more or fewer frames wait for the broker.
func (c *cameraMeasure) wait(more int) { c.outbox.Set(float64(c.waiting.Add(int64(more)))) }

// send begins the publishing of a frame. The function ends it.
func (c *cameraMeasure) send(ctx context.Context, f outgoing, msg *nats.Msg) func(error) {
	began := time.Now()
	c.service.queue.Took(began.Sub(f.queued))
	var span trace.Span
	if f.trace.IsValid() {
		name, template := streams.Template(msg.Subject)
		_, span = c.service.tracer.Send(trace.ContextWithSpanContext(ctx, f.trace), telemetry.Destination{Name: name, Template: template}, msg.Subject, f.facts.Name.String(), len(msg.Data))
		msg.Header[frame.HeaderTrace] = []string{telemetry.Header(span)}
	}
	return func(err error) {
		c.service.publish.Since(began)
		if err == nil {
			c.published.Inc()
			c.service.age[c.cfg.Delivery].Since(f.received)
		}
		if span == nil {
			return
		}
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// stored notes the broker's word that it has a frame.
func (c *cameraMeasure) stored(ack *jetstream.PubAck) {
	if ack != nil && ack.Duplicate {
		c.service.duplicates.Inc()
	}
}

// drop notes a frame that is not published. Of one that became too old the trace is kept.
func (c *cameraMeasure) drop(f outgoing, fate ledger.Mark, reason string) {
	c.outboxDropped.Inc()
	c.set.Counter(telemetry.FramesDropped, c.cfg.Name, telemetry.StageIngest, string(fate), reason).Inc()
	if fate == ledger.Expired {
		c.service.t.Keep(f.trace, telemetry.Slow)
	}
}

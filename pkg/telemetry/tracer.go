package telemetry

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sightline-dev/sightline/pkg/telemetry/w3c"
)

// tracing is the spans of a process.
type tracing struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	keep     *keeper
}

func newTracing(t *Telemetry, res *resource.Resource, exporters []sdk.SpanExporter) *tracing {
	k := newKeeper(t)
	options := []sdk.TracerProviderOption{sdk.WithResource(res), sdk.WithSampler(sampler{}), sdk.WithSpanProcessor(k)}
	for _, e := range exporters {
		k.batches = append(k.batches, sdk.NewBatchSpanProcessor(e, sdk.WithExportTimeout(exportWithin)))
	}
	p := sdk.NewTracerProvider(options...)
	return &tracing{provider: p, tracer: p.Tracer(scope), keep: k}
}

func (t *tracing) shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return errors.Join(t.keep.leave(), t.provider.Shutdown(ctx))
}

// Tracer begins spans. One trace is a frame's way from capture to the application that reads its prediction; its context
// travels in the header Traceparent of every message.
//
// # Sampling
//
// Where a trace begins, the share given to [Tracer.Root] decides whether it is exported, and everybody follows that. Spans
// of the others are kept in memory for a few seconds: whoever finds that a frame is slow, fails or is quarantined calls
// [Telemetry.Keep], and then every process exports what it has of that trace.
//
// The zero Tracer begins spans that are nothing.
type Tracer struct{ t *tracing }

// Tracer begins the spans of this process.
func (t *Telemetry) Tracer() Tracer {
	if t == nil {
		return Tracer{}
	}
	return Tracer{t.traces}
}

// On reports whether anybody wants spans: what is only done for them can be left out otherwise.
func (t Tracer) On() bool { return t.t != nil }

// Start begins a span in the trace that ctx is in.
func (t Tracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	if t.t == nil {
		return ctx, noop.Span{}
	}
	return t.t.tracer.Start(ctx, name, opts...) //nolint:spancheck // the caller ends it
}

// Root begins a trace of which a share is exported.
func (t Tracer) Root(ctx context.Context, name string, share float64, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	if t.t == nil {
		return ctx, noop.Span{}
	}
	return t.t.tracer.Start(context.WithValue(ctx, shareKey{}, share), name, append(opts, trace.WithNewRoot())...) //nolint:spancheck // the caller ends it
}

// Remote is ctx in the trace of a traceparent that came with a message.
func Remote(ctx context.Context, traceparent string) context.Context {
	c := w3c.Parse(traceparent)
	if !c.IsValid() {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, c)
}

type shareKey struct{}

// sampler exports what the trace's beginning decided; everything else is recorded, should somebody want it kept.
type sampler struct{}

func (sampler) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	parent := trace.SpanContextFromContext(p.ParentContext)
	d := sdk.RecordOnly
	switch {
	case parent.IsValid():
		if parent.IsSampled() {
			d = sdk.RecordAndSample
		}
	case len(p.Links) > 0: // a batch: with any of its frames
		for _, l := range p.Links {
			if l.SpanContext.IsSampled() {
				d = sdk.RecordAndSample
			}
		}
	default:
		if share, _ := p.ParentContext.Value(shareKey{}).(float64); within(p.TraceID, share) {
			d = sdk.RecordAndSample
		}
	}
	return sdk.SamplingResult{Decision: d, Tracestate: parent.TraceState()}
}

func (sampler) Description() string { return "share of each camera, and what is kept" }

// within takes the same share of all trace ids everywhere.
func within(id trace.TraceID, share float64) bool {
	return share >= 1 || share > 0 && float64(binary.BigEndian.Uint64(id[8:])>>1) < share*math.MaxInt64
}

// The attributes of spans: the semantic conventions of messaging, and our own.
const (
	attrSystem     = "messaging.system"
	attrOperation  = "messaging.operation.name"
	attrType       = "messaging.operation.type"
	attrTemplate   = "messaging.destination.template"
	attrSubject    = "messaging.destination.name"
	attrGroup      = "messaging.consumer.group.name"
	attrID         = "messaging.message.id"
	attrSize       = "messaging.message.body.size"
	attrBatchCount = "messaging.batch.message_count"

	// AttrFrame is the frame's name.
	AttrFrame = "sightline.frame"
	// AttrCamera and AttrModel are those of the frame.
	AttrCamera = "sightline.camera"
	AttrModel  = "sightline.model"
	// AttrAttempt is which delivery of the message it was, AttrQueued how many seconds it had waited, AttrOutcome what came of it.
	AttrAttempt = "sightline.attempt"
	AttrQueued  = "sightline.queued_seconds"
	AttrOutcome = "sightline.outcome"
)

// Destination is where messages go, without what differs from one camera to the next.
type Destination struct {
	Name     string // "frames.live"
	Template string // "frames.live.{camera}"
}

// Send begins the span of publishing a message. Put [Header] of it into the message.
func (t Tracer) Send(ctx context.Context, d Destination, subject, id string, size int) (context.Context, trace.Span) {
	if t.t == nil {
		return ctx, noop.Span{}
	}
	return t.t.tracer.Start(ctx, "send "+d.Name, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes( //nolint:spancheck // the caller ends it
		attribute.String(attrSystem, "nats"), attribute.String(attrOperation, "send"), attribute.String(attrType, "send"),
		attribute.String(attrTemplate, d.Template), attribute.String(attrSubject, subject), attribute.String(attrID, id), attribute.Int(attrSize, size),
	))
}

// A Received message, for its span.
type Received struct {
	Traceparent string
	Destination Destination
	Subject     string
	Group       string // the work group
	Frame       string
	Camera      string
	Size        int
	Attempt     int
	Queued      time.Duration
}

// Process begins the span of handling a message.
func (t Tracer) Process(ctx context.Context, m Received) (context.Context, trace.Span) {
	if t.t == nil {
		return ctx, noop.Span{}
	}
	return t.t.tracer.Start(Remote(ctx, m.Traceparent), "process "+m.Destination.Name, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes( //nolint:spancheck // the caller ends it
		attribute.String(attrSystem, "nats"), attribute.String(attrOperation, "process"), attribute.String(attrType, "process"),
		attribute.String(attrTemplate, m.Destination.Template), attribute.String(attrSubject, m.Subject), attribute.String(attrGroup, m.Group),
		attribute.String(AttrFrame, m.Frame), attribute.String(AttrCamera, m.Camera), attribute.Int(attrSize, m.Size),
		attribute.Int(AttrAttempt, m.Attempt), attribute.Float64(AttrQueued, m.Queued.Seconds()),
	))
}

// Batch begins the span of work on several messages at once. It is a trace of its own, linked to theirs.
func (t Tracer) Batch(ctx context.Context, name string, of []trace.Span) (context.Context, trace.Span) {
	if t.t == nil {
		return ctx, noop.Span{}
	}
	links := make([]trace.Link, 0, len(of))
	for _, s := range of {
		if c := s.SpanContext(); c.IsValid() {
			links = append(links, trace.Link{SpanContext: c})
		}
	}
	ctx, batch := t.t.tracer.Start(ctx, name, trace.WithNewRoot(), trace.WithLinks(links...), trace.WithAttributes(attribute.Int(attrBatchCount, len(of))))
	for _, s := range of {
		s.AddLink(trace.Link{SpanContext: batch.SpanContext()})
	}
	return ctx, batch
}

// Header is the traceparent that continues a span, "" of one that is nothing.
func Header(s trace.Span) string { return w3c.Format(s.SpanContext()) }

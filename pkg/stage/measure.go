package stage

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// slowEvery is the age from which on the trace of a frame is kept whose camera has no max_age. Other frames are slow at
	// half of that.
	slowEvery = 5 * time.Second
	// reasonHandler is the reason of what is quarantined: whose handler could not do with it.
	reasonHandler = "handler"
)

// measure is what a stage says of itself. Of what is counted per message nothing is looked up, unless it is dropped.
type measure struct {
	tel    *telemetry.Telemetry
	tracer telemetry.Tracer
	stage  string
	batch  string

	queue, work, publish       *telemetry.Histogram
	age                        map[streams.Delivery]*telemetry.Histogram
	outcomes                   map[string]*telemetry.Counter
	redeliveries, duplicates   *telemetry.Counter
	deadLetters, publishErrors *telemetry.Counter
	cameras                    *telemetry.Cache[*telemetry.Set] // of what was dropped
}

func newMeasure(c Config) *measure {
	s := c.Telemetry.Set()
	m := &measure{
		tel: c.Telemetry, tracer: c.Telemetry.Tracer(), stage: c.Name, batch: c.BatchSpan,
		queue:        s.Histogram(telemetry.StageDuration, c.Name, telemetry.PhaseQueue),
		work:         s.Histogram(telemetry.StageDuration, c.Name, telemetry.PhaseWork),
		publish:      s.Histogram(telemetry.StageDuration, c.Name, telemetry.PhasePublish),
		age:          map[streams.Delivery]*telemetry.Histogram{},
		outcomes:     map[string]*telemetry.Counter{},
		redeliveries: s.Counter(telemetry.Redeliveries, c.Name), duplicates: s.Counter(telemetry.DuplicatesSuppressed, c.Name),
		deadLetters: s.Counter(telemetry.DeadLetters, c.Name), publishErrors: s.Counter(telemetry.PublishErrors, c.Name),
		cameras: telemetry.NewCache(c.Telemetry, func(s *telemetry.Set, _ string) *telemetry.Set { return s }),
	}
	for _, d := range []streams.Delivery{streams.Freshest, streams.EveryFrame} {
		m.age[d] = s.Histogram(telemetry.FrameAge, c.Name, string(d))
	}
	for _, o := range []string{telemetry.OutcomeDone, telemetry.OutcomeDropped, telemetry.OutcomeRetried, telemetry.OutcomeQuarantined, telemetry.OutcomeAbandoned} {
		m.outcomes[o] = s.Counter(telemetry.StageMessages, c.Name, o)
	}
	return m
}

// begin notes that a handler gets a batch. The handler works in the context that it returns; the function ends its work.
func (m *measure) begin(ctx context.Context, batch []*item, in []Message) (context.Context, func(error)) {
	for i := range in {
		m.queue.Took(in[i].Queued)
	}
	began := time.Now()
	ctx, span := m.beginSpans(ctx, batch, in)
	return ctx, func(err error) {
		took := time.Since(began)
		for range in {
			m.work.Took(took)
		}
		if span != nil {
			blame(span, err)
			span.End()
		}
	}
}

// beginSpans begins the spans of a batch's messages, unless it is tried again in parts, and the batch's own.
func (m *measure) beginSpans(ctx context.Context, batch []*item, in []Message) (context.Context, trace.Span) {
	if !m.tracer.On() {
		return ctx, nil
	}
	spans := make([]trace.Span, 0, len(batch))
	for i, it := range batch {
		if s := m.process(ctx, it, in[i].Queued); s != nil {
			spans = append(spans, s)
		}
	}
	switch {
	case len(spans) == 0:
		return ctx, nil
	case m.batch != "":
		return m.tracer.Batch(ctx, m.batch, spans)
	case len(batch) == 1:
		return trace.ContextWithSpan(ctx, spans[0]), nil
	}
	return ctx, nil
}

// process is the span of a message's processing. It begins when it is asked for first.
func (m *measure) process(ctx context.Context, it *item, queued time.Duration) trace.Span {
	from := header(it.msg.Header, frame.HeaderTrace)
	if from == "" || !m.tracer.On() {
		return nil
	}
	it.mu.Lock()
	defer it.mu.Unlock()
	if it.span == nil && !it.over {
		name, template := streams.Template(it.msg.Subject)
		_, it.span = m.tracer.Process(ctx, telemetry.Received{
			Traceparent: from, Destination: telemetry.Destination{Name: name, Template: template}, Subject: it.msg.Subject, Group: it.consumer,
			Frame: header(it.msg.Header, frame.HeaderName), Camera: streams.LastToken(it.msg.Subject),
			Size: len(it.msg.Data), Attempt: it.msg.Attempt, Queued: queued,
		})
	}
	return it.span
}

// send begins the span of publishing an output, which the output's header continues. The function ends it.
func (m *measure) send(ctx context.Context, it *item, o Output, h nats.Header) func(error) {
	it.mu.Lock()
	span := it.span
	it.mu.Unlock()
	if span == nil {
		return func(error) {}
	}
	name, template := streams.Template(o.Subject)
	_, send := m.tracer.Send(trace.ContextWithSpan(ctx, span), telemetry.Destination{Name: name, Template: template}, o.Subject, o.ID, len(o.Data))
	h[frame.HeaderTrace] = []string{telemetry.Header(send)}
	return func(err error) {
		blame(send, err)
		send.End()
	}
}

// done notes that a message's outputs are stored.
func (m *measure) done(it *item, published time.Duration) {
	m.publish.Took(published)
	if age, slow, ok := ageOf(it.msg.Header); ok {
		m.age[streams.DeliveryOf(it.msg.Subject)].Took(age)
		if slow {
			m.keep(it, telemetry.Slow)
		}
	}
	m.end(it, telemetry.OutcomeDone)
}

// ageOf is how old a frame is, and whether that is much for it.
func ageOf(h nats.Header) (age time.Duration, slow, ok bool) {
	captured, err := strconv.ParseInt(header(h, frame.HeaderCaptured), 10, 64)
	if err != nil {
		return 0, false, false
	}
	age = time.Since(time.Unix(0, captured))
	limit := slowEvery
	if deadline, err := strconv.ParseInt(header(h, frame.HeaderDeadline), 10, 64); err == nil {
		limit = time.Duration(deadline-captured) / 2
	}
	return max(age, 0), age > limit, true
}

// drop notes a message that ended without outputs. What somebody ended because it was late is slow.
func (m *measure) drop(it *item, fate ledger.Mark, reason string) {
	m.cameras.Get(streams.LastToken(it.msg.Subject)).Counter(telemetry.FramesDropped, streams.LastToken(it.msg.Subject), m.stage, string(fate), reason).Inc()
	switch fate {
	case ledger.Quarantined:
		m.deadLetters.Inc()
		m.end(it, telemetry.OutcomeQuarantined)
	case ledger.Expired:
		m.keep(it, telemetry.Slow)
		m.end(it, telemetry.OutcomeDropped)
	default:
		m.end(it, telemetry.OutcomeDropped)
	}
}

// failed notes a message whose handler failed. One that was only put off did not.
func (m *measure) failed(it *item, err error) {
	it.mu.Lock()
	span := it.span
	it.mu.Unlock()
	if span == nil {
		return
	}
	blame(span, err)
	if _, putOff := errors.AsType[*retryError](err); !putOff {
		m.keep(it, telemetry.Failed)
	}
}

// condemn notes a message that is about to be quarantined, which no handler may have seen.
func (m *measure) condemn(ctx context.Context, it *item, reason error) {
	if span := m.process(ctx, it, time.Since(it.msg.Stored)); span != nil {
		blame(span, reason)
		m.keep(it, telemetry.Quarantined)
	}
}

// returned notes a message that left this process without a fate.
func (m *measure) returned(it *item, outcome string) { m.end(it, outcome) }

// keep has the message's trace exported.
func (m *measure) keep(it *item, why telemetry.Why) {
	it.mu.Lock()
	span := it.span
	it.mu.Unlock()
	if span != nil {
		m.tel.Keep(span.SpanContext(), why)
	}
}

// end counts, and ends the message's span.
func (m *measure) end(it *item, outcome string) {
	m.outcomes[outcome].Inc()
	it.mu.Lock()
	defer it.mu.Unlock()
	if it.span != nil {
		it.span.SetAttributes(attribute.String(telemetry.AttrOutcome, outcome))
		it.span.End()
		it.span = nil
	}
}

// blame makes a span one of a failure, unless err is nil. A message that is late is nobody's failure.
func blame(span trace.Span, err error) {
	if err == nil {
		return
	}
	if _, dropped := errors.AsType[*dropError](err); !dropped {
		span.SetStatus(codes.Error, short(err.Error()))
	}
}

// header is Get without canonicalisation: our keys are written as they are read.
func header(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

package telemetry

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// spans flushes and returns what was exported, by name.
func spans(t *testing.T, tel *Telemetry, e *tracetest.InMemoryExporter) map[string][]tracetest.SpanStub {
	t.Helper()
	if err := tel.traces.provider.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	out := map[string][]tracetest.SpanStub{}
	for _, s := range e.GetSpans() {
		out[s.Name] = append(out[s.Name], s)
	}
	return out
}

// hop is one process on a frame's way: it takes a traceparent and returns the next.
func hop(tel *Telemetry, traceparent string) (next string, c trace.SpanContext) {
	ctx, work := tel.Tracer().Process(context.Background(), Received{Traceparent: traceparent, Destination: Destination{"frames.live", "frames.live.{camera}"}, Subject: "frames.live.street", Attempt: 1})
	_, send := tel.Tracer().Send(ctx, Destination{"tensors.live", "tensors.live.{model}.{lane}.{camera}"}, "tensors.live.m.stable.street", "street/1/1/m", 9)
	send.End()
	work.End()
	return Header(send), work.SpanContext()
}

func TestASampledTraceIsOneTrace(t *testing.T) {
	e := tracetest.NewInMemoryExporter()
	tel := start(t, Config{Spans: e})
	_, capture := tel.Tracer().Root(t.Context(), "capture", 1)
	capture.End()
	next, _ := hop(tel, Header(capture))
	got := spans(t, tel, e)
	process, send := got["process frames.live"][0], got["send tensors.live"][0]
	switch {
	case process.Parent.SpanID() != got["capture"][0].SpanContext.SpanID(), !process.Parent.IsRemote(), process.SpanKind != trace.SpanKindConsumer:
		t.Errorf("%+v", process)
	case send.Parent.SpanID() != process.SpanContext.SpanID(), send.SpanKind != trace.SpanKindProducer, next != Header(sampledOf(send)):
		t.Errorf("%+v", send)
	case send.SpanContext.TraceID() != capture.SpanContext().TraceID():
		t.Error("another trace")
	}
}

func sampledOf(s tracetest.SpanStub) trace.Span {
	return trace.SpanFromContext(trace.ContextWithSpanContext(context.Background(), s.SpanContext))
}

// What was not sampled is exported when somebody asks for it: what ended before, what ends after, and the batch it was in.
func TestKeep(t *testing.T) {
	e := tracetest.NewInMemoryExporter()
	tel := start(t, Config{Spans: e})
	_, capture := tel.Tracer().Root(t.Context(), "capture", 0)
	capture.End()
	_, other := tel.Tracer().Root(t.Context(), "other", 0)
	other.End()
	_, c := hop(tel, Header(capture))
	_, batch := tel.Tracer().Batch(t.Context(), "infer batch", []trace.Span{capture, other})
	batch.End()
	if got := spans(t, tel, e); len(got) != 0 {
		t.Fatalf("exported unasked: %v", got)
	}
	tel.Keep(c, Slow)
	tel.Keep(c, Slow) // known
	_, late := tel.Tracer().Start(Remote(t.Context(), Header(capture)), "late")
	late.End()
	got := spans(t, tel, e)
	for _, name := range []string{"capture", "process frames.live", "send tensors.live", "late", "infer batch"} {
		if len(got[name]) != 1 || !got[name][0].SpanContext.IsSampled() {
			t.Errorf("%s: %v", name, got[name])
		}
	}
	if len(got["other"]) != 0 {
		t.Error("another trace is exported too")
	}
	if text := scrape(t, tel); !strings.Contains(text, `sightline_traces_kept_total{why="slow"} 1`) {
		t.Error(text)
	}
}

func TestABatchIsSampledWithAnyOfItsFrames(t *testing.T) {
	e := tracetest.NewInMemoryExporter()
	tel := start(t, Config{Spans: e})
	_, yes := tel.Tracer().Root(t.Context(), "yes", 1)
	_, no := tel.Tracer().Root(t.Context(), "no", 0)
	_, batch := tel.Tracer().Batch(t.Context(), "infer batch", []trace.Span{no, yes})
	batch.End()
	yes.End()
	no.End()
	got := spans(t, tel, e)
	if len(got["infer batch"]) != 1 || len(got["infer batch"][0].Links) != 2 || len(got["no"]) != 0 {
		t.Fatal(got)
	}
	if links := got["yes"][0].Links; len(links) != 1 || links[0].SpanContext.SpanID() != batch.SpanContext().SpanID() {
		t.Errorf("the frame does not know its batch: %v", links)
	}
}

// However much goes wrong, little is kept.
func TestKeepingIsBounded(t *testing.T) {
	e := tracetest.NewInMemoryExporter()
	tel := start(t, Config{Spans: e})
	k := tel.traces.keep
	now := time.Now()
	k.now = func() time.Time { return now }
	kept := func(n int) {
		for range n {
			_, s := tel.Tracer().Root(t.Context(), "capture", 0)
			s.End()
			tel.Keep(s.SpanContext(), Failed)
		}
	}
	kept(1000)
	if n := len(spans(t, tel, e)["capture"]); n != keepBurst {
		t.Errorf("%d, want %d", n, keepBurst)
	}
	now = now.Add(2 * time.Second)
	kept(1000)
	if n := len(spans(t, tel, e)["capture"]); n != keepBurst+2*keepRate {
		t.Errorf("%d, want %d", n, keepBurst+2*keepRate)
	}
	now = now.Add(keptFor + time.Second)
	k.add(trace.TraceID{1}, heard, &k.hear)
	if len(k.wanted) != 1 {
		t.Errorf("%d traces are remembered", len(k.wanted))
	}
	for range 2 * ringSize {
		_, s := tel.Tracer().Root(t.Context(), "capture", 0)
		s.End()
	}
	if len(k.ring) != ringSize {
		t.Error("the ring grows")
	}
}

func TestTheShareOfTraces(t *testing.T) {
	tel := start(t, Config{Spans: tracetest.NewInMemoryExporter()})
	for _, share := range []float64{0, 0.1, 0.5, 1} {
		n := 0
		for range 2000 {
			_, s := tel.Tracer().Root(t.Context(), "capture", share)
			if s.SpanContext().IsSampled() {
				n++
			}
			s.End()
		}
		if got := float64(n) / 2000; got < share-.06 || got > share+.06 {
			t.Errorf("%g of the traces, want %g", got, share)
		}
	}
}

// A collector that is away is no trouble of the process, and nothing of its address is in the log.
func TestNoCollector(t *testing.T) {
	var log bytes.Buffer
	env := map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1/hunter2", "OTEL_EXPORTER_OTLP_TIMEOUT": "100", "OTEL_METRIC_EXPORT_INTERVAL": "60000",
	}
	for k, v := range env {
		t.Setenv(k, v)
	}
	tel, err := Start(t.Context(), Config{
		Service: "infer", Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, s := tel.Tracer().Root(t.Context(), "capture", 1)
	s.End()
	began := time.Now()
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Log(err)
	}
	if took := time.Since(began); took > 2*flushWithin {
		t.Errorf("the end took %s", took)
	}
	if strings.Contains(log.String(), "hunter2") || !strings.Contains(log.String(), "signal=traces") {
		t.Errorf("log: %s", log.String())
	}
}

func TestWhatTheEnvironmentSaysOfOTLP(t *testing.T) {
	for _, c := range []struct {
		name            string
		env             map[string]string
		metrics, traces bool
		warnings        int
	}{
		{"nothing", nil, false, false, 0},
		{"end point", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, true, true, 0},
		{"traces only", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, false, true, 0},
		{"no metrics", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRICS_EXPORTER": "none"}, false, true, 0},
		{"disabled", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, false, false, 0},
		{"another protocol", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, true, true, 2},
		{"another exporter", map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, false, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := otlpOf(func(name string) (string, bool) { v, ok := c.env[name]; return v, ok })
			if o.metrics != c.metrics || o.traces != c.traces || len(o.warnings) != c.warnings {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestLogsHaveTraceIDs(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(LogHandler(slog.NewTextHandler(&out, nil))).With(slog.String("service", "infer"))
	tel := start(t, Config{Spans: tracetest.NewInMemoryExporter()})
	ctx, s := tel.Tracer().Root(t.Context(), "capture", 0)
	defer s.End()
	log.InfoContext(ctx, "inside")
	log.InfoContext(t.Context(), "outside")
	lines := strings.Split(out.String(), "\n")
	if !strings.Contains(lines[0], "trace_id="+s.SpanContext().TraceID().String()) || strings.Contains(lines[1], "trace_id") {
		t.Error(out.String())
	}
}

func BenchmarkUnsampledSpan(b *testing.B) {
	for _, c := range []struct {
		name  string
		spans sdk.SpanExporter
	}{{"off", nil}, {"on", tracetest.NewNoopExporter()}} {
		b.Run(c.name, func(b *testing.B) {
			tel, err := Start(b.Context(), Config{Spans: c.spans})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				hop(tel, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
			}
		})
	}
}

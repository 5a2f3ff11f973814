package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
)

var encoder = attribute.DefaultEncoder()

// otlp is what the environment says of OTLP. The exporters read the rest of it themselves.
type otlp struct {
	metrics, traces bool
	warnings        []string
}

const protocol = "http/protobuf"

// otlpOf reads whether anything is exported. It is off unless an end point is given: nothing leaves the machine unasked.
func otlpOf(env func(string) (string, bool)) otlp {
	get := func(name string) string { v, _ := env(name); return strings.TrimSpace(v) }
	var o otlp
	if strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") {
		return o
	}
	for signal, on := range map[string]*bool{"METRICS": &o.metrics, "TRACES": &o.traces} {
		*on = get("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || get("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
		switch exporter := get("OTEL_" + signal + "_EXPORTER"); exporter {
		case "", "otlp":
		case "none":
			*on = false
		default:
			o.warnings = append(o.warnings, "OTEL_"+signal+"_EXPORTER: otlp and none are known")
		}
		p := get("OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL")
		if p == "" {
			p = get("OTEL_EXPORTER_OTLP_PROTOCOL")
		}
		if *on && p != "" && p != protocol {
			o.warnings = append(o.warnings, "OTEL_EXPORTER_OTLP_PROTOCOL: only "+protocol+" is spoken, port 4318 as a rule")
		}
	}
	return o
}

// exports tells what becomes of exports: the log once for each outage, metrics every time. Its errors go no further: the
// SDK would write them to a global logger, with whatever is in the end point's address.
type exports struct {
	log        *slog.Logger
	ok, failed *Counter
	away       atomic.Bool
	signal     string
}

func (t *Telemetry) exports(signal string) *exports {
	s := t.Set()
	return &exports{log: t.log, signal: signal, ok: s.Counter(TelemetryExports, signal, OutcomeOK), failed: s.Counter(TelemetryExports, signal, OutcomeError)}
}

func (e *exports) count(ctx context.Context, err error) {
	if err == nil {
		e.ok.Inc()
		if e.away.Swap(false) {
			e.log.InfoContext(ctx, "the collector answers again", slog.String("signal", e.signal))
		}
		return
	}
	e.failed.Inc()
	if !e.away.Swap(true) { // without the error's text: an address may have a password in it
		e.log.WarnContext(ctx, "the collector does not take what is exported, trying again", slog.String("signal", e.signal), slog.String("kind", fmt.Sprintf("%T", err)))
	}
}

// exportWithin bounds one export, with the repeats in it.
const exportWithin = 10 * time.Second

func (t *Telemetry) pushMetrics(ctx context.Context) (metric.Reader, error) {
	e, err := otlpmetrichttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("OTLP metrics: %w", err)
	}
	return metric.NewPeriodicReader(&metricExporter{e, t.exports("metrics")}, metric.WithProducer(t.registry), metric.WithTimeout(exportWithin)), nil
}

type metricExporter struct {
	metric.Exporter
	told *exports
}

func (e *metricExporter) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	e.told.count(ctx, e.Exporter.Export(ctx, m))
	return nil
}

func (t *Telemetry) pushTraces(ctx context.Context) (trace.SpanExporter, error) {
	e, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("OTLP traces: %w", err)
	}
	return &spanExporter{e, t.exports("traces"), t.Set().Counter(TraceSpansDropped)}, nil
}

type spanExporter struct {
	trace.SpanExporter
	told    *exports
	dropped *Counter
}

func (e *spanExporter) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		e.dropped.Add(uint64(len(spans)))
	}
	e.told.count(ctx, err)
	return nil
}

package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/attribute"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

const (
	scope = "github.com/sightline-dev/sightline"
	// flushWithin is how long the last export may take.
	flushWithin = 3 * time.Second
	// scrapes at a time; more are refused.
	scrapes = 4
)

// Config says whose telemetry it is.
type Config struct {
	Service  string
	Instance string
	Region   string
	// Version, Revision and Go say what runs.
	Version, Revision, Go string
	// Env has the OTEL_ variables. Without them, or with a nil Env, nothing is exported over OTLP.
	Env func(name string) (string, bool)
	// Log is told when a collector cannot be reached. May be nil.
	Log *slog.Logger
	// Spans takes spans beside OTLP, in tests.
	Spans trace.SpanExporter
	// Metrics reads metrics beside Prometheus and OTLP, in tests.
	Metrics func(metric.Producer) metric.Reader
}

// Telemetry is what a process says of itself. A nil one says nothing.
type Telemetry struct {
	*registry

	log     *slog.Logger
	handler http.Handler
	metrics *metric.MeterProvider
	traces  *tracing // nil: nobody wants spans
}

// Start makes the telemetry of a process. Nothing of it is global.
func Start(ctx context.Context, cfg Config) (*Telemetry, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Env == nil {
		cfg.Env = func(string) (string, bool) { return "", false }
	}
	t := &Telemetry{registry: newRegistry(), log: cfg.Log}
	res, err := describe(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	own := prometheus.NewRegistry()
	scraped, err := exporter.New(
		exporter.WithRegisterer(own), exporter.WithProducer(t.registry), exporter.WithTranslationStrategy(otlptranslator.NoTranslation),
		exporter.WithoutScopeInfo(),
	)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	t.handler = promhttp.HandlerFor(own, promhttp.HandlerOpts{MaxRequestsInFlight: scrapes, ErrorHandling: promhttp.HTTPErrorOnError, Timeout: flushWithin})
	options := []metric.Option{metric.WithResource(res), metric.WithReader(scraped)}
	if cfg.Metrics != nil {
		options = append(options, metric.WithReader(cfg.Metrics(t.registry)))
	}
	o := otlpOf(cfg.Env)
	for _, w := range o.warnings {
		cfg.Log.WarnContext(ctx, "a telemetry setting is not followed", slog.String("why", w))
	}
	var spans []trace.SpanExporter
	if cfg.Spans != nil {
		spans = append(spans, cfg.Spans)
	}
	if o.metrics {
		reader, err := t.pushMetrics(ctx)
		if err != nil {
			return nil, fmt.Errorf("telemetry: %w", err)
		}
		options = append(options, metric.WithReader(reader))
	}
	if o.traces {
		e, err := t.pushTraces(ctx)
		if err != nil {
			return nil, fmt.Errorf("telemetry: %w", err)
		}
		spans = append(spans, e)
	}
	t.metrics = metric.NewMeterProvider(options...)
	if len(spans) > 0 {
		t.traces = newTracing(t, res, spans)
	}
	t.Set().Gauge(BuildInfo, cfg.Version, cfg.Revision, cfg.Go).Set(1)
	return t, nil
}

// describe is what is said of the process itself. The command line is not: there may be secrets in it.
func describe(ctx context.Context, cfg Config) (*resource.Resource, error) {
	attrs := []attribute.KeyValue{
		attribute.String("service.namespace", "sightline"), attribute.String("service.name", cfg.Service),
		attribute.String("service.instance.id", cfg.Instance), attribute.String("service.version", cfg.Version),
	}
	if cfg.Region != "" {
		attrs = append(attrs, attribute.String("cloud.region", cfg.Region))
	}
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attrs...), resource.WithFromEnv())
	if errors.Is(err, resource.ErrPartialResource) { // OTEL_RESOURCE_ATTRIBUTES is not well formed: what could be read counts
		cfg.Log.WarnContext(ctx, "OTEL_RESOURCE_ATTRIBUTES is not all understood")
		err = nil
	}
	return res, err
}

// Handler answers GET /metrics in the format of Prometheus.
func (t *Telemetry) Handler() http.Handler { return t.handler }

// Set makes a set without series.
func (t *Telemetry) Set() *Set {
	if t == nil {
		return nil
	}
	return &Set{r: t.registry}
}

// Collect lets read tell values that live elsewhere, whenever somebody collects, until stop is called. read must not block.
func (t *Telemetry) Collect(read func(*Reading)) (stop func()) {
	if t == nil {
		return func() {}
	}
	c := &collector{read}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.collectors[c] = struct{}{}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.collectors, c)
	}
}

// Shutdown exports what is left, for a few seconds at most, and ends.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushWithin)
	defer cancel()
	return errors.Join(t.traces.shutdown(ctx), t.metrics.Shutdown(ctx))
}

package telemetrytest

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	spanpb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A Span is one that a process exported.
type Span struct {
	Service, Instance string
	Name              string
	Trace, ID, Parent string // hexadecimal; Parent "" is none
	Kind              spanpb.Span_SpanKind
	Failed            bool
	Attributes        map[string]string
	Links             []string // span ids
	Start, End        uint64   // nanoseconds since 1970
}

// Collector takes OTLP over HTTP.
type Collector struct {
	URL string

	mu      sync.Mutex
	spans   []Span
	metrics map[string]map[string]bool // by name: services
	changed chan struct{}
}

// NewCollector starts a collector that lasts as long as the test.
func NewCollector(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{metrics: map[string]map[string]bool{}, changed: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		var req tracepb.ExportTraceServiceRequest
		if answer(w, r, &req, &tracepb.ExportTraceServiceResponse{}) {
			c.addSpans(&req)
		}
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, r *http.Request) {
		var req metricspb.ExportMetricsServiceRequest
		if answer(w, r, &req, &metricspb.ExportMetricsServiceResponse{}) {
			c.addMetrics(&req)
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

func answer(w http.ResponseWriter, r *http.Request, req, resp proto.Message) bool {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return false
		}
		body = unzipped
	}
	data, err := io.ReadAll(body)
	if err == nil {
		err = proto.Unmarshal(data, req)
	}
	if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, "not OTLP", http.StatusBadRequest)
		return false
	}
	out, err := proto.Marshal(resp)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return false
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(out)
	return true
}

func text(attrs []*commonpb.KeyValue) map[string]string {
	out := map[string]string{}
	for _, a := range attrs {
		if s, ok := a.GetValue().GetValue().(*commonpb.AnyValue_StringValue); ok {
			out[a.GetKey()] = s.StringValue
		} else {
			out[a.GetKey()] = a.GetValue().String()
		}
	}
	return out
}

func (c *Collector) addSpans(req *tracepb.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		res := text(r.GetResource().GetAttributes())
		for _, scope := range r.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				span := Span{
					Service: res["service.name"], Instance: res["service.instance.id"], Name: s.GetName(),
					Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
					Kind: s.GetKind(), Failed: s.GetStatus().GetCode() == spanpb.Status_STATUS_CODE_ERROR, Attributes: text(s.GetAttributes()),
					Start: s.GetStartTimeUnixNano(), End: s.GetEndTimeUnixNano(),
				}
				for _, l := range s.GetLinks() {
					span.Links = append(span.Links, hex.EncodeToString(l.GetSpanId()))
				}
				c.spans = append(c.spans, span)
			}
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Collector) addMetrics(req *metricspb.ExportMetricsServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range req.GetResourceMetrics() {
		service := text(r.GetResource().GetAttributes())["service.name"]
		for _, scope := range r.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				if c.metrics[m.GetName()] == nil {
					c.metrics[m.GetName()] = map[string]bool{}
				}
				c.metrics[m.GetName()][service] = true
			}
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// Spans are all spans so far; changed closes when more came, or metrics.
func (c *Collector) Spans() (spans []Span, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...), c.changed
}

// Sent reports whether a service sent a metric.
func (c *Collector) Sent(metric, service string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.metrics[metric][service]
}

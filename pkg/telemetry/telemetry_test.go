package telemetry

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/otlptranslator"
)

func start(t *testing.T, cfg Config) *Telemetry {
	t.Helper()
	if cfg.Service == "" {
		cfg.Service, cfg.Instance = "test", "test-1"
	}
	tel, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tel
}

func scrape(t *testing.T, tel *Telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatal(w.Code, err, string(body))
	}
	return string(body)
}

// fill sets every metric of the table once.
func fill(tel *Telemetry) *Set {
	s := tel.Set()
	for n, m := range Metrics() {
		values := make([]string, len(m.Labels))
		for i, l := range m.Labels {
			values[i] = "v1"
			if l.Values != nil {
				values[i] = l.Values[0]
			}
		}
		switch m.Kind {
		case KindCounter:
			s.Counter(Name(n), values...).Inc()
		case KindGauge:
			s.Gauge(Name(n), values...).Set(1.5)
		case KindHistogram:
			s.Histogram(Name(n), values...).Observe(m.Buckets[0])
		}
	}
	return s
}

func TestTheTableIsSound(t *testing.T) {
	name := regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	seen := map[string]bool{}
	namer := otlptranslator.MetricNamer{}
	for _, m := range Metrics() {
		if seen[m.Name] || !name.MatchString(m.Name) {
			t.Errorf("%q: no name, or twice", m.Name)
		}
		seen[m.Name] = true
		if m.Help == "" || m.Unit == "" || m.From == "" || !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s: incomplete", m.Name)
		}
		ours := strings.HasPrefix(m.Name, Prefix)
		if counter := m.Kind == KindCounter; ours && counter != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("%s is a %s", m.Name, m.Kind)
		}
		if m.Unit == "s" && !strings.Contains(m.Name, "seconds") || m.Unit == "By" && !strings.Contains(m.Name, "bytes") {
			t.Errorf("%s has unit %s", m.Name, m.Unit)
		}
		if _, err := namer.Build(otlptranslator.Metric{Name: m.Name, Type: otlptranslator.MetricTypeGauge}); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		if (m.Kind == KindHistogram) != (len(m.Buckets) > 0) || !slices.IsSorted(m.Buckets) {
			t.Errorf("%s: buckets %v", m.Name, m.Buckets)
		}
		for _, l := range m.Labels {
			if (len(l.Values) > 0) == (l.Declared != "") {
				t.Errorf("%s: label %s has a closed set of values or somebody who declares them", m.Name, l.Name)
			}
			if slices.Contains([]string{"job", "instance", "le", "frame", "trace_id", "error"}, l.Name) {
				t.Errorf("%s: label %s", m.Name, l.Name)
			}
		}
	}
}

// What is counted is what Prometheus reads, under the name of the table, until its set is closed.
func TestEveryMetricIsExportedAndForgotten(t *testing.T) {
	tel := start(t, Config{})
	s := fill(tel)
	text := scrape(t, tel)
	for _, m := range Metrics() {
		if !strings.Contains(text, "# TYPE "+m.Name+" "+string(m.Kind)+"\n") {
			t.Errorf("%s is not exported as a %s", m.Name, m.Kind)
		}
	}
	for _, want := range []string{
		`sightline_frames_dropped_total{camera="v1",fate="superseded",reason="max_age",stage="ingest"} 1`,
		`sightline_frame_age_seconds_bucket{delivery="freshest",stage="ingest",le="0.005"} 1`,
		`sightline_camera_up{camera="v1"} 1.5`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("not there: %s", want)
		}
	}
	s.Close()
	if text := scrape(t, tel); strings.Contains(text, `"v1"`) {
		t.Errorf("left behind:\n%s", text)
	}
}

func TestTwoSetsShareASeries(t *testing.T) {
	tel := start(t, Config{})
	a, b := tel.Set(), tel.Set()
	a.Counter(FramesCaptured, "street").Add(2)
	if x, y := a.Counter(FramesCaptured, "street"), a.Counter(FramesCaptured, "street"); x != y {
		t.Error("not the same handle")
	}
	b.Counter(FramesCaptured, "street").Add(3)
	a.Close()
	if text := scrape(t, tel); !strings.Contains(text, `sightline_frames_captured_total{camera="street"} 5`) {
		t.Error(text)
	}
	b.Close()
	a.Counter(FramesCaptured, "street").Add(1) // closed: counts for nothing
	if text := scrape(t, tel); strings.Contains(text, "street") {
		t.Error(text)
	}
}

func TestValuesOutsideOfClosedSets(t *testing.T) {
	tel := start(t, Config{})
	tel.Set().Counter(Reconnects, "street", "the camera said: 42").Inc()
	if text := scrape(t, tel); !strings.Contains(text, `sightline_reconnects_total{camera="street",cause="_other"} 1`) {
		t.Error(text)
	}
}

func TestSeriesAreBounded(t *testing.T) {
	tel := start(t, Config{})
	tel.limit = 10
	s := tel.Set()
	for i := range 100 {
		s.Counter(Reconnects, "c"+strconv.Itoa(i), "refused").Inc()
	}
	text := scrape(t, tel)
	if n := strings.Count(text, "sightline_reconnects_total{"); n != 11 || !strings.Contains(text, `sightline_reconnects_total{camera="_other",cause="refused"} 90`) {
		t.Errorf("%d series:\n%s", n, text)
	}
	s.Close()
	if text := scrape(t, tel); strings.Contains(text, "reconnects") {
		t.Error(text)
	}
}

func TestCollectors(t *testing.T) {
	tel := start(t, Config{})
	stop := tel.Collect(func(g *Reading) {
		g.Set(QueueDepth, 7, "FRAMES", "preprocess")
		g.Set(QueueDepth, 8, "FRAMES", "preprocess") // the first counts
	})
	tel.Set().Gauge(QueueDepth, "FRAMES", "preprocess").Set(9)
	if text := scrape(t, tel); !strings.Contains(text, `sightline_queue_depth{consumer="preprocess",stream="FRAMES"} 7`) {
		t.Error(text)
	}
	stop()
	if text := scrape(t, tel); !strings.Contains(text, `sightline_queue_depth{consumer="preprocess",stream="FRAMES"} 9`) {
		t.Error(text)
	}
}

func TestACacheForgetsWhoIsGone(t *testing.T) {
	tel := start(t, Config{})
	c := NewCache(tel, func(s *Set, camera string) *Counter { return s.Counter(FramesCaptured, camera) })
	now := time.Now()
	c.now = func() time.Time { return now }
	c.Get("old").Inc()
	now = now.Add(cacheIdle - time.Minute)
	c.Get("new").Inc()
	if text := scrape(t, tel); !strings.Contains(text, `"old"`) || !strings.Contains(text, `"new"`) {
		t.Error(text)
	}
	now = now.Add(2 * time.Minute)
	if text := scrape(t, tel); strings.Contains(text, `"old"`) || !strings.Contains(text, `"new"`) {
		t.Error(text)
	}
	c.Close()
	if text := scrape(t, tel); strings.Contains(text, `"new"`) {
		t.Error(text)
	}
}

func TestNobodyMeasures(t *testing.T) {
	var tel *Telemetry
	fill(tel).Close()
	tel.Collect(func(*Reading) { t.Error("read") })()
	NewCache(tel, func(s *Set, camera string) *Counter { return s.Counter(FramesCaptured, camera) }).Get("street").Inc()
	ctx, span := tel.Tracer().Root(t.Context(), "capture", 1)
	span.End()
	if ctx != t.Context() || Header(span) != "" || tel.Tracer().On() {
		t.Error("there is a span")
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// A measurement on the hot path allocates nothing.
func TestNoAllocations(t *testing.T) {
	tel := start(t, Config{})
	s := tel.Set()
	c, h, g := s.Counter(FramesCaptured, "street"), s.Histogram(FrameAge, StageInfer, "freshest"), s.Gauge(CameraLastFrame, "street")
	cache := NewCache(tel, func(s *Set, camera string) *Counter { return s.Counter(FramesPublished, camera) })
	if n := testing.AllocsPerRun(100, func() { c.Inc(); h.Observe(.2); g.Set(3); cache.Get("street").Inc() }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

func BenchmarkCounter(b *testing.B) {
	tel, err := Start(b.Context(), Config{})
	if err != nil {
		b.Fatal(err)
	}
	c := tel.Set().Counter(FramesCaptured, "street")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Inc()
		}
	})
}

func BenchmarkHistogram(b *testing.B) {
	tel, err := Start(b.Context(), Config{})
	if err != nil {
		b.Fatal(err)
	}
	h := tel.Set().Histogram(FrameAge, StageInfer, "freshest")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.Observe(.2)
		}
	})
}

package telemetry

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

var _ metric.Producer = (*registry)(nil)

func newBuckets(m *Metric) []atomic.Uint64 { return make([]atomic.Uint64, len(m.Buckets)+1) }

// Reading takes values that live elsewhere, when somebody collects.
type Reading struct {
	r      *registry
	points [names][]metricdata.DataPoint[float64]
	seen   map[heldKey]struct{}
	at     time.Time
}

// Set is the value of a counter or gauge at this moment, with the values of its labels in the order of the table. The first
// value of a series counts.
func (g *Reading) Set(n Name, v float64, values ...string) {
	m := &g.r.table[n]
	if m.Kind == KindHistogram || len(values) != len(m.Labels) || len(g.points[n]) >= g.r.limit {
		return
	}
	attrs := m.attributes(m.admit(values))
	k := heldKey{n, attrs.Encoded(encoder)}
	if _, twice := g.seen[k]; twice {
		return
	}
	g.seen[k] = struct{}{}
	g.points[n] = append(g.points[n], metricdata.DataPoint[float64]{Attributes: attrs, StartTime: g.r.started, Time: g.at, Value: v})
}

// Produce is every series at this moment.
func (r *registry) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	g := &Reading{r: r, at: time.Now(), seen: map[heldKey]struct{}{}}
	r.mu.Lock()
	reads := make([]*collector, 0, len(r.collectors))
	for c := range r.collectors {
		reads = append(reads, c)
	}
	r.mu.Unlock()
	for _, c := range reads {
		c.read(g)
	}
	out := metricdata.ScopeMetrics{Scope: instrumentation.Scope{Name: scope}}
	for n := range names {
		if data := r.data(Name(n), g); data != nil {
			m := &r.table[n]
			out.Metrics = append(out.Metrics, metricdata.Metrics{Name: m.Name, Description: m.Help, Unit: m.Unit, Data: data})
		}
	}
	return []metricdata.ScopeMetrics{out}, nil
}

// data is a metric with all its series, nil when it has none.
func (r *registry) data(n Name, g *Reading) metricdata.Aggregation {
	r.mu.Lock()
	all := make([]*series, 0, len(r.families[n]))
	for _, s := range r.families[n] {
		all = append(all, s)
	}
	r.mu.Unlock()
	switch r.table[n].Kind {
	case KindHistogram:
		return histogram(all, g.at)
	case KindCounter:
		points := g.points[n]
		for _, s := range all {
			points = g.fresh(n, points, s, float64(s.count.Load()))
		}
		if len(points) == 0 {
			return nil
		}
		return metricdata.Sum[float64]{DataPoints: points, Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}
	default:
		points := g.points[n]
		for _, s := range all {
			if s.written.Load() {
				points = g.fresh(n, points, s, math.Float64frombits(s.bits.Load()))
			}
		}
		if len(points) == 0 {
			return nil
		}
		return metricdata.Gauge[float64]{DataPoints: points}
	}
}

// fresh adds a series, unless a collector told it already.
func (g *Reading) fresh(n Name, points []metricdata.DataPoint[float64], s *series, v float64) []metricdata.DataPoint[float64] {
	if len(g.points[n]) > 0 {
		if _, twice := g.seen[heldKey{n, s.attrs.Encoded(encoder)}]; twice {
			return points
		}
	}
	return append(points, metricdata.DataPoint[float64]{Attributes: s.attrs, StartTime: s.began, Time: g.at, Value: v})
}

func histogram(all []*series, at time.Time) metricdata.Aggregation {
	points := make([]metricdata.HistogramDataPoint[float64], 0, len(all))
	for _, s := range all {
		p := metricdata.HistogramDataPoint[float64]{
			Attributes: s.attrs, StartTime: s.began, Time: at, Bounds: s.bounds,
			BucketCounts: make([]uint64, len(s.buckets)), Sum: math.Float64frombits(s.bits.Load()),
		}
		for i := range s.buckets {
			p.BucketCounts[i] = s.buckets[i].Load()
			p.Count += p.BucketCounts[i]
		}
		points = append(points, p)
	}
	if len(points) == 0 {
		return nil
	}
	return metricdata.Histogram[float64]{DataPoints: points, Temporality: metricdata.CumulativeTemporality}
}

package telemetry

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

// maxSeries bounds the series of one metric. What would be one more counts as [Other].
const maxSeries = 32 << 10

// registry is every series of a process.
type registry struct {
	table   [names]Metric
	started time.Time
	limit   int

	mu         sync.Mutex
	families   [names]map[string]*series
	collectors map[*collector]struct{}
}

type collector struct{ read func(*Reading) }

func newRegistry() *registry {
	return &registry{table: table(), started: time.Now(), limit: maxSeries, collectors: map[*collector]struct{}{}}
}

// hold returns the series, made when nobody has it yet, for one more set.
func (r *registry) hold(n Name, kind Kind, values []string) (string, *series) {
	m := &r.table[n]
	if m.Kind != kind || len(values) != len(m.Labels) {
		panic(fmt.Sprintf("telemetry: %s is a %s with %d labels", m.Name, m.Kind, len(m.Labels))) // found by the first test that runs it
	}
	values = m.admit(values)
	key := strings.Join(values, "\xff")
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.families[n] == nil {
		r.families[n] = map[string]*series{}
	}
	s := r.families[n][key]
	if s == nil && len(r.families[n]) >= r.limit {
		for i := range values {
			if m.Labels[i].Values == nil {
				values[i] = Other
			}
		}
		key = strings.Join(values, "\xff")
		s = r.families[n][key]
	}
	if s == nil {
		s = &series{attrs: m.attributes(values), began: time.Now()}
		if kind == KindHistogram {
			s.bounds, s.buckets = m.Buckets, newBuckets(m)
		}
		r.families[n][key] = s
	}
	s.holders++
	return key, s
}

// release gives a series back; nobody else may have it.
func (r *registry) release(n Name, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.families[n][key]; s != nil {
		if s.holders--; s.holders == 0 {
			delete(r.families[n], key)
		}
	}
}

// admit replaces values that are not in their closed sets. It returns a slice of its own.
func (m *Metric) admit(values []string) []string {
	values = slices.Clone(values)
	for i, l := range m.Labels {
		if l.Values != nil && !slices.Contains(l.Values, values[i]) {
			values[i] = Other
		}
	}
	return values
}

func (m *Metric) attributes(values []string) attribute.Set {
	kv := make([]attribute.KeyValue, len(values))
	for i, l := range m.Labels {
		kv[i] = attribute.String(l.Name, values[i])
	}
	return attribute.NewSet(kv...)
}

// A Set owns series: they are exported until all sets that have them are closed. A nil one has none. Everything may be
// called at any time.
type Set struct {
	r *registry

	mu     sync.Mutex
	held   map[heldKey]any // instruments
	closed bool
}

type heldKey struct {
	name Name
	key  string
}

// Counter is the series of a counter with these values of its labels, in the order of the table.
func (s *Set) Counter(n Name, values ...string) *Counter {
	return instrument(s, n, KindCounter, values, func(x *series) *Counter { return &Counter{x} })
}

// Gauge is the series of a gauge with these values of its labels, in the order of the table.
func (s *Set) Gauge(n Name, values ...string) *Gauge {
	return instrument(s, n, KindGauge, values, func(x *series) *Gauge { return &Gauge{x} })
}

// Histogram is the series of a histogram with these values of its labels, in the order of the table.
func (s *Set) Histogram(n Name, values ...string) *Histogram {
	return instrument(s, n, KindHistogram, values, func(x *series) *Histogram { return &Histogram{x} })
}

func instrument[T any](s *Set, n Name, kind Kind, values []string, wrap func(*series) *T) *T {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := heldKey{n, strings.Join(s.r.table[n].admit(values), "\xff")}
	if have, ok := s.held[asked].(*T); ok {
		return have
	}
	key, x := s.r.hold(n, kind, values)
	if s.closed { // counts for nothing
		s.r.release(n, key)
		return wrap(x)
	}
	if s.held == nil {
		s.held = map[heldKey]any{}
	}
	out := wrap(x)
	k := heldKey{n, key}
	if other, ok := s.held[k].(*T); ok { // had no room, as one before it
		s.r.release(n, key)
		return other
	}
	s.held[k] = out
	return out
}

// Close gives the series up.
func (s *Set) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.held {
		s.r.release(k.name, k.key)
	}
	s.held, s.closed = nil, true
}

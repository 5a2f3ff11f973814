package telemetry

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

// A Counter only grows. A nil one counts nothing.
type Counter struct{ s *series }

// Add counts n more.
func (c *Counter) Add(n uint64) {
	if c != nil {
		c.s.count.Add(n)
	}
}

// Inc counts one more.
func (c *Counter) Inc() { c.Add(1) }

// A Gauge is a value that goes up and down. A nil one is none.
type Gauge struct{ s *series }

// Set makes v the value. A gauge that was never set is not exported.
func (g *Gauge) Set(v float64) {
	if g != nil {
		g.s.bits.Store(math.Float64bits(v))
		g.s.written.Store(true)
	}
}

// SetTime makes a time the value.
func (g *Gauge) SetTime(t time.Time) { g.Set(float64(t.UnixNano()) / 1e9) }

// SetBool makes 1 or 0 the value.
func (g *Gauge) SetBool(b bool) {
	v := 0.0
	if b {
		v = 1
	}
	g.Set(v)
}

// A Histogram counts values by size. A nil one counts nothing.
type Histogram struct{ s *series }

// Observe counts a value.
func (h *Histogram) Observe(v float64) {
	if h == nil {
		return
	}
	i, _ := slices.BinarySearch(h.s.bounds, v) // the first bound that is not below v
	h.s.buckets[i].Add(1)
	for {
		old := h.s.bits.Load()
		if h.s.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// Since counts the seconds since a time.
func (h *Histogram) Since(t time.Time) {
	if h != nil {
		h.Observe(time.Since(t).Seconds())
	}
}

// Took counts a duration in seconds.
func (h *Histogram) Took(d time.Duration) { h.Observe(d.Seconds()) }

// series is a metric with values for its labels.
type series struct {
	attrs   attribute.Set
	began   time.Time
	written atomic.Bool     // of a gauge
	count   atomic.Uint64   // of a counter
	bits    atomic.Uint64   // a gauge's value, a histogram's sum
	bounds  []float64       // of a histogram
	buckets []atomic.Uint64 // of a histogram: one more than bounds
	holders int             // sets; the registry's lock
}

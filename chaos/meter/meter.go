// Package meter says from the outside whether the system is in its steady state, and how long a fault kept it out of it.
//
// It knows nothing of the system but what an application sees: predictions, when they arrived and when their frames were
// captured.
//
// # Steady state
//
// A camera is steady over a window when predictions of it arrived at no less than [MinRate] of its rate, with no pause of
// more than its frame interval plus [Jitter], the time since the last one included, and 99 of 100 were no older than
// [MaxAge] on arrival. The system is steady when every camera is.
//
// # Recovery
//
// The recovery time of a fault is the time from its mark (its injection, or its end where the target says so) to the last
// moment at which any camera was visibly not steady because of it, which is the later of
//
//   - the end of a pause: two consecutive arrivals that are further apart than the frame interval plus [Jitter];
//   - the arrival of a late answer: one that is older than [MaxAge], as those are which a dead worker held.
//
// So it is not over when the first prediction comes, but when the last message that the dead one held is answered. What
// is never answered has no arrival: the audit counts it. A fault that no application could see has recovery 0.
//
// The first copy of an answer counts, wherever it was seen.
package meter

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// MinRate is the share of its rate at which a camera must be answered.
	MinRate = 0.8
	// Jitter is what may come on top of the frame interval before a pause counts.
	Jitter = 250 * time.Millisecond
	// MaxAge is how old an answer may be on arrival before it counts as late.
	MaxAge = 400 * time.Millisecond
)

// Camera is what the meter must know of a camera.
type Camera struct {
	Name string
	// FPS is how many predictions a second it should have.
	FPS float64
}

func (c Camera) interval() time.Duration { return time.Duration(float64(time.Second) / c.FPS) }

// Arrival is the first copy of an answer.
type Arrival struct {
	Frame    string
	At       time.Time
	Captured time.Time
}

// Age is how old the answer was.
func (a Arrival) Age() time.Duration { return a.At.Sub(a.Captured) }

// Meter gathers arrivals. Any number of goroutines may use it.
type Meter struct {
	mu      sync.Mutex
	cameras map[string]*track
}

type track struct {
	camera   Camera
	arrivals []Arrival // in order of arrival
	seen     map[string]bool
}

// New makes a meter for these cameras; it ignores others.
func New(cameras []Camera) *Meter {
	m := &Meter{cameras: map[string]*track{}}
	for _, c := range cameras {
		m.cameras[c.Name] = &track{camera: c, seen: map[string]bool{}}
	}
	return m
}

// Add tells of one copy of an answer.
func (m *Meter) Add(camera string, a Arrival) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.cameras[camera]
	if t == nil || t.seen[a.Frame] {
		return
	}
	t.seen[a.Frame] = true
	t.arrivals = append(t.arrivals, a)
	if n := len(t.arrivals); n > 1 && t.arrivals[n-2].At.After(a.At) { // two connections raced
		slices.SortStableFunc(t.arrivals, func(x, y Arrival) int { return x.At.Compare(y.At) })
	}
}

// since are the arrivals from a time on, and the last one before it. The caller holds mu.
func (t *track) since(from time.Time) (before *Arrival, after []Arrival) {
	i, _ := slices.BinarySearchFunc(t.arrivals, from, func(a Arrival, at time.Time) int { return a.At.Compare(at) })
	if i > 0 {
		before = &t.arrivals[i-1]
	}
	return before, t.arrivals[i:]
}

// Unsteady says what is not steady over the window that ends now; nothing when all is well.
func (m *Meter) Unsteady(now time.Time, window time.Duration) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m.cameras)) {
		if problem := m.cameras[name].unsteady(now, window); problem != "" {
			out = append(out, name+": "+problem)
		}
	}
	return out
}

func (t *track) unsteady(now time.Time, window time.Duration) string {
	before, in := t.since(now.Add(-window))
	if want := MinRate * t.camera.FPS * window.Seconds(); float64(len(in)) < want {
		return fmt.Sprintf("%d answers in %s, want %.0f", len(in), window, want)
	}
	last := now.Add(-window)
	if before != nil && before.At.After(last.Add(-t.camera.interval())) {
		last = before.At
	}
	limit := t.camera.interval() + Jitter
	for _, a := range append(slices.Clone(in), Arrival{At: now}) {
		if pause := a.At.Sub(last); pause > limit {
			return fmt.Sprintf("no answer for %s", pause.Round(time.Millisecond))
		}
		last = a.At
	}
	if age := quantile(in, .99); age > MaxAge {
		return fmt.Sprintf("age p99 is %s", age.Round(time.Millisecond))
	}
	return ""
}

func quantile(in []Arrival, q float64) time.Duration {
	ages := make([]time.Duration, len(in))
	for i, a := range in {
		ages[i] = a.Age()
	}
	slices.Sort(ages)
	if len(ages) == 0 {
		return 0
	}
	return ages[min(int(q*float64(len(ages))), len(ages)-1)]
}

// Damage is what a fault did to one camera.
type Damage struct {
	Camera string `json:"camera"`
	// Recovery is from the mark to the last moment at which the camera was not steady.
	Recovery time.Duration `json:"recovery_ns"`
	// Outage is the longest time without an answer, beyond the frame interval.
	Outage time.Duration `json:"outage_ns"`
	// Late counts answers older than MaxAge, Oldest is the age of the oldest.
	Late   int           `json:"late"`
	Oldest time.Duration `json:"oldest_ns"`
	// Fresh is as Recovery without the late answers: when frames captured now are answered again.
	Fresh time.Duration `json:"fresh_ns"`
}

// Damages are what happened to every camera between mark and end, sorted by camera.
func (m *Meter) Damages(mark, end time.Time) []Damage {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Damage, 0, len(m.cameras))
	for _, t := range m.cameras {
		out = append(out, t.damage(mark, end))
	}
	slices.SortFunc(out, func(a, b Damage) int { return strings.Compare(a.Camera, b.Camera) })
	return out
}

func (t *track) damage(mark, end time.Time) Damage {
	d := Damage{Camera: t.camera.Name}
	before, after := t.since(mark)
	interval := t.camera.interval()
	last := mark
	if before != nil {
		last = before.At
	}
	pauseEnds := func(at time.Time) {
		pause := at.Sub(last)
		d.Outage = max(d.Outage, pause-interval)
		if pause > interval+Jitter {
			d.Fresh = max(d.Fresh, at.Sub(mark))
		}
	}
	for _, a := range after {
		if a.At.After(end) {
			break
		}
		pauseEnds(a.At)
		last = a.At
		if age := a.Age(); age > MaxAge {
			d.Late++
			d.Oldest = max(d.Oldest, age)
			d.Recovery = max(d.Recovery, a.At.Sub(mark))
		}
	}
	pauseEnds(end) // it may last
	d.Recovery = max(d.Recovery, d.Fresh)
	return d
}

// Worst is the longest recovery, and whose.
func Worst(damages []Damage) Damage {
	if len(damages) == 0 {
		return Damage{}
	}
	return slices.MaxFunc(damages, func(a, b Damage) int { return cmp.Compare(a.Recovery, b.Recovery) })
}

// Span is a stretch of time.
type Span struct{ From, To time.Time }

// Coverage is what became of the whole seconds of a camera.
type Coverage struct {
	// Covered are those in which a frame was captured that was answered, or that lie within a gap, Live those in which an
	// answer arrived.
	Covered, Live, Seconds int
	// Missing are those that are not covered: their beginnings.
	Missing []time.Time
}

// Coverage is that of a camera between two times, with these gaps.
func (m *Meter) Coverage(camera string, from, to time.Time, gaps []Span) Coverage {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.cameras[camera]
	if t == nil {
		return Coverage{}
	}
	c := Coverage{Seconds: int(to.Sub(from) / time.Second)}
	answered, arrived := make([]bool, c.Seconds), make([]bool, c.Seconds)
	tick := func(in []bool, at time.Time) {
		if i := int(at.Sub(from) / time.Second); !at.Before(from) && i < c.Seconds {
			in[i] = true
		}
	}
	for _, a := range t.arrivals {
		tick(answered, a.Captured)
		tick(arrived, a.At)
	}
	for i := range c.Seconds {
		begin := from.Add(time.Duration(i) * time.Second)
		end := begin.Add(time.Second)
		gap := slices.ContainsFunc(gaps, func(g Span) bool { return !g.From.After(begin) && !g.To.Before(end) })
		if answered[i] || gap {
			c.Covered++
		} else {
			c.Missing = append(c.Missing, begin)
		}
		if arrived[i] || gap {
			c.Live++
		}
	}
	return c
}

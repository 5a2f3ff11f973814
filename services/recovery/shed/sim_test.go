package shed

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/sampling"
	"github.com/sightline-dev/sightline/streams"
)

// world is the system without a broker: cameras with rings of three frames, a preprocess group and one group for each model,
// workers with a few messages in hand, and the controller that looks at them twice a second. It is deterministic.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	now     time.Time
	began   time.Time
	cameras []*simCamera
	groups  []*simGroup
	maxAge  time.Duration
	jitter  float64 // of service times, and of intervals of cameras
	stalled bool    // the broker does not answer

	controller *Controller
	decisions  []told
	arrived    int
	ages       []answerAge
}

type told struct {
	at time.Duration
	Decision
}

type answerAge struct{ at, age time.Duration }

type simCamera struct {
	Camera
	sends    float64 // fps that the camera delivers; 0 is as configured
	down     bool
	credit   float64
	captured []time.Duration // of every frame
}

type simMessage struct {
	camera   int
	captured time.Time
	held     bool
	gone     bool // evicted, or settled
}

type simGroup struct {
	Group
	service   time.Duration // of one message
	batch     int
	overhead  time.Duration // of one batch
	ring      map[int][]*simMessage
	queue     []*simMessage // in order
	workers   []*simWorker
	delivered int
	pending   int // held and in the stream: what the broker calls ack pending
	answers   int
	before    struct{ settled, answers int }
	forward   func(m *simMessage)
	turn      int
}

type simWorker struct {
	hand    []*simMessage
	running []*simMessage
	until   time.Time
	busy    time.Duration // since the last sample
	debt    time.Duration // of work that was begun
	history []time.Duration
}

const tick = 5 * time.Millisecond

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	return &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 7)), now: time.Unix(1_700_000_000, 0), began: time.Unix(1_700_000_000, 0),
		maxAge: 2 * time.Second, controller: NewController(Tuning{}, nil),
	}
}

func (w *world) group(name, model string, workers int, service time.Duration) *simGroup {
	g := &simGroup{Group: Group{Name: name, Model: model}, service: service, batch: 1, ring: map[int][]*simMessage{}}
	g.resize(workers)
	w.groups = append(w.groups, g)
	return g
}

// pipeline is a preprocess group in front of the models' groups.
func (w *world) pipeline(workers int, service time.Duration) {
	pre := w.group("preprocess", "", workers, service)
	pre.forward = func(m *simMessage) {
		for _, model := range w.cameras[m.camera].Models {
			for _, g := range w.groups {
				if g.Model == model {
					g.put(m.camera, m.captured)
				}
			}
		}
	}
}

func (w *world) camera(n int, priority int, fps float64, models ...string) {
	for range n {
		w.cameras = append(w.cameras, &simCamera{Camera: Camera{Priority: priority, FPS: fps, Models: models}, credit: w.rng.Float64()})
	}
}

// resize adds workers, or takes away the last ones: what they held waits again, as recovery has it.
func (g *simGroup) resize(n int) {
	for len(g.workers) < n {
		g.workers = append(g.workers, &simWorker{})
	}
	for len(g.workers) > n {
		dead := g.workers[len(g.workers)-1]
		g.workers = g.workers[:len(g.workers)-1]
		for _, m := range slices.Concat(dead.running, dead.hand) {
			if !m.gone {
				m.held = false
				g.pending--
				g.delivered-- // not a settled one
			}
		}
	}
	g.Workers = n
}

// put stores a message; what does not fit into the camera's ring goes, even out of the hands of a worker.
func (g *simGroup) put(camera int, captured time.Time) {
	m := &simMessage{camera: camera, captured: captured}
	ring := g.ring[camera]
	ring = append(ring, m)
	if len(ring) > streams.LiveRing {
		old := ring[0]
		old.gone = true
		if old.held {
			g.pending--
		}
		ring = ring[1:]
	}
	g.ring[camera] = ring
	g.queue = append(g.queue, m)
}

func (g *simGroup) settle(m *simMessage) {
	if m.gone {
		return
	}
	m.gone = true
	g.pending--
	g.ring[m.camera] = slices.DeleteFunc(g.ring[m.camera], func(x *simMessage) bool { return x == m })
}

func (g *simGroup) next() *simMessage {
	for len(g.queue) > 0 {
		m := g.queue[0]
		if !m.gone && !m.held {
			return m
		}
		g.queue = g.queue[1:]
	}
	return nil
}

func (g *simGroup) waiting() int {
	n := 0
	for _, ring := range g.ring {
		for _, m := range ring {
			if !m.held {
				n++
			}
		}
	}
	return n
}

// work lets the workers of a group do what they do in one tick.
func (w *world) work(g *simGroup) {
	for room := len(g.workers); room > 0 && !w.stalled; { // the broker serves requests in turn
		k := g.workers[g.turn%len(g.workers)]
		g.turn++
		if len(k.hand)+len(k.running) >= 4*g.batch {
			room--
			continue
		}
		m := g.next()
		if m == nil {
			break
		}
		m.held = true
		g.delivered++
		g.pending++
		k.hand = append(k.hand, m)
		room = len(g.workers)
	}
	for _, k := range g.workers {
		for w.step(g, k) {
		}
		done := min(k.debt, tick)
		k.busy, k.debt = k.busy+done, k.debt-done
	}
}

// step lets a worker finish what is due, or begin what it has in hand; within a tick it may do that more than once.
func (w *world) step(g *simGroup, k *simWorker) bool {
	if len(k.running) > 0 {
		if w.now.Before(k.until) || w.stalled {
			return false
		}
		for _, m := range k.running {
			g.settle(m)
			g.answers++
			if g.forward != nil {
				g.forward(m)
			} else {
				w.ages = append(w.ages, answerAge{w.now.Sub(w.began), w.now.Sub(m.captured)})
			}
		}
		k.running = nil
		return true
	}
	if len(k.hand) == 0 {
		return false
	}
	n := min(len(k.hand), g.batch)
	for _, m := range k.hand[:n] {
		if w.now.Sub(m.captured) > w.maxAge { // expired: dropped without any work
			g.settle(m)
			continue
		}
		k.running = append(k.running, m)
	}
	k.hand = k.hand[n:]
	if len(k.running) > 0 {
		took := time.Duration(float64(g.overhead+time.Duration(len(k.running))*g.service) * w.noise())
		k.debt += took
		k.until = later(k.until, w.now.Add(-tick)).Add(took)
	}
	return true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (w *world) noise() float64 { return max(0.2, 1+w.jitter*w.rng.NormFloat64()) }

func (w *world) capture() {
	state := w.controller.Shares()
	for i, c := range w.cameras {
		if c.down {
			continue
		}
		fps, share := c.FPS, state.Of(c.Priority)
		rate := c.sends
		if fps > 0 {
			rate = sampling.Rate(fps, share)
		} else {
			rate = max(rate*share, sampling.MinRate)
		}
		c.credit += rate * tick.Seconds() * w.noise()
		if c.credit < 1 {
			continue
		}
		c.credit--
		c.captured = append(c.captured, w.now.Sub(w.began))
		w.arrived++
		if !w.stalled {
			w.groups[0].put(i, w.now)
		}
	}
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(tick)
		w.capture()
		for _, g := range w.groups {
			w.work(g)
		}
		if w.now.Sub(w.began)%(500*time.Millisecond) == 0 {
			w.sample()
		}
	}
}

func (w *world) sample() {
	const every = 0.5
	s := Sample{Arrived: float64(w.arrived) / every}
	w.arrived = 0
	for _, c := range w.cameras {
		c.MaxAge = w.maxAge
		s.Cameras = append(s.Cameras, c.Camera)
	}
	for _, g := range w.groups {
		settled := g.delivered - g.pending
		g.Waiting, g.Held = g.waiting(), g.pending
		// As the probe does: what was dropped unanswered is left out.
		done, out := float64(settled-g.before.settled), float64(g.answers-g.before.answers)
		g.Answered = useful(done, done-out) / every
		g.before.settled, g.before.answers = settled, g.answers
		g.Busy = 0
		for _, k := range g.workers {
			k.history = append(k.history, k.busy)
			k.busy = 0
			if len(k.history) > 2 {
				k.history = k.history[1:]
			}
			for _, b := range k.history {
				g.Busy += b.Seconds() / float64(len(k.history)) / every / float64(len(g.workers))
			}
		}
		s.Groups = append(s.Groups, g.Group)
	}
	if w.stalled {
		w.controller.Forget()
		return
	}
	if d := w.controller.Step(w.now, s); d.Changed {
		w.decisions = append(w.decisions, told{w.now.Sub(w.began), d})
	}
}

// rates are what cameras of each priority captured on average between two moments.
func (w *world) rates(from, to time.Duration) map[int]float64 {
	n, frames := map[int]int{}, map[int]int{}
	for _, c := range w.cameras {
		n[c.Priority]++
		for _, at := range c.captured {
			if at >= from && at < to {
				frames[c.Priority]++
			}
		}
	}
	out := map[int]float64{}
	for p := range n {
		out[p] = float64(frames[p]) / float64(n[p]) / (to - from).Seconds()
	}
	return out
}

// age is a quantile of the ages of answers between two moments.
func (w *world) age(q float64, from, to time.Duration) time.Duration {
	var ages []time.Duration
	for _, a := range w.ages {
		if a.at >= from && a.at < to {
			ages = append(ages, a.age)
		}
	}
	if len(ages) == 0 {
		w.t.Fatalf("no answers between %v and %v", from, to)
	}
	slices.Sort(ages)
	return ages[int(q*float64(len(ages)-1))]
}

func (w *world) answered(from, to time.Duration) float64 {
	n := 0
	for _, a := range w.ages {
		if a.at >= from && a.at < to {
			n++
		}
	}
	return float64(n) / (to - from).Seconds()
}

func (w *world) changes(from, to time.Duration) (lowered, raised int) {
	for _, d := range w.decisions {
		switch {
		case d.at < from || d.at >= to:
		case d.Lowered:
			lowered++
		default:
			raised++
		}
	}
	return lowered, raised
}

// log shows what was decided when a test failed, or runs with -v.
func (w *world) log() {
	for _, d := range w.decisions {
		w.t.Logf("%7.1fs %-8s lowered=%-5v %-12s busy %.2f waiting %d held %d capacity %.1f shares %v", d.at.Seconds(), d.Cause, d.Lowered, d.Group.Name, d.Group.Busy, d.Group.Waiting, d.Group.Held, d.Capacity, d.Shares)
	}
}

func (w *world) within(name string, got, low, high float64) {
	w.t.Helper()
	if math.IsNaN(got) || got < low || got > high {
		w.t.Errorf("%s is %.3f, want %.3f to %.3f", name, got, low, high)
	}
}

package shed

import (
	"fmt"
	"testing"
	"time"
)

const (
	second = time.Second
	minute = time.Minute
)

// Four workers become one and four again: answers stay fresh, priorities are kept, sampling comes back.
func TestCapacityStep(t *testing.T) {
	t.Parallel()
	for _, jitter := range []float64{0, 0.3} {
		w := newWorld(t, 1)
		w.jitter = jitter
		w.pipeline(4, 2*time.Millisecond)
		w.camera(4, 2, 5, "m")
		w.camera(4, 4, 5, "m")
		w.camera(4, 10, 5, "m")
		infer := w.group("infer m", "m", 4, 50*time.Millisecond) // 80/s for 60/s
		w.run(minute)
		if n := len(w.decisions); n != 0 {
			t.Errorf("%d changes while workers kept up", n)
		}
		infer.resize(1) // 20/s
		w.run(2 * minute)
		infer.resize(4)
		w.run(3 * minute)
		w.log()

		if len(w.decisions) == 0 {
			t.Fatal("nothing was lowered")
		}
		first := w.decisions[0]
		if after := first.at - minute; !first.Lowered || after > 4*second {
			t.Errorf("first change after %v: %+v", after, first)
		}
		if got := w.age(0.99, 0, 6*minute); got > w.maxAge {
			t.Errorf("p99 of age is %v", got)
		}
		if got := w.age(0.99, minute+10*second, 3*minute); got > 800*time.Millisecond {
			t.Errorf("p99 of age is %v once lowered", got)
		}
		if got := w.age(0.99, minute+7*second, minute+15*second); got > 800*time.Millisecond { // what waited was worked off first
			t.Errorf("p99 of age is %v soon after", got)
		}
		low := w.rates(minute+20*second, minute+60*second)
		w.within("priority 4 to 2", low[4]/low[2], 1.8, 2.2)
		w.within("priority 10 to 2", low[10]/low[2], 4.5, 5.5)
		w.within("use of one worker", w.answered(minute+20*second, minute+60*second)/20, 0.75, 1)
		lowered, raised := w.changes(minute, 3*minute)
		if lowered > 3 || raised > 6 {
			t.Errorf("lowered %d times and raised %d times at one capacity", lowered, raised)
		}
		lowered, _ = w.changes(3*minute, 6*minute)
		if lowered != 0 {
			t.Errorf("lowered %d times when capacity was back", lowered)
		}
		last := w.decisions[len(w.decisions)-1]
		if !last.Shares.Full() || last.at > 4*minute+45*second {
			t.Errorf("last change at %v: %v", last.at, last.Shares)
		}
	}
}

// Half an hour at one capacity: the first minutes decide, the rest is quiet.
func TestNoOscillation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		jitter   float64
		service  time.Duration
		batch    int
		overhead time.Duration
		workers  int
		fps      float64
		capacity float64
	}{
		{"much too slow", 0.1, 100 * time.Millisecond, 1, 0, 2, 5, 20},
		{"a little too slow", 0.1, 100 * time.Millisecond, 1, 0, 11, 5, 110},
		{"a noisy one", 0.6, 100 * time.Millisecond, 1, 0, 4, 5, 40},
		{"batches", 0.1, 5 * time.Millisecond, 8, 160 * time.Millisecond, 1, 5, 40},
		{"one frame takes a second", 0.1, 800 * time.Millisecond, 1, 0, 8, 1, 10},
		{"cameras so slow that their rings are old", 0.1, 100 * time.Millisecond, 1, 0, 1, 1, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2)
			w.jitter, w.maxAge = tt.jitter, max(w.maxAge, 4*tt.service)
			w.camera(12, 5, tt.fps, "m")
			w.camera(12, 10, tt.fps, "m")
			g := w.group("infer m", "m", tt.workers, tt.service)
			if tt.batch > 0 {
				g.batch, g.overhead = tt.batch, tt.overhead
			}
			w.run(30 * minute)
			w.log()
			lowered, raised := w.changes(0, 30*minute)
			if lowered == 0 || lowered > 10 || raised > 15 {
				t.Errorf("lowered %d times, raised %d times", lowered, raised)
			}
			if lowered, raised = w.changes(15*minute, 30*minute); lowered > 3 || raised > 4 {
				t.Errorf("lowered %d times, raised %d times in the second half", lowered, raised)
			}
			if got := w.age(0.99, 0, 30*minute); got > w.maxAge+tt.service {
				t.Errorf("p99 of age is %v", got)
			}
			if got := w.age(0.9, minute, 30*minute); got > w.maxAge*3/4+tt.service {
				t.Errorf("p90 of age is %v", got)
			}
			w.within("use", w.answered(minute, 30*minute)/tt.capacity, 0.7, 1.02)
			r := w.rates(minute, 30*minute)
			if r[10] < tt.fps*0.95 {
				w.within("priority 10 to 5", r[10]/r[5], 1.7, 2.2)
			}
		})
	}
}

// Workers keep up: nothing is ever lowered, whatever it looks like for a moment.
func TestNeverWithoutNeed(t *testing.T) {
	t.Parallel()
	for name, play := range map[string]func(w *world, g *simGroup){
		"idle":            func(w *world, _ *simGroup) { w.cameras = nil; w.run(2 * minute) },
		"nearly all used": func(w *world, _ *simGroup) { w.run(10 * minute) }, // 80 % of 100/s
		"a worker restarts": func(w *world, g *simGroup) {
			for range 5 {
				w.run(20 * second)
				g.resize(g.Workers - 1)
				w.run(1500 * time.Millisecond)
				g.resize(g.Workers + 1)
			}
		},
		"all workers restart": func(w *world, g *simGroup) {
			for range 5 {
				w.run(20 * second)
				n := g.Workers
				g.resize(0)
				w.run(8 * second)
				g.resize(n)
			}
		},
		"nobody serves": func(w *world, g *simGroup) { g.resize(0); w.run(5 * minute) },
		"the broker stalls": func(w *world, _ *simGroup) {
			for range 5 {
				w.run(20 * second)
				w.stalled = true
				w.run(7 * second)
				w.stalled = false
			}
		},
		"all cameras at the same moment": func(w *world, _ *simGroup) {
			w.jitter = 0
			for _, c := range w.cameras {
				c.credit = 0.5
			}
			w.run(5 * minute)
		},
		"bursts": func(w *world, _ *simGroup) { // cameras that send what they had held back
			for range 20 {
				w.run(10 * second)
				for i := range w.cameras {
					for range 3 {
						w.groups[0].put(i, w.now)
					}
				}
			}
		},
		"cameras come and go": func(w *world, _ *simGroup) {
			for i := range 60 {
				c := w.cameras[i%len(w.cameras)]
				c.down = !c.down
				w.run(2 * second)
			}
		},
	} {
		for _, jitter := range []float64{0, 0.3} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 3)
				w.jitter = jitter
				w.pipeline(2, 2*time.Millisecond)
				w.camera(16, 5, 5, "m")
				play(w, w.group("infer m", "m", 5, 50*time.Millisecond))
				w.run(30 * second)
				w.log()
				if n := len(w.decisions); n != 0 {
					t.Errorf("%d changes", n)
				}
			})
		}
	}
}

// Messages that wait for workers that have time wait for something else, such as a broker that is slow to take outputs. That
// is given longer, and counts only when rings are full.
func TestIdleWorkersAreNotOverloaded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		busy     float64
		waiting  int
		answered float64
		after    time.Duration // of the change; 0 is none
	}{
		{"busy, some wait", 1, 6, 40, 2 * second},
		{"idle, some wait", 0.3, 6, 40, 0},
		{"idle, rings are full", 0.3, 24, 40, 6 * second},
		{"idle, rings are full, nothing is answered", 0, 24, 0, 0},
		{"busy, rings are full, nothing is answered", 1, 24, 0, 0},
		{"busy, nothing waits", 1, 0, 40, 0},
		{"busy, some wait, all is answered", 1, 6, 100, 6 * second}, // what is measured explains nothing: make way
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := NewController(Tuning{}, nil)
			s := Sample{Arrived: 100, Groups: []Group{{Name: "infer m", Model: "m", Workers: 2, Busy: tt.busy, Waiting: tt.waiting, Held: 8, Answered: tt.answered}}}
			for range 10 {
				s.Cameras = append(s.Cameras, Camera{Priority: 5, FPS: 10, MaxAge: 2 * second, Models: []string{"m"}})
			}
			began := time.Unix(1_700_000_000, 0)
			for at := time.Duration(0); at < 20*second; at += 500 * time.Millisecond {
				d := c.Step(began.Add(at), s)
				if !d.Changed {
					continue
				}
				if tt.after == 0 || at < tt.after || at > tt.after+second || !d.Lowered {
					t.Errorf("after %v: %+v", at, d)
				}
				return
			}
			if tt.after > 0 {
				t.Error("nothing was lowered")
			}
		})
	}
}

// From little to do to ten times too much: nothing is lowered up to 90 %, capacity is used beyond, nothing swings, and
// what is answered is fresh.
func TestAtAnyLoad(t *testing.T) {
	t.Parallel()
	for _, load := range []float64{0.9, 1.03, 1.5, 10} {
		for _, n := range []int{20, 60} {
			for _, workers := range []int{1, 4} {
				for _, jitter := range []float64{0.1, 0.5} {
					t.Run(fmt.Sprintf("load %v, %d cameras, %d workers, jitter %v", load, n, workers, jitter), func(t *testing.T) {
						t.Parallel()
						w := newWorld(t, 11)
						w.jitter = jitter
						w.camera(n/2, 10, 5, "m")
						w.camera(n/2, 5, 5, "m")
						capacity := float64(n) * 5 / load
						w.pipeline(4, 500*time.Microsecond)
						w.group("infer m", "m", workers, time.Duration(float64(workers)/capacity*1e9))
						w.run(10 * minute)
						lowered, raised := w.changes(0, 10*minute)
						if load < 1 {
							if len(w.decisions) > 0 {
								w.log()
								t.Errorf("%d changes while workers keep up", len(w.decisions))
							}
							return
						}
						if lowered == 0 || lowered > 4 || raised > 10 {
							w.log()
							t.Errorf("lowered %d times, raised %d times", lowered, raised)
						}
						w.within("use", w.answered(minute, 10*minute)/capacity, 0.75, 1.01)
						if r := w.rates(minute, 10*minute); r[10] < 4.5 {
							w.within("priority 10 to 5", r[10]/r[5], 1.85, 2.15)
						}
						if got := w.age(0.99, 0, 10*minute); got > w.maxAge+200*time.Millisecond {
							t.Errorf("p99 of age is %v", got)
						}
						if got := w.age(0.9, 0, 10*minute); got > w.maxAge*4/5 {
							t.Errorf("p90 of age is %v", got)
						}
					})
				}
			}
		}
	}
}

// Two models share cameras; the slower one decides, and so does preprocess when it is the bottleneck.
func TestWorstGroupDecides(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		pre, a, b      int
		culprit        string
		offered, allow float64
	}{
		{"nobody", 4, 8, 8, "", 60, 60},
		{"model b", 4, 8, 1, "infer b", 40, 20},
		{"model a", 4, 1, 8, "infer a", 40, 20},
		{"both, b more", 4, 2, 1, "infer b", 40, 20},
		{"preprocess", 1, 8, 8, "preprocess", 60, 33},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 4)
			w.jitter = 0.2
			w.pipeline(tt.pre, 30*time.Millisecond)
			w.camera(4, 5, 5, "a")
			w.camera(4, 5, 5, "a", "b")
			w.camera(4, 5, 5, "b")
			w.group("infer a", "a", tt.a, 50*time.Millisecond)
			w.group("infer b", "b", tt.b, 50*time.Millisecond)
			w.run(3 * minute)
			w.log()
			if tt.culprit == "" {
				if len(w.decisions) != 0 {
					t.Errorf("%d changes", len(w.decisions))
				}
				return
			}
			if len(w.decisions) == 0 {
				t.Fatal("nothing was lowered")
			}
			last := ""
			for _, d := range w.decisions {
				if d.Lowered {
					last = d.Group.Name
				}
			}
			if last != tt.culprit {
				t.Errorf("%s decided, want %s", last, tt.culprit)
			}
			rate := w.rates(30*second, 3*minute)[5]
			w.within("use of what the slowest can do", rate*tt.offered/5/tt.allow, 0.75, 1)
			if got := w.age(0.99, 30*second, 3*minute); got > second {
				t.Errorf("p99 of age is %v", got)
			}
		})
	}
}

// What a camera of which all pictures are wanted sends is not known before it is seen.
func TestAllPictures(t *testing.T) {
	t.Parallel()
	for _, sends := range []float64{8, 25, 60} {
		w := newWorld(t, 5)
		w.jitter = 0.2
		w.camera(6, 5, 0, "m")
		w.camera(2, 10, 10, "m")
		for _, c := range w.cameras[:6] {
			c.sends = sends
		}
		w.group("infer m", "m", 2, 50*time.Millisecond) // 40/s
		w.run(3 * minute)
		w.log()
		w.within("use", w.answered(30*second, 3*minute)/40, 0.75, 1)
		if got := w.age(0.99, 30*second, 3*minute); got > second {
			t.Errorf("p99 of age is %v", got)
		}
		r := w.rates(30*second, 3*minute)
		w.within("share of priority 10 to that of 5", r[10]/10/(r[5]/sends), 1.7, 2.3)
		if lowered, _ := w.changes(0, 3*minute); lowered == 0 || lowered > 3 {
			t.Errorf("lowered %d times", lowered)
		}
	}
}

// However short capacity is, every camera is seen now and then.
func TestLeastRate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6)
	w.camera(50, 1, 10, "m")
	w.camera(1, 10, 0.1, "m")
	w.group("infer m", "m", 1, 200*time.Millisecond) // 5/s for 10/s at the least rate
	w.run(5 * minute)
	w.log()
	r := w.rates(minute, 5*minute)
	w.within("priority 1", r[1], 0.19, 0.23)
	w.within("a camera that is slower than that", r[10], 0.09, 0.11)
	if n := len(w.decisions); n > 6 {
		t.Errorf("%d changes, though there is nothing left to lower", n)
	}
	if got := w.age(0.99, 0, 5*minute); got > w.maxAge+200*time.Millisecond {
		t.Errorf("p99 of age is %v", got)
	}
}

// Whoever leads next goes on from what holds, and raises it as the one before would have.
func TestNextLeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 7)
	w.camera(12, 5, 5, "m")
	g := w.group("infer m", "m", 1, 50*time.Millisecond)
	w.run(minute)
	held := w.controller.Shares()
	if held.Full() {
		t.Fatal("nothing was lowered")
	}
	w.controller = NewController(Tuning{}, held)
	if got := w.controller.Shares().Of(5); got < held.Of(5)*0.98 || got > held.Of(5)*1.02 {
		t.Errorf("priority 5 has %v, before %v", got, held.Of(5))
	}
	before := len(w.decisions)
	w.run(30 * second)
	if n := len(w.decisions) - before; n > 1 {
		t.Errorf("%d changes by the next leader", n)
	}
	g.resize(4)
	w.run(2 * minute)
	w.log()
	if !w.controller.Shares().Full() {
		t.Errorf("still %v", w.controller.Shares())
	}
}

// The last workers of the group that is short vanish: what they could do is no room for others.
func TestNobodyLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 8)
	w.camera(12, 5, 5, "m")
	w.pipeline(2, 2*time.Millisecond)
	g := w.group("infer m", "m", 1, 50*time.Millisecond)
	w.run(minute)
	before := len(w.decisions)
	if before == 0 {
		t.Fatal("nothing was lowered")
	}
	g.resize(0)
	w.run(20 * second)
	g.resize(1)
	w.run(20 * second)
	if n := len(w.decisions) - before; n > 1 {
		w.log()
		t.Errorf("%d changes because a worker restarted", n)
	}
}

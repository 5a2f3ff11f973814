package recovery

import (
	"slices"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/streams"
)

// backWithin is how soon a message that was on its way is with a worker after the broker is back. AckWait is ten seconds.
const backWithin = 3 * time.Second

// gets waits until a handler has a frame, and returns what handlers got before.
func (w *preprocess) gets(frame string) (before []string) {
	w.r.Helper()
	limit := time.After(patience)
	for {
		select {
		case got := <-w.at:
			if got == frame {
				return before
			}
			before = append(before, got)
		case <-limit:
			w.r.Fatalf("nobody gets %s", frame)
		}
	}
}

// deliveries is how often the work group of FRAMES has delivered anything.
func (r *rig) deliveries() uint64 {
	r.Helper()
	c, err := r.js.Consumer(r.Context(), streams.Frames, "preprocess")
	if err != nil {
		r.Fatal(err)
	}
	return c.CachedInfo().Delivered.Consumer
}

// holding starts a worker that has the frames in its hands, and says nothing of them before open.
func (r *rig) holding(instance string, open chan struct{}, frames ...string) *preprocess {
	r.Helper()
	w := r.preprocess(instance, open)
	r.put(frames...)
	r.eventually(func() error { return holds(w.entry(), len(frames)) })
	for range frames {
		<-w.at
	}
	return w
}

// strand has the frame "lost" delivered to somebody who never tells.
func (r *rig) strand() {
	r.Helper()
	r.put("lost")
	if got := r.take(r.js, 1); len(got) != 1 {
		r.Fatal("not delivered")
	}
}

// What the broker gave to a connection that broke waits for nobody, and what a worker has stays with it.
func TestWhatWasOnItsWayWhenTheBrokerRestartedComesBackSoon(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]time.Duration{"at once": 0, "after the leader's lease": streams.LeaseTTL + time.Second/2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.recover("r0")
			r.recover("r1")
			r.leader()
			r.strand()
			open := make(chan struct{})
			w := r.holding("w", open, "x", "y")
			<-time.After(calmFor) // so that recovery knows the fleet, which has no event
			r.restart(func() { <-time.After(away) })
			back := time.Now()
			if before := w.gets("lost"); len(before) != 0 {
				t.Errorf("delivered again: %v", before)
			}
			if took := time.Since(back); took > backWithin {
				t.Errorf("back after %v", took)
			} else {
				t.Logf("back after %v", took)
			}
			if e := r.event(kindReconnected, "w"); e.Cause != causeReconnected || e.Facts["service"] != "preprocess" || e.Facts["searched.FRAMES"] != "1" || e.Facts["outcome"] != "done" || parseToken(e.Facts[factToken]) == 0 {
				t.Errorf("event %+v", e)
			}
			close(open)
			r.eventually(func() error {
				times, _ := r.answers()
				return exactlyOnce(times, 3)
			})
			if n := r.deliveries(); n != 4 {
				t.Errorf("%d deliveries of three frames, one of them on its way", n)
			}
			for len(r.told) > 0 {
				if e := <-r.told; e.Kind == kindReconnected || e.Kind == kindDead {
					t.Errorf("event %+v", e)
				}
			}
		})
	}
}

// A worker whose own connection breaks is one case, too; the broker was not away.
func TestWhatWasOnItsWayToABrokenConnectionComesBackSoon(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	r.strand()
	w := r.holding("w", make(chan struct{}), "x")
	if err := w.js.Conn().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	broke := time.Now()
	if before := w.gets("lost"); len(before) != 0 {
		t.Errorf("delivered again: %v", before)
	}
	if took := time.Since(broke); took > backWithin {
		t.Errorf("back after %v", took)
	}
	r.event(kindReconnected, "w")
}

// A leader that comes after it all knows nobody's earlier connection.
func TestALeaderThatIsNewLooksForWhatWasOnItsWay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.strand()
	w := r.holding("w", make(chan struct{}), "x")
	r.recover("r0")
	began := time.Now()
	if before := w.gets("lost"); len(before) != 0 {
		t.Errorf("delivered again: %v", before)
	}
	if took := time.Since(began); took > calmFor+backWithin {
		t.Errorf("back after %v", took)
	}
	r.event(kindReconnected, "w")
}

// A worker that is not back may have what nobody else claims: nothing is touched before it is declared dead.
func TestNothingIsHandedBackBeforeEverybodyIsBackOrDead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	r.strand()
	broker := r.urls
	wire := newWire(t, broker)
	r.urls = "nats://" + wire.l.Addr().String()
	late := r.holding("late", make(chan struct{}), "x", "y")
	r.urls = broker
	w := r.preprocess("w", make(chan struct{}))
	<-time.After(2 * fleet.BeatEvery) // so that the leader has heard of it, which has no event
	r.restart(func() {
		_ = wire.l.Close()
		wire.cut()
	})
	back := time.Now()
	var got []string
	limit := time.After(patience)
	for len(got) < 3 {
		select {
		case frame := <-w.at:
			if e := late.entry(); e.State != fleet.Dead {
				t.Errorf("%s is handed over while the worker is %s", frame, e.State)
			}
			got = append(got, frame)
		case <-limit:
			t.Fatal("only", got)
		}
	}
	t.Logf("all back after %v", time.Since(back))
	if slices.Sort(got); !slices.Equal(got, []string{"lost", "x", "y"}) {
		t.Errorf("handed over: %v", got)
	}
	if e := r.event(kindDead, "late"); e.Cause != causeSilent {
		t.Errorf("event %+v", e)
	}
	late.kill()
}

func TestOneSearchForAllThatComeBackTogether(t *testing.T) {
	t.Parallel()
	w := newWatch(nil, "recovery.r0")
	w.began = w.began.Add(-time.Minute)
	now := time.Now()
	beat := func(instance string, client uint64, at time.Time) {
		s := fleet.Seen{Worker: fleet.Worker{Service: "infer", Instance: instance, Incarnation: instance, State: fleet.Alive, Started: now, Connection: fleet.Connection{Server: "s", Client: client}}, Heard: at}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.compare(s)
		w.seen[s.Key()] = s
	}
	expect := func(what string, want int) {
		t.Helper()
		if due := w.due(now); len(due) != want {
			t.Errorf("%s: %d cases, want %d", what, len(due), want)
		}
	}
	id := "infer/" + causeReconnected
	for _, instance := range []string{"a", "b", "c", "d"} {
		beat(instance, 1, now)
		beat(instance, 1, now.Add(fleet.BeatEvery))
	}
	expect("nobody was away", 0)
	beat("a", 2, now.Add(time.Second))
	beat("b", 2, now.Add(time.Second))
	expect("two are back", 1)
	beat("c", 2, now.Add(time.Second))
	w.looking(id)
	w.settle(id)
	expect("a third came before it was looked", 0)
	beat("a", 3, now.Add(2*time.Second))
	expect("one is back again", 1)
	w.looking(id)
	beat("d", 3, now.Add(2*time.Second))
	w.settle(id)
	expect("another came too late for it", 1)
	w.looking(id)
	w.settle(id)
	expect("all is done", 0)
	beat("a", 4, now.Add(giveUpAfter+3*time.Second))
	expect("away for so long that the broker does it", 0)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.open) != 0 {
		t.Errorf("open: %v", w.open)
	}
}

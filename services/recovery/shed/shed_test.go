package shed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/sampling"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

const patience = 30 * time.Second // a test that waits longer for an event has failed

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a real broker with real stages and a fleet, and cameras that honour SAMPLING as ingest does.
type site struct {
	t       *testing.T
	js      jetstream.JetStream
	sharing *sampling.View
	slow    atomic.Int64 // how long a frame takes to infer

	mu       sync.Mutex
	captured map[string]int
	ages     []time.Duration
	told     []events.Event
	news     chan struct{}
	frames   chan struct{} // one for each that is captured
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, js: brokertest.JetStream(t), captured: map[string]int{}, news: make(chan struct{}, 1), frames: make(chan struct{}, 1)}
	var err error
	if s.sharing, err = sampling.Follow(t.Context(), s.js, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return s
}

// Tell keeps events for the test.
func (s *site) Tell(e events.Event) {
	s.t.Logf("%s %s %s %v", time.Now().Format("05.000"), e.State, e.Cause, e.Facts)
	s.mu.Lock()
	s.told = append(s.told, e)
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// await waits for an event in this state, and returns all that were told since the one before.
func (s *site) await(from int, state string) []events.Event {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		told := slices.Clone(s.told[from:])
		s.mu.Unlock()
		for i, e := range told {
			if e.State == state {
				return told[:i+1]
			}
		}
		select {
		case <-s.news:
		case <-timeout:
			s.t.Fatalf("no %s among %d events", state, len(told))
		}
	}
}

// own runs f until the test ends.
func (s *site) own(f func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, stage.ErrDrainTimeout) {
			s.t.Error(err)
		}
	})
}

// member is a process in the fleet.
func (s *site) member(service string, describe func(*fleet.Worker)) *fleet.Member {
	s.t.Helper()
	m := fleet.NewMember(s.js, fleet.Config{Service: service, Instance: service + "-1"})
	m.Describe(describe)
	if err := m.Join(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.own(m.Run)
	return m
}

// serve runs a stage with one worker as a member of the fleet.
func (s *site) serve(service string, lanes []fleet.Lane, sources []streams.Binder, handle stage.Handler) {
	var st atomic.Pointer[stage.Stage]
	var meter fleet.BusyMeter
	m := s.member(service, func(w *fleet.Worker) {
		if st := st.Load(); st != nil {
			w.Lanes, w.Capacity, w.Load.Busy = lanes, 1, meter.Share(st.Stats().Busy, 1)
		}
	})
	running := stage.New(stage.Config{
		Name: service, Sources: sources, Publisher: s.js, Member: m, DrainTimeout: time.Second,
		Quarantine: func(stage.Message) string { return streams.DLQSubject(service, "cam") },
	}, handle)
	st.Store(running)
	s.own(running.Run)
}

const model = "people"

func (s *site) preprocess() {
	s.serve("preprocess", nil, streams.Preprocess(s.js), stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
		return []stage.Output{{
			Subject: streams.TensorSubject(streams.Freshest, model, streams.LaneStable, streams.LastToken(m.Subject)),
			ID:      m.Header.Get("Name"), Header: nats.Header{"Name": m.Header["Name"], "Captured": m.Header["Captured"]}, Data: m.Data,
		}}, nil
	}))
}

const maxAge = 2 * time.Second

func (s *site) infer() {
	lanes := []fleet.Lane{{Model: model, Lane: streams.LaneStable, Version: 3}}
	s.serve("infer", lanes, streams.Infer(s.js, model, streams.LaneStable), stage.Each(func(ctx context.Context, m stage.Message) ([]stage.Output, error) {
		ns, err := strconv.ParseInt(m.Header.Get("Captured"), 10, 64)
		if err != nil {
			return nil, stage.Poison(err)
		}
		captured := time.Unix(0, ns)
		if time.Since(captured) > maxAge {
			return nil, stage.Drop(ledger.Expired, "max_age")
		}
		work := time.NewTimer(time.Duration(s.slow.Load()))
		defer work.Stop()
		select {
		case <-work.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		s.mu.Lock()
		s.ages = append(s.ages, time.Since(captured))
		s.mu.Unlock()
		return []stage.Output{{Subject: streams.PredictionSubject(model, streams.LastToken(m.Subject)), ID: "answer/" + m.Header.Get("Name"), Data: []byte("{}")}}, nil
	}))
}

// camera captures fps pictures a second, or its share of them.
func (s *site) camera(name string, priority int, fps float64) config.Camera {
	c := config.DefaultCamera()
	c.Name, c.Priority, c.FPS, c.Models, c.MaxAge = name, priority, config.Rate(fps), []string{model}, maxAge
	var err error
	if c.URL, err = config.ParseURL("rtsp://127.0.0.1/" + name); err != nil {
		s.t.Fatal(err)
	}
	s.own(func(ctx context.Context) error {
		pictures := time.NewTicker(time.Duration(float64(time.Second) / fps))
		defer pictures.Stop()
		credit, n := 0.0, 0
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-pictures.C:
			}
			if credit += sampling.Rate(fps, s.sharing.Share(priority)) / fps; credit < 1 {
				continue
			}
			credit--
			n++
			msg := &nats.Msg{Subject: streams.FrameSubject(streams.Freshest, name), Data: []byte("jpeg"), Header: nats.Header{
				"Name": {fmt.Sprintf("%s/%d", name, n)}, "Captured": {strconv.FormatInt(time.Now().UnixNano(), 10)},
			}}
			if _, err := s.js.PublishMsg(ctx, msg); err != nil {
				continue
			}
			s.mu.Lock()
			s.captured[name]++
			s.mu.Unlock()
			select {
			case s.frames <- struct{}{}:
			default:
			}
		}
	})
	return c
}

type leads struct {
	token uint64
	err   error
}

func (l leads) Token() uint64                 { return l.token }
func (l leads) Confirm(context.Context) error { return l.err }

// shortly is the controller in a hurry.
var shortly = Tuning{LowerAfter: 1500 * time.Millisecond, RaiseAfter: 2 * time.Second, RaiseEvery: 250 * time.Millisecond, DrainIn: 2 * time.Second}

func (s *site) shed() {
	watch := s.member("recovery", func(*fleet.Worker) {})
	view, err := fleet.Follow(s.t.Context(), s.js, watch.Key(), slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	shedder := New(Config{JS: s.js, Fleet: view, Leadership: leads{token: 7}, Events: s, Every: 250 * time.Millisecond, Tuning: shortly})
	s.own(shedder.Run)
}

// since counts what cameras captured from a moment on, and the ages of what was answered from then on.
func (s *site) since(from map[string]int, ages int) (map[string]int, []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[string]int{}
	for name, v := range s.captured {
		n[name] = v - from[name]
	}
	return n, slices.Sorted(slices.Values(s.ages[ages:]))
}

func (s *site) waiting() uint64 {
	s.t.Helper()
	c, err := s.js.Consumer(s.t.Context(), streams.TensorsLive, "infer-"+model+"-stable")
	if err != nil {
		s.t.Fatal(err)
	}
	return c.CachedInfo().NumPending
}

// One worker that takes 50 ms for a frame cannot keep up with 60 frames a second; one that takes none can.
func TestShedding(t *testing.T) {
	t.Parallel()
	const attempts = 4 // a busy machine has less than it is thought to have, and not all the time
	missed := ""
	for range attempts {
		t.Run("attempt", func(t *testing.T) {
			if missed = sheds(t); missed != "" {
				t.Logf("missed: %s", missed)
			}
		})
		if missed == "" || t.Failed() {
			return
		}
	}
	t.Errorf("missed in each of %d attempts, the last time: %s", attempts, missed)
}

// sheds returns what it missed of what depends on a machine that keeps up.
func sheds(t *testing.T) (missed string) {
	t.Helper()
	s := newSite(t)
	s.slow.Store(int64(50 * time.Millisecond))
	s.preprocess()
	s.infer()
	var cameras []config.Camera
	for i := range 3 {
		cameras = append(cameras, s.camera(fmt.Sprintf("minor%d", i), 4, 10), s.camera(fmt.Sprintf("major%d", i), 8, 10))
	}
	if err := catalog.PutCameras(t.Context(), s.js, nil, cameras); err != nil {
		t.Fatal(err)
	}
	s.shed()

	first := s.await(0, "lowered")
	lowered := first[len(first)-1]
	for fact, want := range map[string]string{"group": "infer-people-stable", "token": "7", "outcome": "done", "workers": "1", "subject": "SAMPLING/all"} {
		if got := lowered.Facts[fact]; got != want {
			t.Errorf("fact %s is %q, want %q", fact, got, want)
		}
	}
	if lowered.Area != "recovery" || lowered.Kind != "sampling" || lowered.Name != "all" || lowered.Cause != "overload" {
		t.Errorf("%+v", lowered)
	}
	if capacity, err := strconv.ParseFloat(lowered.Facts["capacity_per_s"], 64); err != nil || capacity < 12 || capacity > 21 {
		return fmt.Sprintf("capacity is said to be %s/s, want nearly 20", lowered.Facts["capacity_per_s"])
	}
	n := len(first)
	n += len(s.await(n, "raised")) // what waited is worked off
	if w := s.waiting(); w > 6 {
		return fmt.Sprintf("%d messages wait", w)
	}
	before, _ := s.since(nil, 0)
	s.mu.Lock()
	ages := len(s.ages)
	s.mu.Unlock()
	began := time.Now()
	for range 75 {
		select {
		case <-s.frames:
		case <-time.After(patience):
			t.Fatal("nothing is captured")
		}
	}
	took, fresh := s.since(before, ages)
	quiet := time.Since(began)
	var minor, major int
	for name, v := range took {
		if strings.HasPrefix(name, "minor") {
			minor += v
		} else {
			major += v
		}
	}
	t.Logf("priority 4: %d, priority 8: %d frames in %v; ages p50 %v, p99 %v", minor, major, quiet, fresh[len(fresh)/2], fresh[len(fresh)*99/100])
	if ratio := float64(major) / float64(minor); ratio < 1.6 || ratio > 2.5 {
		return fmt.Sprintf("priority 8 kept %.2f times what priority 4 kept", ratio)
	}
	if rate := float64(major+minor) / quiet.Seconds(); rate < 10 || rate > 21 {
		return fmt.Sprintf("%.1f frames a second for a worker that answers 20", rate)
	}
	if p99 := fresh[len(fresh)*99/100]; p99 > maxAge/2 {
		return fmt.Sprintf("p99 of age is %v", p99)
	}

	s.slow.Store(0)
	told := s.await(n, "full")
	for _, e := range told[:len(told)-1] {
		if e.State != "raised" {
			return e.State + " though there was room"
		}
	}
	if got := s.sharing.Share(4); got != 1 {
		waited := time.After(patience)
		for s.sharing.Share(4) != 1 {
			_, changed := s.sharing.State()
			select {
			case <-changed:
			case <-waited:
				t.Fatalf("share is still %v", got)
			}
		}
	}
	return ""
}

// A leader that was replaced writes nothing, says so and ends.
func TestReplacedLeader(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := sampling.Put(t.Context(), s.js, sampling.Shares{5: 0.5}, 8); err != nil {
		t.Fatal(err)
	}
	for name, lead := range map[string]leads{"lost": {7, lease.ErrLost}, "stale": {7, nil}} {
		shedder := New(Config{JS: s.js, Fleet: nobody{}, Leadership: lead, Events: s, Every: 10 * time.Millisecond})
		if err := shedder.Run(t.Context()); !errors.Is(err, lease.ErrLost) && !errors.Is(err, sampling.ErrStale) { // it tries to renew
			t.Errorf("%s: Run returned %v", name, err)
		}
	}
	if got := s.sharing.Share(5); got != 0.5 {
		t.Errorf("share is %v", got)
	}
}

// A leader that finds shares renews them.
func TestRenewal(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := sampling.Put(t.Context(), s.js, sampling.Shares{5: 0.5}, 8); err != nil {
		t.Fatal(err)
	}
	s.own(New(Config{JS: s.js, Fleet: nobody{}, Leadership: leads{token: 9}, Events: s, Every: 10 * time.Millisecond}).Run)
	timeout := time.After(patience)
	for {
		state, changed := s.sharing.State()
		if state.Token == 9 {
			if got := state.Share.Of(5); got != 0.5 {
				t.Errorf("share is %v", got)
			}
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("still %+v", state)
		}
	}
}

type nobody struct{}

func (nobody) Living(string) map[string]fleet.Seen { return nil }
func (nobody) Hears() bool                         { return true }

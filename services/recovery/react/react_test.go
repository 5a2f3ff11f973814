package react

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/conditions"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestDecide(t *testing.T) {
	t.Parallel()
	cameras := map[string]catalog.Entry[config.Camera]{}
	for _, name := range []string{"a", "b", "c", "d", "off"} {
		cameras[name] = catalog.Entry[config.Camera]{Value: config.Camera{Name: name, Enabled: name != "off"}}
	}
	faulty := func(camera string, minute int, faults ...drift.Fault) drift.Integrity {
		i := drift.Integrity{Camera: camera}
		for _, f := range faults {
			i.Faults = append(i.Faults, drift.Raised{Fault: f, Since: start.Add(time.Duration(minute) * time.Minute)})
		}
		return i
	}
	state := func(camera, model string, minute int, s drift.State) drift.Status {
		return drift.Status{Camera: camera, Model: model, State: s, Since: start.Add(time.Duration(minute) * time.Minute)}
	}
	for _, tt := range []struct {
		name   string
		report drift.Report
		share  float64
		want   string
		beyond string
	}{
		{"nothing is known", drift.Report{}, 1, "", ""},
		{"only loss has consequences", drift.Report{Statuses: []drift.Status{
			state("a", "m", 0, drift.OK), state("b", "m", 0, drift.DataDrift), state("c", "m", 0, drift.NotEnoughData), state("d", "m", 3, drift.SuspectedLoss),
		}}, 1, "d: suspected_loss:m +3", ""},
		{"a clock changes nothing that is seen", drift.Report{Integrities: []drift.Integrity{faulty("a", 0, drift.Clock, drift.FPS)}}, 1, "", ""},
		{"faults are sorted, the oldest counts", drift.Report{
			Integrities: []drift.Integrity{faulty("a", 5, drift.Rotated, drift.Frozen, drift.Clock), faulty("b", 1)},
			Statuses:    []drift.Status{state("a", "n", 2, drift.SuspectedLoss), state("a", "m", 7, drift.SuspectedLoss)},
		}, 1, "a: frozen,rotated,suspected_loss:m,suspected_loss:n +2", ""},
		{"unknown and disabled cameras", drift.Report{Integrities: []drift.Integrity{faulty("off", 0, drift.Black), faulty("gone", 0, drift.Black)}}, 1, "", ""},
		{"the blind first, then the oldest", drift.Report{Integrities: []drift.Integrity{
			faulty("a", 0, drift.Rotated), faulty("b", 9, drift.Black), faulty("c", 1, drift.Defocused), faulty("d", 8, drift.Frozen),
		}}, .75, "a: rotated +0; b: black +9; d: frozen +8", "c: defocused +1"},
		{"one always may be", drift.Report{Integrities: []drift.Integrity{faulty("a", 0, drift.Black), faulty("b", 0, drift.Black)}}, .01, "a: black +0", "b: black +0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want, beyond := decide(tt.report, cameras, tt.share)
			if got := text(want); got != tt.want {
				t.Errorf("marked %q, want %q", got, tt.want)
			}
			if got := text(beyond); got != tt.beyond {
				t.Errorf("beyond %q, want %q", got, tt.beyond)
			}
		})
	}
}

func text(m map[string]conditions.Condition) string {
	var out []string
	for camera, c := range m {
		out = append(out, fmt.Sprintf("%s: %s +%.0f", camera, strings.Join(words(c), ","), c.Since.Sub(start).Minutes()))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// leader leads until it is told that it does not.
type leader struct {
	token uint64
	lost  atomic.Pointer[error]
}

func (l *leader) Token() uint64 { return l.token }
func (l *leader) Confirm(context.Context) error {
	if err := l.lost.Load(); err != nil {
		return *err
	}
	return nil
}

// site is a broker with cameras, and a leader that reacts.
type site struct {
	*testing.T
	js    jetstream.JetStream
	lead  *leader
	ended chan error
	stop  func()

	mu   sync.Mutex
	told []events.Event
	news chan struct{}
}

func newSite(t *testing.T, cameras ...string) *site {
	t.Helper()
	s := &site{T: t, js: brokertest.JetStream(t), lead: &leader{token: 5}, news: make(chan struct{}, 1)}
	url, err := config.ParseURL("rtsp://192.0.2.7/stream1")
	if err != nil {
		t.Fatal(err)
	}
	var all []config.Camera
	for _, name := range cameras {
		c := config.DefaultCamera()
		c.Name, c.URL, c.Models = name, url, []string{"person"}
		all = append(all, c)
	}
	if err := catalog.PutCameras(t.Context(), s.js, nil, all); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) Tell(e events.Event) {
	s.mu.Lock()
	s.told = append(s.told, e)
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// run reacts until the test ends, or until it is stopped.
func (s *site) run(change func(*Config)) {
	s.Helper()
	cfg := Config{JS: s.js, Instance: "r1", Leadership: s.lead, Events: s, Every: 10 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.ended = make(chan error, 1)
	go func() { s.ended <- New(cfg).Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-s.ended; err != nil {
			s.Error(err)
		}
	})
	s.Cleanup(s.stop)
}

// says stores what the drift-monitor finds.
func (s *site) says(r drift.Record) {
	s.Helper()
	kv, err := s.js.KeyValue(s.Context(), streams.DriftBucket)
	if err != nil {
		s.Fatal(err)
	}
	if err := drift.Put(s.Context(), kv, r); err != nil {
		s.Fatal(err)
	}
}

func (s *site) faults(camera string, faults ...drift.Fault) {
	s.Helper()
	i := drift.Integrity{Camera: camera, At: time.Now()}
	for _, f := range faults {
		i.Faults = append(i.Faults, drift.Raised{Fault: f, Since: time.Now()})
	}
	s.says(drift.Record{Integrity: &i})
}

// await waits for the next event, which is about a camera, and returns it.
func (s *site) await(camera, state, cause string) events.Event {
	s.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		if len(s.told) > 0 {
			e := s.told[0]
			s.told = s.told[1:]
			s.mu.Unlock()
			if e.Name != camera || e.State != state || e.Cause != cause || e.Area != "recovery" || e.Kind != "reaction" || e.Facts["token"] != "5" || e.Facts["duration_ms"] == "" {
				s.Fatalf("%+v, want %s %s: %s", e, camera, state, cause)
			}
			return e
		}
		s.mu.Unlock()
		select {
		case <-s.news:
		case <-timeout:
			s.Fatalf("not told: %s %s %s", camera, state, cause)
		}
	}
}

func (s *site) holds(want string) {
	s.Helper()
	all, err := conditions.Read(s.Context(), s.js)
	if err != nil {
		s.Fatal(err)
	}
	var got []string
	for camera, c := range all {
		got = append(got, camera+": "+strings.Join(words(c), ","))
	}
	slices.Sort(got)
	if strings.Join(got, "; ") != want {
		s.Errorf("CONDITIONS holds %q, want %q", got, want)
	}
}

func TestReacts(t *testing.T) {
	s := newSite(t, "door", "gate", "street", "yard")
	s.run(nil)
	s.faults("door", drift.Frozen)
	if e := s.await("door", "marked", "frozen"); e.Facts["outcome"] != "done" || e.Facts["action"] != "mark answers degraded" {
		t.Errorf("%+v", e)
	}
	s.holds("door: frozen")
	s.says(drift.Record{Status: &drift.Status{Camera: "door", Model: "person", State: drift.SuspectedLoss, Since: time.Now()}})
	s.await("door", "changed", "frozen,suspected_loss:person")
	s.faults("gate", drift.Black)
	s.await("gate", "marked", "black")
	s.faults("yard", drift.Rotated) // half of four are two
	if e := s.await("yard", "withheld", "rotated"); !strings.Contains(e.Facts["outcome"], "share") {
		t.Errorf("%+v", e)
	}
	s.holds("door: frozen,suspected_loss:person; gate: black")
	s.faults("gate")
	s.await("gate", "cleared", "over")
	s.await("yard", "marked", "rotated") // in its place
	s.faults("door")
	if e := s.await("door", "changed", "suspected_loss:person"); e.Facts["reasons"] != "suspected_loss:person" {
		t.Errorf("%+v", e)
	}
	s.says(drift.Record{Status: &drift.Status{Camera: "door", Model: "person", State: drift.OK, Since: time.Now()}})
	s.await("door", "cleared", "over")
	s.holds("yard: rotated")
}

// The next leader goes on from what it finds, and one that was switched off clears it.
func TestTheNextLeader(t *testing.T) {
	s := newSite(t, "door")
	s.run(nil)
	s.faults("door", drift.Covered)
	s.await("door", "marked", "covered")
	s.stop()
	s.holds("door: covered")
	s.run(nil)
	s.faults("door", drift.Black, drift.Covered)
	s.await("door", "changed", "black,covered") // it was not told as marked again
	s.stop()
	s.run(func(c *Config) { c.Off = true })
	s.await("door", "cleared", "switched_off")
	s.holds("")
}

func TestNobodyWatches(t *testing.T) {
	s := newSite(t, "door")
	var watched atomic.Bool
	watched.Store(true)
	s.run(func(c *Config) { c.Watched, c.Trust = watched.Load, 100*time.Millisecond })
	s.faults("door", drift.Covered)
	s.await("door", "marked", "covered")
	watched.Store(false)
	s.await("door", "lapsed", "nobody_watches")
	s.holds("")
	watched.Store(true)
	s.await("door", "marked", "covered")
}

// A leader that finds that a newer one has written stops.
func TestAnotherLeader(t *testing.T) {
	s := newSite(t, "door")
	if err := conditions.Put(t.Context(), s.js, "door", conditions.Condition{Reasons: []string{"black"}, Token: 9}); err != nil {
		t.Fatal(err)
	}
	s.faults("door", drift.Frozen)
	r := New(Config{JS: s.js, Instance: "r1", Leadership: s.lead, Events: s, Every: 10 * time.Millisecond})
	if err := r.Run(t.Context()); !errors.Is(err, conditions.ErrStale) {
		t.Errorf("%v", err)
	}
	if e := s.await("door", "changed", "frozen"); !strings.HasPrefix(e.Facts["outcome"], "refused: ") {
		t.Errorf("%+v", e)
	}
	s.holds("door: black")
}

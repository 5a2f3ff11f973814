package ingest_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/streams"
)

const (
	connectDelay = 700 * time.Millisecond
	never        = time.Hour
)

var errOccupied = errors.New("somebody else looks")

// lobby is where cameras are that take a while to connect to. It knows who looks at what.
type lobby struct {
	readers int // that a camera lets look at a time; 0: all

	mu      sync.Mutex
	looking map[string]int // open or opening, by instance and by camera
	most    map[string]int
	refused int
	changed chan struct{}
}

func newLobby(readers int) *lobby {
	return &lobby{readers: readers, looking: map[string]int{}, most: map[string]int{}, changed: make(chan struct{})}
}

func (l *lobby) note(what string, n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looking[what] += n
	l.most[what] = max(l.most[what], l.looking[what])
	close(l.changed)
	l.changed = make(chan struct{})
	return l.looking[what]
}

// await waits until as many of an instance's sessions are open or opening.
func (l *lobby) await(t *testing.T, instance string, want int) {
	t.Helper()
	late := time.After(patience)
	for {
		l.mu.Lock()
		n, changed := l.looking[instance], l.changed
		l.mu.Unlock()
		if n == want {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("%s has %d sessions, want %d", instance, n, want)
		}
	}
}

// by is how an instance looks, whose connections take so long.
func (l *lobby) by(instance string, delay time.Duration) func(config.Camera) ingest.Source {
	return func(c config.Camera) ingest.Source { return visitor{l, instance, "camera " + c.Name, delay} }
}

type visitor struct {
	*lobby

	instance, camera string
	delay            time.Duration
}

func (v visitor) Run(ctx context.Context, sink func(ingest.AccessUnit)) error {
	v.note(v.instance, 1)
	defer v.note(v.instance, -1)
	defer v.note(v.camera, -1)
	if n := v.note(v.camera, 1); v.readers != 0 && n > v.readers {
		v.mu.Lock()
		v.refused++
		v.mu.Unlock()
		return ingest.WithCause(ingest.CauseRefused, errOccupied)
	}
	select {
	case <-time.After(v.delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	return filming{}.Run(ctx, sink)
}

// handOver is what was seen of a camera between its last frame under one epoch and its first under the next.
func handOver(t *testing.T, stored map[string][]frame.Facts, camera string) time.Duration {
	t.Helper()
	all := stored[camera]
	for i := range len(all) - 1 {
		if all[i].Name.Epoch != all[i+1].Name.Epoch {
			return all[i+1].Captured.Sub(all[i].Captured)
		}
	}
	t.Fatalf("%s has %d frames, all under one epoch", camera, len(all))
	return 0
}

// told are the events of a kind about a camera, oldest first.
func (r *site) told(t *testing.T, kind, camera string) []events.Event {
	t.Helper()
	s, err := r.js.Stream(t.Context(), streams.Events)
	if err != nil {
		t.Fatal(err)
	}
	subject := streams.EventSubject("camera", kind, camera)
	var out []events.Event
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		if m.Subject != subject {
			continue
		}
		e, err := events.Decode(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func states(all []events.Event) []string {
	out := make([]string, len(all))
	for i, e := range all {
		out[i] = e.Instance + " " + e.State
	}
	return out
}

// alone starts one instance that has n cameras, and waits for their first frames.
func (r *site) alone(t *testing.T, rec *record, n int, look func(config.Camera) ingest.Source) (a *instance, epochs map[string]lease.Holder) {
	t.Helper()
	a = r.joinLooking(t, "a", 0, look)
	rec.await(t, "a alone", shared(map[string]int{"a": n}))
	epochs, _ = rec.view.All()
	for camera := range epochs {
		r.awaitFrame(t, camera, 0)
	}
	return a, epochs
}

// TestASuccessorLooksFirst: a camera is handed over without waiting for a connection.
func TestASuccessorLooksFirst(t *testing.T) { inTime(t, successorLooksFirst) }

func successorLooksFirst(t *testing.T) (missed string) {
	t.Helper()
	r := newSite(t, cameras(t, 4)...)
	rec := r.watchLeases(t)
	l := newLobby(0)
	a, before := r.alone(t, rec, 4, l.by("a", connectDelay))
	b := r.joinLooking(t, "b", 0, l.by("b", connectDelay))
	took := rec.await(t, "b has come", shared(map[string]int{"a": 2, "b": 2}))
	t.Logf("shared 2/2 after %v", took)
	missed = within(5*time.Second, took, "b was ready, and handed nothing for")
	moved := rec.of("b")
	for _, camera := range moved {
		r.awaitFrame(t, camera, before[camera].Epoch)
	}
	l.await(t, "a", 2)
	l.await(t, "b", 2)
	a.stop()
	b.stop()
	missed = cmp.Or(missed, r.seenOn(t, rec, connectDelay/2))
	stored := r.stored(t)
	for _, camera := range moved {
		gap := handOver(t, stored, camera)
		t.Logf("%s: %v between the last picture of a and the first of b", camera, gap)
		if gap <= 0 {
			t.Errorf("%s: gap of %v", camera, gap)
		}
		missed = cmp.Or(missed, within(connectDelay/2, gap, camera+": gap of"))
		if s := states(r.told(t, "state", camera)); !slices.Equal(s, []string{"a connecting", "a live", "a released", "b live", "b released"}) {
			t.Errorf("%s: states %v", camera, s)
		}
		if s := states(r.told(t, "gap", camera)); !slices.Equal(s, []string{"a open", "b closed", "b open"}) {
			t.Errorf("%s: gaps %v", camera, s)
		}
		if s := states(r.told(t, "lease", camera)); !slices.Equal(s, []string{"a acquired", "b acquired"}) {
			t.Errorf("%s: leases %v", camera, s)
		}
	}
	return missed
}

// seenOn audits cameras of which no frame may be refused, and returns what was missed when one was seen for less than it could be.
func (r *site) seenOn(t *testing.T, rec *record, limit time.Duration) (missed string) {
	t.Helper()
	frames, refused, dropped, gap := r.audit(t, rec)
	if refused != 0 {
		t.Errorf("%d frames, %d refused", frames, refused)
	}
	return cmp.Or(none(dropped), within(limit, gap, "longest gap"))
}

// TestACameraThatLetsOneLook is handed over all the same, when its successor had time enough.
func TestACameraThatLetsOneLook(t *testing.T) { inTime(t, onlyOneLooks) }

func onlyOneLooks(t *testing.T) (missed string) {
	t.Helper()
	r := newSite(t, cameras(t, 2)...)
	rec := r.watchLeases(t)
	l := newLobby(1)
	a, before := r.alone(t, rec, 2, l.by("a", connectDelay))
	b := r.joinLooking(t, "b", 0, l.by("b", connectDelay))
	took := rec.await(t, "b has come", shared(map[string]int{"a": 1, "b": 1}))
	t.Logf("shared 1/1 after %v", took)
	if took < 4*time.Second {
		t.Errorf("handed over after %v to an instance that did not see the camera", took)
	}
	camera := rec.of("b")[0]
	r.awaitFrame(t, camera, before[camera].Epoch)
	a.stop()
	b.stop()
	if l.refused == 0 {
		t.Error("b never tried while a looked")
	}
	gap := handOver(t, r.stored(t), camera)
	t.Logf("%s: %v between the last picture of a and the first of b", camera, gap)
	if gap < connectDelay {
		t.Errorf("gap of %v, connecting takes %v", gap, connectDelay)
	}
	_, _, dropped, _ := r.audit(t, rec)
	if s := states(r.told(t, "state", camera)); !slices.Equal(s, []string{"a connecting", "a live", "a released", "b connecting", "b live", "b released"}) {
		t.Errorf("states %v", s)
	}
	return cmp.Or(none(dropped), within(connectDelay+time.Second, gap, "gap of"))
}

// TestASuccessorDiesWhileItIsReady: nothing is handed to the dead.
func TestASuccessorDiesWhileItIsReady(t *testing.T) { inTime(t, successorDiesReady) }

func successorDiesReady(t *testing.T) (missed string) {
	t.Helper()
	r := newSite(t, cameras(t, 4)...)
	rec := r.watchLeases(t)
	l := newLobby(0)
	a, before := r.alone(t, rec, 4, l.by("a", 0))
	b := r.joinLooking(t, "b", 0, l.by("b", 0))
	for late := time.Now().Add(patience); len(a.view.Living("ingest")["b"].Ready) != 2; {
		if time.Now().After(late) {
			t.Fatalf("b says %+v", a.view.Living("ingest")["b"])
		}
		<-a.view.Beaten()
	}
	b.wire.sever()
	<-time.After(3 * time.Second) // what is tested is that nothing happens
	held, _ := rec.view.All()
	if !maps.Equal(before, held) {
		t.Errorf("leases %v, before %v", held, before)
	}
	l.await(t, "a", 4)
	b.wire.heal()
	rec.await(t, "b is back", shared(map[string]int{"a": 2, "b": 2}))
	l.await(t, "a", 2)
	a.stop()
	b.stop()
	return r.seenOn(t, rec, connectDelay/2)
}

// TestASuccessorIsNotNeeded: sessions that were opened for a hand-over are closed when there will be none.
func TestASuccessorIsNotNeeded(t *testing.T) {
	t.Run("it leaves", func(t *testing.T) { inTime(t, successorLeaves) })
	t.Run("there are fewer cameras", func(t *testing.T) { inTime(t, fewerCameras) })
	t.Run("the camera changes", cameraChanges)
}

func successorLeaves(t *testing.T) (missed string) {
	t.Helper()
	all := cameras(t, 20)
	for i := range all {
		all[i].FPS = 2
	}
	r := newSite(t, all...)
	rec := r.watchLeases(t)
	l := newLobby(0)
	a, before := r.alone(t, rec, 20, l.by("a", 0))
	b := r.joinLooking(t, "b", 0, l.by("b", never))
	l.await(t, "b", 8)
	<-time.After(500 * time.Millisecond) // what is tested is that there are no more
	b.stop()
	l.await(t, "b", 0)
	l.await(t, "a", 20)
	if l.most["b"] != 8 {
		t.Errorf("b opened %d sessions at a time", l.most["b"])
	}
	a.stop()
	missed = r.seenOn(t, rec, time.Second)
	for camera := range before {
		if s := states(r.told(t, "lease", camera)); !slices.Equal(s, []string{"a acquired"}) {
			t.Errorf("%s: leases %v", camera, s)
		}
	}
	return missed
}

func fewerCameras(t *testing.T) (missed string) {
	t.Helper()
	all := cameras(t, 2)
	r := newSite(t, all...)
	rec := r.watchLeases(t)
	l := newLobby(0)
	a, before := r.alone(t, rec, 2, l.by("a", 0))
	b := r.joinLooking(t, "b", 0, l.by("b", never))
	l.await(t, "camera cam-1", 2) // the owner keeps those whose names come first
	all[0].Enabled = false
	if err := catalog.PutCameras(t.Context(), r.js, nil, all); err != nil {
		t.Fatal(err)
	}
	l.await(t, "b", 0)
	l.await(t, "camera cam-1", 1)
	rec.await(t, "a has one left", shared(map[string]int{"a": 1}))
	if h, held := rec.view.Holder("cam-1"); !held || h != before["cam-1"] {
		t.Errorf("lease %+v, before %+v", h, before["cam-1"])
	}
	a.stop()
	b.stop()
	return r.seenOn(t, rec, connectDelay/2)
}

func cameraChanges(t *testing.T) {
	t.Helper()
	all := cameras(t, 2)
	r := newSite(t, all...)
	rec := r.watchLeases(t)
	l := newLobby(0)
	r.alone(t, rec, 2, l.by("a", 0))
	b := r.joinLooking(t, "b", 0, l.by("b", never))
	l.await(t, "camera cam-1", 2)
	all[1].Enabled = false
	if err := catalog.PutCameras(t.Context(), r.js, nil, all); err != nil {
		t.Fatal(err)
	}
	l.await(t, "camera cam-1", 0)
	rec.await(t, "a has one left", shared(map[string]int{"a": 1}))
	if ready := b.view.Living("ingest")["b"].Ready; len(ready) != 0 {
		t.Errorf("b says it sees %v", ready)
	}
}

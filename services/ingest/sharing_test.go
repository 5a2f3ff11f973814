package ingest_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/decodertest"
	"github.com/sightline-dev/sightline/streams"
)

const (
	patience = time.Minute // a test that waits longer for an event has failed
	attempts = 4
)

// inTime tries again what takes a machine that keeps up. An attempt returns what it missed, or ""; what must hold on any machine
// it fails for.
func inTime(t *testing.T, attempt func(t *testing.T) (missed string)) {
	t.Helper()
	missed := ""
	for range attempts {
		t.Run("attempt", func(t *testing.T) {
			if missed = attempt(t); missed != "" {
				t.Logf("missed: %s", missed)
			}
		})
		if missed == "" || t.Failed() {
			return
		}
	}
	t.Errorf("missed in each of %d attempts, the last time: %s", attempts, missed)
}

// within is what was missed when a span of time is longer than it may be.
func within(limit, took time.Duration, what string) (missed string) {
	if took > limit {
		return fmt.Sprintf("%s %v, want %v at most", what, took, limit)
	}
	return ""
}

// none is what was missed when frames were dropped that there was no time for.
func none(dropped uint64) (missed string) {
	if dropped != 0 {
		return fmt.Sprintf("%d frames were dropped", dropped)
	}
	return ""
}

// filming is a camera that films for everybody who looks, twenty pictures a second.
type filming struct{}

const filmingEvery = 50 * time.Millisecond

func (filming) Run(ctx context.Context, sink func(ingest.AccessUnit)) error {
	tick := time.NewTicker(filmingEvery)
	defer tick.Stop()
	for n := uint32(0); ; n++ {
		u := decodertest.FakeUnit(ingest.MJPEG, n, true, 640, 480)
		u.PTS, u.Received = time.Duration(n)*filmingEvery, time.Now()
		sink(u)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wire is a network connection to the broker that a test can disturb.
type wire struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	clear chan struct{} // closed while data passes
	cut   bool
	conns map[net.Conn]struct{}
	all   sync.WaitGroup
}

func newWire(t *testing.T, server string) *wire {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, target: u.Host, clear: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	close(w.clear)
	w.all.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		w.sever()
		w.heal()
		w.all.Wait()
	})
	return w
}

func (w *wire) url() string { return "nats://" + w.listener.Addr().String() }

func (w *wire) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.target)
		w.mu.Lock()
		if err != nil || w.cut {
			w.mu.Unlock()
			_ = near.Close()
			if far != nil {
				_ = far.Close()
			}
			continue
		}
		w.conns[near], w.conns[far] = struct{}{}, struct{}{}
		w.mu.Unlock()
		w.all.Go(func() { w.copy(near, far) })
		w.all.Go(func() { w.copy(far, near) })
	}
}

func (w *wire) copy(dst, src net.Conn) {
	defer func() { _, _ = dst.Close(), src.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		free := w.clear
		w.mu.Unlock()
		<-free
		if _, err := dst.Write(buf[:n]); err != nil && !errors.Is(err, io.EOF) {
			return
		}
	}
}

// block holds everything back, and lets it through when the wire is healed.
func (w *wire) block() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clear = make(chan struct{})
}

// sever ends all connections and refuses new ones.
func (w *wire) sever() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for c := range w.conns {
		_ = c.Close()
	}
	clear(w.conns)
}

func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
	select {
	case <-w.clear:
	default:
		close(w.clear)
	}
}

// instance is an ingest process in a fleet.
type instance struct {
	name string
	wire *wire
	view *fleet.View
	stop func()
}

func (r *site) join(t *testing.T, name string, capacity int) *instance {
	t.Helper()
	return r.joinLooking(t, name, capacity, func(config.Camera) ingest.Source { return filming{} })
}

// joinLooking starts an instance that looks at cameras in a certain way.
func (r *site) joinLooking(t *testing.T, name string, capacity int, look func(config.Camera) ingest.Source) *instance {
	t.Helper()
	w := newWire(t, r.server.URL())
	log := slog.New(slog.DiscardHandler)
	nc, err := broker.Connect(broker.Config{URL: w.url(), Name: "ingest-" + name, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := broker.JetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	member := fleet.NewMember(js, fleet.Config{Service: "ingest", Instance: name})
	view, err := fleet.Follow(ctx, js, member.Key(), log)
	if err != nil {
		t.Fatal(err)
	}
	s := ingest.NewService(ingest.Config{Instance: name, Capacity: capacity}, ingest.Deps{
		JS: js, Log: log, Fleet: view, Member: member,
		NewSource: func(c config.Camera) (ingest.Source, error) { return look(c), nil },
		NewDecoder: func(c ingest.Codec) (ingest.Decoder, error) {
			return decodertest.NewFake(c)
		},
	})
	done := make(chan error, 1)
	go func() { done <- member.While(ctx, s.Run) }()
	i := &instance{name: name, wire: w, view: view}
	i.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("instance %s: %v", name, err)
		}
	})
	t.Cleanup(i.stop)
	return i
}

// record is who had which camera under which epoch since when, as LEASES told it.
type record struct {
	mu     sync.Mutex
	owners map[string]map[uint64]lease.Holder // by camera and epoch
	view   *lease.View
}

func (r *site) watchLeases(t *testing.T) *record {
	t.Helper()
	kv, err := r.js.KeyValue(t.Context(), streams.LeasesBucket)
	if err != nil {
		t.Fatal(err)
	}
	w, err := kv.WatchAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rec := &record{owners: map[string]map[uint64]lease.Holder{}, view: lease.Follow(t.Context(), r.js, slog.New(slog.DiscardHandler))}
	go func() {
		for e := range w.Updates() {
			if e == nil || e.Operation() != jetstream.KeyValuePut {
				continue
			}
			h, err := lease.Decode(e.Value())
			if err != nil || h.Epoch == 0 {
				continue
			}
			rec.mu.Lock()
			if rec.owners[e.Key()] == nil {
				rec.owners[e.Key()] = map[uint64]lease.Holder{}
			}
			rec.owners[e.Key()][h.Epoch] = h
			rec.mu.Unlock()
		}
	}()
	return rec
}

// await waits until the cameras are shared like that, and returns how long it took.
func (rec *record) await(t *testing.T, what string, ok func(byInstance map[string]int) bool) time.Duration {
	t.Helper()
	began := time.Now()
	late := time.After(patience)
	for {
		holders, changed := rec.view.All()
		counts := map[string]int{}
		begun := true
		for _, h := range holders {
			counts[h.Instance]++
			begun = begun && h.Epoch > 0
		}
		if begun && ok(counts) {
			return time.Since(began)
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("%s: the cameras are shared like this: %v", what, counts)
		}
	}
}

func shared(want map[string]int) func(map[string]int) bool {
	return func(have map[string]int) bool { return maps.Equal(want, have) }
}

func (rec *record) of(instance string) []string {
	holders, _ := rec.view.All()
	var out []string
	for camera, h := range holders {
		if h.Instance == instance {
			out = append(out, camera)
		}
	}
	slices.Sort(out)
	return out
}

// stored are the facts of all frames in FRAMES, by camera, in the order of their names.
func (r *site) stored(t *testing.T) map[string][]frame.Facts {
	t.Helper()
	s, err := r.js.Stream(t.Context(), streams.Frames)
	if err != nil {
		t.Fatal(err)
	}
	state := s.CachedInfo().State
	out := map[string][]frame.Facts{}
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		f, err := frame.Decode(m.Header)
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name.Camera] = append(out[f.Name.Camera], f)
	}
	for _, frames := range out {
		slices.SortFunc(frames, func(a, b frame.Facts) int {
			if a.Name.Epoch != b.Name.Epoch {
				return int(a.Name.Epoch) - int(b.Name.Epoch)
			}
			return int(a.Name.Seq) - int(b.Name.Seq)
		})
	}
	return out
}

// awaitFrame waits for a frame of a camera under another epoch than the one named, and returns it.
func (r *site) awaitFrame(t *testing.T, camera string, after uint64) frame.Facts {
	t.Helper()
	s, err := r.js.Stream(t.Context(), streams.Frames)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		m, err := s.GetLastMsgForSubject(t.Context(), streams.FrameSubject(streams.EveryFrame, camera))
		if err == nil {
			if f, err := frame.Decode(m.Header); err == nil && f.Name.Epoch > after {
				return f
			}
		}
		<-time.After(2 * time.Millisecond) // what is waited for needs the processor, too
	}
	t.Fatalf("no frame of %s after epoch %d", camera, after)
	return frame.Facts{}
}

// audit proves that every captured frame has exactly one fate, and that no stored one was captured when another instance
// had the camera already. It returns how many frames there are, how many were refused, how many were dropped because there was no
// time to store them, and the longest gap between two.
func (r *site) audit(t *testing.T, rec *record) (frames int, refused, dropped uint64, gap time.Duration) {
	t.Helper()
	books, err := ledger.Read(t.Context(), r.js)
	if err != nil {
		t.Fatal(err)
	}
	stored := r.stored(t)
	lines := books.Lines(time.Now(), nil)
	if len(lines) != len(stored) {
		t.Errorf("books of %d cameras, frames of %d", len(lines), len(stored))
	}
	for _, l := range lines {
		have := uint64(len(stored[l.Camera]))
		old, away := l.Reasons["superseded/old_epoch"], l.Reasons["superseded/broker_away"]
		if l.Lost != 0 || l.InFlight != have || l.Captured != have+l.Superseded || l.Superseded != old+away {
			t.Errorf("%d frames are stored, books %+v", have, l)
		}
		refused += old
		dropped += away
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for camera, all := range stored {
		frames += len(all)
		seen := map[frame.Name]bool{}
		var times []time.Time
		for _, f := range all {
			if seen[f.Name] {
				t.Errorf("%s is stored twice", f.Name)
			}
			seen[f.Name] = true
			times = append(times, f.Captured)
			mine, known := rec.owners[camera][f.Name.Epoch]
			if !known {
				t.Errorf("%s: nobody had that epoch", f.Name)
			}
			for epoch, h := range rec.owners[camera] {
				if epoch > f.Name.Epoch && h.Instance != mine.Instance && f.Captured.After(h.Since) {
					t.Errorf("%s was captured by %s %v after %s had epoch %d", f.Name, mine.Instance, f.Captured.Sub(h.Since), h.Instance, epoch)
				}
			}
		}
		slices.SortFunc(times, time.Time.Compare)
		for i := range len(times) - 1 {
			gap = max(gap, times[i+1].Sub(times[i]))
		}
	}
	return frames, refused, dropped, gap
}

func cameras(t *testing.T, n int) []config.Camera {
	t.Helper()
	out := make([]config.Camera, n)
	for i := range out {
		out[i] = door(t, streams.EveryFrame)
		out[i].Name, out[i].FPS = "cam-"+strconv.Itoa(i), config.AllFrames
	}
	return out
}

func TestInstancesShareCameras(t *testing.T) { inTime(t, instancesShare) }

func instancesShare(t *testing.T) (missed string) {
	t.Helper()
	r := newSite(t, cameras(t, 4)...)
	rec := r.watchLeases(t)
	a := r.join(t, "a", 0)
	rec.await(t, "a alone", shared(map[string]int{"a": 4}))
	b := r.join(t, "b", 0)
	took := rec.await(t, "b has come", shared(map[string]int{"a": 2, "b": 2}))
	t.Logf("shared 2/2 after %v", took)
	before, _ := rec.view.All()
	c := r.join(t, "c", 0)
	took = rec.await(t, "c has come", shared(map[string]int{"a": 2, "b": 1, "c": 1}))
	t.Logf("shared 2/1/1 after %v", took)
	moved := 0
	after, _ := rec.view.All()
	for camera, h := range after {
		if h.Instance != before[camera].Instance {
			moved++
		}
		if f := r.awaitFrame(t, camera, before[camera].Epoch-1); f.Name.Epoch != h.Epoch && h.Epoch != 0 {
			t.Logf("%s: newest frame %s under epoch %d", camera, f.Name, h.Epoch)
		}
	}
	if moved != 1 {
		t.Errorf("%d cameras moved when c came, want 1", moved)
	}
	b.stop() // in order: its camera is claimed by others at once
	took = rec.await(t, "b has left", func(n map[string]int) bool { return n["a"]+n["c"] == 4 && n["a"] == 2 })
	t.Logf("shared 2/2 %v after b had left", took)
	for camera := range after {
		holders, _ := rec.view.All()
		r.awaitFrame(t, camera, holders[camera].Epoch-1)
	}
	a.stop()
	c.stop()
	frames, refused, dropped, gap := r.audit(t, rec)
	t.Logf("%d frames, longest gap %v", frames, gap)
	if refused != 0 {
		t.Errorf("%d frames refused", refused)
	}
	r.gapsAreClosed(t)
	return cmp.Or(none(dropped), within(time.Second, gap, "longest gap"))
}

// gapsAreClosed proves that each gap that was opened was closed, except those of the end.
func (r *site) gapsAreClosed(t *testing.T) {
	t.Helper()
	s, err := r.js.Stream(t.Context(), streams.Predictions)
	if err != nil {
		t.Fatal(err)
	}
	state := s.CachedInfo().State
	open := map[string]*predictions.Gap{}
	n := 0
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		p, err := predictions.Decode(m.Data)
		if err != nil || p.Kind != predictions.KindGap {
			t.Fatalf("%+v %v", p, err)
		}
		was := open[p.Camera]
		switch {
		case p.Gap.To.IsZero():
			if was != nil {
				t.Errorf("%s: gap %+v, and %+v is open", p.Camera, p.Gap, was)
			}
			open[p.Camera] = p.Gap
			n++
		case was == nil || !was.From.Equal(p.Gap.From):
			t.Errorf("%s: %+v closes %+v", p.Camera, p.Gap, was)
		default:
			open[p.Camera] = nil
		}
	}
	if n <= 4 {
		t.Errorf("only %d gaps", n)
	}
}

// declareDead does to an instance that is cut off and its cameras what recovery does once it has noticed: recovery waits for
// a disconnect event or for beats that do not come, here the test knows.
func (r *site) declareDead(t *testing.T, view *fleet.View, name string, cameras []string) {
	t.Helper()
	for {
		w := view.Living("ingest")[name]
		if err := fleet.Bury(t.Context(), r.js, w.Worker, fleet.Epitaph{By: "test", Cause: "disconnected", At: time.Now()}); err == nil {
			break
		} else if !errors.Is(err, fleet.ErrAlive) {
			t.Fatal(err)
		}
	}
	kv, err := r.js.KeyValue(t.Context(), streams.LeasesBucket)
	if err != nil {
		t.Fatal(err)
	}
	for _, camera := range cameras {
		e, err := kv.Get(t.Context(), camera)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := lease.Free(t.Context(), kv, e); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
}

// TestAnOwnerIsDeclaredDead: recovery buries it and takes its leases away. It comes back, and what it captured meanwhile
// is refused.
func TestAnOwnerIsDeclaredDead(t *testing.T) { inTime(t, ownerDeclaredDead) }

func ownerDeclaredDead(t *testing.T) (missed string) {
	t.Helper()
	r := newSite(t, cameras(t, 4)...)
	rec := r.watchLeases(t)
	a, b := r.join(t, "a", 0), r.join(t, "b", 0)
	rec.await(t, "both are there", shared(map[string]int{"a": 2, "b": 2}))
	lost := rec.of("a")
	before, _ := rec.view.All()
	for _, camera := range lost {
		r.awaitFrame(t, camera, before[camera].Epoch-1)
	}
	seen := b.view.Living("ingest")["a"]
	a.wire.sever()
	cut := time.Now()
	r.declareDead(t, b.view, "a", lost)
	for _, camera := range lost {
		f := r.awaitFrame(t, camera, before[camera].Epoch)
		t.Logf("%s captured %v after the cut, stored after %v", f.Name, f.Captured.Sub(cut), time.Since(cut))
		missed = cmp.Or(missed, within(3*time.Second, time.Since(cut), camera+" was taken over after"))
	}
	rec.await(t, "b has all", shared(map[string]int{"b": 4}))
	a.wire.heal()
	took := rec.await(t, "a is back", shared(map[string]int{"a": 2, "b": 2}))
	t.Logf("shared 2/2 %v after a was back", took)
	if w := b.view.Living("ingest")["a"]; w.Incarnation == seen.Incarnation {
		t.Errorf("a is still the same incarnation")
	}
	a.stop()
	b.stop()
	frames, refused, dropped, gap := r.audit(t, rec)
	t.Logf("%d frames, %d refused, longest gap %v", frames, refused, gap)
	if refused == 0 {
		t.Error("a captured nothing while it was cut off")
	}
	return cmp.Or(missed, none(dropped))
}

// TestAnOwnerVanishesAndNobodyLooks: without recovery the lease expires by itself.
func TestAnOwnerVanishesAndNobodyLooks(t *testing.T) { inTime(t, ownerVanishes) }

func ownerVanishes(t *testing.T) (missed string) {
	t.Helper()
	r := newSite(t, cameras(t, 4)...)
	rec := r.watchLeases(t)
	a, b := r.join(t, "a", 0), r.join(t, "b", 0)
	rec.await(t, "both are there", shared(map[string]int{"a": 2, "b": 2}))
	lost, before := rec.of("a"), map[string]lease.Holder{}
	for _, camera := range lost {
		before[camera], _ = rec.view.Holder(camera)
		r.awaitFrame(t, camera, before[camera].Epoch-1)
	}
	a.wire.sever()
	cut := time.Now()
	for _, camera := range lost {
		f := r.awaitFrame(t, camera, before[camera].Epoch)
		t.Logf("%s captured %v after the cut", f.Name, f.Captured.Sub(cut))
		missed = cmp.Or(missed, within(streams.LeaseTTL+2*time.Second, time.Since(cut), camera+" was taken over after"))
	}
	a.wire.heal()
	rec.await(t, "a is back", shared(map[string]int{"a": 2, "b": 2}))
	a.stop()
	b.stop()
	frames, refused, dropped, gap := r.audit(t, rec)
	t.Logf("%d frames, %d refused, longest gap %v", frames, refused, gap)
	return cmp.Or(missed, none(dropped))
}

// TestCutOffAlone: nobody takes over, so everything that was captured is published.
func TestCutOffAlone(t *testing.T) {
	for _, c := range []struct {
		name   string
		away   time.Duration
		epochs int
		cut    func(*wire)
	}{
		{"shorter than the lease", streams.LeaseTTL / 2, 1, (*wire).block},
		{"longer than the lease", streams.LeaseTTL + 2*time.Second, 2, (*wire).block},
		{"longer, and the connection is lost", streams.LeaseTTL + time.Second, 2, (*wire).sever},
	} {
		t.Run(c.name, func(t *testing.T) {
			inTime(t, func(t *testing.T) (missed string) {
				t.Helper()
				r := newSite(t, cameras(t, 1)...)
				rec := r.watchLeases(t)
				a := r.join(t, "a", 0)
				rec.await(t, "a is there", shared(map[string]int{"a": 1}))
				first := r.awaitFrame(t, "cam-0", 0)
				c.cut(a.wire)
				<-time.After(c.away) // what is tested is a span of time
				a.wire.heal()
				healed := time.Now()
				if c.epochs > 1 {
					r.awaitFrame(t, "cam-0", first.Name.Epoch)
				} else {
					for r.awaitFrame(t, "cam-0", 0).Captured.Before(healed) {
						continue
					}
				}
				t.Logf("captured and published %v after the wire was healed", time.Since(healed))
				missed = within(2*time.Second, time.Since(healed), "back after")
				a.stop()
				frames, refused, dropped, gap := r.audit(t, rec)
				t.Logf("%d frames, longest gap %v", frames, gap)
				if refused != 0 {
					t.Errorf("%d frames refused", refused)
				}
				missed = cmp.Or(missed, none(dropped), within(500*time.Millisecond, gap, "longest gap"))
				epochs := map[uint64]bool{}
				for _, f := range r.stored(t)["cam-0"] {
					epochs[f.Name.Epoch] = true
				}
				if len(epochs) != c.epochs {
					t.Errorf("%d epochs, want %d", len(epochs), c.epochs)
				}
				return missed
			})
		})
	}
}

// TestCutOffAndReplaced: the wire is blocked and everything in it arrives late, as after a SIGSTOP.
func TestCutOffAndReplaced(t *testing.T) { inTime(t, cutOffAndReplaced) }

func cutOffAndReplaced(t *testing.T) (missed string) {
	t.Helper()
	r := newSite(t, cameras(t, 2)...)
	rec := r.watchLeases(t)
	a, b := r.join(t, "a", 0), r.join(t, "b", 0)
	rec.await(t, "both are there", shared(map[string]int{"a": 1, "b": 1}))
	camera := rec.of("a")[0]
	before, _ := rec.view.Holder(camera)
	r.awaitFrame(t, camera, before.Epoch-1)
	a.wire.block()
	r.awaitFrame(t, camera, before.Epoch)
	rec.await(t, "b has both", shared(map[string]int{"b": 2}))
	<-time.After(time.Second) // both capture
	a.wire.heal()
	rec.await(t, "a is back", shared(map[string]int{"a": 1, "b": 1}))
	a.stop()
	b.stop()
	frames, refused, dropped, gap := r.audit(t, rec)
	t.Logf("%d frames, %d refused, longest gap %v", frames, refused, gap)
	if refused < 10 {
		missed = fmt.Sprintf("%d frames refused: a captured for a second while b had the camera", refused)
	}
	return cmp.Or(missed, none(dropped))
}

func TestCapacity(t *testing.T) {
	r := newSite(t, cameras(t, 3)...)
	rec := r.watchLeases(t)
	r.join(t, "a", 1)
	r.join(t, "b", 1)
	rec.await(t, "both are full", shared(map[string]int{"a": 1, "b": 1}))
	s, err := r.js.Stream(t.Context(), streams.Events)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.CreateConsumer(t.Context(), jetstream.ConsumerConfig{FilterSubject: streams.EventSubject("camera", "placement", "*"), AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	for { // a may have told of two before b came
		if m := r.next(t, c); strings.Contains(string(m.Data()), "3 cameras, and instances for 2") || strings.Contains(string(m.Data()), "3 cameras, and instances for 1") {
			break
		}
	}
	r.join(t, "c", 5)
	took := rec.await(t, "c takes the third", func(n map[string]int) bool { return n["a"]+n["b"]+n["c"] == 3 && n["c"] >= 1 })
	t.Logf("the third camera is captured %v after c was started", took)
}

// TestWaitsForItsBroker: an instance may be there before the broker, and before anything is declared.
func TestWaitsForItsBroker(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	nc, err := broker.Connect(broker.Config{URL: fmt.Sprintf("nats://127.0.0.1:%d", port), Name: "ingest-a", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := broker.JetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	s := ingest.NewService(ingest.Config{Instance: "a"}, ingest.Deps{
		JS: js, Log: slog.New(slog.DiscardHandler),
		NewSource:  func(config.Camera) (ingest.Source, error) { return filming{}, nil },
		NewDecoder: func(c ingest.Codec) (ingest.Decoder, error) { return decodertest.NewFake(c) },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	server, err := broker.StartEmbedded(t.Context(), "127.0.0.1", port, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	r := &site{server: server}
	r.js = r.connect(t, "test")
	select {
	case err := <-done:
		t.Fatalf("it ended without its buckets: %v", err)
	case <-time.After(time.Second): // the broker is there, and nothing in it
	}
	r.declare(t, cameras(t, 1)...)
	r.awaitFrame(t, "cam-0", 0)
}

// TestNobodyWhoHadTheCameraIsForgotten: an owner that was cut off refuses what it captured since the first of its successors
// had the camera, whoever has it when it is back, and in whatever order things are told.
func TestNobodyWhoHadTheCameraIsForgotten(t *testing.T) {
	const camera = "cam-0"
	for name, n := range map[string]int{"what it told itself comes late": 1, "two had it": 2} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T) (missed string) {
				t.Helper()
				r := newSite(t, cameras(t, 1)...)
				rec := r.watchLeases(t)
				a := r.join(t, "a", 0)
				rec.await(t, "a has it", shared(map[string]int{"a": 1}))
				r.awaitFrame(t, camera, 0)
				before, _ := rec.view.Holder(camera)
				others := map[string]*instance{}
				for _, name := range []string{"b", "c"}[:n] {
					others[name] = r.join(t, name, 0)
				}
				for len(others["b"].view.Living("ingest")) != 1+n {
					<-others["b"].view.Beaten()
				}
				a.wire.sever()
				r.declareDead(t, others["b"].view, "a", []string{camera})
				first := r.successor(t, rec, camera, before.Epoch)
				if n == 1 {
					r.tellLease(t, camera, "a", before)
				}
				<-time.After(500 * time.Millisecond) // both capture
				others[first.Instance].stop()
				delete(others, first.Instance)
				if n == 1 {
					rec.await(t, "nobody has it", shared(map[string]int{}))
				} else {
					r.successor(t, rec, camera, first.Epoch)
				}
				a.wire.heal()
				r.awaitTold(t, camera, "a lost")
				a.stop()
				for _, other := range others {
					other.stop()
				}
				frames, refused, dropped, _ := r.audit(t, rec)
				if refused == 0 {
					t.Errorf("%d frames, %d refused", frames, refused)
				}
				return none(dropped)
			})
		})
	}
}

// successor waits for an owner under a newer epoch that captures, and that has told so.
func (r *site) successor(t *testing.T, rec *record, camera string, after uint64) lease.Holder {
	t.Helper()
	epoch := r.awaitFrame(t, camera, after).Name.Epoch
	h, held := rec.view.Holder(camera)
	for ; !held || h.Epoch != epoch; h, held = rec.view.Holder(camera) {
		select {
		case <-rec.view.Changed():
		case <-time.After(100 * time.Millisecond):
		}
	}
	r.awaitTold(t, camera, h.Instance+" acquired")
	return h
}

// awaitTold waits for an event of a camera's lease.
func (r *site) awaitTold(t *testing.T, camera, state string) {
	t.Helper()
	for late := time.Now().Add(patience); !slices.Contains(states(r.told(t, "lease", camera)), state); {
		if time.Now().After(late) {
			t.Fatalf("nobody tells: %s", state)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// tellLease tells of a lease in an owner's name.
func (r *site) tellLease(t *testing.T, camera, instance string, h lease.Holder) {
	t.Helper()
	data, err := json.Marshal(events.Event{
		Area: "camera", Kind: "lease", Name: camera, Instance: instance, State: "acquired", At: h.Since,
		Facts: map[string]string{"epoch": strconv.FormatUint(h.Epoch, 10)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.js.Publish(t.Context(), streams.EventSubject("camera", "lease", camera), data); err != nil {
		t.Fatal(err)
	}
}

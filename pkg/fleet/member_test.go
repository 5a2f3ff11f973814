package fleet_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/streams"
)

// hands are a Holder with something in them until they are told to let go.
type hands struct {
	mu        sync.Mutex
	claims    []fleet.Claim
	abandoned chan struct{}
}

func newHands(seqs ...uint64) *hands {
	h := &hands{abandoned: make(chan struct{})}
	c := fleet.Claim{Stream: streams.Frames, Consumer: "preprocess"}
	for _, s := range seqs {
		c.Held = append(c.Held, fleet.Delivery{s, 1})
	}
	h.claims = []fleet.Claim{c}
	return h
}

func (h *hands) Claims() []fleet.Claim {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.claims
}

func (h *hands) Abandon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.claims = nil
	close(h.abandoned)
}

func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("not within 10 s: " + what)
		panic("unreachable")
	}
}

// start joins and beats until the test ends or stop is called; stop makes it fall silent, without leaving.
func start(t *testing.T, js jetstream.JetStream, cfg fleet.Config) (m *fleet.Member, leave func()) {
	t.Helper()
	m = fleet.NewMember(js, cfg)
	if err := m.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	leave = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(leave)
	return m, leave
}

func entry(t *testing.T, js jetstream.JetStream, key string) (fleet.Worker, bool) {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), streams.WorkersBucket)
	if err != nil {
		t.Fatal(err)
	}
	e, err := kv.Get(t.Context(), key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return fleet.Worker{}, false
	}
	if err != nil {
		t.Fatal(err)
	}
	w, err := fleet.Decode(e.Value())
	if err != nil {
		t.Fatal(err)
	}
	return w, true
}

// isWritten waits for an entry. That its worker may act says nothing of it: a bucket that does not answer stops nobody.
func isWritten(t *testing.T, js jetstream.JetStream, key string) {
	t.Helper()
	written := make(chan jetstream.KeyValueEntry, 1)
	go func() {
		for {
			kv, err := js.KeyValue(t.Context(), streams.WorkersBucket)
			if err == nil {
				var e jetstream.KeyValueEntry
				if e, err = kv.Get(t.Context(), key); err == nil {
					written <- e
					return
				}
			}
			select {
			case <-t.Context().Done():
				return
			case <-time.After(fleet.BeatEvery / 4):
			}
		}
	}()
	within(t, "an entry for "+key, written)
}

func TestAnEntrySaysWhoHoldsWhatAndGoesWhenItsWorkerLeaves(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	m, leave := start(t, js, fleet.Config{Service: "preprocess", Instance: "a", Region: "eu"})
	m.Describe(func(w *fleet.Worker) { w.Capacity = 7 })
	defer m.Hold(newHands(3, 9))()
	view, err := fleet.Follow(t.Context(), js, m.Key(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for {
		beaten := view.Beaten()
		w, ok := view.Living("preprocess")["a"]
		if ok && w.Capacity == 7 && len(w.Claims) == 1 && len(w.Claims[0].Held) == 2 && w.Region == "eu" && w.Connection.Server == js.Conn().ConnectedServerId() && w.Connection.Client != 0 {
			break
		}
		within(t, "an entry with claims", beaten)
	}
	changed := view.Changed()
	leave()
	within(t, "the view notices", changed)
	if _, ok := entry(t, js, m.Key()); ok || len(view.All()) != 0 {
		t.Error("the entry outlives its worker")
	}
}

func TestAWorkerThatWasDeclaredDeadLetsGoAndStartsOver(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	fenced := make(chan fleet.Epitaph, 1)
	m := fleet.NewMember(js, fleet.Config{Service: "infer", Instance: "a", OnFence: func(e fleet.Epitaph) { fenced <- e }})
	if err := m.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := newHands(1)
	defer m.Hold(h)()
	before, _ := entry(t, js, m.Key())
	if err := fleet.Bury(t.Context(), js, before, fleet.Epitaph{By: "recovery-1", Token: 4, Cause: "silent"}); err != nil {
		t.Fatal(err)
	}
	if w, _ := entry(t, js, m.Key()); w.State != fleet.Dead || w.Epitaph == nil || w.Epitaph.Token != 4 {
		t.Fatalf("no tombstone: %+v", w)
	}
	<-time.After(fleet.FreshFor) // the passing of time is what makes a lease old
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.Await(ctx); err == nil {
		t.Fatal("a worker without a fresh lease may act")
	}
	run, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(run) }()
	within(t, "the holder lets go", h.abandoned)
	if e := within(t, "the fence is told", fenced); e.By != "recovery-1" || e.Cause != "silent" {
		t.Errorf("%+v", e)
	}
	if err := m.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, ok := entry(t, js, m.Key())
	if !ok || after.State != fleet.Alive || after.Incarnation == before.Incarnation {
		t.Errorf("%+v", after)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAWorkerThatHasBeatenIsNotBuried(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	m := fleet.NewMember(js, fleet.Config{Service: "infer", Instance: "a"})
	if err := m.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	judged, _ := entry(t, js, m.Key())
	if err := m.Join(t.Context()); err != nil { // another beat
		t.Fatal(err)
	}
	if err := fleet.Bury(t.Context(), js, judged, fleet.Epitaph{}); !errors.Is(err, fleet.ErrAlive) {
		t.Errorf("%v", err)
	}
	if w, _ := entry(t, js, m.Key()); w.State != fleet.Alive {
		t.Errorf("%+v", w)
	}
}

func TestAnExpiredEntryThatNobodyBuriedIsWrittenAgain(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	m := fleet.NewMember(js, fleet.Config{Service: "infer", Instance: "a"})
	if err := m.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := newHands(1)
	defer m.Hold(h)()
	before, _ := entry(t, js, m.Key())
	kv, err := js.KeyValue(t.Context(), streams.WorkersBucket)
	if err != nil {
		t.Fatal(err)
	}
	w, err := kv.Watch(t.Context(), m.Key())
	if err != nil {
		t.Fatal(err)
	}
	for {
		if e := within(t, "expiry", w.Updates()); e != nil && e.Operation() != jetstream.KeyValuePut {
			break
		}
	}
	if err := m.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, ok := entry(t, js, m.Key())
	if !ok || after.Incarnation != before.Incarnation || len(h.Claims()) != 1 {
		t.Errorf("%+v", after)
	}
}

func TestASecondProcessOfTheSameName(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	cfg := fleet.Config{Service: "infer", Instance: "a"}
	t.Run("is refused while the first lives", func(t *testing.T) {
		_, leave := start(t, js, cfg)
		defer leave()
		if err := fleet.NewMember(js, cfg).Join(t.Context()); !errors.Is(err, fleet.ErrNameTaken) {
			t.Errorf("%v", err)
		}
	})
	t.Run("takes over when the first is gone without a word", func(t *testing.T) {
		first := fleet.NewMember(js, cfg)
		if err := first.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		second := fleet.NewMember(js, cfg)
		if err := second.Join(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Who may make no bucket waits until somebody has, and is a member again then.
func TestADeletedBucketIsSomebodyElsesToMake(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	m, _ := start(t, js, fleet.Config{Service: "infer", Instance: "a"})
	if err := js.DeleteKeyValue(t.Context(), streams.WorkersBucket); err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * fleet.FreshFor)
	if _, err := js.KeyValue(t.Context(), streams.WorkersBucket); !errors.Is(err, jetstream.ErrBucketNotFound) {
		t.Fatalf("it made the bucket: %v", err)
	}
	if err := streams.EnsureBucket(t.Context(), js, streams.WorkersBucket, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	isWritten(t, js, m.Key())
}

func TestADeletedBucketIsMadeAgain(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	m, _ := start(t, js, fleet.Config{Service: "infer", Instance: "a", Declares: true})
	if err := js.DeleteKeyValue(t.Context(), streams.WorkersBucket); err != nil {
		t.Fatal(err)
	}
	isWritten(t, js, m.Key())
}

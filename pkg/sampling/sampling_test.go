package sampling

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/streams"
)

const patience = 20 * time.Second // a test that waits longer for an event has failed

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func follow(t *testing.T, js jetstream.JetStream) *View {
	t.Helper()
	v, err := Follow(t.Context(), js, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// await waits until the share of a priority is as wanted.
func await(t *testing.T, v *View, priority int, want float64) {
	t.Helper()
	timeout := time.After(patience)
	for {
		_, changed := v.State()
		if v.Share(priority) == want {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("share of priority %d stays %v, want %v", priority, v.Share(priority), want)
		}
	}
}

func TestSharesReachFollowers(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	early := follow(t, js)
	if got := early.Share(3); got != 1 {
		t.Errorf("share is %v before anybody wrote", got)
	}
	if err := Put(t.Context(), js, Shares{3: 0.3, 10: 1}, 7); err != nil {
		t.Fatal(err)
	}
	await(t, early, 3, 0.3)
	late := follow(t, js)
	if got := late.Share(3); got != 0.3 { // at once: a camera begins with the share that holds
		t.Errorf("a late follower begins with share %v", got)
	}
	if got := late.Share(4); got != 1 {
		t.Errorf("a priority that is not named has share %v", got)
	}
	state, changed := early.State()
	if err := Put(t.Context(), js, Shares{3: 0.3, 10: 1}, 7); err != nil { // a renewal is no change
		t.Fatal(err)
	}
	if err := Put(t.Context(), js, nil, 8); err != nil {
		t.Fatal(err)
	}
	await(t, early, 3, 1)
	<-changed
	if full, _ := early.State(); !full.Since.After(state.Since) || full.Token != 8 {
		t.Errorf("%+v after %+v", full, state)
	}
}

func TestRenewalKeepsSince(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	stored := func() State {
		kv, err := js.KeyValue(t.Context(), streams.SamplingBucket)
		if err != nil {
			t.Fatal(err)
		}
		e, err := kv.Get(t.Context(), Key)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Decode(e.Value())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, token := range []uint64{1, 2} {
		if err := Put(t.Context(), js, Shares{1: 0.5}, token); err != nil {
			t.Fatal(err)
		}
	}
	renewed := stored()
	if err := Put(t.Context(), js, Shares{1: 0.4}, 2); err != nil {
		t.Fatal(err)
	}
	if changed := stored(); renewed.Token != 2 || !changed.Since.After(renewed.Since) {
		t.Errorf("renewed %+v, changed %+v", renewed, changed)
	}
}

// A leader that was replaced while it hung must not overrule its successor.
func TestStaleLeaderLoses(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	if err := Put(t.Context(), js, Shares{5: 0.5}, 9); err != nil {
		t.Fatal(err)
	}
	if err := Put(t.Context(), js, Shares{5: 0.1}, 8); !errors.Is(err, ErrStale) {
		t.Errorf("stale write: %v", err)
	}
	if got := follow(t, js).Share(5); got != 0.5 {
		t.Errorf("share is %v", got)
	}
}

// between lets somebody else write after a leader looked and before it writes.
type between struct {
	jetstream.KeyValue
	once func()
}

func (b *between) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if f := b.once; f != nil {
		b.once = nil
		f()
	}
	return b.KeyValue.Update(ctx, key, value, revision)
}

func TestCompareAndSet(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	if err := Put(t.Context(), js, Shares{5: 0.5}, 1); err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), streams.SamplingBucket)
	if err != nil {
		t.Fatal(err)
	}
	rival := &between{KeyValue: kv, once: func() {
		if err := Put(t.Context(), js, Shares{5: 0.9}, 3); err != nil {
			t.Error(err)
		}
	}}
	if err := put(t.Context(), rival, Shares{5: 0.1}, 2); !streams.Conflict(err) {
		t.Errorf("a write that came in between was overwritten: %v", err)
	}
	if err := put(t.Context(), rival, Shares{5: 0.1}, 2); !errors.Is(err, ErrStale) {
		t.Errorf("second try: %v", err)
	}
}

// What nobody renews is over: in the bucket, for followers, and for the next leader.
func TestExpiry(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	for _, cfg := range streams.Buckets(streams.Options{}) {
		if cfg.Bucket == streams.SamplingBucket {
			if cfg.TTL != streams.SamplingTTL || RenewEvery > streams.SamplingTTL/2 {
				t.Errorf("TTL is %v, renewed every %v", cfg.TTL, RenewEvery)
			}
			cfg.TTL = time.Second
			cfg.LimitMarkerTTL = time.Second
			if _, err := js.UpdateKeyValue(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
		}
	}
	v := follow(t, js)
	for token := range uint64(2) {
		if err := Put(t.Context(), js, Shares{2: 0.2}, token+1); err != nil { // the second over the marker of the first
			t.Fatal(err)
		}
		await(t, v, 2, 0.2)
		await(t, v, 2, 1)
	}
}

// A follower whom no news reach any more returns to full sampling by its own clock.
func TestSilence(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	if err := Put(t.Context(), js, Shares{2: 0.2}, 1); err != nil {
		t.Fatal(err)
	}
	bucket, err := catalog.Follow(t.Context(), js, streams.SamplingBucket, Decode, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	v := &View{changed: make(chan struct{})}
	v.state.Store(&State{})
	go v.follow(t.Context(), bucket, 300*time.Millisecond)
	await(t, v, 2, 0.2)
	await(t, v, 2, 1)
	if err := Put(t.Context(), js, Shares{2: 0.2}, 1); err != nil { // the leader is back
		t.Fatal(err)
	}
	await(t, v, 2, 0.2)
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{`:                      "sampling: unexpected end of JSON input",
		`{"share":{"11":0.5}}`:   "sampling: priority 11 is not 1 to 10",
		`{"share":{"5":0}}`:      "sampling: share 0 of priority 5 is not more than 0 and at most 1",
		`{"share":{"5":1.1}}`:    "sampling: share 1.1 of priority 5 is not more than 0 and at most 1",
		`{"share":{"high":0.5}}`: "sampling: json: cannot unmarshal number high into Go struct field State.share of type int",
	} {
		if _, err := Decode([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
	if s, err := Decode([]byte(`{"share":{"1":0.2,"10":1},"token":4,"since":"2026-01-31T08:00:00Z"}`)); err != nil || s.Share.Of(1) != 0.2 || s.Share.Of(5) != 1 || s.Share.Full() || s.Token != 4 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ fps, share, want float64 }{
		{10, 1, 10},
		{10, 0.25, 2.5},
		{10, 0.001, MinRate},
		{0.1, 0.5, 0.1}, // it is slower than the floor as it is
	} {
		if got := Rate(c.fps, c.share); got != c.want {
			t.Errorf("Rate(%v, %v) = %v, want %v", c.fps, c.share, got, c.want)
		}
	}
}

package lease_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func leases(t *testing.T) jetstream.KeyValue {
	t.Helper()
	kv, err := brokertest.JetStream(t).KeyValue(t.Context(), streams.LeasesBucket)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func take(t *testing.T, kv jetstream.KeyValue, instance string, known uint64) *lease.Lease {
	t.Helper()
	l, err := lease.Acquire(t.Context(), kv, "door", instance, known)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func entry(t *testing.T, kv jetstream.KeyValue) jetstream.KeyValueEntry {
	t.Helper()
	e, err := kv.Get(t.Context(), "door")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestALeaseIsHeldByOne(t *testing.T) {
	t.Parallel()
	kv := leases(t)
	a := take(t, kv, "a", 0)
	if _, err := lease.Acquire(t.Context(), kv, "door", "b", 0); !errors.Is(err, lease.ErrHeld) {
		t.Errorf("a second owner: %v", err)
	}
	if h, err := lease.Decode(entry(t, kv).Value()); err != nil || h.Instance != "a" || h.Since.IsZero() {
		t.Errorf("%+v, %v", h, err)
	}
	for range 3 {
		if err := a.Confirm(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if !a.Fresh() || a.Token() != a.Epoch {
		t.Error("not fresh, or another token")
	}
}

func TestALeaseThatIsKeptOutlivesItsTimeAndIsGivenBack(t *testing.T) {
	t.Parallel()
	kv := leases(t)
	a := take(t, kv, "a", 0)
	ctx, stop := context.WithCancel(t.Context())
	kept := make(chan error, 1)
	go func() { kept <- a.Keep(ctx) }()
	<-time.After(streams.LeaseTTL + streams.LeaseTTL/3)
	if err := a.Confirm(t.Context()); err != nil || !a.Fresh() {
		t.Errorf("not kept: %v", err)
	}
	stop()
	if err := <-kept; err != nil {
		t.Error(err)
	}
	if err := a.Confirm(t.Context()); !errors.Is(err, lease.ErrLost) || a.Fresh() {
		t.Errorf("confirmed after it was given back: %v", err)
	}
	if b := take(t, kv, "b", 0); b.Epoch <= a.Epoch {
		t.Errorf("epoch %d after %d", b.Epoch, a.Epoch)
	}
}

// The owner was stopped, and nobody freed what it has.
func TestALeaseThatNobodyKeepsIsLost(t *testing.T) {
	t.Parallel()
	kv := leases(t)
	a := take(t, kv, "a", 0)
	watch, err := kv.Watch(t.Context(), "door", jetstream.UpdatesOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Stop() }()
	<-watch.Updates() // it expired
	if a.Fresh() {
		t.Error("fresh after it expired")
	}
	b := take(t, kv, "b", 0)
	if err := a.Confirm(t.Context()); !errors.Is(err, lease.ErrLost) {
		t.Errorf("confirmed: %v", err)
	}
	if err := a.Keep(t.Context()); !errors.Is(err, lease.ErrLost) {
		t.Errorf("kept: %v", err)
	}
	if err := b.Confirm(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestALeaseIsFreedOnlyFromWhoWasSeen(t *testing.T) {
	t.Parallel()
	kv := leases(t)
	a := take(t, kv, "a", 0)
	seen := entry(t, kv)
	if err := a.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if freed, err := lease.Free(t.Context(), kv, seen); freed || err != nil {
		t.Errorf("freed although its owner renewed it: %v", err)
	}
	if freed, err := lease.Free(t.Context(), kv, entry(t, kv)); !freed || err != nil {
		t.Errorf("not freed: %v", err)
	}
	b := take(t, kv, "b", 0)
	if err := a.Confirm(t.Context()); !errors.Is(err, lease.ErrLost) {
		t.Errorf("confirmed: %v", err)
	}
	if b.Epoch <= a.Epoch {
		t.Errorf("epoch %d after %d", b.Epoch, a.Epoch)
	}
}

// The answer to a renewal got lost: what is stored is ours.
func TestARenewalWhoseAnswerWasLostIsAdopted(t *testing.T) {
	t.Parallel()
	kv := leases(t)
	a := take(t, kv, "a", 0)
	e := entry(t, kv)
	if _, err := kv.Update(t.Context(), "door", e.Value(), e.Revision()); err != nil {
		t.Fatal(err)
	}
	if err := a.Confirm(t.Context()); err != nil {
		t.Error(err)
	}
}

// Revisions begin again when somebody makes the bucket anew; epochs do not.
func TestAnEpochIsAfterTheOneThatIsKnown(t *testing.T) {
	t.Parallel()
	if a := take(t, leases(t), "a", 41); a.Epoch != 42 {
		t.Errorf("epoch %d", a.Epoch)
	}
}

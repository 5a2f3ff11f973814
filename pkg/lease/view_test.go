package lease_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/streams"
)

func bucket(t *testing.T, js jetstream.JetStream) jetstream.KeyValue {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), streams.LeasesBucket)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// until waits for a holder, "" for none, and returns it.
func until(t *testing.T, v *lease.View, key, instance string, epoch uint64) lease.Holder {
	t.Helper()
	late := time.After(15 * time.Second)
	for {
		changed := v.Changed()
		h, held := v.Holder(key)
		if h.Instance == instance && h.Epoch == epoch && held == (instance != "") {
			return h
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("%s is held by %+v, want %q", key, h, instance)
		}
	}
}

func follow(t *testing.T, js jetstream.JetStream) *lease.View {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return lease.Follow(ctx, js, slog.New(slog.DiscardHandler))
}

func acquire(t *testing.T, js jetstream.JetStream, key, instance string, known uint64) *lease.Lease {
	t.Helper()
	l, err := lease.Acquire(t.Context(), bucket(t, js), key, instance, known)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestAViewHearsWhoHoldsWhat(t *testing.T) {
	js := brokertest.JetStream(t)
	early := acquire(t, js, "early", "a", 41)
	v := follow(t, js)
	if h := until(t, v, "early", "a", 42); h.Since.IsZero() {
		t.Errorf("%+v", h)
	}
	late := acquire(t, js, "late", "b", 0)
	until(t, v, "late", "b", late.Epoch)
	all, changed := v.All()
	if len(all) != 2 {
		t.Errorf("%v", all)
	}
	if err := late.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := early.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, v, "early", "", 0)
	<-changed
	began := time.Now() // nobody renews the other one
	until(t, v, "late", "", 0)
	if took := time.Since(began); took > streams.LeaseTTL+2*time.Second {
		t.Errorf("an expired lease was heard of after %v", took)
	}
}

// TestAViewMendsItself: when somebody makes the bucket anew a watch hears nothing more, and revisions begin at 1.
func TestAViewMendsItself(t *testing.T) {
	js := brokertest.JetStream(t)
	v := follow(t, js)
	l := acquire(t, js, "gate", "a", 0)
	for range 5 {
		if err := l.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	until(t, v, "gate", "a", l.Epoch)
	if err := js.DeleteKeyValue(t.Context(), streams.LeasesBucket); err != nil {
		t.Fatal(err)
	}
	if err := streams.EnsureBucket(t.Context(), js, streams.LeasesBucket, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	next := acquire(t, js, "gate", "b", l.Epoch)
	if next.Epoch != l.Epoch+1 {
		t.Errorf("epoch %d after %d", next.Epoch, l.Epoch)
	}
	until(t, v, "gate", "b", next.Epoch)
}

// TestAViewBeginsBeforeItsBucket: there may be nothing to follow yet.
func TestAViewBeginsBeforeItsBucket(t *testing.T) {
	server, err := broker.StartEmbedded(t.Context(), "127.0.0.1", -1, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	nc, err := broker.Connect(broker.Config{URL: server.URL(), Name: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := broker.JetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	v := follow(t, js)
	if err := streams.EnsureBucket(t.Context(), js, streams.LeasesBucket, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	l := acquire(t, js, "gate", "a", 0)
	until(t, v, "gate", "a", l.Epoch)
	select {
	case <-v.Filled():
	default:
		t.Error("a view that knows somebody is not filled")
	}
}

package fleet_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/streams"
)

// Whoever listens hears a tombstone, too, that the bucket refused because its worker has beaten meanwhile.
func TestATombstoneThatIsNotStoredBuriesNobody(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	m, _ := start(t, js, fleet.Config{Service: "infer", Instance: "a"})
	view, err := fleet.Follow(t.Context(), js, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w, _ := entry(t, js, m.Key())
	w.State, w.Epitaph = fleet.Dead, &fleet.Epitaph{By: "recovery-1", At: time.Now()}
	stone, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	changed := view.Changed()
	if _, err := js.Publish(t.Context(), "$KV."+streams.WorkersBucket+"."+m.Key(), stone, jetstream.WithExpectLastSequencePerSubject(1<<40)); !streams.Conflict(err) {
		t.Fatalf("the bucket took it: %v", err)
	}
	within(t, "the tombstone is heard", changed)
	late := time.After(2 * time.Second)
	for {
		beaten := view.Beaten()
		if s := view.Living("infer")["a"]; s.Incarnation == w.Incarnation {
			break
		}
		select {
		case <-beaten:
		case <-time.After(100 * time.Millisecond):
		case <-late:
			t.Fatalf("still taken for dead: %+v", view.All()[m.Key()])
		}
	}
	// One that is stored is believed, whoever beats on.
	w, _ = entry(t, js, m.Key())
	for err = fleet.ErrAlive; err != nil; w, _ = entry(t, js, m.Key()) {
		err = fleet.Bury(t.Context(), js, w, fleet.Epitaph{})
	}
	for view.All()[m.Key()].Incarnation == w.Incarnation && view.All()[m.Key()].State == fleet.Alive {
		within(t, "the tombstone, or the next incarnation", view.Changed())
	}
}

// mute is a broker whose buckets do not answer for a while, as when they elect a leader.
type mute struct {
	jetstream.JetStream

	on, gaveUp atomic.Bool
	asked      chan struct{}
}

func (m *mute) KeyValue(ctx context.Context, bucket string) (jetstream.KeyValue, error) {
	if !m.on.Load() {
		return m.JetStream.KeyValue(ctx, bucket)
	}
	select {
	case m.asked <- struct{}{}:
	default:
	}
	<-ctx.Done()
	m.gaveUp.Store(true)
	return nil, ctx.Err()
}

// Beats come past the bucket: one that does not answer makes nobody deaf.
func TestBeatsAreHeardWhileTheBucketDoesNotAnswer(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	m, _ := start(t, js, fleet.Config{Service: "infer", Instance: "a"})
	silent := &mute{JetStream: js, asked: make(chan struct{}, 1)}
	view, err := fleet.Follow(t.Context(), silent, m.Key(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	silent.on.Store(true)
	within(t, "the bucket is asked", silent.asked)
	for range 3 {
		within(t, "a beat", view.Beaten())
	}
	if silent.gaveUp.Load() {
		t.Error("no beat was heard before the bucket was given up")
	}
}

package drift

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/streams"
)

const patience = 20 * time.Second // a test that waits longer for an event has failed

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var began = time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)

func status(token uint64, state State) Record {
	return Record{Status: &Status{
		Camera: "door", Model: "people", Version: "3", State: state, Since: began, At: began, Cause: "luma", EffectiveSamples: 512.5,
		Features:  []Feature{{Name: "luma", Test: "ks", Score: 0.4, Threshold: 0.2}},
		Reference: &Reference{Version: "3", Made: began, Hour: "08", Frames: 1000},
		Quality:   &Quality{Precision: []Estimate{{Value: 0.9, Low: 0.8, High: 0.95, Count: 40, Source: FromScores}}},
		Token:     token,
	}}
}

func integrity(token uint64, faults ...Fault) Record {
	i := &Integrity{Camera: "door", At: began, Token: token}
	for _, f := range faults {
		i.Faults = append(i.Faults, Raised{Fault: f, Since: began, Evidence: map[string]float64{"temporal_difference": 0}})
	}
	return Record{Integrity: i}
}

func fairness(token uint64) Record {
	return Record{Fairness: &Fairness{Model: "people", At: began, Token: token, Gaps: []Gap{{
		Metric: "recall", SliceBy: "light", Gap: 0.2, Ratio: 0.7, Best: Slice{Name: "bright", Value: 0.9, Count: 100}, Worst: Slice{Name: "dark", Value: 0.7, Count: 90},
	}}}}
}

func TestRecordsComeBackAsTheyWent(t *testing.T) {
	t.Parallel()
	for key, r := range map[string]Record{
		"door.people":      status(7, DataDrift),
		"door._integrity":  integrity(8, Frozen, Clock),
		"_fairness.people": fairness(9),
	} {
		data, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if r.Key() != key || got.Key() != key || got.Token() != r.Token() {
			t.Errorf("%s: key %s, token %d", key, got.Key(), got.Token())
		}
		again, err := got.Encode()
		if err != nil || string(again) != string(data) {
			t.Errorf("%s\nbecomes %s (%v)", data, again, err)
		}
	}
	if data, err := integrity(1).Encode(); err != nil || string(data) != `{"kind":"integrity","camera":"door","faults":[],"at":"2026-01-31T08:00:00Z","token":1}` {
		t.Errorf("no faults are %s, %v", data, err)
	}
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{`:                  "drift: unexpected end of JSON input",
		`{"kind":"weather"}`: `drift: kind "weather"`,
		`{"kind":"status","camera":"door","model":"people","state":"fine"}`:             `drift: status: state "fine"`,
		`{"kind":"integrity","camera":"door","faults":[{"fault":"tired"}]}`:             `drift: integrity: fault "tired"`,
		`{"kind":"fairness","model":""}`:                                                `drift: fairness: "" is not a name: use 1 to 63 letters, digits, '-' or '_', starting with a letter or digit`,
		`{"kind":"status","camera":"front.door","model":"people","state":"data_drift"}`: `drift: status: "front.door" is not a name: use 1 to 63 letters, digits, '-' or '_', starting with a letter or digit`,
	} {
		if _, err := Decode([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
	if _, err := (Record{}).Encode(); err == nil {
		t.Error("nothing can be encoded")
	}
}

// The numbers are what dashboards and alerts are written in.
func TestNumbersOfStates(t *testing.T) {
	t.Parallel()
	for i, s := range []State{OK, DataDrift, SuspectedLoss, NotEnoughData} {
		if s.Number() != i {
			t.Errorf("%s is %d, want %d", s, s.Number(), i)
		}
	}
	if State("").Number() != -1 {
		t.Error("no state has a number")
	}
}

func bucket(t *testing.T, js jetstream.JetStream) jetstream.KeyValue {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), streams.DriftBucket)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func TestFollowersSeeWhatIsSaid(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	kv := bucket(t, js)
	v, err := Follow(t.Context(), js, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := v.Status("door", "people"); ok {
		t.Error("something is known before anybody said it")
	}
	for _, r := range []Record{status(1, SuspectedLoss), integrity(1, Black), fairness(1)} {
		if err := Put(t.Context(), kv, r); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all Report
	for len(all.Statuses) == 0 || len(all.Integrities) == 0 || len(all.Fairness) == 0 {
		var changed <-chan struct{}
		if all, changed = v.All(); len(all.Fairness) > 0 {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%+v", all)
		}
	}
	s, _ := v.Status("door", "people")
	i, _ := v.Integrity("door")
	if s.State != SuspectedLoss || !s.Features[0].Over() || !i.Has(Black) || i.Has(Frozen) || !i.Faults[0].Fault.Blinds() {
		t.Errorf("%+v %+v", s, i)
	}
	if _, err := kv.Put(t.Context(), "door.broken", []byte("{")); err != nil {
		t.Fatal(err)
	}
	read, unreadable, err := Read(t.Context(), js)
	if err != nil || unreadable != 1 || !reflect.DeepEqual(read, all) {
		t.Errorf("%+v\nwant %+v, %d unreadable, %v", read, all, unreadable, err)
	}
}

// A leader that was replaced while it hung must not overrule its successor.
func TestStaleLeaderLoses(t *testing.T) {
	t.Parallel()
	kv := bucket(t, brokertest.JetStream(t))
	if err := Put(t.Context(), kv, status(9, OK)); err != nil {
		t.Fatal(err)
	}
	if err := Put(t.Context(), kv, status(8, SuspectedLoss)); !errors.Is(err, ErrStale) {
		t.Errorf("stale write: %v", err)
	}
	if err := Put(t.Context(), kv, status(9, DataDrift)); err != nil {
		t.Error(err)
	}
}

func TestAskIsAnsweredOrWithdrawn(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	kv, err := js.KeyValue(t.Context(), streams.ReferencesBucket)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Request{{Model: "people"}, {Model: "people", Camera: "door"}} {
		asked := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		go func() { asked <- Ask(ctx, js, r) }()
		w, err := kv.Watch(ctx, r.Key())
		if err != nil {
			t.Fatal(err)
		}
		for e := range w.Updates() {
			if e == nil {
				continue
			}
			got, ok := ParseRequest(e.Key())
			if !ok || got != r {
				t.Fatalf("%s is %+v", e.Key(), got)
			}
			break
		}
		_ = w.Stop()
		if err := kv.Delete(ctx, r.Key()); err != nil {
			t.Fatal(err)
		}
		if err := <-asked; err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := Ask(ctx, js, Request{Model: "people"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody answered: %v", err)
	}
	if _, err := kv.Get(t.Context(), Request{Model: "people"}.Key()); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("a request that nobody waits for stays: %v", err)
	}
	for _, key := range []string{"people.1.door", "_request", "_request.a.b.c", "_state.door"} {
		if _, ok := ParseRequest(key); ok {
			t.Errorf("%s is a request", key)
		}
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
	kv := bucket(t, brokertest.JetStream(t))
	if err := Put(t.Context(), kv, status(1, OK)); err != nil {
		t.Fatal(err)
	}
	rival := &between{KeyValue: kv, once: func() {
		if err := Put(t.Context(), kv, status(3, DataDrift)); err != nil {
			t.Error(err)
		}
	}}
	if err := Put(t.Context(), rival, status(2, OK)); !errors.Is(err, ErrStale) {
		t.Errorf("a write that came in between was overwritten: %v", err)
	}
}

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/streams"
)

// hand holds messages.
type hand []fleet.Claim

func (h hand) Claims() []fleet.Claim { return h }
func (h hand) Abandon()              {}

// enlist makes a worker that beats until the test ends.
func enlist(t *testing.T, js jetstream.JetStream, cfg fleet.Config, describe func(*fleet.Worker), holds ...fleet.Claim) {
	t.Helper()
	m := fleet.NewMember(js, cfg)
	if describe != nil {
		m.Describe(describe)
	}
	m.Hold(hand(holds))
	if err := m.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// owns gives leases to an instance.
func owns(t *testing.T, js jetstream.JetStream, instance string, keys ...string) {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), streams.LeasesBucket)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if _, err := lease.Acquire(t.Context(), kv, key, instance, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWorkers(t *testing.T) {
	js := brokertest.JetStream(t)
	nats := js.Conn().ConnectedUrl()
	code, out, errs := run(t, t.Context(), "workers", "--nats", nats)
	holds(t, 0, []string{"SERVICE", "nobody leads recovery"}, nil, code, out, errs)

	enlist(t, js, fleet.Config{Service: "infer", Instance: "infer-1", Region: "north"}, func(w *fleet.Worker) {
		w.Lanes, w.Capacity, w.Load.Busy = []fleet.Lane{{Model: "person", Lane: streams.LaneStable, Version: 3}}, 8, 0.42
	}, fleet.Claim{Stream: streams.TensorsLive, Consumer: "infer-person-stable", Held: []fleet.Delivery{{7, 1}, {9, 2}}, Resting: []fleet.Delivery{{3, 3}}})
	enlist(t, js, fleet.Config{Service: "ingest", Instance: "ingest-1"}, nil)
	enlist(t, js, fleet.Config{Service: "recovery", Instance: "recovery-1"}, nil)
	enlist(t, js, fleet.Config{Service: "recovery", Instance: "recovery-2"}, nil)
	now := time.Now()
	dead := fleet.Worker{Service: "preprocess", Instance: "preprocess-1", Incarnation: "x", State: fleet.Alive, Host: "box\x1b", At: now, Started: now}
	if err := fleet.Bury(t.Context(), js, dead, fleet.Epitaph{By: "recovery-2", Cause: "disconnected", At: now}); err != nil {
		t.Fatal(err)
	}
	owns(t, js, "ingest-1", "door", "gate") // they last for LeaseTTL
	owns(t, js, "recovery-2", "service.recovery")

	code, out, errs = run(t, t.Context(), "workers", "--json", "--nats", nats)
	holds(t, 0, nil, nil, code, out, errs)
	got := map[string]workerRow{}
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var r workerRow
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		got[r.Instance] = r
	}
	infer, ingest := got["infer-1"], got["ingest-1"]
	if infer.State != "alive" || infer.Held != 2 || infer.Resting != 1 || infer.Busy != 0.42 || infer.Capacity != 8 || infer.Region != "north" || len(infer.Serves) != 1 || time.Since(infer.Beat) > patience {
		t.Errorf("%+v", infer)
	}
	if ingest.Held != 2 {
		t.Errorf("%+v", ingest)
	}
	if r := got["preprocess-1"]; r.State != "dead" || r.Cause != "disconnected" {
		t.Errorf("%+v", r)
	}
	if got["recovery-1"].Leads || !got["recovery-2"].Leads || len(got) != 5 {
		t.Errorf("%s", out)
	}

	code, out, errs = run(t, t.Context(), "workers", "--nats", nats)
	holds(t, 0, []string{"person@3/stable", "42 %", "dead: disconnected", "north", "recovery is led by recovery-2 since"}, nil, code, out, errs)
	if strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
	lines := strings.Split(out, "\n")
	for i, prefix := range []string{"SERVICE", "infer ", "ingest ", "preprocess ", "recovery    recovery-1 ", "recovery    recovery-2 "} {
		if !strings.HasPrefix(lines[i], prefix) {
			t.Errorf("line %d: %s", i, lines[i])
		}
	}
}

// TestWorkersWatch shows who comes, on a terminal.
func TestWorkersWatch(t *testing.T) {
	js := brokertest.JetStream(t)
	person, program := terminal(t)
	var screen lineBuffer
	go func() { // ends when the terminal is closed
		for b := make([]byte, 4096); ; {
			n, err := person.Read(b)
			if err != nil {
				return
			}
			_, _ = screen.Write(b[:n])
		}
	}()
	ctx, interrupt := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		done <- Main(ctx, []string{"workers", "--watch", "--nats", js.Conn().ConnectedUrl()}, os.Environ(), Streams{In: strings.NewReader(""), Out: program, Err: &bytes.Buffer{}})
	}()
	screen.wait(t, "nobody leads recovery")
	enlist(t, js, fleet.Config{Service: "infer", Instance: "infer-7"}, nil)
	screen.wait(t, "infer-7")
	interrupt()
	if code := <-done; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

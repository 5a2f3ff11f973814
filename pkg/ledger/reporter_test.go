package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

var errAway = errors.New("broker is away")

// fakeLedger stores records, de-duplicates by id as LEDGER does, and fails when told.
type fakeLedger struct {
	fail func() (stored, reported bool) // of a failed publish

	mu      sync.Mutex
	ids     map[string]bool
	records []ledger.Record
	largest int
}

func (f *fakeLedger) PublishMsg(ctx context.Context, msg *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stored, failed := true, false
	if f.fail != nil {
		stored, failed = f.fail()
	}
	if stored {
		f.largest = max(f.largest, len(msg.Data))
		r, err := ledger.Decode(msg.Data)
		if err != nil {
			return nil, err
		}
		if id := msg.Header.Get(jetstream.MsgIDHeader); !f.ids[id] {
			if f.ids == nil {
				f.ids = map[string]bool{}
			}
			f.ids[id] = true
			f.records = append(f.records, r)
		}
	}
	if failed {
		return nil, errAway
	}
	return &jetstream.PubAck{}, ctx.Err()
}

func (f *fakeLedger) books() *ledger.Books {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := &ledger.Books{}
	for _, r := range f.records {
		b.Apply(r)
	}
	return b
}

func name(epoch, seq uint64) frame.Name { return frame.Name{Camera: "cam", Epoch: epoch, Seq: seq} }

// A publish that fails at random, with the record stored or not, loses nothing and doubles nothing.
func TestReporterLosesNothing(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewSource(1))
	sick := true
	f := &fakeLedger{fail: func() (bool, bool) {
		if !sick {
			return true, false
		}
		switch random.Intn(3) {
		case 0:
			return true, false
		case 1:
			return true, true // stored, but the acknowledgement got lost
		default:
			return false, true
		}
	}}
	r := ledger.NewReporter(f, "ingest", "i1")
	r.SetRoute("cam", 1, ledger.Route{Delivery: streams.Freshest, Models: []string{"m"}, MaxAge: time.Second})
	const frames = 5000
	var adding sync.WaitGroup
	for part := range uint64(4) {
		adding.Go(func() {
			for seq := part + 1; seq <= frames; seq += 4 {
				r.Add(name(1, seq), ledger.Captured, "", "")
				r.Add(name(1, seq), ledger.Predicted, "m", "")
			}
		})
	}
	failures := 0
	for range 200 {
		if err := r.Flush(t.Context()); err != nil {
			failures++
			if err.Error() != "publish ledger.cam: broker is away" {
				t.Fatal(err)
			}
		}
	}
	adding.Wait()
	f.mu.Lock()
	sick = false
	f.mu.Unlock()
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if failures == 0 {
		t.Error("nothing failed")
	}
	l := f.books().Lines(time.Now(), nil)
	if len(l) != 1 || l[0].Captured != frames || l[0].Predicted != frames || !l[0].Balanced() {
		t.Errorf("%+v", l)
	}
	n := len(f.records)
	if err := r.Flush(t.Context()); err != nil || len(f.records) != n {
		t.Errorf("an empty flush: %v, %d records", err, len(f.records)-n)
	}
}

// An instance that starts again under its name is not taken for its former self.
func TestReporterRestart(t *testing.T) {
	t.Parallel()
	f := &fakeLedger{}
	for seq := uint64(1); seq <= 3; seq++ {
		r := ledger.NewReporter(f, "ingest", "i1")
		r.SetRoute("cam", 1, ledger.Route{Models: []string{"m"}})
		r.Add(name(1, seq), ledger.Captured, "", "")
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if l := f.books().Lines(time.Now(), nil); l[0].Captured != 3 {
		t.Errorf("%+v", l)
	}
}

// Every record of an epoch says its route: LEDGER does not keep the first one for ever.
func TestReporterRepeatsItsRoute(t *testing.T) {
	t.Parallel()
	f := &fakeLedger{}
	r := ledger.NewReporter(f, "ingest", "i1")
	route := ledger.Route{Delivery: streams.EveryFrame, Models: []string{"m"}}
	r.SetRoute("cam", 2, route)
	for seq := uint64(1); seq <= 3; seq++ {
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.Add(name(2, seq), ledger.Captured, "", "")
	}
	r.Add(name(1, 9), ledger.Superseded, "", "late") // of an epoch before
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.records) != 5 {
		t.Fatalf("%d records", len(f.records))
	}
	for i, rec := range f.records {
		if rec.Epoch == 1 {
			if rec.Route != nil {
				t.Errorf("record %d has another epoch's route", i)
			}
		} else if rec.Route == nil || rec.Route.Delivery != route.Delivery {
			t.Errorf("record %d: route %v", i, rec.Route)
		}
	}
}

// What a long outage gathers is said in records that a broker accepts.
func TestReporterAfterALongOutage(t *testing.T) {
	t.Parallel()
	f := &fakeLedger{}
	r := ledger.NewReporter(f, "preprocess", "i1")
	const frames = 100_000
	const far = 1 << 60 // long numbers
	for seq := uint64(2); seq <= 2*frames; seq += 2 {
		r.Add(name(1, far+seq), ledger.Taken, "", "")
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.largest > 1<<19 {
		t.Errorf("a record of %d bytes", f.largest)
	}
	var n uint64
	for _, rec := range f.records {
		for _, e := range rec.Entries {
			n += e.Frames.Count()
		}
	}
	if n != frames {
		t.Errorf("%d frames told", n)
	}
}

// Run flushes at once when it ends, and tries again for a while.
func TestReporterSaysLastWords(t *testing.T) {
	t.Parallel()
	left := 2
	f := &fakeLedger{fail: func() (bool, bool) { left--; return left < 0, left >= 0 }}
	r := ledger.NewReporter(f, "infer", "i1")
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	r.Add(name(1, 1), ledger.Predicted, "m", "")
	end()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if l := f.books().Lines(time.Now(), nil); len(l) != 1 || l[0].Predicted != 1 {
		t.Errorf("%+v", l)
	}
}

func TestReporterGivesUp(t *testing.T) {
	t.Parallel()
	f := &fakeLedger{fail: func() (bool, bool) { return false, true }}
	r := ledger.NewReporter(f, "infer", "i1")
	r.Add(name(1, 1), ledger.Predicted, "m", "")
	ctx, end := context.WithCancel(t.Context())
	end()
	if err := r.Run(ctx); !errors.Is(err, errAway) || !strings.HasPrefix(fmt.Sprint(err), "publish ledger.cam: ") {
		t.Errorf("Run returned %v", err)
	}
}

package ledger_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a real broker with every stream declared.
type rig struct {
	t      *testing.T
	dir    string
	server *broker.Embedded
	js     jetstream.JetStream
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	var err error
	if r.server, err = broker.StartEmbedded(t.Context(), "127.0.0.1", -1, r.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.server.Stop() })
	nc, err := broker.Connect(broker.Config{URL: r.server.URL(), Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if r.js, err = broker.JetStream(nc); err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), r.js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	return r
}

// restart stops the broker and starts it again on the same port and files.
func (r *rig) restart(meanwhile func()) {
	r.t.Helper()
	url := r.server.URL()
	port, err := strconv.Atoi(url[strings.LastIndexByte(url, ':')+1:])
	if err != nil {
		r.t.Fatal(err)
	}
	r.server.Stop()
	meanwhile()
	if r.server, err = broker.StartEmbedded(r.t.Context(), "127.0.0.1", port, r.dir); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) publish(subject, data string) {
	r.t.Helper()
	if _, err := r.js.Publish(r.t.Context(), subject, []byte(data)); err != nil {
		r.t.Fatal(err)
	}
}

// captured reports frames of epoch 1 as captured and answered, in a record of their own.
func (r *rig) captured(rep *ledger.Reporter, lo, hi uint64) {
	r.t.Helper()
	for seq := lo; seq <= hi; seq++ {
		rep.Add(name(1, seq), ledger.Captured, "", "")
		rep.Add(name(1, seq), ledger.Predicted, "m", "")
	}
	if err := rep.Flush(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func reporter(js ledger.Publisher) *ledger.Reporter {
	rep := ledger.NewReporter(js, "ingest", "i1")
	rep.SetRoute("cam", 1, ledger.Route{Delivery: streams.EveryFrame, Models: []string{"m"}})
	return rep
}

func TestRead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if b, err := ledger.Read(t.Context(), r.js); err != nil || len(b.Lines(time.Now(), nil)) != 0 {
		t.Fatalf("empty: %v", err)
	}
	rep := reporter(r.js)
	for i := range uint64(1300) { // more than one batch
		r.captured(rep, i*10+1, i*10+10)
	}
	r.publish("ledger.cam", "not a record")
	r.publish("ledger.cam", `{"camera":"cam","epoch":0}`)
	b, err := ledger.Read(t.Context(), r.js)
	if err != nil {
		t.Fatal(err)
	}
	l := b.Lines(time.Now(), nil)
	if len(l) != 1 || l[0].Captured != 13000 || l[0].Predicted != 13000 || !l[0].Balanced() {
		t.Errorf("%+v", l)
	}
	if b.Unreadable != 2 {
		t.Errorf("%d unreadable", b.Unreadable)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ledger.Read(ctx, r.js); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := r.js.DeleteStream(t.Context(), streams.Ledger); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Read(t.Context(), r.js); err == nil || err.Error() != "stream LEDGER: nats: API error: code=404 err_code=10059 description=stream not found" {
		t.Errorf("no stream: %v", err)
	}
}

// Follow tells every record once, over a restart of the broker and a new life of the stream.
func TestFollow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rep := reporter(r.js)
	r.captured(rep, 1, 1)
	r.captured(rep, 2, 2)
	r.publish("ledger.cam", "not a record")
	records := make(chan ledger.Record, 100)
	ctx, end := context.WithCancel(t.Context())
	type outcome struct {
		unreadable uint64
		err        error
	}
	ended := make(chan outcome)
	go func() {
		n, err := ledger.Follow(ctx, r.js, 2, func(m ledger.Message) { records <- *m.Record })
		ended <- outcome{n, err}
	}()
	next := func(want uint64) {
		t.Helper()
		select {
		case rec := <-records:
			if got := rec.Entries[0].Frames.Last(); got != want {
				t.Fatalf("frame %d, want %d", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("no record of frame %d", want)
		}
	}
	next(2)
	r.captured(rep, 3, 3)
	next(3)
	r.restart(func() {})
	rep.Add(name(1, 4), ledger.Captured, "", "")
	for rep.Flush(t.Context()) != nil { // until the connection is back
		continue
	}
	next(4)
	if err := r.js.DeleteStream(t.Context(), streams.Ledger); err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), r.js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	r.captured(rep, 5, 5)
	next(5)
	end()
	if o := <-ended; o.err != nil || o.unreadable != 1 {
		t.Errorf("%+v", o)
	}
	select {
	case rec := <-records:
		t.Errorf("told again: %+v", rec)
	default:
	}
}

// A ledger whose beginning is gone calls nothing lost that it merely forgot.
func TestReadFromTheMiddle(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rep := reporter(r.js)
	r.captured(rep, 1, 5)
	rep.Add(name(1, 6), ledger.Taken, "", "") // its fate is told before this record, and forgotten
	if err := rep.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := r.js.Stream(t.Context(), streams.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(2)); err != nil {
		t.Fatal(err)
	}
	b, err := ledger.Read(t.Context(), r.js)
	if err != nil {
		t.Fatal(err)
	}
	none := func(string, string) uint64 { return 0 }
	if l := b.Lines(time.Now().Add(time.Hour), none); len(l) != 1 || l[0].Captured != 0 || l[0].Lost != 0 || l[0].Delivery != streams.EveryFrame {
		t.Errorf("%+v", l)
	}
}

func TestHeldFrom(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for subject, n := range map[string]int{
		"frames.every.cam": 3, "tensors.every.m.stable.cam": 2, "tensors.every.m.canary.cam": 1,
		"tensors.every.other.stable.cam": 4, "frames.live.cam": 2,
	} {
		for range n {
			r.publish(subject, "x")
		}
	}
	held := ledger.HeldFrom(t.Context(), r.js)
	for k, want := range map[[2]string]uint64{{"cam", "m"}: 6, {"cam", "other"}: 7, {"cam", "none"}: 3, {"none", "m"}: 0} {
		if got := held(k[0], k[1]); got != want {
			t.Errorf("%v: %d, want %d", k, got, want)
		}
	}
	if err := r.js.DeleteStream(t.Context(), streams.Tensors); err != nil {
		t.Fatal(err)
	}
	if ledger.HeldFrom(t.Context(), r.js) != nil {
		t.Error("unknown is not nothing")
	}
}

func TestBalance(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.captured(reporter(r.js), 1, 7)
	r.publish("ledger.cam", "not a record")
	lines, unreadable, err := ledger.Balance(t.Context(), r.js)
	if err != nil || unreadable != 1 || len(lines) != 1 || lines[0].Predicted != 7 {
		t.Errorf("%+v, %d, %v", lines, unreadable, err)
	}
}

// A broker that restarts under a running Reporter costs nothing.
func TestReporterOverARestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rep := reporter(r.js)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- rep.Run(ctx) }()
	const frames = 3000
	for seq := uint64(1); seq <= frames; seq++ {
		rep.Add(name(1, seq), ledger.Captured, "", "")
		rep.Add(name(1, seq), ledger.Predicted, "m", "")
		switch seq {
		case 1000, 2000:
			if err := rep.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		case 1500:
			r.restart(func() {
				for range 3 {
					if rep.Flush(t.Context()) == nil {
						t.Error("flushed to nobody")
					}
				}
			})
			for rep.Flush(t.Context()) != nil {
				continue
			}
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	b, err := ledger.Read(t.Context(), r.js)
	if err != nil {
		t.Fatal(err)
	}
	if l := b.Lines(time.Now(), nil); l[0].Captured != frames || l[0].Predicted != frames {
		t.Errorf("%+v", l)
	}
}

// An Auditor outlives its broker, and what it wrote down outlives the ledger.
func TestAuditorOverARestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rep := reporter(r.js)
	r.captured(rep, 1, 5)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- ledger.NewAuditor(r.js, slog.New(slog.DiscardHandler)).Run(ctx) }()
	r.followed()
	r.restart(func() {})
	rep.Add(name(1, 6), ledger.Captured, "", "")
	rep.Add(name(1, 6), ledger.Predicted, "m", "")
	for rep.Flush(t.Context()) != nil { // until the connection is back
		continue
	}
	r.followed()
	end()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s, err := r.js.Stream(t.Context(), streams.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines, _, err := ledger.Balance(t.Context(), r.js)
	if err != nil || len(lines) != 1 || lines[0].Captured != 6 || lines[0].Predicted != 6 {
		t.Errorf("%+v, %v", lines, err)
	}
}

// A broker that comes back without the last that it had taken, as after a power cut, has nothing new to say: what the
// books know of it stays, once.
func TestAuditorOfALedgerThatLostItsEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rep := reporter(r.js)
	r.captured(rep, 1, 5)
	stream, before := filepath.Join(r.dir, "jetstream", "$G", "streams", streams.Ledger), filepath.Join(t.TempDir(), "before")
	r.restart(func() {
		if err := os.CopyFS(before, os.DirFS(stream)); err != nil {
			t.Fatal(err)
		}
	})
	for range 3 {
		for rep.Flush(t.Context()) != nil {
			continue
		}
		rep.Add(name(1, 6), ledger.Predicted, "m", "")
	}
	audit := func() {
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- ledger.NewAuditor(r.js, slog.New(slog.DiscardHandler)).Run(ctx) }()
		r.followed()
		end()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	audit()
	r.restart(func() {
		if err := errors.Join(os.RemoveAll(stream), os.CopyFS(stream, os.DirFS(before))); err != nil {
			t.Fatal(err)
		}
	})
	rep.Add(name(1, 7), ledger.Captured, "", "")
	rep.Add(name(1, 7), ledger.Predicted, "m", "")
	for rep.Flush(t.Context()) != nil {
		continue
	}
	audit()
	lines, _, err := ledger.Balance(t.Context(), r.js)
	if err != nil || len(lines) != 1 || lines[0].Captured != 7 || lines[0].Predicted != 7 {
		t.Errorf("%+v, %v", lines, err)
	}
}

// followed waits until somebody who follows LEDGER has got everything.
func (r *rig) followed() {
	r.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		s, err := r.js.Stream(r.t.Context(), streams.Ledger)
		if err != nil {
			r.t.Fatal(err)
		}
		for c := range s.ListConsumers(r.t.Context()).Info() {
			if c.Delivered.Stream == s.CachedInfo().State.LastSeq {
				return
			}
		}
	}
	r.t.Fatal("nobody follows")
}

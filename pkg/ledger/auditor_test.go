package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/streams"
)

const patience = 20 * time.Second

// auditing runs an Auditor that looks often, and ends it with the test or before.
type auditing struct {
	*Auditor
	lost  chan Line
	ended chan error
	end   context.CancelFunc
}

func audit(t *testing.T, js jetstream.JetStream) *auditing {
	t.Helper()
	a := &auditing{Auditor: NewAuditor(js, slog.New(slog.DiscardHandler)), lost: make(chan Line, 100), ended: make(chan error, 1)}
	a.every.evaluate, a.every.checkpoint = 50*time.Millisecond, 100*time.Millisecond
	a.OnLost = func(l Line) { a.lost <- l }
	ctx, end := context.WithCancel(t.Context())
	a.end = end
	go func() { a.ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		end()
		select {
		case err := <-a.ended:
			a.ended <- err
		case <-time.After(patience):
			t.Error("the auditor does not end")
		}
	})
	return a
}

func (a *auditing) stop(t *testing.T) {
	t.Helper()
	a.end()
	err := <-a.ended
	a.ended <- err
	if err != nil {
		t.Fatal(err)
	}
}

// teller publishes records of its own making.
type ledgerOf struct {
	t  *testing.T
	js jetstream.JetStream
	r  *Reporter
}

func newLedgerOf(t *testing.T, js jetstream.JetStream) *ledgerOf {
	t.Helper()
	l := &ledgerOf{t, js, NewReporter(js, "ingest", "i1")}
	l.r.SetRoute("cam", 1, Route{Delivery: streams.Freshest, Models: []string{"m"}, MaxAge: time.Millisecond})
	return l
}

// tell reports marks of frames, in a record of their own.
func (l *ledgerOf) tell(lo, hi uint64, marks ...Mark) {
	l.t.Helper()
	for seq := lo; seq <= hi; seq++ {
		for _, m := range marks {
			model := ""
			if m == Predicted {
				model = "m"
			}
			l.r.Add(name("cam", seq), m, model, "")
		}
	}
	if err := l.r.Flush(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

// saved awaits a checkpoint that has everything that LEDGER holds, and returns it.
func saved(t *testing.T, js jetstream.JetStream) *checkpoint {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		s, err := js.Stream(t.Context(), streams.Ledger)
		if err != nil {
			t.Fatal(err)
		}
		c, err := loadCheckpoint(t.Context(), js)
		if err != nil {
			t.Fatal(err)
		}
		if info := s.CachedInfo(); c.sequence == info.State.LastSeq && c.created.Equal(info.Created) {
			return c
		}
		if time.Now().After(deadline) {
			t.Fatalf("the checkpoint stays at %d", c.sequence)
		}
	}
}

func balance(t *testing.T, js jetstream.JetStream, want string) {
	t.Helper()
	lines, _, err := Balance(t.Context(), js)
	if err != nil || len(lines) != 1 || figures(lines[0]) != want {
		t.Errorf("%+v, %v, want %s", lines, err, want)
	}
}

// What an Auditor has written down outlives LEDGER, and one that begins again goes on from there.
func TestAuditorOutlivesTheLedger(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	told := newLedgerOf(t, js)
	first := audit(t, js)
	told.tell(1, 10, Captured, Published, Taken, Predicted)
	if c := saved(t, js); c.sequence != 1 {
		t.Fatalf("checkpoint at %d", c.sequence)
	}
	first.stop(t)
	told.tell(11, 20, Captured, Published, Taken, Predicted) // while nobody looks
	balance(t, js, "captured 20, predicted 20")

	second := audit(t, js)
	told.tell(21, 30, Captured, Published, Taken, Predicted)
	saved(t, js)
	second.stop(t)
	s, err := js.Stream(t.Context(), streams.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	balance(t, js, "captured 30, predicted 30")

	// Of the records at the edge of what is gone nothing is counted: some of what they tell of may be gone too.
	told.tell(31, 31, Taken)
	if err := s.Purge(t.Context()); err != nil { // unread
		t.Fatal(err)
	}
	told.tell(32, 32, Taken)
	balance(t, js, "captured 30, predicted 30")

	if err := js.DeleteStream(t.Context(), streams.Ledger); err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	third := audit(t, js)
	told.tell(33, 33, Taken)
	saved(t, js)
	third.stop(t)
	balance(t, js, "captured 30, predicted 30")
}

// A LEDGER that is purged or made anew while the Auditor looks.
func TestAuditorGoesOnAtANewBeginning(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	told := newLedgerOf(t, js)
	a := audit(t, js)
	told.tell(1, 10, Captured, Published, Taken, Predicted)
	told.tell(11, 12, Captured, Published, Taken) // nobody will ever know
	saved(t, js)
	if err := js.DeleteStream(t.Context(), streams.Ledger); err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	told.tell(13, 13, Captured)
	if c := saved(t, js); !c.middle || c.books.breaks != 1 {
		t.Errorf("%+v", c)
	}
	a.mu.Lock()
	a.fold.began = a.fold.began.Add(-time.Minute) // the edge is over
	a.mu.Unlock()
	told.tell(14, 15, Captured, Published, Taken, Predicted)
	saved(t, js)
	a.stop(t)
	balance(t, js, "captured 12, predicted 12")
}

// Whoever deletes the books, or some of them, does not stop them from being kept.
func TestAuditorWritesDeletedBooksAnew(t *testing.T) {
	t.Parallel()
	for name, del := range map[string]func(js jetstream.JetStream) error{
		"bucket": func(js jetstream.JetStream) error {
			if err := js.DeleteKeyValue(t.Context(), streams.BooksBucket); err != nil {
				return err
			}
			return streams.EnsureBucket(t.Context(), js, streams.BooksBucket, streams.Options{})
		},
		"position": func(js jetstream.JetStream) error { return deleteKey(t, js, positionKey) },
		"camera":   func(js jetstream.JetStream) error { return deleteKey(t, js, "cam") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := brokertest.JetStream(t)
			told := newLedgerOf(t, js)
			told.r.SetRoute("still", 1, Route{Delivery: streams.Freshest, Models: []string{"m"}, MaxAge: time.Millisecond})
			told.r.Add(frame.Name{Camera: "still", Epoch: 1, Seq: 1}, Predicted, "m", "")
			a := audit(t, js)
			told.tell(1, 10, Captured, Published, Taken, Predicted)
			saved(t, js)
			if err := del(js); err != nil {
				t.Fatal(err)
			}
			told.tell(11, 20, Captured, Published, Taken, Predicted)
			c := saved(t, js)
			a.stop(t)
			if len(c.books.cameras) != 2 { // one of them had nothing new
				t.Errorf("%d cameras are in the books", len(c.books.cameras))
			}
			if s, err := js.Stream(t.Context(), streams.Ledger); err != nil || s.Purge(t.Context()) != nil {
				t.Fatal(err)
			}
			lines, _, err := Balance(t.Context(), js)
			if err != nil || len(lines) != 2 || figures(lines[0]) != "captured 20, predicted 20" || figures(lines[1]) != "captured 1, predicted 1" {
				t.Errorf("%+v, %v", lines, err)
			}
		})
	}
}

func deleteKey(t *testing.T, js jetstream.JetStream, key string) error {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), streams.BooksBucket)
	if err != nil {
		return err
	}
	return kv.Delete(t.Context(), key)
}

// The one that began last writes; the other ends, and has spoilt nothing.
func TestOneAuditorWrites(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	told := newLedgerOf(t, js)
	old := NewAuditor(js, slog.New(slog.DiscardHandler))
	if err := old.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	told.tell(1, 10, Captured, Published, Taken, Predicted)
	if err := old.fold.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := old.checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := NewAuditor(js, slog.New(slog.DiscardHandler))
	if err := now.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	told.tell(11, 20, Captured, Published, Taken, Predicted)
	if err := old.fold.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	told.tell(21, 30, Captured, Published, Taken, Predicted)
	if err := now.fold.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The old one has not heard of the new one. It writes a camera, and then finds the position taken.
	if err := old.checkpoint(t.Context()); !errors.Is(err, ErrAnotherAuditor) {
		t.Fatalf("the old one: %v", err)
	}
	if err := now.checkpoint(t.Context()); err != nil {
		t.Fatalf("the new one: %v", err)
	}
	// Neither does it write over what the new one wrote.
	old.fold.books.cameras["cam"].changed = true
	if err := old.checkpoint(t.Context()); !errors.Is(err, ErrAnotherAuditor) {
		t.Fatalf("the old one again: %v", err)
	}
	c, err := loadCheckpoint(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	if l := c.books.Lines(time.Now(), nil); len(l) != 1 || figures(l[0]) != "captured 30, predicted 30" {
		t.Errorf("%+v", l)
	}
	// One whose acknowledgement got lost is not taken for another.
	now.revisions[positionKey]--
	now.revisions["cam"]--
	now.fold.books.cameras["cam"].changed = true
	if err := now.checkpoint(t.Context()); err != nil {
		t.Errorf("a lost acknowledgement: %v", err)
	}
}

// Run ends when another one begins.
func TestAuditorMakesWay(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	told := newLedgerOf(t, js)
	old := audit(t, js)
	told.tell(1, 1, Captured, Published, Taken, Predicted)
	saved(t, js)
	audit(t, js)
	for seq := uint64(2); ; seq++ {
		told.tell(seq, seq, Captured, Published, Taken, Predicted)
		select {
		case err := <-old.ended:
			if old.ended <- err; !errors.Is(err, ErrAnotherAuditor) {
				t.Fatal(err)
			}
			return
		case <-time.After(50 * time.Millisecond):
			if seq > 400 {
				t.Fatal("it goes on")
			}
		}
	}
}

// What is lost is told once, after it was looked up.
func TestAuditorTellsWhatIsLost(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	told := newLedgerOf(t, js)
	// Frame 2 is lost; frame 3 was answered by somebody who was killed before he reported.
	answer(t, js, "cam/1/3")
	told.tell(1, 4, Captured, Published, Taken)
	told.tell(1, 1, Predicted)
	told.tell(4, 4, Predicted)
	a := audit(t, js)
	select {
	case l := <-a.lost:
		if figures(l) != "captured 4, predicted 3, lost 1" {
			t.Errorf("told: %s", figures(l))
		}
	case <-time.After(patience):
		t.Fatal("nothing was told")
	}
	a.stop(t)
	again := audit(t, js)
	told.tell(5, 6, Captured, Published, Taken)
	told.tell(6, 6, Predicted)
	select {
	case l := <-again.lost:
		if figures(l) != "captured 6, predicted 4, lost 2" {
			t.Errorf("told: %s", figures(l))
		}
	case <-time.After(patience):
		t.Fatal("nothing was told")
	}
	if n := len(a.lost) + len(again.lost); n != 0 {
		t.Errorf("told %d times more", n)
	}
}

// One look at the books is no alarm: the fate may be on its way.
func TestLostIsConfirmed(t *testing.T) {
	t.Parallel()
	a := NewAuditor(nil, nil)
	a.fold = newFold(nil, &checkpoint{books: &Books{cameras: map[string]*camera{"cam": {}}}})
	for i, look := range []struct{ lost, told uint64 }{{0, 0}, {3, 0}, {0, 0}, {2, 0}, {2, 2}, {2, 0}, {5, 0}, {4, 4}, {1, 0}, {1, 0}, {2, 0}, {2, 2}} {
		var told uint64
		for _, l := range a.newlyLost([]Line{{Camera: "cam", Model: "m", Lost: look.lost}}) {
			told = l.Lost
		}
		if told != look.told {
			t.Errorf("look %d: told of %d, want %d", i, told, look.told)
		}
	}
}

// Figures that are older than a frame that the books wait for say nothing of it.
func TestHeldBefore(t *testing.T) {
	t.Parallel()
	h := HeldBefore{JS: brokertest.JetStream(t)}
	now := time.Now()
	for _, c := range []struct {
		after time.Duration
		known bool
	}{{0, false}, {time.Second, false}, {2 * time.Second, true}, {3 * time.Second, true}, {20 * time.Second, false}, {25 * time.Second, true}} {
		if known := h.At(t.Context(), now.Add(c.after), FlushInterval) != nil; known != c.known {
			t.Errorf("after %v: known: %v", c.after, known)
		}
	}
}

// Written down and read again at any time, the books end the same, and whatever is read twice changes nothing.
func TestCheckpointAtAnyTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := live(t, rapid.IntRange(1, 3).Draw(t, "epochs"), 60)
		if rapid.Bool().Draw(t, "every frame") {
			w = every(t, 60)
		}
		none := func(string, string) uint64 { return 0 }
		told := w.messages(500 * time.Millisecond)
		var b Books
		for i := range told {
			b.Take(told[i])
			if i%5 == 0 {
				b.Lines(told[i].told(), none)
			}
			if rapid.IntRange(0, 9).Draw(t, "write down") == 0 {
				before := b.Lines(told[i].told(), none)
				b = *again(t, &b)
				sameLines(t, "read again", b.Lines(told[i].told(), none), before)
				// The position was written before this: some is read a second time.
				for _, m := range told[max(0, i-rapid.IntRange(0, 8).Draw(t, "twice")) : i+1] {
					b.Take(m)
				}
			}
		}
		if len(w.said) > 0 {
			sameLines(t, "the truth", b.Lines(start.Add(2*time.Hour), none), w.lines())
		}
	})
}

// again writes books down and reads them.
func again(t interface{ Fatal(...any) }, b *Books) *Books {
	out := &Books{cameras: map[string]*camera{}, incidents: slices.Clone(b.incidents), newest: b.newest, paces: b.paces}
	for camera, c := range b.cameras {
		data, err := encodeCamera(c)
		if err != nil {
			t.Fatal(err)
		}
		if data, err = compressed(data); err != nil {
			t.Fatal(err)
		}
		if out.cameras[camera], err = decodeCamera(camera, data); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// A camera whose every other frame was evicted for minutes fits into a message.
func TestLargeCheckpoint(t *testing.T) {
	t.Parallel()
	var b Books
	for seq := uint64(1); seq < 40_000; seq += 2 {
		b.Apply(routed(record(1, start, Published, "", seq, seq), streams.Freshest, "m"))
		b.Apply(record(1, start, Taken, "", seq, seq))
	}
	data, err := encodeCamera(b.cameras["cam"])
	if err != nil {
		t.Fatal(err)
	}
	if data, err = compressed(data); err != nil || len(data) > 1<<19 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if c := again(t, &b).cameras["cam"]; !reflect.DeepEqual(c.epochs, b.cameras["cam"].epochs) {
		t.Error("it is another one when it is read")
	}
}

func TestCheckpointErrors(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	kv, err := js.KeyValue(t.Context(), streams.BooksBucket)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ position, camera, want string }{
		{`x`, `{}`, "books of the ledger: position: invalid character 'x' looking for beginning of value"},
		{`{"version":99}`, `{}`, "books of the ledger: version 99, this program knows 1"},
		{`{"version":1,"sequence":1}`, `{"closed":1}`, "books of the ledger: cam: json: cannot unmarshal number into Go struct field savedCamera.closed of type map[string]*ledger.Line"},
		{`{"version":1,"sequence":1}`, `z`, "books of the ledger: cam: unexpected EOF"},
	} {
		for key, value := range map[string]string{positionKey: c.position, "cam": c.camera} {
			if _, err := kv.PutString(t.Context(), key, value); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := Balance(t.Context(), js); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
		if err := NewAuditor(js, slog.New(slog.DiscardHandler)).Run(t.Context()); err == nil || !strings.HasPrefix(fmt.Sprint(err), "books of the ledger: ") {
			t.Errorf("the auditor: %v", err)
		}
	}
}

// An Auditor that is killed between writing the cameras and the position counts nothing twice, even when LEDGER was
// made anew before.
func TestBreakIsClosedOnce(t *testing.T) {
	t.Parallel()
	at := start
	tell := func(f *fold, sequence, lo, hi uint64) {
		for _, m := range []Mark{Captured, Predicted} {
			r := routed(record(1, at, m, "m", lo, hi), streams.Freshest, "m")
			f.take(Message{Sequence: sequence, Record: &r}, nil)
		}
	}
	f := newFold(nil, &checkpoint{books: &Books{cameras: map[string]*camera{}}})
	tell(f, 1, 1, 10)
	written := f.position("me") // and the camera with it
	afresh := func(f *fold) {
		f.missed()
		at = start.Add(time.Minute)
		tell(f, 1, 11, 12) // the edge
		at = at.Add(time.Minute)
		tell(f, 2, 13, 20)
	}
	afresh(f)
	loaded := written.checkpoint()
	loaded.books.cameras = again(t, f.books).cameras
	g := newFold(nil, loaded)
	afresh(g)
	for _, f := range []*fold{f, g} {
		if l := f.books.Lines(at.Add(time.Hour), nil); len(l) != 1 || figures(l[0]) != "captured 18, predicted 18" {
			t.Errorf("%+v", l)
		}
	}
}

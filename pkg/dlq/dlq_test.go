package dlq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/dlq"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

const (
	camera   = "street"
	model    = "person"
	patience = 20 * time.Second
)

// rig is a broker and, once started, an infer stage that answers tensors or refuses them.
type rig struct {
	*testing.T
	js       jetstream.JetStream
	poisoned atomic.Bool
	seq      uint64
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, js: brokertest.JetStream(t)}
	r.poisoned.Store(true)
	return r
}

// work starts the stage; it ends with the test.
func (r *rig) work() {
	r.Helper()
	reporter := ledger.NewReporter(r.js, "infer", "infer-1")
	st := stage.New(stage.Config{
		Name: "infer", Sources: streams.Infer(r.js, model, streams.LaneStable), Publisher: r.js, Observer: observer{reporter},
		Quarantine: func(m stage.Message) string { return streams.DLQSubject("infer", streams.LastToken(m.Subject)) },
		Identity:   func(m stage.Message) string { return m.Header[frame.HeaderName][0] },
		Version:    model + "@3",
	}, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
		if r.poisoned.Load() {
			return nil, stage.Poison(errors.New("cannot see a thing"))
		}
		t, err := frame.DecodeTensor(m.Header, m.Data)
		if err != nil {
			return nil, stage.Poison(err)
		}
		if !t.Deadline.IsZero() && time.Now().After(t.Deadline) {
			return nil, stage.Drop(ledger.Expired, "max_age")
		}
		return []stage.Output{{
			Subject: streams.PredictionSubject(t.Model, t.Name.Camera), ID: t.Name.String() + "/" + t.Model, Data: m.Data,
			Header: nats.Header{frame.HeaderName: {t.Name.String()}},
		}}, nil
	}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- st.Run(ctx) }()
	go func() { ended <- reporter.Run(ctx) }()
	r.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			r.Error(err)
		}
	})
}

// observer is infer's.
type observer struct{ reporter *ledger.Reporter }

func (o observer) mark(m stage.Message, mark ledger.Mark, reason string) {
	if name, err := frame.ParseName(m.Header[frame.HeaderName][0]); err == nil {
		o.reporter.Add(name, mark, model, reason)
	}
}

func (o observer) Taken(m stage.Message) { o.mark(m, ledger.Taken, "") }

func (o observer) Done(m stage.Message, _ []stage.Output) { o.mark(m, ledger.Predicted, "") }

func (o observer) Dropped(m stage.Message, fate ledger.Mark, reason string) { o.mark(m, fate, reason) }

func (o observer) Returned(stage.Message) {}

// tensor is the next one of a camera that will have expired soon.
func (r *rig) tensor(d streams.Delivery) *nats.Msg {
	r.seq++
	t := frame.Tensor{
		Facts: frame.Facts{
			Name: frame.Name{Camera: camera, Epoch: 7, Seq: r.seq}, Captured: time.Now(), Deadline: time.Now().Add(200 * time.Millisecond),
			SourceW: 4, SourceH: 2, Models: []string{model}, Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		},
		Model: model, Lane: streams.LaneStable, Width: 2, Height: 1, Channels: 3, Color: "rgb", Transform: [4]float64{2, 2, 0, 0},
	}
	m := &nats.Msg{Subject: streams.TensorSubject(d, model, streams.LaneStable, camera), Header: nats.Header{}, Data: []byte("pixels")}
	t.Encode(m.Header)
	return m
}

func (r *rig) publish(m *nats.Msg) {
	r.Helper()
	if _, err := r.js.PublishMsg(r.Context(), m); err != nil {
		r.Fatal(err)
	}
}

// quarantine lets the stage refuse one live tensor and returns its sequence in DLQ.
func (r *rig) quarantine() uint64 {
	r.Helper()
	before := r.last(streams.DLQ)
	r.publish(r.tensor(streams.Freshest))
	r.stored(streams.DLQ, before+1)
	return before + 1
}

// pretend puts a message into DLQ as a stage writes it.
func (r *rig) pretend(stageName, camera, subject string) uint64 {
	r.Helper()
	m := r.tensor(streams.Freshest)
	m.Subject = streams.DLQSubject(stageName, camera)
	m.Header[stage.HeaderStage], m.Header[stage.HeaderReason] = []string{stageName}, []string{"pretended"}
	m.Header[stage.HeaderAttempts], m.Header[stage.HeaderSubject] = []string{"4"}, []string{subject}
	ack, err := r.js.PublishMsg(r.Context(), m)
	if err != nil {
		r.Fatal(err)
	}
	return ack.Sequence
}

func (r *rig) info(stream string) jetstream.StreamState {
	r.Helper()
	s, err := r.js.Stream(r.Context(), stream)
	if err != nil {
		r.Fatal(err)
	}
	return s.CachedInfo().State
}

func (r *rig) last(stream string) uint64 { r.Helper(); return r.info(stream).LastSeq }

// stored waits until a stream has stored so many messages.
func (r *rig) stored(stream string, last uint64) {
	r.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for r.last(stream) < last {
		select {
		case <-tick.C:
		case <-timeout:
			r.Fatalf("%s has stored %d messages, want %d", stream, r.last(stream), last)
		}
	}
}

func (r *rig) sequences(f dlq.Filter) string {
	r.Helper()
	entries, err := dlq.List(r.Context(), r.js, f)
	if err != nil {
		r.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, strconv.FormatUint(e.Sequence, 10))
	}
	return strings.Join(out, " ")
}

func equal(tb testing.TB, what string, got, want any) {
	tb.Helper()
	if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
		tb.Errorf("%s: got %s, want %s", what, g, w)
	}
}

// books are the balanced figures of the camera.
func (r *rig) books() ledger.Line {
	r.Helper()
	lines, _, err := ledger.Balance(r.Context(), r.js)
	if err != nil {
		r.Fatal(err)
	}
	if len(lines) != 1 || !lines[0].Balanced() {
		r.Fatalf("books: %+v", lines)
	}
	return lines[0]
}

func TestReplayedIsAnsweredAndDroppedStaysQuarantined(t *testing.T) {
	r := newRig(t)
	r.work()
	route := ledger.NewReporter(r.js, "ingest", "ingest-1")
	route.SetRoute(camera, 7, ledger.Route{Delivery: streams.Freshest, Models: []string{model}, MaxAge: time.Second})
	if err := route.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, second, third := r.quarantine(), r.quarantine(), r.quarantine()
	if l := r.books(); l.Captured != 3 || l.Quarantined != 3 {
		t.Fatalf("before: %+v", l)
	}

	e, err := dlq.Get(t.Context(), r.js, first)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "frame", e.Frame, "street/7/1")
	equal(t, "what is known of it", []string{e.Stage, e.Camera, e.Model, e.Version, e.Reason, e.Subject},
		[]string{"infer", camera, model, "person@3", "cannot see a thing", "tensors.live.person.stable.street"})
	equal(t, "attempts, bytes, omitted, replayed", []any{e.Attempts, e.Bytes, e.OmittedBytes, e.Replayed}, []any{1, 6, 0, false})
	equal(t, "payload", string(e.Data), "pixels")

	r.poisoned.Store(false)
	if _, err := dlq.Replay(t.Context(), r.js, first); err != nil { // its deadline is over by now
		t.Fatal(err)
	}
	r.stored(streams.Predictions, 1)
	if _, err := dlq.Replay(t.Context(), r.js, first); !errors.Is(err, dlq.ErrGone) || !strings.Contains(err.Error(), "message 1: it is not in DLQ") {
		t.Errorf("second replay: %v", err)
	}
	if e, err := dlq.Drop(t.Context(), r.js, second); err != nil || e.Frame != "street/7/2" {
		t.Errorf("drop: %+v, %v", e, err)
	}
	if _, err := dlq.Drop(t.Context(), r.js, second); !errors.Is(err, dlq.ErrGone) {
		t.Errorf("second drop: %v", err)
	}
	equal(t, "left", r.sequences(dlq.Filter{}), strconv.FormatUint(third, 10))
	if l := r.books(); l.Captured != 3 || l.Predicted != 1 || l.Quarantined != 2 {
		t.Errorf("after: %+v", l)
	}
}

// TestBooksKnowWhatAKilledWorkerQuarantined drops what nobody but DLQ knew to be quarantined.
func TestBooksKnowWhatAKilledWorkerQuarantined(t *testing.T) {
	r := newRig(t)
	ingest := ledger.NewReporter(r.js, "ingest", "ingest-1")
	ingest.SetRoute(camera, 7, ledger.Route{Delivery: streams.Freshest, Models: []string{model}, MaxAge: time.Millisecond})
	for seq := range uint64(2) {
		ingest.Add(frame.Name{Camera: camera, Epoch: 7, Seq: seq + 1}, ledger.Captured, "", "")
		ingest.Add(frame.Name{Camera: camera, Epoch: 7, Seq: seq + 1}, ledger.Taken, model, "")
	}
	if err := ingest.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.pretend("infer", camera, "tensors.live.person.stable.street")
	r.pretend("infer", camera, "tensors.live.person.stable.street")
	if _, err := dlq.Drop(t.Context(), r.js, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := dlq.DropAll(t.Context(), r.js, dlq.Filter{}, func(dlq.Entry) {}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for { // until the books would call them lost
		l := r.books()
		if l.Captured == 2 && l.Quarantined == 2 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", l)
		}
	}
}

// TestQuarantinedAgain replays what is refused again at once: the second copy must not be taken for the first.
func TestQuarantinedAgain(t *testing.T) {
	r := newRig(t)
	r.work()
	seq := r.quarantine()
	for range 3 {
		if _, err := dlq.Replay(t.Context(), r.js, seq); err != nil {
			t.Fatal(err)
		}
		r.stored(streams.DLQ, seq+1)
		e, err := dlq.Get(t.Context(), r.js, seq+1)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "again", []any{e.Frame, e.Replayed, string(e.Data), e.Reason}, []any{"street/7/1", true, "pixels", "cannot see a thing"})
		seq++
	}
	equal(t, "left", r.sequences(dlq.Filter{}), strconv.FormatUint(seq, 10))
}

// TestReplayAllLosesNone replays far more messages of a live camera than its ring holds, before any worker takes one.
func TestReplayAllLosesNone(t *testing.T) {
	r := newRig(t)
	const n = 10 * streams.LiveRing
	for range n {
		r.pretend("infer", camera, "tensors.live.person.stable.street")
	}
	r.pretend("infer", "other", "tensors.live.person.stable.other")
	var told []uint64
	swept, err := dlq.ReplayAll(t.Context(), r.js, dlq.Filter{Camera: camera}, func(e dlq.Entry) { told = append(told, e.Sequence) })
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "swept", swept, dlq.Sweep{Done: n})
	equal(t, "told", len(told), n)
	equal(t, "left", r.sequences(dlq.Filter{}), strconv.Itoa(n+1))
	r.poisoned.Store(false)
	r.work()
	r.stored(streams.Predictions, n)
}

// TestReplayAllEnds replays what is quarantined again at once: once.
func TestReplayAllEnds(t *testing.T) {
	r := newRig(t)
	r.work()
	for range 3 {
		r.quarantine()
	}
	swept, err := dlq.ReplayAll(t.Context(), r.js, dlq.Filter{}, func(e dlq.Entry) { r.stored(streams.DLQ, e.Sequence+3) })
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "swept", swept, dlq.Sweep{Done: 3})
	equal(t, "left", r.sequences(dlq.Filter{}), "4 5 6")
}

func TestFilters(t *testing.T) {
	r := newRig(t)
	r.pretend("preprocess", "door", "frames.live.door")
	r.pretend("infer", "door", "tensors.live.person.stable.door")
	r.pretend("infer", "gate", "tensors.live.person.stable.gate")
	e, err := dlq.Get(t.Context(), r.js, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		f     dlq.Filter
		want  string
		count uint64
	}{
		{"all", dlq.Filter{}, "1 2 3", 3},
		{"stage", dlq.Filter{Stage: "infer"}, "2 3", 2},
		{"camera", dlq.Filter{Camera: "door"}, "1 2", 2},
		{"both", dlq.Filter{Stage: "infer", Camera: "door"}, "2", 1},
		{"since", dlq.Filter{Since: e.At}, "3", 1},
		{"later", dlq.Filter{Since: e.At.Add(time.Minute)}, "", 0},
		{"none", dlq.Filter{Camera: "nobody"}, "", 0},
		{"newest", dlq.Filter{Limit: 2}, "2 3", 3},
		{"newest of a stage", dlq.Filter{Stage: "preprocess", Limit: 1}, "1", 1},
		{"newest of a camera", dlq.Filter{Camera: "door", Limit: 1}, "2", 2},
		{"through", dlq.Filter{Through: 2}, "1 2", 3},
		{"through one that does not match", dlq.Filter{Camera: "gate", Through: 2}, "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			equal(t, "sequences", r.sequences(tt.f), tt.want)
			n, last, err := dlq.Count(t.Context(), r.js, tt.f)
			if err != nil || n != tt.count || last != 3 {
				t.Errorf("count %d, last %d, %v", n, last, err)
			}
		})
	}
	for _, f := range []dlq.Filter{{Stage: "a.b"}, {Camera: "*"}, {Limit: -1}} {
		if _, err := dlq.List(t.Context(), r.js, f); err == nil {
			t.Errorf("%+v is accepted", f)
		}
	}
}

// TestListOfManyReadsFew counts the bytes that a limited list takes from a large DLQ.
func TestListOfManyReadsFew(t *testing.T) {
	r := newRig(t)
	const n, limit = 20000, 50
	for i := range n {
		m := nats.NewMsg(streams.DLQSubject("infer", "cam"+strconv.Itoa(i%10)))
		m.Header.Set(stage.HeaderReason, "pretended")
		m.Data = bytes.Repeat([]byte{1}, 1024)
		if _, err := r.js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-r.js.PublishAsyncComplete():
	case <-time.After(patience):
		t.Fatal("not stored")
	}
	for _, f := range []dlq.Filter{{Limit: limit}, {Limit: limit, Camera: "cam3"}, {Limit: limit, Camera: "cam3", Since: time.Now().Add(-time.Hour)}} {
		before := r.js.Conn().Stats().InBytes
		entries, err := dlq.List(t.Context(), r.js, f)
		if err != nil {
			t.Fatal(err)
		}
		took := r.js.Conn().Stats().InBytes - before
		if len(entries) != limit || entries[limit-1].Sequence < n-10 || entries[0].Bytes != 1024 {
			t.Errorf("%+v: %d entries, last %+v", f, len(entries), entries[len(entries)-1])
		}
		if took > 64<<10 { // all headers are megabytes
			t.Errorf("%+v: took %d bytes", f, took)
		}
	}
	if entries, err := dlq.List(t.Context(), r.js, dlq.Filter{}); err != nil || len(entries) != n {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

// TestOmittedPayload lets the stage quarantine what does not fit beside the quarantine's headers.
func TestOmittedPayload(t *testing.T) {
	r := newRig(t)
	r.work()
	m := r.tensor(streams.Freshest)
	m.Data = make([]byte, broker.MaxPayload-600) // its own headers have less
	r.publish(m)
	r.stored(streams.DLQ, 1)
	seq := r.quarantine()
	e, err := dlq.Get(t.Context(), r.js, 1)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "omitted", []int{e.OmittedBytes, e.Bytes}, []int{len(m.Data), 0})
	if _, err := dlq.Replay(t.Context(), r.js, 1); !errors.Is(err, dlq.ErrNotReplayable) || !strings.Contains(err.Error(), strconv.Itoa(len(m.Data))+" bytes did not fit") {
		t.Errorf("replay: %v", err)
	}
	r.poisoned.Store(false)
	swept, err := dlq.ReplayAll(t.Context(), r.js, dlq.Filter{}, func(e dlq.Entry) { equal(t, "replayed", e.Sequence, seq) })
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "swept", swept, dlq.Sweep{Done: 1, Left: 1})
	equal(t, "left", r.sequences(dlq.Filter{}), "1")
	if _, err := dlq.Drop(t.Context(), r.js, 1); err != nil {
		t.Error(err)
	}
}

func TestFailedReplayKeepsTheMessage(t *testing.T) {
	for _, tt := range []struct {
		name    string
		subject string
		prepare func(r *rig)
		want    string
		is      error
	}{
		{"full", "tensors.live.person.stable.street", func(r *rig) {
			for range streams.TensorBacklog {
				r.publish(r.tensor(streams.EveryFrame))
			}
		}, "is full", dlq.ErrFull},
		{"absent", "frames.twin.street", func(r *rig) {
			if err := r.js.DeleteStream(r.Context(), streams.Frames); err != nil {
				r.Fatal(err)
			}
		}, "no stream takes it", jetstream.ErrNoStreamResponse},
		{"not a work queue", "events.camera.state.street", func(*rig) {}, `"events.camera.state.street"`, dlq.ErrNotReplayable},
		{"nowhere", "", func(*rig) {}, `""`, dlq.ErrNotReplayable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			tt.prepare(r)
			seq := r.pretend("infer", camera, tt.subject)
			if _, err := dlq.Replay(t.Context(), r.js, seq); !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v", err)
			}
			e, err := dlq.Get(t.Context(), r.js, seq)
			if err != nil || string(e.Data) != "pixels" {
				t.Errorf("lost: %+v, %v", e, err)
			}
		})
	}
}

// TestReplayAllWaitsForRoom replays more than a queue holds while a worker empties it.
func TestReplayAllWaitsForRoom(t *testing.T) {
	r := newRig(t)
	const n = 2 * streams.TensorBacklog
	for range n {
		r.pretend("infer", camera, "tensors.every.person.stable.street")
	}
	r.poisoned.Store(false)
	started := false
	swept, err := dlq.ReplayAll(t.Context(), r.js, dlq.Filter{}, func(dlq.Entry) {
		if state := r.info(streams.Tensors); !started && state.Msgs == streams.TensorBacklog {
			started = true
			r.work()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "swept", swept, dlq.Sweep{Done: n})
	if !started {
		t.Error("the queue was never full")
	}
	r.stored(streams.Predictions, n)
}

package life

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/dlq"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

var update = flag.Bool("update", false, "write the golden files anew")

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// past is a system that has had a past.
type past struct {
	*testing.T
	js      jetstream.JetStream
	tellers map[hand]*ledger.Reporter
}

func newPast(t *testing.T) *past {
	t.Helper()
	return &past{T: t, js: brokertest.JetStream(t), tellers: map[hand]*ledger.Reporter{}}
}

// says stores what a stage tells of some frames, as one record.
func (p *past) says(stage, instance string, mark ledger.Mark, model, reason string, names ...frame.Name) {
	p.Helper()
	r := p.tellers[hand{stage, instance}]
	if r == nil {
		r = ledger.NewReporter(p.js, stage, instance)
		p.tellers[hand{stage, instance}] = r
	}
	for _, n := range names {
		r.Add(n, mark, model, reason)
	}
	if err := r.Flush(p.Context()); err != nil {
		p.Fatal(err)
	}
}

func (p *past) captures(instance string, d streams.Delivery, names ...frame.Name) {
	p.Helper()
	p.says("ingest", instance, ledger.Captured, "", "") // makes it
	route := ledger.Route{Delivery: d, Models: []string{"person"}}
	if d == streams.Freshest {
		route.MaxAge = 100 * time.Millisecond
	}
	p.tellers[hand{"ingest", instance}].SetRoute(names[0].Camera, names[0].Epoch, route)
	for _, n := range names {
		p.tellers[hand{"ingest", instance}].Add(n, ledger.Published, "", "")
	}
	p.says("ingest", instance, ledger.Captured, "", "", names...)
}

func (p *past) publish(m *nats.Msg) uint64 {
	p.Helper()
	ack, err := p.js.PublishMsg(p.Context(), m)
	if err != nil {
		p.Fatal(err)
	}
	return ack.Sequence
}

func (p *past) answers(n frame.Name, captured time.Time, attempt int) {
	p.Helper()
	answer := predictions.Prediction{
		Schema: predictions.SchemaID, Kind: predictions.KindPrediction, Status: predictions.StatusOK, Camera: n.Camera, Model: "person", Version: "3",
		Lane: streams.LaneStable, Frame: n.String(), CapturedAt: captured, PredictedAt: time.Now().UTC(), Image: &predictions.Image{Width: 4, Height: 2},
		Detections: []predictions.Detection{}, Attempt: attempt, BatchSize: 2, TimingsMS: map[string]float64{"infer": 4},
	}
	data, err := json.Marshal(answer)
	if err != nil {
		p.Fatal(err)
	}
	p.publish(&nats.Msg{Subject: streams.PredictionSubject("person", n.Camera), Data: data, Header: nats.Header{
		frame.HeaderName: {n.String()}, frame.HeaderTrace: {traceparent}, jetstream.MsgIDHeader: {answer.ID()},
	}})
}

func (p *past) happens(e events.Event) {
	p.Helper()
	if e.At.IsZero() {
		e.At = time.Now().UTC()
	}
	data, err := json.Marshal(e)
	if err != nil {
		p.Fatal(err)
	}
	p.publish(&nats.Msg{Subject: streams.EventSubject(e.Area, e.Kind, e.Name), Data: data})
}

// told tells a life, a minute later.
func (p *past) told(n frame.Name) Life {
	p.Helper()
	l, err := tell(p.Context(), p.js, n, time.Now().Add(time.Minute))
	if err != nil {
		p.Fatal(err)
	}
	return l
}

// what are the steps in short.
func what(l Life) []string {
	out := make([]string, len(l.Steps))
	for i, s := range l.Steps {
		out[i] = strings.TrimSpace(s.Instance + " " + s.What)
	}
	return out
}

func street(seq uint64) frame.Name { return frame.Name{Camera: "street", Epoch: 7, Seq: seq} }

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// A frame whose first infer worker died with it in hand: the other one answers.
func TestAnsweredAfterADeath(t *testing.T) {
	p := newPast(t)
	captured := time.Now().UTC()
	p.happens(events.Event{Area: "camera", Kind: "lease", Name: "street", State: "acquired", Facts: map[string]string{"epoch": "7"}})
	p.happens(events.Event{Area: "camera", Kind: "lease", Name: "street", State: "acquired", Facts: map[string]string{"epoch": "6"}, At: captured.Add(-time.Hour)})
	p.happens(events.Event{Area: "camera", Kind: "state", Name: "street", State: "live"})
	p.says("preprocess", "p1", ledger.Taken, "", "", street(1))
	p.says("preprocess", "p1", ledger.Forwarded, "person", "", street(1))
	p.says("infer", "i1", ledger.Taken, "person", "", street(1))
	if err := ledger.TellIncident(t.Context(), p.js, ledger.Incident{Kind: ledger.WorkerEnded, Stage: "infer", Instance: "i1", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	p.happens(events.Event{Area: "recovery", Kind: "worker_dead", Name: "i1", State: "dead", Cause: "disconnected", Facts: map[string]string{"service": "infer", "action": "handed over what it held"}})
	p.happens(events.Event{Area: "recovery", Kind: "worker_dead", Name: "i9", State: "dead", Facts: map[string]string{"service": "infer"}})
	p.answers(street(1), captured, 2)
	p.says("infer", "i2", ledger.Predicted, "person", "", street(1))
	p.says("infer", "i2", ledger.Taken, "person", "", street(1))
	p.captures("in1", streams.Freshest, street(1), street(2)) // told last

	l := p.told(street(1))
	equal(t, what(l), []string{
		"in1 captured", "street camera/lease", "street camera/state", "in1 published", "p1 taken", "p1 forwarded", "i1 taken", "i1 worker_ended", "i1 recovery/worker_dead",
		"i2 taken", "answered", "i2 predicted", "stored",
	})
	if len(l.Fates) != 1 || l.Fates[0] != (Fate{Model: "person", Fate: ledger.Predicted, By: byStored}) {
		t.Errorf("%+v", l.Fates)
	}
	if !l.Known || l.Lost() || l.TraceID != "4bf92f3577b34da6a3ce929d0e0e4736" || !l.CapturedAt.Equal(captured) || len(l.Unknown) > 0 || l.MaxAge != 100*time.Millisecond {
		t.Errorf("%+v", l)
	}
	if a := l.Answers; len(a) != 1 || a[0].Attempt != 2 || a[0].Version != "3" {
		t.Errorf("%+v", a)
	}
}

func TestFates(t *testing.T) {
	p := newPast(t)
	p.captures("in1", streams.Freshest, street(1), street(2), street(3), street(4), street(5))
	p.says("preprocess", "p1", ledger.Taken, "", "", street(2), street(3), street(5))
	p.says("preprocess", "p1", ledger.Expired, "", "max_age", street(2))
	p.says("preprocess", "p1", ledger.Forwarded, "person", "", street(5))
	p.says("infer", "i1", ledger.Taken, "person", "", street(5))
	p.says("infer", "i1", ledger.Predicted, "person", "", street(5))
	for _, tt := range []struct {
		name    string
		frame   frame.Name
		fates   []Fate
		unknown string
		known   bool
	}{
		{"superseded in the ring", street(1), []Fate{{"person", ledger.Superseded, "frame_ring", byConcluded}}, "its trace", true},
		{"expired", street(2), []Fate{{"person", ledger.Expired, "max_age", byTold}}, "", true},
		{"lost in preprocess", street(3), []Fate{{"person", ledger.Lost, "", byConcluded}}, "", true},
		{"answered, and the answer is gone", street(5), []Fate{{"person", ledger.Predicted, "", byTold}}, "its answer is not in PREDICTIONS", true},
		{"not told of", street(6), nil, "not reported yet, or not captured: the last frame of epoch 7 that was reported is 5", false},
		{"an epoch to come", frame.Name{Camera: "street", Epoch: 9, Seq: 1}, nil, "epoch 9 of street was not told of yet", false},
		{"an epoch of the past", frame.Name{Camera: "street", Epoch: 3, Seq: 1}, nil, "older than what LEDGER remembers", false},
		{"no camera", frame.Name{Camera: "nowhere", Epoch: 3, Seq: 1}, nil, "no record of a captured frame of camera nowhere", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := p.told(tt.frame)
			if !slices.Equal(l.Fates, append([]Fate{}, tt.fates...)) || l.Known != tt.known {
				t.Errorf("%v: %+v", l.Known, l.Fates)
			}
			if !strings.Contains(strings.Join(l.Unknown, "\n"), tt.unknown) {
				t.Errorf("%q", l.Unknown)
			}
		})
	}
}

// A frame that is in no record although its neighbours are, and one of an epoch that had ended before.
func TestNoSuchFrame(t *testing.T) {
	p := newPast(t)
	p.captures("in1", streams.Freshest, street(1), street(2))
	p.captures("in2", streams.Freshest, frame.Name{Camera: "street", Epoch: 9, Seq: 1})
	for name, want := range map[frame.Name]string{
		street(3):                            "epoch 7 of street ended with frame 2",
		{Camera: "street", Epoch: 8, Seq: 1}: "tells of no epoch 8 of street",
	} {
		if l := p.told(name); l.Known || len(l.Unknown) != 1 || !strings.Contains(l.Unknown[0], want) {
			t.Errorf("%s: %q", name, l.Unknown)
		}
	}
}

func TestQuarantinedAndReplayed(t *testing.T) {
	p := newPast(t)
	captured := time.Now()
	p.captures("in1", streams.Freshest, street(1))
	facts := frame.Facts{Name: street(1), Captured: captured, SourceW: 4, SourceH: 2, Models: []string{"person"}, Trace: traceparent}
	h := nats.Header{
		stage.HeaderStage: {"preprocess"}, stage.HeaderReason: {"not a picture"}, stage.HeaderAttempts: {"3"}, stage.HeaderVersion: {"v1"},
		stage.HeaderSubject: {streams.FrameSubject(streams.Freshest, "street")},
	}
	facts.Encode(h)
	seq := p.publish(&nats.Msg{Subject: streams.DLQSubject("preprocess", "street"), Header: h, Data: []byte("x")})
	p.says("preprocess", "p1", ledger.Quarantined, "", "poison", street(1))

	l := p.told(street(1))
	if len(l.DeadLetter) != 1 || l.DeadLetter[0].Attempts != 3 || l.DeadLetter[0].Reason != "not a picture" || l.TraceID == "" || !l.CapturedAt.Equal(captured) {
		t.Errorf("%+v", l)
	}
	if len(l.Fates) != 1 || l.Fates[0].Fate != ledger.Quarantined {
		t.Errorf("%+v", l.Fates)
	}

	if _, err := dlq.Replay(t.Context(), p.js, seq); err != nil {
		t.Fatal(err)
	}
	p.happens(events.Event{Area: "dlq", Kind: "replayed", Name: "street", Facts: map[string]string{"frame": street(1).String(), "stage": "preprocess"}})
	p.says("preprocess", "p2", ledger.Taken, "", "", street(1))
	p.answers(street(1), captured, 1)
	p.says("infer", "i1", ledger.Predicted, "person", "", street(1))
	l = p.told(street(1))
	for _, want := range []string{"street dlq/replayed", "p2 taken", "i1 predicted", "p1 quarantined", "answered"} {
		if !slices.Contains(what(l), want) {
			t.Errorf("%q is not in %q", want, what(l))
		}
	}
	if len(l.Fates) != 1 || l.Fates[0].Fate != ledger.Predicted || l.Lost() {
		t.Errorf("%+v", l.Fates)
	}
}

// A frame of every_frame that waits is found in its stream, and so is who has it in hand.
func TestWhereItIs(t *testing.T) {
	p := newPast(t)
	var names []frame.Name
	var at [3]uint64
	for i := range at {
		names = append(names, street(uint64(i+1)))
		facts := frame.Facts{Name: names[i], Captured: time.Now(), SourceW: 4, SourceH: 2, Models: []string{"person"}}
		m := &nats.Msg{Subject: streams.FrameSubject(streams.EveryFrame, "street"), Header: nats.Header{}, Data: []byte("x")}
		facts.Encode(m.Header)
		at[i] = p.publish(m)
	}
	p.captures("in1", streams.EveryFrame, names...)
	m := fleet.NewMember(p.js, fleet.Config{Service: "preprocess", Instance: "p1"})
	m.Hold(claims{{Stream: streams.Frames, Consumer: "preprocess", Held: []fleet.Delivery{{at[1], 1}}}})
	if err := m.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, worker := range []string{"", "p1", ""} {
		l := p.told(names[i])
		if len(l.Places) != 1 || l.Places[0].Sequence != at[i] || l.Places[0].Worker != worker || l.Places[0].Stream != streams.Frames {
			t.Errorf("%s: %+v", names[i], l.Places)
		}
		if len(l.Fates) != 1 || l.Fates[0].Fate != ledger.InFlight || l.Lost() {
			t.Errorf("%s: %+v", names[i], l.Fates)
		}
	}
	s, err := p.js.Stream(t.Context(), streams.Frames)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), at[0]); err != nil {
		t.Fatal(err)
	}
	if l := p.told(names[0]); !l.Lost() {
		t.Errorf("%+v", l.Fates)
	}
}

type claims []fleet.Claim

func (c claims) Claims() []fleet.Claim { return c }
func (c claims) Abandon()              {}

// The search finds a frame among many records, and reads few of them.
func TestSearch(t *testing.T) {
	p := newPast(t)
	const records = 400
	for i := range uint64(records) {
		p.captures("in1", streams.Freshest, street(2*i+1), street(2*i+2))
		p.says("infer", "i1", ledger.Predicted, "person", "", street(2*i+1))
	}
	s, err := p.js.Stream(t.Context(), streams.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{1, 2, 399, 400, 799, 800} {
		tl := &teller{js: p.js, name: street(seq)}
		if err := tl.locate(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		var at time.Time
		for n := range s.CachedInfo().State.LastSeq {
			m, err := s.GetMsg(t.Context(), n+1)
			if err != nil {
				t.Fatal(err)
			}
			r, err := ledger.Decode(m.Data)
			if err != nil {
				t.Fatal(err)
			}
			if c, ok := captured(r); ok && c.compare(7, seq) == 0 {
				at = m.Time
			}
		}
		if !tl.near.Equal(at) {
			t.Errorf("frame %d: %s, want %s", seq, tl.near, at)
		}
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	ms := func(n int) time.Time { return at.Add(time.Duration(n) * time.Millisecond) }
	for name, l := range map[string]Life{
		"answered": {
			Frame: "street/7/1", Camera: "street", Epoch: 7, Seq: 1, Known: true, CapturedAt: at, Delivery: streams.Freshest, MaxAge: time.Second, TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
			Fates:   []Fate{{"person", ledger.Predicted, "", byStored}},
			Answers: []Answer{{Prediction: predictions.Prediction{Model: "person", TimingsMS: map[string]float64{"infer": 4.25, "ingest": 2}}}},
			Steps: []Step{
				{Earliest: at, Latest: at, Source: "LEDGER", Stage: "ingest", Instance: "in1", What: "captured"},
				{Earliest: ms(10), Latest: ms(510), Source: "LEDGER", Stage: "infer", Instance: "i1", What: "taken", Model: "person", Again: 2},
				{Earliest: ms(20), Latest: ms(20), Source: "PREDICTIONS", Stage: "infer", What: "answered", Model: "person", Detail: "person@3, \x1b[2Jattempt 1"},
			},
		},
		"waiting": {
			Frame: "street/7/1", Camera: "street", Epoch: 7, Seq: 1, Known: true, Delivery: streams.EveryFrame, Fates: []Fate{{"person", ledger.InFlight, "", byStored}},
			Places:  []Place{{Stream: "FRAMES", Sequence: 9, Since: at, Worker: "p1"}, {Stream: "TENSORS", Sequence: 4, Since: at}},
			Unknown: []string{"its trace: none", "more"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := l.Write(&out, time.UTC); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", out.String(), want)
			}
		})
	}
}

package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/streams"
)

// TestExplainFindsWhatAKilledWorkerDidNotReport: the answer to a frame is stored, the report that it was is not.
func TestExplainFindsWhatAKilledWorkerDidNotReport(t *testing.T) {
	js := brokertest.JetStream(t)
	store := func(subject, name, model string) {
		t.Helper()
		m := nats.NewMsg(subject)
		m.Header[frame.HeaderName] = []string{name}
		if model != "" {
			m.Header[frame.HeaderModel] = []string{model}
		}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	store(streams.PredictionSubject("a", "cam"), "cam/7/3", "")
	store(streams.PredictionSubject("a", "cam"), "cam/6/4", "")     // another epoch
	store(streams.PredictionSubject("b", "cam"), "cam/7/4", "")     // another model
	store(streams.DLQSubject("preprocess", "cam"), "cam/7/5", "")   // for every model
	store(streams.DLQSubject("infer", "cam"), "cam/7/6", "b")       // another model
	store(streams.PredictionSubject("a", "other"), "other/7/4", "") // another camera
	store(streams.PredictionSubject("a", "cam"), "cam/7/2", "")     // reported too
	store(streams.PredictionSubject("a", "cam"), "not a frame's name", "")

	var b Books
	b.Apply(Record{
		Camera: "cam", Epoch: 7, At: time.Now(), Route: &Route{Delivery: streams.EveryFrame, Models: []string{"a"}},
		Entries: []Entry{
			{Mark: Captured, Frames: Ranges{{1, 6}}},
			{Mark: Published, Frames: Ranges{{1, 6}}},
			{Mark: Predicted, Model: "a", Frames: Ranges{{1, 2}}},
		},
	})
	none := func(string, string) uint64 { return 0 }
	later := time.Now().Add(time.Minute)
	if l := b.Lines(later, none); l[0].Lost != 4 {
		t.Fatalf("before: %+v", l)
	}
	b = Books{}
	b.Apply(Record{
		Camera: "cam", Epoch: 7, At: time.Now(), Route: &Route{Delivery: streams.EveryFrame, Models: []string{"a"}},
		Entries: []Entry{{Mark: Captured, Frames: Ranges{{1, 6}}}, {Mark: Predicted, Model: "a", Frames: Ranges{{1, 2}}}},
	})
	if err := b.explain(t.Context(), js, later, none); err != nil {
		t.Fatal(err)
	}
	l := b.Lines(later, none)
	if len(l) != 1 || l[0].Predicted != 3 || l[0].Quarantined != 1 || l[0].Lost != 2 {
		t.Errorf("after: %+v, want 1 more predicted, 1 quarantined, and 2 that nothing explains", l)
	}

	// A live camera: frame 3 looks evicted, and of frame 8 nobody told anything before the process was killed.
	store(streams.PredictionSubject("a", "cam"), "cam/7/8", "")
	b = Books{}
	b.Apply(Record{
		Camera: "cam", Epoch: 7, At: time.Now(), Route: &Route{Delivery: streams.Freshest, Models: []string{"a"}, MaxAge: time.Second},
		Entries: []Entry{
			{Mark: Captured, Frames: Ranges{{1, 7}}},
			{Mark: Published, Frames: Ranges{{1, 7}}},
			{Mark: Predicted, Model: "a", Frames: Ranges{{1, 2}, {4, 7}}},
		},
	})
	if l := b.Lines(later, nil); l[0].Superseded != 1 {
		t.Fatalf("before: %+v", l)
	}
	if err := b.explain(t.Context(), js, later, nil); err != nil {
		t.Fatal(err)
	}
	if l := b.Lines(later, nil); l[0].Captured != 8 || l[0].Predicted != 8 || !l[0].Balanced() {
		t.Errorf("after: %+v, want all 8 predicted", l)
	}
}

// An Auditor looks up the end of an epoch before it is final, once, and many at a time.
func TestExplainTheEndOfAnEpoch(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	const cameras = 3 * askAtOnce / 2
	now := time.Now()
	b := Books{audited: true}
	for i := range cameras {
		camera := fmt.Sprintf("cam-%d", i)
		b.Apply(Record{
			Camera: camera, Epoch: 1, At: now, Route: &Route{Delivery: streams.Freshest, Models: []string{"m"}, MaxAge: time.Second},
			Entries: []Entry{{Mark: Captured, Frames: Ranges{{1, 500}}}, {Mark: Predicted, Model: "m", Frames: Ranges{{1, 500}}}},
		})
		m := nats.NewMsg(streams.PredictionSubject("m", camera))
		m.Header[frame.HeaderName] = []string{camera + "/1/501"} // by somebody who was killed before he reported
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0
	for after := time.Second; after < 5*time.Minute; after += time.Second {
		at := now.Add(after)
		asked += len(b.questions(b.at(at, nil)))
		if err := b.explain(t.Context(), js, at, nil); err != nil {
			t.Fatal(err)
		}
		b.Lines(at, nil)
	}
	for _, l := range b.Lines(now.Add(time.Hour), nil) {
		if figures(l) != "captured 501, predicted 501" {
			t.Fatalf("%s: %s", l.Camera, figures(l))
		}
	}
	if asked != 2*cameras { // again after something was found
		t.Errorf("asked %d times", asked)
	}
	for _, c := range b.cameras {
		if e := c.epochs[1]; len(e.captured) > 0 || len(e.clock) > 0 {
			t.Fatalf("%s is still open: %+v", c.name, e)
		}
	}
}

// answer stores a prediction.
func answer(t *testing.T, js jetstream.JetStream, name string) {
	t.Helper()
	m := nats.NewMsg(streams.PredictionSubject("m", "cam"))
	m.Header[frame.HeaderName] = []string{name}
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// A worker answers a live frame and dies before it tells that it took it. The epoch goes on, and the frame looks evicted:
// it is looked up all the same, because the worker's death is known.
func TestExplainTheLastAnswerOfAWorkerThatDied(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	answer(t, js, "cam/1/4")
	now := time.Now()
	b := Books{audited: true}
	record := func(after time.Duration, stage string, entries ...Entry) {
		b.Apply(Record{
			Camera: "cam", Epoch: 1, Stage: stage, Instance: stage + "-1", Run: now.Add(-time.Hour).UnixMilli(), At: now.Add(after),
			Route: &Route{Delivery: streams.Freshest, Models: []string{"m"}, MaxAge: time.Second}, Entries: entries,
		})
	}
	seen := func(frames ...[2]uint64) []Entry {
		r := Ranges(frames)
		return []Entry{
			{Mark: Captured, Frames: r},
			{Mark: Published, Frames: r},
			{Mark: Taken, Frames: r},
			{Mark: Forwarded, Model: "m", Frames: r},
		}
	}
	record(0, "infer", append(seen([2]uint64{1, 4}), Entry{Mark: Taken, Model: "m", Frames: Ranges{{1, 3}}}, Entry{Mark: Predicted, Model: "m", Frames: Ranges{{1, 3}}})...)
	b.Befall(Incident{Kind: WorkerEnded, Stage: "infer", Instance: "infer-1", At: now.Add(100 * time.Millisecond)})
	for s := 1; s <= 20; s++ {
		n := uint64(4 + s)
		record(time.Duration(s)*time.Second, "other", append(seen([2]uint64{n, n}), Entry{Mark: Taken, Model: "m", Frames: Ranges{{n, n}}}, Entry{Mark: Predicted, Model: "m", Frames: Ranges{{n, n}}})...)
	}
	at := now.Add(21 * time.Second)
	if l := b.Lines(at, nil); l[0].Predicted != 23 || l[0].Superseded != 1 {
		t.Fatalf("before: %s", figures(l[0]))
	}
	if err := b.explain(t.Context(), js, at, nil); err != nil {
		t.Fatal(err)
	}
	if l := b.Lines(at, nil); l[0].Predicted != 24 || !l[0].Balanced() {
		t.Errorf("after: %s", figures(l[0]))
	}
}

// While LEDGER could not be written, answers could: what was told late is looked up early enough.
func TestExplainWhatWasToldLate(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	answer(t, js, "cam/1/1")
	told := time.Now().Add(outage / 2)
	b := Books{audited: true}
	b.Apply(Record{
		Camera: "cam", Epoch: 1, At: told, Route: &Route{Delivery: streams.EveryFrame, Models: []string{"m"}},
		Entries: []Entry{{Mark: Captured, Frames: Ranges{{1, 1}}}},
	})
	none := func(string, string) uint64 { return 0 }
	at := told.Add(20 * time.Second)
	if err := b.explain(t.Context(), js, at, none); err != nil {
		t.Fatal(err)
	}
	if l := b.Lines(at, none); l[0].Predicted != 1 || !l[0].Balanced() {
		t.Errorf("%s", figures(l[0]))
	}
}

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

package driftmonitor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/feedback"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/services/drift-monitor/detect"
	"github.com/sightline-dev/sightline/streams"
)

const patience = 20 * time.Second // a test that waits longer for an event has failed

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// footage reads what was measured of real footage.
func footage(tb testing.TB, name string) []predictions.Quality {
	tb.Helper()
	f, err := os.Open(filepath.Join("integrity", "testdata", name+".csv"))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var out []predictions.Quality
	for s := bufio.NewScanner(f); s.Scan(); {
		var q predictions.Quality
		var diff float64
		if _, err := fmt.Sscanf(strings.ReplaceAll(s.Text(), ",", " "), "%f %f %f %f %s %f", &q.Luma, &q.Contrast, &q.Sharpness, &q.Saturation, &q.PerceptualHash, &diff); err != nil {
			tb.Fatalf("%s: %q: %v", name, s.Text(), err)
		}
		if diff >= 0 {
			q.TemporalDifference = &diff
		}
		out = append(out, q)
	}
	return out
}

// world is a broker with cameras that answer as fast as the test likes, by a clock of their own.
type world struct {
	*testing.T
	js  jetstream.JetStream
	at  map[string]time.Time
	seq map[string]uint64
	// detections are in every answer.
	detections []predictions.Detection
	// tel is the telemetry of replicas that are started.
	tel *telemetry.Telemetry
}

func newWorld(t *testing.T, cameras ...string) *world {
	t.Helper()
	w := &world{T: t, js: brokertest.JetStream(t), at: map[string]time.Time{}, seq: map[string]uint64{}}
	w.declare(nil, cameras...)
	return w
}

func (w *world) declare(have []string, cameras ...string) {
	w.Helper()
	var all []config.Camera
	for _, name := range cameras {
		url, err := config.ParseURL("rtsp://127.0.0.1/" + name)
		if err != nil {
			w.Fatal(err)
		}
		c := config.DefaultCamera()
		c.Name, c.URL, c.Models = name, url, []string{"person"}
		all = append(all, c)
		if w.at[name].IsZero() {
			w.at[name] = time.Now().Add(-time.Hour).UTC()
		}
	}
	if err := catalog.PutCameras(w.Context(), w.js, have, all); err != nil {
		w.Fatal(err)
	}
}

// show publishes answers for so many pictures, ten a second by the camera's clock.
func (w *world) show(camera string, clip []predictions.Quality, n int) {
	w.Helper()
	for i := range n {
		w.seq[camera]++
		w.at[camera] = w.at[camera].Add(100 * time.Millisecond)
		q := clip[(i+1)%len(clip)]
		p := predictions.Prediction{
			Schema: predictions.SchemaID, Kind: predictions.KindPrediction, Status: predictions.StatusOK, Camera: camera, Model: "person", Version: "1",
			Lane: streams.LaneStable, Frame: frame.Name{Camera: camera, Epoch: 7, Seq: w.seq[camera]}.String(), CapturedAt: w.at[camera], PredictedAt: w.at[camera],
			Image: &predictions.Image{Width: 768, Height: 576}, Detections: append([]predictions.Detection{}, w.detections...), Quality: &q,
		}
		data, err := json.Marshal(p)
		if err != nil {
			w.Fatal(err)
		}
		if _, err := w.js.Publish(w.Context(), streams.PredictionSubject("person", camera), data, jetstream.WithMsgID(p.ID())); err != nil {
			w.Fatal(err)
		}
	}
}

// start runs a replica until the returned function is called, or the test ends.
func (w *world) start(instance string) (s *Service, stop func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.Context()))
	judge := detect.Default()
	judge.Reference.Span, judge.Reference.Hours = 3*time.Minute, 24
	s = NewService(Config{Instance: instance, SaveEvery: time.Second, Detect: judge}, Deps{JS: w.js, Telemetry: w.tel, Log: slog.New(slog.DiscardHandler)})
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			w.Errorf("%s: %v", instance, err)
		}
	}
	w.Cleanup(stop)
	return s, stop
}

// until waits for something that others bring about.
func (w *world) until(what string, ok func() bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	for !ok() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			w.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func (w *world) faults(camera string) (out []drift.Fault, known bool) {
	w.Helper()
	r, _, err := drift.Read(w.Context(), w.js)
	if err != nil {
		w.Fatal(err)
	}
	for _, i := range r.Integrities {
		if i.Camera == camera {
			known = true
			for _, f := range i.Faults {
				out = append(out, f.Fault)
			}
		}
	}
	return out, known
}

func (w *world) untilFaults(camera string, want ...drift.Fault) {
	w.Helper()
	w.until(fmt.Sprintf("%s has %v", camera, want), func() bool {
		got, known := w.faults(camera)
		return known && fmt.Sprint(got) == fmt.Sprint(want)
	})
}

// told are the events of an area so far: "state cause name".
func (w *world) told(kind string) []string {
	w.Helper()
	s, err := w.js.Stream(w.Context(), streams.Events)
	if err != nil {
		w.Fatal(err)
	}
	var out []string
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(w.Context(), seq)
		if err != nil {
			w.Fatal(err)
		}
		if e, err := events.Decode(m.Data); err == nil && e.Area == "drift" && e.Kind == kind {
			out = append(out, e.State+" "+e.Cause+" "+e.Name)
		}
	}
	return out
}

func (w *world) key(bucket, key string) bool {
	w.Helper()
	kv, err := w.js.KeyValue(w.Context(), bucket)
	if err != nil {
		w.Fatal(err)
	}
	_, err = kv.Get(w.Context(), key)
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		w.Fatal(err)
	}
	return err == nil
}

// A fault is told and said while it lasts, of the camera that has it, and through restarts of the monitor at any moment.
func TestFaultsAreSaidThroughRestarts(t *testing.T) {
	w := newWorld(t, "door", "yard")
	clean, frozen := footage(t, "clean"), footage(t, "frozen")
	s, stop := w.start("a")
	w.until("it leads", s.Leading)
	w.show("door", clean, 300)
	w.show("yard", clean, 300)
	w.until("it has written down both cameras", func() bool {
		return w.key(streams.ReferencesBucket, statePrefix+"door") && w.key(streams.ReferencesBucket, statePrefix+"yard")
	})
	w.show("door", frozen, 30) // too short to tell
	stop()
	w.show("door", frozen[30:], 60) // while nobody watches
	w.show("yard", clean[300:], 60)
	_, stop = w.start("b")
	w.untilFaults("door", drift.Frozen)
	stop()
	_, stop = w.start("c")
	w.show("door", frozen, 20)
	w.show("yard", clean[360:], 60)
	w.show("door", clean, 60)
	w.untilFaults("door")
	stop()
	if got := w.told("integrity"); fmt.Sprint(got) != "[raised frozen door cleared frozen door]" {
		t.Errorf("told %v", got)
	}
	if _, known := w.faults("yard"); known {
		t.Error("something is said of a camera that never had a fault")
	}
}

// A leader that is killed is followed by a standby, which reads again what may not have been written down.
func TestAStandbyTakesOver(t *testing.T) {
	w := newWorld(t, "door")
	clean, black := footage(t, "clean"), footage(t, "black")
	a, stopA := w.start("a")
	w.until("a leads", a.Leading)
	b, _ := w.start("b")
	w.show("door", clean, 200)
	w.show("door", black, 50)
	w.untilFaults("door", drift.Black)
	kv, err := w.js.KeyValue(t.Context(), streams.LeasesBucket)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), leaseKey); err != nil { // a is taken for dead
		t.Fatal(err)
	}
	w.until("b leads, or a again", func() bool { return b.Leading() != a.Leading() })
	if a.Leading() {
		stopA()
	}
	w.until("b leads", b.Leading)
	w.show("door", clean, 60)
	w.untilFaults("door")
	if got := w.told("integrity"); fmt.Sprint(got) != "[raised black door cleared black door]" {
		t.Errorf("told %v", got)
	}
}

func TestWhatIngestTellsIsSaid(t *testing.T) {
	w := newWorld(t, "door")
	s, _ := w.start("a")
	w.until("it leads", s.Leading)
	ingest := events.NewPublisher(w.js, "ingest-1")
	tell := func(state string) {
		ingest.Tell(events.Event{
			Area: "camera", Kind: "integrity", Name: "door", State: state, Cause: "fps",
			Facts: map[string]string{"announced": "10", "measured": "5.000", "epoch": "7"},
		})
		done, cancel := context.WithCancel(t.Context())
		cancel()
		if err := ingest.Run(done); err != nil {
			t.Fatal(err)
		}
	}
	tell("raised")
	w.untilFaults("door", drift.FPS)
	r, _, err := drift.Read(t.Context(), w.js)
	if err != nil || r.Integrities[0].Faults[0].Evidence["measured"] != 5 {
		t.Errorf("%+v, %v", r, err)
	}
	tell("cleared")
	w.untilFaults("door")
}

func TestARequestMakesTheViewTheReference(t *testing.T) {
	w := newWorld(t, "door", "yard")
	clean, shifted := footage(t, "clean"), footage(t, "shifted")
	s, _ := w.start("a")
	w.until("it leads", s.Leading)
	for _, name := range []string{"door", "yard"} {
		w.show(name, clean, 200)
		w.show(name, shifted, 130)
		w.untilFaults(name, drift.Shifted)
	}
	kv, err := w.js.KeyValue(t.Context(), streams.ReferencesBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), drift.Request{Model: "person", Camera: "door"}.Key(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	w.untilFaults("door")
	w.until("the request is done", func() bool {
		return !w.key(streams.ReferencesBucket, drift.Request{Model: "person", Camera: "door"}.Key())
	})
	if got, _ := w.faults("yard"); len(got) != 1 {
		t.Errorf("another camera has %v", got)
	}
}

func TestACameraThatIsRemovedIsForgotten(t *testing.T) {
	w := newWorld(t, "door", "yard")
	s, _ := w.start("a")
	w.until("it leads", s.Leading)
	w.show("door", footage(t, "black"), 50)
	w.untilFaults("door", drift.Black)
	w.until("it is written down", func() bool { return w.key(streams.ReferencesBucket, statePrefix+"door") })
	w.declare([]string{"door", "yard"}, "yard")
	w.until("nothing is said or kept of it", func() bool {
		return !w.key(streams.DriftBucket, drift.IntegrityKey("door")) && !w.key(streams.ReferencesBucket, statePrefix+"door")
	})
	w.show("door", footage(t, "black"), 50) // what was on its way
	w.show("yard", footage(t, "black"), 50)
	w.untilFaults("yard", drift.Black)
	if w.key(streams.DriftBucket, drift.IntegrityKey("door")) {
		t.Error("something is said of a camera that is no more")
	}
}

func (w *world) status(camera string) (drift.Status, bool) {
	w.Helper()
	r, _, err := drift.Read(w.Context(), w.js)
	if err != nil {
		w.Fatal(err)
	}
	for _, s := range r.Statuses {
		if s.Camera == camera {
			return s, true
		}
	}
	return drift.Status{}, false
}

func (w *world) untilState(camera string, want ...drift.State) drift.Status {
	w.Helper()
	var got drift.Status
	w.until(fmt.Sprintf("%s is %v", camera, want), func() bool {
		var known bool
		got, known = w.status(camera)
		return known && slices.Contains(want, got.State)
	})
	return got
}

// A reference is captured by itself; what differs from it is told, through a restart; and who asks gets a new one.
func TestDriftIsSaidAndTold(t *testing.T) {
	w := newWorld(t, "door")
	clean, dark := footage(t, "clean"), footage(t, "darkened")
	s, stop := w.start("a")
	w.until("it leads", s.Leading)
	w.show("door", clean, 4000)
	before := w.untilState("door", drift.OK)
	if before.Reference == nil || before.Reference.Version != "1" || before.EffectiveSamples == 0 || len(before.Features) == 0 {
		t.Errorf("%+v", before)
	}
	w.until("the reference is kept", func() bool { return w.key(streams.ReferencesBucket, referenceKey("person", "1", "door")) })
	w.show("door", dark, 100)
	stop()
	w.show("door", dark[100:], 60)
	w.show("door", dark, 1200)
	w.start("b")
	after := w.untilState("door", drift.DataDrift, drift.SuspectedLoss)
	if !after.Features[0].Over() || after.Reference == nil || !after.Reference.Made.Equal(before.Reference.Made) {
		t.Errorf("%+v\nagainst %+v", after, before.Reference)
	}
	if got, known := w.faults("door"); len(got) > 0 {
		t.Errorf("darkness is taken for %v (%v)", got, known)
	}
	kv, err := w.js.KeyValue(t.Context(), streams.ReferencesBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), drift.Request{Model: "person", Camera: "door"}.Key(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	w.until("the old reference is gone", func() bool { return !w.key(streams.ReferencesBucket, referenceKey("person", "1", "door")) })
	w.show("door", dark, 4000)
	w.until("there is a new one", func() bool {
		got, _ := w.status("door")
		return got.State == drift.OK && got.Reference.Made.After(after.Reference.Made)
	})
	told := w.told("state")
	if len(told) < 3 || told[0] != "ok  door" || !strings.Contains(told[1], "door") || strings.HasPrefix(told[1], "ok") {
		t.Errorf("told %q", told)
	}
}

// Feedback finds the answer that it is about, and becomes precision and recall; it survives a restart, and comes late.
func TestFeedbackBecomesQuality(t *testing.T) {
	w := newWorld(t, "door")
	clean := footage(t, "clean")
	box := predictions.Box{10, 20, 60, 180}
	w.detections = []predictions.Detection{{Class: "person", Score: 0.9, Box: box}, {Class: "person", Score: 0.5, Box: predictions.Box{300, 20, 360, 180}}}
	s, stop := w.start("a")
	w.until("it leads", s.Leading)
	w.show("door", clean, 400)
	say := func(seq uint64) {
		t.Helper()
		f := feedback.Feedback{Frame: frame.Name{Camera: "door", Epoch: 7, Seq: seq}.String(), Model: "person", By: "test"}
		f.Labels = []feedback.Label{{Class: "person", Box: box}, {Class: "person", Box: predictions.Box{500, 20, 560, 180}}, {Class: "person", Box: predictions.Box{600, 20, 660, 180}}}
		if err := feedback.Send(t.Context(), w.js, f); err != nil {
			t.Fatal(err)
		}
	}
	for seq := uint64(1); seq <= 30; seq++ {
		say(10 * seq)
	}
	say(1_000_000) // of what nobody remembers
	stop()
	for seq := uint64(31); seq <= 40; seq++ {
		say(10 * seq)
	}
	w.start("b")
	var q *drift.Quality
	w.until("precision and recall are said", func() bool {
		w.show("door", clean, 60)
		got, _ := w.status("door")
		q = got.Quality
		return q != nil && q.Recall != nil && q.Recall.Count == 120
	})
	third, half := q.Recall, q.Precision[0]
	if third.Value < 0.333 || third.Value > 0.334 || third.Low >= third.Value || third.Source != drift.FromLabels {
		t.Errorf("recall %+v", third)
	}
	if half.Value != 0.5 || half.Count != 80 || q.AP50 == nil {
		t.Errorf("precision %+v of %+v", half, q)
	}
	w.until("slices are compared", func() bool { return w.key(streams.DriftBucket, drift.FairnessKey("person")) })
}

// What cannot be read is passed over, and a state from before does not keep anybody from starting.
func TestNonsense(t *testing.T) {
	w := newWorld(t, "door")
	kv, err := w.js.KeyValue(t.Context(), streams.ReferencesBucket)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{statePrefix + "door", positionKey, "_request.a.b.c.d"} {
		if _, err := kv.Put(t.Context(), key, []byte("{")); err != nil {
			t.Fatal(err)
		}
	}
	for _, subject := range []string{"predictions.person.door", "events.camera.integrity.door"} {
		if _, err := w.js.Publish(t.Context(), subject, []byte("{")); err != nil {
			t.Fatal(err)
		}
	}
	s, _ := w.start("a")
	w.until("it leads", s.Leading)
	w.show("door", footage(t, "black"), 50)
	w.untilFaults("door", drift.Black)
}

package infer_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/streams"
)

// site is an embedded broker with the streams declared, and an infer service on the fake backend.
type site struct {
	js      jetstream.JetStream
	fake    *infer.Fake
	service *infer.Service
	stop    func()
}

func newSite(t *testing.T, models ...catalog.Model) *site {
	t.Helper()
	js := brokertest.JetStream(t)
	for _, m := range models {
		if _, err := catalog.PutModel(t.Context(), js, m); err != nil {
			t.Fatal(err)
		}
	}
	s := &site{js: js, fake: &infer.Fake{}}
	s.service = infer.NewService(infer.Config{Instance: "a", Workers: 2}, infer.Deps{
		JS: js, Backend: s.fake, Log: slog.New(slog.DiscardHandler),
		Open: func(name string, version int) (model.Artifact, error) {
			if version == 13 {
				return model.Artifact{}, errors.New("half a download")
			}
			return model.Artifact{Name: name, Version: version}, nil
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.service.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("service: %v", err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

func person(version int) catalog.Model {
	d, _ := model.Preset(model.Person)
	d.Input.Width, d.Input.Height, d.Input.Layout = 16, 16, model.NCHW
	return catalog.Model{Name: "person", Version: version, Declaration: d}
}

// send publishes a tensor of one shade: a white one shows a person, a black one does not.
func (s *site) send(t *testing.T, seq uint64, shade byte, change func(*frame.Tensor)) {
	t.Helper()
	data := make([]byte, 16*16*3)
	for i := range data {
		data[i] = shade
	}
	x := frame.Tensor{
		Facts: frame.Facts{
			Name: frame.Name{Camera: "door", Epoch: 1, Seq: seq}, Captured: time.Now(), Deadline: time.Now().Add(time.Minute),
			SourceW: 160, SourceH: 160, Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		},
		Model: "person", Lane: streams.LaneStable, Width: 16, Height: 16, Channels: 3, Color: "rgb", Transform: [4]float64{10, 10, 0, 0},
	}
	if change != nil {
		change(&x)
	}
	msg := nats.NewMsg(streams.TensorSubject(streams.EveryFrame, "person", streams.LaneStable, "door"))
	x.Encode(msg.Header)
	msg.Data = data
	if _, err := s.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
}

// follow reads a stream from its beginning.
func (s *site) follow(t *testing.T, stream string) (next func() jetstream.Msg) {
	t.Helper()
	c, err := s.js.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return func() jetstream.Msg {
		t.Helper()
		m, err := c.Next(jetstream.FetchMaxWait(20 * time.Second))
		if err != nil {
			t.Fatalf("no message on %s: %v", stream, err)
		}
		return m
	}
}

func (s *site) ready(t *testing.T) {
	t.Helper()
	if err := s.service.Ready(t.Context(), "person"); err != nil {
		t.Fatal(err)
	}
}

func TestAnswersEveryTensorOnceInSourcePixels(t *testing.T) {
	s := newSite(t, person(1))
	s.ready(t)
	next := s.follow(t, streams.Predictions)
	s.send(t, 1, 255, nil)
	s.send(t, 1, 255, nil) // the same frame again, as after a redelivery that crossed the acknowledgement
	s.send(t, 2, 0, nil)
	bySeq := map[string]predictions.Prediction{}
	for range 2 {
		m := next()
		p, err := predictions.Decode(m.Data())
		if err != nil {
			t.Fatal(err)
		}
		if m.Headers().Get("Traceparent") == "" {
			t.Error("the trace ends here")
		}
		bySeq[p.Frame] = p
	}
	seen, empty := bySeq["door/1/1"], bySeq["door/1/2"]
	if len(seen.Detections) != 1 || seen.Detections[0].Box != (predictions.Box{40, 40, 120, 120}) {
		t.Errorf("detections %+v, want one in the middle half of 160x160", seen.Detections)
	}
	if empty.Detections == nil || len(empty.Detections) != 0 || empty.Status != predictions.StatusOK {
		t.Errorf("nothing in view is an answer: %+v", empty)
	}
	if seen.Version != "1" || seen.Lane != streams.LaneStable || seen.Attempt != 1 || seen.TimingsMS["total"] <= 0 {
		t.Errorf("prediction %+v", seen)
	}
	s.stop()
	stream, err := s.js.Stream(t.Context(), streams.Predictions)
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 2 {
		t.Errorf("%d predictions of 2 frames", n)
	}
	books, err := ledger.Read(t.Context(), s.js)
	if err != nil {
		t.Fatal(err)
	}
	if l := books.Lines(time.Now(), nil); len(l) != 1 || l[0].Predicted != 2 || !l[0].Balanced() {
		t.Errorf("books %+v", l)
	}
}

func TestWhatCannotBeAnsweredIsNeverEmpty(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*frame.Tensor)
		before func(*infer.Fake)
		dlq    string // text of the reason; "" when the tensor is dropped
		fate   ledger.Mark
	}{
		{name: "too old", change: func(x *frame.Tensor) { x.Deadline = x.Captured.Add(-time.Second) }, fate: ledger.Expired},
		{name: "live, made for another input", change: func(x *frame.Tensor) { x.Width, x.Height = 32, 8 }, fate: ledger.Superseded},
		{name: "made for another input", change: func(x *frame.Tensor) { x.Width, x.Height, x.Deadline = 32, 8, time.Time{} }, dlq: "tensor is 8x32x3 rgb, person wants 16x16x3 rgb"},
		{name: "model returns NaN", before: func(f *infer.Fake) { f.NaNNext(math.MaxInt) }, dlq: "holds NaN"},
		{name: "model fails", before: func(f *infer.Fake) { f.FailNext(math.MaxInt) }, dlq: infer.ErrFake.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, person(1))
			s.ready(t)
			if tt.before != nil {
				tt.before(s.fake)
			}
			s.send(t, 1, 255, tt.change)
			fate := tt.fate
			if tt.dlq != "" {
				fate = ledger.Quarantined
				m := s.follow(t, streams.DLQ)()
				if reason := m.Headers().Get(stage.HeaderReason); !strings.Contains(reason, tt.dlq) || len(m.Data()) != 16*16*3 {
					t.Errorf("quarantined because %q with %d bytes, want %q", reason, len(m.Data()), tt.dlq)
				}
			}
			records := s.follow(t, streams.Ledger)
			for found := false; !found; {
				r, err := ledger.Decode(records().Data())
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range r.Entries {
					found = found || e.Mark == fate
				}
			}
			stream, err := s.js.Stream(t.Context(), streams.Predictions)
			if err != nil {
				t.Fatal(err)
			}
			if n := stream.CachedInfo().State.Msgs; n != 0 {
				t.Errorf("%d answers to a tensor that has none", n)
			}
		})
	}
}

func TestRefusedModelSaysWhyAndTheOldOneStays(t *testing.T) {
	s := newSite(t, person(13))
	if err := s.service.Ready(t.Context(), "person"); err == nil || !strings.Contains(err.Error(), "half a download") {
		t.Fatalf("ready: %v", err)
	}
	events := s.follow(t, streams.Events)
	if m := events(); m.Subject() != "events.model.refused.person" {
		t.Errorf("event on %s", m.Subject())
	}
	put := func(version int) {
		t.Helper()
		if _, err := catalog.PutModel(t.Context(), s.js, person(version)); err != nil {
			t.Fatal(err)
		}
	}
	await := func(subject string) {
		t.Helper()
		for seen := ""; seen != subject; {
			seen = events().Subject()
		}
	}
	put(2)
	await("events.model.loaded.person")
	put(13)
	await("events.model.refused.person")
	next := s.follow(t, streams.Predictions)
	s.send(t, 1, 255, nil)
	if p, err := predictions.Decode(next().Data()); err != nil || p.Version != "2" {
		t.Errorf("answered by version %q, %v: want the old one", p.Version, err)
	}
}

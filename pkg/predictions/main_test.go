package predictions_test

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// began is when the fixtures' frames were captured.
var began = time.Date(2026, 1, 31, 8, 0, 0, 250e6, time.UTC)

const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// answer is a prediction of the seq-th frame of a camera.
func answer(camera string, seq int, objects ...predictions.Detection) predictions.Prediction {
	at := began.Add(time.Duration(seq) * time.Second)
	return predictions.Prediction{
		Schema: predictions.SchemaID, Kind: predictions.KindPrediction, Status: predictions.StatusOK,
		Camera: camera, Model: "people", Version: "3", Lane: streams.LaneStable,
		Frame: camera + "/7/" + strconv.Itoa(seq), CapturedAt: at, PredictedAt: at.Add(40 * time.Millisecond),
		Image: &predictions.Image{Width: 1920, Height: 1080}, Detections: append([]predictions.Detection{}, objects...),
	}
}

func person(score float64) predictions.Detection {
	return predictions.Detection{Class: "person", Score: score, Box: predictions.Box{10, 20.5, 110, 220}}
}

// gap says that nobody looks at a camera, until to unless that is zero.
func gap(camera, reason string, to time.Time) predictions.Prediction {
	return predictions.Prediction{
		Schema: predictions.SchemaID, Kind: predictions.KindGap, Status: predictions.StatusUnknown,
		Camera: camera, Model: "people", Gap: &predictions.Gap{Reason: reason, From: began, To: to},
	}
}

// server is an embedded broker that can be stopped and started again in its place.
type server struct {
	t    *testing.T
	dir  string
	port int
	now  *broker.Embedded
	js   jetstream.JetStream // a connection of its own, to publish with
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), port: -1}
	s.start()
	t.Cleanup(func() { s.now.Stop() })
	u, err := url.Parse(s.now.URL())
	if err != nil {
		t.Fatal(err)
	}
	if s.port, err = strconv.Atoi(u.Port()); err != nil {
		t.Fatal(err)
	}
	if s.js, err = jetstream.New(s.connect()); err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), s.js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) start() {
	s.t.Helper()
	var err error
	if s.now, err = broker.StartEmbedded(s.t.Context(), "127.0.0.1", s.port, s.dir); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) connect() *nats.Conn {
	s.t.Helper()
	nc, err := nats.Connect(s.now.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

func (s *server) client() *predictions.Client {
	s.t.Helper()
	c, err := predictions.Open(s.connect())
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// publish stores messages as the platform does.
func (s *server) publish(all ...predictions.Prediction) {
	s.t.Helper()
	for _, p := range all {
		if err := p.Validate(); err != nil {
			s.t.Fatal(err)
		}
		data, err := json.Marshal(p)
		if err != nil {
			s.t.Fatal(err)
		}
		s.store(p.Model, p.Camera, p.ID(), data)
	}
}

// store publishes anything, until the broker has it.
func (s *server) store(model, camera, id string, data []byte) {
	s.t.Helper()
	msg := nats.NewMsg(streams.PredictionSubject(model, camera))
	msg.Data = data
	msg.Header.Set(jetstream.MsgIDHeader, id)
	msg.Header["Traceparent"] = []string{trace}
	for {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		_, err := s.js.PublishMsg(ctx, msg)
		cancel()
		if err == nil {
			return
		}
		if s.t.Context().Err() != nil {
			s.t.Fatal(err)
		}
	}
}

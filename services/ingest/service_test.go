package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/decodertest"
	"github.com/sightline-dev/sightline/streams"
)

// scene is a fake camera: pictures come when the test says so.
type scene struct {
	units   chan ingest.AccessUnit
	decoded chan struct{}
	fail    chan error
	n       uint32
}

func newScene() *scene {
	return &scene{units: make(chan ingest.AccessUnit), decoded: make(chan struct{}, 1), fail: make(chan error)}
}

// watched tells when a unit has been decoded, so that a test can shoot as fast as the session keeps up.
type watched struct {
	ingest.Decoder
	decoded chan<- struct{}
}

func (w watched) Decode(u ingest.AccessUnit) (ingest.Picture, error) {
	select {
	case w.decoded <- struct{}{}:
	default:
	}
	return w.Decoder.Decode(u)
}

func (s *scene) Run(ctx context.Context, sink func(ingest.AccessUnit)) error {
	for {
		select {
		case u := <-s.units:
			sink(u)
		case err := <-s.fail:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// shoot delivers n pictures, 100 ms of the camera's clock apart, as soon as somebody takes them.
func (s *scene) shoot(t *testing.T, n int) {
	t.Helper()
	for range n {
		u := decodertest.FakeUnit(ingest.MJPEG, s.n, true, 640, 480)
		u.PTS, u.Received = time.Duration(s.n)*100*time.Millisecond, time.Now()
		s.n++
		select {
		case s.units <- u:
		case <-t.Context().Done():
			return
		}
		select {
		case <-s.decoded:
		case <-t.Context().Done():
			return
		}
	}
}

// site is an embedded broker with the streams, one model and one camera declared.
type site struct {
	js     jetstream.JetStream
	server *broker.Embedded
	tel    *telemetry.Telemetry                          // of the instances; nil is none
	slow   func(jetstream.JetStream) jetstream.JetStream // the broker as instances see it; nil: as it is
}

func newSite(t *testing.T, cameras ...config.Camera) *site {
	t.Helper()
	return newSiteIn(t, t.TempDir(), cameras...)
}

// newSiteIn keeps the broker's files in dir.
func newSiteIn(t *testing.T, dir string, cameras ...config.Camera) *site {
	t.Helper()
	server, err := broker.StartEmbedded(t.Context(), "127.0.0.1", -1, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	r := &site{server: server}
	r.js = r.connect(t, "test")
	r.declare(t, cameras...)
	return r
}

// declare makes streams and buckets, a model and cameras.
func (r *site) declare(t *testing.T, cameras ...config.Camera) {
	t.Helper()
	if err := streams.Ensure(t.Context(), r.js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	d, _ := model.Preset("ultraface")
	d.Input.Layout = model.NCHW
	if _, err := catalog.PutModel(t.Context(), r.js, catalog.Model{Name: "face", Version: 1, SHA256: "x", Declaration: d}); err != nil {
		t.Fatal(err)
	}
	if err := catalog.PutCameras(t.Context(), r.js, nil, cameras); err != nil {
		t.Fatal(err)
	}
}

func (r *site) connect(t *testing.T, name string) jetstream.JetStream {
	t.Helper()
	nc, err := broker.Connect(broker.Config{URL: r.server.URL(), Name: name, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := broker.JetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func door(t *testing.T, d streams.Delivery) config.Camera {
	t.Helper()
	c := config.DefaultCamera()
	url, err := config.ParseURL("rtsp://user:hunter2@127.0.0.1/door")
	if err != nil {
		t.Fatal(err)
	}
	c.Name, c.URL, c.Models, c.Delivery, c.StallAfter = "door", url, []string{"face"}, d, time.Minute
	if d == streams.EveryFrame {
		c.MaxAge = 0
	}
	return c
}

// start runs an instance and returns how to stop it.
func (r *site) start(t *testing.T, instance string, scenes map[string]*scene) (stop func()) {
	t.Helper()
	one := ""
	for name := range scenes { // these tests have one camera
		one = name
	}
	js := r.connect(t, "ingest-"+instance)
	if r.slow != nil {
		js = r.slow(js)
	}
	s := ingest.NewService(ingest.Config{Instance: instance}, ingest.Deps{
		JS: js, Telemetry: r.tel, Log: slog.New(slog.DiscardHandler),
		NewSource: func(c config.Camera) (ingest.Source, error) {
			if scenes[c.Name] == nil {
				return nil, fmt.Errorf("no scene for %s", c.Name)
			}
			return scenes[c.Name], nil
		},
		NewDecoder: func(c ingest.Codec) (ingest.Decoder, error) {
			d, err := decodertest.NewFake(c)
			return watched{d, scenes[one].decoded}, err
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("instance %s: %v", instance, err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// next takes the next message of a subject, within ten seconds.
func (r *site) next(t *testing.T, c jetstream.Consumer) jetstream.Msg {
	t.Helper()
	for range 10 {
		m, err := c.Next(jetstream.FetchMaxWait(time.Second))
		if err == nil {
			return m
		}
		if !errors.Is(err, jetstream.ErrNoMessages) && !errors.Is(err, context.DeadlineExceeded) {
			t.Logf("next: %v", err)
		}
	}
	t.Fatal("no message came")
	return nil
}

func (r *site) consumer(t *testing.T, stream string) jetstream.Consumer {
	t.Helper()
	c, err := r.js.CreateConsumer(t.Context(), stream, jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFramesHaveNamesFactsAndFates(t *testing.T) {
	r := newSite(t, door(t, streams.EveryFrame))
	frames := r.consumer(t, streams.Frames)
	at := newScene()
	stop := r.start(t, "a", map[string]*scene{"door": at})
	go at.shoot(t, 5)
	var epoch uint64
	for i := range 5 {
		m := r.next(t, frames)
		f, err := frame.Decode(m.Headers())
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			epoch = f.Name.Epoch
		}
		want := frame.Name{Camera: "door", Epoch: epoch, Seq: uint64(i + 1)}
		if f.Name != want || m.Subject() != "frames.every.door" {
			t.Errorf("frame %s on %s, want %s", f.Name, m.Subject(), want)
		}
		if f.SourceW != 640 || f.SourceH != 480 || !f.Deadline.IsZero() || len(f.Models) != 1 || f.Models[0] != "face" {
			t.Errorf("facts %+v", f)
		}
		if d := f.TemporalDifference; (d == nil) != (i == 0) || d != nil && *d != 1 { // each picture is one grey level lighter
			t.Errorf("picture %d differs by %v", i, d)
		}
		if len(f.Trace) != 55 || len(f.Timings) != 1 || f.Timings[0].Stage != "ingest" {
			t.Errorf("trace %q, timings %v", f.Trace, f.Timings)
		}
	}
	stop()
	books, err := ledger.Read(t.Context(), r.js)
	if err != nil {
		t.Fatal(err)
	}
	lines := books.Lines(time.Now(), nil)
	if len(lines) != 1 || lines[0].Captured != 5 || lines[0].InFlight != 5 || lines[0].Lost != 0 {
		t.Errorf("books %+v", lines)
	}
}

func TestAnotherInstanceTakesOverWithANewerEpoch(t *testing.T) {
	r := newSite(t, door(t, streams.EveryFrame))
	frames := r.consumer(t, streams.Frames)
	first, second := newScene(), newScene()
	stopFirst := r.start(t, "a", map[string]*scene{"door": first})
	go first.shoot(t, 1)
	before, err := frame.Decode(r.next(t, frames).Headers())
	if err != nil {
		t.Fatal(err)
	}
	r.start(t, "b", map[string]*scene{"door": second})
	select { // b must not capture what a holds
	case second.units <- decodertest.FakeUnit(ingest.MJPEG, 0, true, 640, 480):
		t.Fatal("two instances capture one camera")
	case <-time.After(streams.LeaseTTL / 2):
	}
	stopFirst()
	go second.shoot(t, 1)
	after, err := frame.Decode(r.next(t, frames).Headers())
	if err != nil {
		t.Fatal(err)
	}
	if after.Name.Epoch <= before.Name.Epoch || after.Name.Seq != 1 {
		t.Errorf("after the take-over %s, before %s: want a newer epoch from 1", after.Name, before.Name)
	}
}

func TestGapRecordsWhileACameraIsDown(t *testing.T) {
	r := newSite(t, door(t, streams.Freshest))
	answers := r.consumer(t, streams.Predictions)
	at := newScene()
	r.start(t, "a", map[string]*scene{"door": at})
	at.shoot(t, 1)
	at.fail <- ingest.WithCause(ingest.CauseRefused, errors.New("dial rtsp://user:hunter2@127.0.0.1/door: refused"))
	open, err := predictions.Decode(r.next(t, answers).Data())
	if err != nil {
		t.Fatal(err)
	}
	if open.Kind != predictions.KindGap || open.Status != predictions.StatusUnknown || open.Gap.Reason != "refused" || !open.Gap.To.IsZero() {
		t.Errorf("gap %+v %+v", open, open.Gap)
	}
	at.shoot(t, 1)
	closed, err := predictions.Decode(r.next(t, answers).Data())
	if err != nil {
		t.Fatal(err)
	}
	if closed.Kind != predictions.KindGap || closed.Gap.To.IsZero() || !closed.Gap.From.Equal(open.Gap.From) {
		t.Errorf("gap %+v %+v", closed, closed.Gap)
	}
	stream, err := r.js.Stream(t.Context(), streams.Events)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(t.Context(), streams.EventSubject("camera", "state", "door"))
	if err != nil {
		t.Fatal(err)
	}
	if s := string(m.Data); s == "" || strings.Contains(s, "hunter2") {
		t.Errorf("event shows the password, or nothing: %s", s)
	}
}

// TestGapOutlivesItsOwner: what one instance opened the next one closes, and nobody looking is a gap of its own.
func TestGapOutlivesItsOwner(t *testing.T) {
	r := newSite(t, door(t, streams.Freshest))
	answers := r.consumer(t, streams.Predictions)
	next := func() predictions.Prediction {
		t.Helper()
		p, err := predictions.Decode(r.next(t, answers).Data())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first, second := newScene(), newScene()
	stop := r.start(t, "a", map[string]*scene{"door": first})
	first.shoot(t, 1)
	stop()
	released := next()
	if released.Kind != predictions.KindGap || released.Gap.Reason != "released" || !released.Gap.To.IsZero() {
		t.Fatalf("%+v %+v", released, released.Gap)
	}
	r.start(t, "b", map[string]*scene{"door": second})
	go second.shoot(t, 1)
	closed := next()
	if closed.Kind != predictions.KindGap || closed.Gap.To.IsZero() || !closed.Gap.From.Equal(released.Gap.From) {
		t.Errorf("%+v %+v", closed, closed.Gap)
	}
}

// TestFramesSurviveABrokerThatIsAway: what the backlog holds is published when the broker is back, what falls out of it is
// in the books, and nothing else is missing.
func TestFramesSurviveABrokerThatIsAway(t *testing.T) {
	const shot = 400 // more than the backlog of an every_frame camera
	dir := t.TempDir()
	r := newSiteIn(t, dir, door(t, streams.EveryFrame))
	at := newScene()
	stop := r.start(t, "a", map[string]*scene{"door": at})
	at.shoot(t, 1)
	r.next(t, r.consumer(t, streams.Frames))
	url, err := url.Parse(r.server.URL())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(url.Port())
	if err != nil {
		t.Fatal(err)
	}
	r.server.Stop()
	at.shoot(t, shot)
	if r.server, err = broker.StartEmbedded(t.Context(), "127.0.0.1", port, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.server.Stop)
	js := r.connect(t, "after")
	for deadline := time.Now().Add(30 * time.Second); ; { // the books are complete half a second after the broker is back
		books, err := ledger.Read(t.Context(), js)
		if err == nil {
			lines := books.Lines(time.Now(), nil)
			stream, err := js.Stream(t.Context(), streams.Frames)
			if err != nil {
				t.Fatal(err)
			}
			stored := stream.CachedInfo().State.Msgs
			if len(lines) == 1 && lines[0].Captured == shot+1 && lines[0].Superseded > 0 && stored+lines[0].Superseded == shot+1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d stored, books %+v", stored, lines)
			}
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	stop()
}

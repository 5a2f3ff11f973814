package access_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/deploy/nats/access"
	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/decodertest"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/recovery"
	"github.com/sightline-dev/sightline/streams"
)

// pictures is a camera that shows something ten times a second.
type pictures struct{}

func (pictures) Run(ctx context.Context, sink func(ingest.AccessUnit)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n := uint32(0); ; n++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			u := decodertest.FakeUnit(ingest.MJPEG, n, true, 64, 48)
			u.PTS = time.Duration(n) * 100 * time.Millisecond
			sink(u)
		}
	}
}

// pipeline is every service as a process of its own would be, each with its own user.
type pipeline struct {
	*site

	log  *warnings
	fake *infer.Fake
}

// process is one replica of a service.
type process struct {
	js   jetstream.JetStream
	stop context.CancelFunc
}

// kill ends it without a word to anybody.
func (p process) kill() {
	p.js.Conn().Close()
	p.stop()
}

func (p *pipeline) start(user, instance string, run func(ctx context.Context, js jetstream.JetStream, m *fleet.Member, log *slog.Logger) error) process {
	p.Helper()
	log := slog.New(p.log)
	js := p.connect(user, instance, log)
	member := fleet.NewMember(js, fleet.Config{Service: user, Instance: instance, Declares: user == access.Recovery, Replicas: 3, Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		if err := streams.Await(ctx, js, nil); err != nil {
			done <- err
			return
		}
		done <- member.While(ctx, func(ctx context.Context) error { return run(ctx, js, member, log) })
	}()
	p.Cleanup(func() {
		killed := js.Conn().IsClosed()
		cancel()
		if err := <-done; err != nil && !killed {
			p.Errorf("%s-%s: %v", user, instance, err)
		}
	})
	return process{js, cancel}
}

func (p *pipeline) recovery(instance string) process {
	return p.start(access.Recovery, instance, func(ctx context.Context, js jetstream.JetStream, m *fleet.Member, log *slog.Logger) error {
		return recovery.NewService(recovery.Config{Instance: instance, Replicas: 3}, recovery.Deps{JS: js, Member: m, Log: log}).Run(ctx)
	})
}

func (p *pipeline) ingest(instance string) process {
	return p.start(access.Ingest, instance, func(ctx context.Context, js jetstream.JetStream, m *fleet.Member, log *slog.Logger) error {
		others, err := fleet.Follow(ctx, js, m.Key(), log)
		if err != nil {
			return err
		}
		return ingest.NewService(ingest.Config{Instance: instance, Capacity: 8}, ingest.Deps{
			JS: js, Fleet: others, Member: m, Log: log,
			NewSource:  func(config.Camera) (ingest.Source, error) { return pictures{}, nil },
			NewDecoder: func(c ingest.Codec) (ingest.Decoder, error) { return decodertest.NewFake(c) },
		}).Run(ctx)
	})
}

func (p *pipeline) preprocess(instance string) process {
	return p.start(access.Preprocess, instance, func(ctx context.Context, js jetstream.JetStream, m *fleet.Member, log *slog.Logger) error {
		cfg := preprocess.Default()
		cfg.Instance = instance
		return preprocess.NewService(cfg, preprocess.Deps{JetStream: js, Imager: &preprocess.Fake{}, Member: m, Log: log}).Run(ctx)
	})
}

func (p *pipeline) infer(instance string) process {
	return p.start(access.Infer, instance, func(ctx context.Context, js jetstream.JetStream, m *fleet.Member, log *slog.Logger) error {
		return infer.NewService(infer.Config{Instance: instance, Workers: 2}, infer.Deps{
			JS: js, Backend: p.fake, Member: m, Log: log,
			Open: func(name string, version int) (model.Artifact, error) {
				return model.Artifact{Name: name, Version: version}, nil
			},
		}).Run(ctx)
	})
}

// ask is what clients of other languages ask before they read, and a question for one stored answer.
func (p *pipeline) ask(nc *nats.Conn) {
	p.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		p.Fatal(err)
	}
	if _, err := js.AccountInfo(p.Context()); err != nil {
		p.Error(err)
	}
	s, err := js.Stream(p.Context(), streams.Predictions)
	if err != nil {
		p.Fatal(err)
	}
	if _, err := s.GetLastMsgForSubject(p.Context(), streams.PredictionSubject("person", "fresh")); err != nil {
		p.Error(err)
	}
}

// step is a part of a test: what it leaves behind is the next one's.
func (p *pipeline) step(name string, do func()) {
	p.Helper()
	began := time.Now()
	do()
	p.Logf("%s: %v", name, time.Since(began).Round(time.Millisecond))
}

// declare is what `sightline apply` does.
func (p *pipeline) declare(js jetstream.JetStream) {
	p.Helper()
	p.eventually(func() error { return streams.Ensure(p.Context(), js, streams.Options{Replicas: 3}) })
	d, _ := model.Preset(model.Person)
	d.Input.Width, d.Input.Height, d.Input.Layout = 16, 16, model.NCHW
	if _, err := catalog.PutModel(p.Context(), js, catalog.Model{Name: "person", Version: 1, Declaration: d}); err != nil {
		p.Fatal(err)
	}
	var cameras []config.Camera
	for name, delivery := range map[string]streams.Delivery{"every": streams.EveryFrame, "fresh": streams.Freshest} {
		c := config.DefaultCamera()
		url, err := config.ParseURL("rtsp://127.0.0.1/" + name)
		if err != nil {
			p.Fatal(err)
		}
		c.Name, c.URL, c.Models, c.Delivery, c.FPS = name, url, []string{"person"}, delivery, 5
		if delivery == streams.EveryFrame {
			c.MaxAge = 0
		}
		cameras = append(cameras, c)
	}
	if err := catalog.PutCameras(p.Context(), js, nil, cameras); err != nil {
		p.Fatal(err)
	}
}

// reader counts answers of each camera, as an application reads them.
type reader struct {
	every, fresh, gaps atomic.Int64
}

func (r *reader) take(p predictions.Prediction) {
	switch {
	case p.Kind == predictions.KindGap:
		r.gaps.Add(1)
	case p.Camera == "every":
		r.every.Add(1)
	default:
		r.fresh.Add(1)
	}
}

// read follows predictions in both ways.
func (p *pipeline) read(nc *nats.Conn) (live, durable *reader) {
	p.Helper()
	client, err := predictions.Open(nc)
	if err != nil {
		p.Fatal(err)
	}
	live, durable = &reader{}, &reader{}
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	reading.Go(func() {
		for m, err := range client.Subscribe(ctx, predictions.Filter{}) {
			if err == nil {
				live.take(m.Prediction)
			}
		}
	})
	reading.Go(func() {
		for d, err := range client.Durable(ctx, "test", predictions.Filter{}) {
			if err == nil {
				durable.take(d.Prediction)
				_ = d.Ack(ctx)
			}
		}
	})
	p.Cleanup(func() { cancel(); reading.Wait() })
	return live, durable
}

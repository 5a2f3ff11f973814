// Package ingest turns cameras into frames: one supervised session per camera that this instance holds the lease of.
//
// # Delivery
//
// A captured frame gets its name (<camera>/<epoch>/<seq>) and from then on a fate in the ledger, whatever happens to the
// broker. While a camera cannot be seen, applications are told so with gap records on its prediction subjects.
//
// # Concurrency
//
// Cameras share nothing but the connection to the broker: a camera that hangs, floods or fails delays no other.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/streams"
)

// claimEvery is how often an instance tries for a lease that another one holds.
const claimEvery = streams.LeaseTTL / 3

// Config are the settings of one ingest process.
type Config struct {
	// Instance names this process; it is the holder of its leases.
	Instance string
}

// Deps are what a Service needs from outside.
type Deps struct {
	JS jetstream.JetStream
	// NewSource connects to a camera by its protocol.
	NewSource func(config.Camera) (Source, error)
	// NewDecoder decodes what a source delivers.
	NewDecoder func(Codec) (Decoder, error)
	Log        *slog.Logger
}

// Service captures every camera of the bucket CAMERAS that it gets the lease of.
type Service struct {
	cfg  Config
	deps Deps

	marks  *ledger.Reporter
	events *events.Publisher
	models catalog.Models
	leases jetstream.KeyValue
}

// NewService makes a Service; Run runs it.
func NewService(cfg Config, deps Deps) *Service {
	return &Service{
		cfg: cfg, deps: deps,
		marks: ledger.NewReporter(deps.JS, "ingest", cfg.Instance), events: events.NewPublisher(deps.JS, cfg.Instance),
	}
}

// Run captures until ctx ends, then publishes what was captured and gives its leases back.
func (s *Service) Run(ctx context.Context) (err error) {
	if s.leases, err = s.deps.JS.KeyValue(ctx, streams.LeasesBucket); err != nil {
		return fmt.Errorf("ingest: bucket %s: %w", streams.LeasesBucket, err)
	}
	if s.models, err = catalog.FollowModels(ctx, s.deps.JS, s.deps.Log); err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	cameras, err := catalog.FollowCameras(ctx, s.deps.JS, s.deps.Log)
	if err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	tell, stopTelling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTelling()
	var telling, keeping sync.WaitGroup
	telling.Go(func() { _ = s.marks.Run(tell) })
	telling.Go(func() { _ = s.events.Run(tell) })

	type kept struct {
		camera config.Camera
		stop   context.CancelFunc
		done   chan struct{}
	}
	keepers := map[string]kept{}
	for ctx.Err() == nil {
		want, changed := cameras.All()
		for name, k := range keepers {
			if e, ok := want[name]; !ok || !e.Value.Enabled || !reflect.DeepEqual(e.Value, k.camera) {
				k.stop()
				<-k.done // its frames are out and its lease is free before anybody takes it again
				delete(keepers, name)
			}
		}
		for name, e := range want {
			if _, ok := keepers[name]; ok || !e.Value.Enabled {
				continue
			}
			keep, stop := context.WithCancel(ctx)
			k := kept{camera: e.Value, stop: stop, done: make(chan struct{})}
			keepers[name] = k
			keeping.Go(func() { defer close(k.done); defer stop(); s.keep(keep, k.camera) })
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	keeping.Wait()
	stopTelling()
	telling.Wait()
	return nil
}

// keep captures one camera whenever its lease can be had.
func (s *Service) keep(ctx context.Context, cfg config.Camera) {
	for ctx.Err() == nil {
		models, ok := s.awaitModels(ctx, cfg)
		if !ok {
			return
		}
		lease, err := Acquire(ctx, s.leases, cfg.Name, s.cfg.Instance)
		if err != nil {
			if !errors.Is(err, ErrLeaseLost) && ctx.Err() == nil {
				s.deps.Log.WarnContext(ctx, "cannot claim camera", slog.String("camera", cfg.Name), slog.Any("error", err))
			}
			wait(ctx, claimEvery)
			continue
		}
		s.hold(ctx, cfg, lease, models)
	}
}

// hold captures under one lease, until ctx ends or the lease is lost.
func (s *Service) hold(ctx context.Context, cfg config.Camera, lease *Lease, models []model.Declaration) {
	capture, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	holding, giveBack := context.WithCancel(context.WithoutCancel(ctx)) // the lease outlives the last frame
	defer giveBack()

	var keeping sync.WaitGroup
	keeping.Go(func() {
		err := lease.Keep(holding)
		stop(err)
		if err != nil {
			s.events.Tell(events.Event{Area: "camera", Kind: "lease", Name: cfg.Name, State: "lost", Detail: err.Error()})
		}
	})
	keeping.Go(func() { s.watchModels(capture, cfg, models, stop) })
	c := &camera{cfg: cfg, epoch: lease.Epoch, models: models, js: s.deps.JS, marks: s.marks, events: s.events}
	s.events.Tell(events.Event{Area: "camera", Kind: "lease", Name: cfg.Name, State: "acquired", Facts: c.epochFact()})
	source, err := s.deps.NewSource(cfg)
	if err == nil {
		err = c.run(capture, source, s.deps.NewDecoder)
	}
	if err != nil && ctx.Err() == nil {
		s.events.Tell(events.Event{Area: "camera", Kind: "state", Name: cfg.Name, State: string(PhaseDown), Cause: string(CauseOf(err)), Detail: NewRedactor(cfg.URL.Reveal()).Redact(err.Error()), Facts: c.epochFact()})
		wait(capture, claimEvery)
	}
	giveBack()
	keeping.Wait()
}

// errModelsChanged ends a capture: frames are scaled for what their models need.
var errModelsChanged = errors.New("a model's input changed")

func (s *Service) watchModels(ctx context.Context, cfg config.Camera, have []model.Declaration, stop context.CancelCauseFunc) {
	for {
		_, changed := s.models.All()
		for i, name := range cfg.Models {
			if d, ok := s.models.Model(name); ok && !reflect.DeepEqual(d, have[i]) {
				stop(errModelsChanged)
				return
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// awaitModels waits until every model of a camera is declared.
func (s *Service) awaitModels(ctx context.Context, cfg config.Camera) ([]model.Declaration, bool) {
	for told := false; ; {
		_, changed := s.models.All()
		var out []model.Declaration
		missing := ""
		for _, name := range cfg.Models {
			d, ok := s.models.Model(name)
			if !ok {
				missing = name
				break
			}
			out = append(out, d)
		}
		if missing == "" {
			return out, true
		}
		if !told {
			told = true
			s.events.Tell(events.Event{Area: "camera", Kind: "state", Name: cfg.Name, State: "waiting", Detail: "model " + missing + " is not declared", At: time.Now().UTC()})
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, false
		}
	}
}

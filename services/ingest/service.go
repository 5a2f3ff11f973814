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
	"fmt"
	"log/slog"
	"reflect"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

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
	for _, run := range []func(context.Context) error{s.marks.Run, s.events.Run} {
		telling.Go(func() {
			if err := run(tell); err != nil {
				s.deps.Log.WarnContext(tell, "what this instance saw last is not reported", slog.Any("error", err))
			}
		})
	}
	keepers := map[string]*keeper{}
	for ctx.Err() == nil {
		want, changed := cameras.All()
		s.reconcile(ctx, want, keepers, &keeping)
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

// keeper is one camera with certain settings, until they change.
type keeper struct {
	camera  config.Camera
	stop    context.CancelFunc
	stopped bool
	done    chan struct{}
}

// reconcile stops what is no longer wanted and starts what is. A camera with new settings waits for its predecessor, whose
// frames are then out and whose lease is free; nobody else does.
func (s *Service) reconcile(ctx context.Context, want map[string]catalog.Entry[config.Camera], keepers map[string]*keeper, wg *sync.WaitGroup) {
	for name, k := range keepers {
		if e, ok := want[name]; !ok || !e.Value.Enabled || !reflect.DeepEqual(e.Value, k.camera) {
			k.stop()
			k.stopped = true
		}
	}
	for name, e := range want {
		before := keepers[name]
		if !e.Value.Enabled || before != nil && !before.stopped {
			continue
		}
		keep, stop := context.WithCancel(ctx)
		k := &keeper{camera: e.Value, stop: stop, done: make(chan struct{})}
		keepers[name] = k
		wg.Go(func() {
			defer close(k.done)
			defer stop()
			if before != nil {
				<-before.done
			}
			s.keep(keep, k.camera)
		})
	}
	for name, k := range keepers {
		select {
		case <-k.done:
			delete(keepers, name)
		default: // at work, or still ending: one that is wanted again waits for it
		}
	}
}

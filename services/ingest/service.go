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
//
// # Several instances
//
// Instances share the cameras in proportion to their capacities: each computes the same placement from the same three
// things, who is there (WORKERS), who holds what (LEASES) and what is to be captured (CAMERAS), and claims only what is
// placed with it. A camera that is placed elsewhere is handed over once that has been so for a while, a few at a time, and
// once its successor sees it already: that one connects before it has the lease, and says in WORKERS when it is ready.
//
// A camera has one owner at a time, by its lease, and each lease has an epoch. An instance that was cut off from the broker
// or stopped goes on capturing into its bounded backlog, and publishes nothing of it before it knows who had the camera
// when: what it captured after another instance began is refused.
package ingest

import (
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/sampling"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/streams"
)

// Config are the settings of one ingest process.
type Config struct {
	// Instance names this process; it is the holder of its leases.
	Instance string
	// Capacity is how many cameras this process captures at the most when there is a fleet; 0 means DefaultCapacity.
	Capacity int
}

// DefaultCapacity is how many cameras an instance takes unless told otherwise.
const DefaultCapacity = 64

// Deps are what a Service needs from outside.
type Deps struct {
	JS jetstream.JetStream
	// NewSource connects to a camera by its protocol.
	NewSource func(config.Camera) (Source, error)
	// NewDecoder decodes what a source delivers.
	NewDecoder func(Codec) (Decoder, error)
	// Fleet is who is there to share the cameras with, as this process's member hears it; nil means that this instance is
	// alone and takes every camera whose lease is free.
	Fleet *fleet.View
	// Member is this process's place in the fleet, which tells the others how many cameras it can take. Nil is none.
	Member *fleet.Member
	// Telemetry counts and traces; nil does not.
	Telemetry *telemetry.Telemetry
	Log       *slog.Logger
}

// Service captures every camera of the bucket CAMERAS that it gets the lease of.
type Service struct {
	cfg  Config
	deps Deps

	frames *broker.Failover
	marks  *ledger.Reporter
	events *events.Publisher
	models catalog.Models
	// sampling says how many of their pictures cameras capture while workers cannot keep up.
	sampling *sampling.View
	leases   jetstream.KeyValue
	holders  *lease.View
	measure  *measure

	following atomic.Bool // it knows its cameras
	leaving   atomic.Bool
	held      atomic.Int64 // cameras

	mu   sync.Mutex
	warm map[string]*feed // sessions of cameras that others have, by camera
}

// NewService makes a Service; Run runs it.
func NewService(cfg Config, deps Deps) *Service {
	if cfg.Capacity <= 0 {
		cfg.Capacity = DefaultCapacity
	}
	s := &Service{
		cfg: cfg, deps: deps, frames: broker.NewFailover(deps.JS),
		marks: ledger.NewReporter(deps.JS, "ingest", cfg.Instance), events: events.NewPublisher(deps.JS, cfg.Instance),
		warm: map[string]*feed{}, measure: newMeasure(deps.Telemetry),
	}
	if deps.Member != nil {
		deps.Member.Describe(s.describe)
	}
	return s
}

// describe tells the fleet how many cameras this instance can take, and which at once. One that does not follow them yet or
// is about to stop takes none.
func (s *Service) describe(w *fleet.Worker) {
	w.Capacity, w.Ready = s.cfg.Capacity, s.ready()
	if s.leaving.Load() || !s.following.Load() {
		w.Capacity, w.Ready = 0, nil
	}
	w.Load.Busy = float64(s.held.Load()) / float64(s.cfg.Capacity)
}

// Run captures until ctx ends, then publishes what was captured and gives its leases back. It waits for a broker that is
// away, and for buckets that are not there yet.
func (s *Service) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { s.leaving.Store(true) })()
	s.holders = lease.Follow(ctx, s.deps.JS, s.deps.Log)
	var cameras *catalog.View[config.Camera]
	for _, begin := range []func() error{
		func() (err error) { s.leases, err = s.deps.JS.KeyValue(ctx, streams.LeasesBucket); return err },
		func() (err error) { s.models, err = catalog.FollowModels(ctx, s.deps.JS, s.deps.Log); return err },
		func() (err error) { s.sampling, err = sampling.Follow(ctx, s.deps.JS, s.deps.Log); return err },
		func() (err error) { cameras, err = catalog.FollowCameras(ctx, s.deps.JS, s.deps.Log); return err },
	} {
		if !s.insist(ctx, begin) {
			return nil
		}
	}
	s.following.Store(true)
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
	s.share(ctx, cameras, &keeping)
	keeping.Wait()
	stopTelling()
	telling.Wait()
	return nil
}

// beginAgain is when something is tried again that the broker did not answer at the start.
const beginAgain = 500 * time.Millisecond

// insist does something until it succeeds. It returns false when ctx ends.
func (s *Service) insist(ctx context.Context, do func() error) bool {
	for told := false; ctx.Err() == nil; clock.Pause(ctx, beginAgain) {
		err := do()
		if err == nil {
			return true
		}
		if !told && ctx.Err() == nil {
			told = true
			s.deps.Log.WarnContext(ctx, "waiting for the broker", slog.Any("error", err))
		}
	}
	return false
}

// share captures the cameras that are placed with this instance, until ctx ends.
func (s *Service) share(ctx context.Context, cameras *catalog.View[config.Camera], wg *sync.WaitGroup) {
	p := newPlacer(s.cfg.Instance, s.deps.Fleet, s.holders, s.events.Tell)
	look := make(<-chan time.Time)
	if s.deps.Fleet != nil {
		tick := time.NewTicker(placeEvery)
		defer tick.Stop()
		look = tick.C
	}
	keepers := map[string]*keeper{}
	for ctx.Err() == nil {
		members, holders := p.changed()
		want, changed := cameras.All()
		s.reconcile(ctx, want, p, keepers, wg)
		select {
		case <-changed:
		case <-members:
		case <-holders:
		case <-look:
		case <-ctx.Done():
		}
	}
	s.standBy(ctx, nil, p, keepers, wg)
}

// keeper is one camera with certain settings, until they change.
type keeper struct {
	camera  config.Camera
	stop    context.CancelFunc
	stopped bool
	holding atomic.Bool // it has the camera's lease
	done    chan struct{}
	// predecessor is who had the camera when that was last looked at.
	predecessor lease.Holder
	// successor says that another instance has the camera and is to hand it over now.
	successor chan struct{}
}

func (k *keeper) prepare() {
	select {
	case k.successor <- struct{}{}:
	default:
	}
}

func (k *keeper) end() {
	k.stop()
	k.stopped = true
}

// reconcile stops what is no longer wanted or placed here, and starts what is. A camera with new settings waits for its
// predecessor, whose frames are then out and whose lease is free; nobody else does.
func (s *Service) reconcile(ctx context.Context, want map[string]catalog.Entry[config.Camera], p *placer, keepers map[string]*keeper, wg *sync.WaitGroup) {
	now := time.Now()
	enabled := make([]string, 0, len(want))
	for name, e := range want {
		if e.Value.Enabled {
			enabled = append(enabled, name)
		}
	}
	slices.Sort(enabled)
	held := map[string]bool{}
	for name, k := range keepers {
		if k.holding.Load() && !k.stopped {
			held[name] = true
		}
	}
	p.update(now, enabled, held)
	for _, name := range slices.Sorted(maps.Keys(keepers)) {
		k := keepers[name]
		e, ok := want[name]
		unwanted := !ok || !e.Value.Enabled || !reflect.DeepEqual(e.Value, k.camera)
		if !k.stopped && (unwanted || !p.mine(name) && (!k.holding.Load() || p.mayHandOver(now, name))) {
			k.end()
		}
	}
	for _, name := range enabled {
		e := want[name]
		before := keepers[name]
		if !p.mine(name) || before != nil && !before.stopped {
			continue
		}
		keep, stop := context.WithCancel(ctx)
		k := &keeper{camera: e.Value, stop: stop, done: make(chan struct{}), predecessor: p.predecessor(name), successor: make(chan struct{}, 1)}
		keepers[name] = k
		wg.Go(func() {
			defer close(k.done)
			defer stop()
			if before != nil {
				<-before.done
			}
			s.keep(keep, k)
		})
	}
	for name, k := range keepers {
		if !k.stopped && !k.holding.Load() && p.successor(name) {
			k.prepare()
		}
		select {
		case <-k.done:
			delete(keepers, name)
		default: // at work, or still ending: one that is wanted again waits for it
		}
	}
	s.standBy(ctx, want, p, keepers, wg)
}

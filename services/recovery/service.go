package recovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/services/recovery/repair"
	"github.com/sightline-dev/sightline/streams"
)

// Name is the service's name in the fleet.
const Name = "recovery"

// Config describes a replica of the service.
type Config struct {
	Instance string
	// Replicas are those of the streams, should one have to be made anew.
	Replicas int
	// ReactOff leaves answers about cameras that drift or are faulty as they are, and ReactMaxShare is the largest share of
	// cameras whose answers are marked; 0 is the default. See package react.
	ReactOff      bool
	ReactMaxShare float64
}

// Deps are what the service works with.
type Deps struct {
	JS jetstream.JetStream
	// Member is this process's place in the fleet. It has joined, and beats for as long as Run runs; the caller sees to
	// that.
	Member *fleet.Member
	// Telemetry counts what is done, and tells of queues, books and workers while this replica leads; nil does not.
	Telemetry *telemetry.Telemetry
	Log       *slog.Logger
}

// Service is one replica.
type Service struct {
	cfg     Config
	deps    Deps
	events  *teller
	measure *measure
	handed  handed
	purges  *repair.Purges

	booking sync.WaitGroup // deaths that the books are still to be told of
}

// NewService makes a Service; Run runs it, once.
func NewService(cfg Config, deps Deps) *Service {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	m := newMeasure(deps.Telemetry)
	return &Service{cfg: cfg, deps: deps, events: &teller{events.NewPublisher(deps.JS, cfg.Instance), m}, measure: m, handed: newHanded()}
}

// Run watches the fleet and leads when it can, until ctx ends. It gives up its lease then, so that a standby takes over at
// once. Nothing that happens to the broker ends it.
func (s *Service) Run(ctx context.Context) error {
	var telling sync.WaitGroup
	tell, stopTelling := context.WithCancel(context.WithoutCancel(ctx))
	defer telling.Wait()
	defer stopTelling()
	telling.Go(func() {
		if err := s.events.Run(tell); err != nil {
			s.deps.Log.WarnContext(tell, "events not told", slog.Any("error", err), slog.Uint64("dropped", s.events.Dropped()))
		}
	})
	// The view and the watch last until the lease is given back.
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	var watches sync.WaitGroup
	defer watches.Wait()
	defer stopWatching()
	view, err := fleet.Follow(watching, s.deps.JS, s.deps.Member.Key(), s.deps.Log)
	if err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	w := newWatch(view, s.deps.Member.Key())
	if err := w.listen(s.deps.JS.Conn()); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	watches.Go(func() { w.run(watching) })
	if s.purges, err = repair.Listen(s.deps.JS.Conn()); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	defer s.purges.Close()
	for ctx.Err() == nil {
		_ = s.lead(ctx, w) // somebody else leads, or the broker is away
		select {
		case <-ctx.Done():
		case <-w.more: // it may be the leader
		case <-time.After(standbyEvery):
		}
	}
	return nil
}

const (
	// leaseKey is the leader's lease in LEASES. No camera has such a name: theirs have no dots.
	leaseKey = "service." + Name
	// standbyEvery is how often a standby looks at the lease.
	standbyEvery = 200 * time.Millisecond
	// freshEvery is how often a leader asks the clock whether it still is one.
	freshEvery = 100 * time.Millisecond
	apiTimeout = 2 * time.Second
)

// Why a reign ends, beside a lost lease: it could not be renewed for so long that it may have expired, or the process stops.
var (
	errStale   = errors.New("the lease could not be renewed")
	errStopped = errors.New("stopped")
)

// lead leads, if the lease can be had, until it is lost or ctx ends.
func (s *Service) lead(ctx context.Context, w *watch) error {
	l, err := s.claim(ctx, w)
	if err != nil {
		return err
	}
	began := time.Now()
	defer s.measure.lead(w.view)()
	reign, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	holding, giveBack := context.WithCancel(context.WithoutCancel(ctx)) // the lease outlives the last deed
	defer giveBack()
	var keeping, working sync.WaitGroup
	keeping.Go(func() {
		if err := l.Keep(holding); errors.Is(err, lease.ErrLost) {
			stop(err)
		}
	})
	keeping.Go(func() { s.doubt(reign, l, stop) })
	s.tell("leader", s.cfg.Instance, l, func(e *events.Event) { e.State = "leading" })
	s.deps.Log.DebugContext(ctx, "leading", slog.Uint64("token", l.Token()))
	for _, d := range s.duties(w) {
		working.Go(func() { s.perform(reign, d, l) })
	}
	working.Go(func() { s.handOver(reign, w, l) })
	<-reign.Done()
	working.Wait()
	cause := context.Cause(reign)
	if ctx.Err() != nil {
		cause = errStopped
	}
	giveBack()
	keeping.Wait()
	s.deps.Log.DebugContext(ctx, "no longer leading", slog.Uint64("token", l.Token()), slog.Any("cause", cause))
	s.tell("leader", s.cfg.Instance, l, func(e *events.Event) {
		e.State, e.Cause = "ended", cause.Error()
		e.Facts["duration_ms"] = millis(time.Since(began))
	})
	return cause
}

// doubt ends a reign whose lease may be somebody else's by now: others see it expired before this process hears of it.
func (s *Service) doubt(ctx context.Context, l *lease.Lease, stop context.CancelCauseFunc) {
	tick := time.NewTicker(freshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !l.Fresh() {
				stop(errStale)
				return
			}
		}
	}
}

// claim takes the leader's lease: when nobody has it, when it is that of an earlier process of this name, or when its holder
// is seen dead.
func (s *Service) claim(ctx context.Context, w *watch) (*lease.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	kv, err := s.deps.JS.KeyValue(ctx, streams.LeasesBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		err = streams.EnsureBucket(ctx, s.deps.JS, streams.LeasesBucket, streams.Options{Replicas: s.cfg.Replicas})
		if err == nil {
			kv, err = s.deps.JS.KeyValue(ctx, streams.LeasesBucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", streams.LeasesBucket, err)
	}
	e, err := kv.Get(ctx, leaseKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
	case err != nil:
		return nil, fmt.Errorf("lease %s: %w", leaseKey, err)
	default:
		h, unreadable := lease.Decode(e.Value())
		if unreadable == nil && h.Instance != s.cfg.Instance && !w.dead(fleet.Key(Name, h.Instance)) {
			return nil, fmt.Errorf("lease %s: %w", leaseKey, lease.ErrHeld)
		}
		if freed, err := lease.Free(ctx, kv, e); err != nil || !freed {
			return nil, errors.Join(err, lease.ErrHeld)
		}
	}
	known, err := s.lastToken(ctx)
	if err != nil {
		return nil, err
	}
	return lease.Acquire(ctx, kv, leaseKey, s.cfg.Instance, known)
}

// lastToken is the token of the last leader that told of itself: revisions start again when somebody makes the bucket
// anew, and tokens must not.
func (s *Service) lastToken(ctx context.Context) (uint64, error) {
	stream, err := s.deps.JS.Stream(ctx, streams.Events)
	if errors.Is(err, jetstream.ErrStreamNotFound) { // to mend that takes a leader
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", streams.Events, err)
	}
	m, err := stream.GetLastMsgForSubject(ctx, streams.EventSubject(area, "leader", "*"))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("last token: %w", err)
	}
	e, err := events.Decode(m.Data)
	if err != nil {
		return 0, nil //nolint:nilerr // not from a leader
	}
	return parseToken(e.Facts[factToken]), nil
}

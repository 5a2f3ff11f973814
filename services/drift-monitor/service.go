package driftmonitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/services/drift-monitor/detect"
	"github.com/sightline-dev/sightline/streams"
)

// Name is the service's name in the fleet.
const Name = "drift-monitor"

// Config describes a replica of the service.
type Config struct {
	Instance string
	// SaveEvery is how often what is known is written down; 0 is [saveEvery].
	SaveEvery time.Duration
	// Detect says how references are captured and pictures judged; one without blocks is [detect.Default].
	Detect detect.Config
}

// Deps are what the service works with.
type Deps struct {
	JS jetstream.JetStream
	// Telemetry is where what is known is exported while this replica leads. May be nil.
	Telemetry *telemetry.Telemetry
	Log       *slog.Logger
}

// Service is one replica.
type Service struct {
	cfg     Config
	deps    Deps
	events  *events.Publisher
	measure *measure

	mu      sync.Mutex
	leading bool
}

// NewService makes a Service; Run runs it, once.
func NewService(cfg Config, deps Deps) *Service {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.SaveEvery == 0 {
		cfg.SaveEvery = saveEvery
	}
	if cfg.Detect.Reference.Block == 0 {
		cfg.Detect = detect.Default()
	}
	return &Service{cfg: cfg, deps: deps, events: events.NewPublisher(deps.JS, cfg.Instance), measure: newMeasure(deps.Telemetry)}
}

const (
	// leaseKey is the leader's lease in LEASES. No camera has such a name: theirs have no dots.
	leaseKey = "service." + Name
	// standbyEvery is how often a standby asks for the lease.
	standbyEvery = time.Second
	// freshEvery is how often a leader asks the clock whether it still is one.
	freshEvery = 100 * time.Millisecond
	apiTimeout = 5 * time.Second
	// saveEvery is how often what is known is written down.
	saveEvery = time.Minute
)

// errStale: the lease could not be renewed for so long that it may have expired.
var errStale = errors.New("the lease could not be renewed")

// Leading reports whether this replica leads.
func (s *Service) Leading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leading
}

func (s *Service) setLeading(v bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leading = v
}

// Run watches when it can lead, until ctx ends. It writes down what it knows and gives up its lease then. Nothing
// that happens to the broker ends it.
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
	for ctx.Err() == nil {
		if err := s.lead(ctx); err != nil && !errors.Is(err, lease.ErrHeld) && ctx.Err() == nil {
			s.deps.Log.WarnContext(ctx, "not leading", slog.Any("error", err))
		}
		clock.Pause(ctx, standbyEvery)
	}
	return nil
}

// lead watches, if the lease can be had, until it is lost or ctx ends.
func (s *Service) lead(ctx context.Context) error {
	l, err := s.claim(ctx)
	if err != nil {
		return err
	}
	reign, end := context.WithCancelCause(ctx)
	defer end(nil)
	holding, giveBack := context.WithCancel(context.WithoutCancel(ctx)) // the lease outlives the last deed
	var keeping sync.WaitGroup
	defer keeping.Wait()
	defer giveBack()
	keeping.Go(func() {
		if err := l.Keep(holding); errors.Is(err, lease.ErrLost) {
			end(err)
		}
	})
	keeping.Go(func() { doubt(reign, l, end) })
	s.setLeading(true)
	defer s.setLeading(false)
	s.deps.Log.DebugContext(ctx, "leading", slog.Uint64("token", l.Token()))
	defer s.measure.lead()()
	m := newMonitor(s.cfg, s.deps, s.events, l, s.measure)
	if err := m.run(reign); err != nil {
		return err
	}
	if ctx.Err() == nil {
		return context.Cause(reign)
	}
	return nil
}

// doubt ends a reign whose lease may be somebody else's by now.
func doubt(ctx context.Context, l *lease.Lease, end context.CancelCauseFunc) {
	tick := time.NewTicker(freshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !l.Fresh() {
				end(errStale)
				return
			}
		}
	}
}

// claim takes the leader's lease: when nobody has it, or when it is that of an earlier process of this name.
func (s *Service) claim(ctx context.Context) (*lease.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	kv, err := s.deps.JS.KeyValue(ctx, streams.LeasesBucket)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", streams.LeasesBucket, err)
	}
	e, err := kv.Get(ctx, leaseKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
	case err != nil:
		return nil, fmt.Errorf("lease %s: %w", leaseKey, err)
	default:
		if h, unreadable := lease.Decode(e.Value()); unreadable == nil && h.Instance != s.cfg.Instance {
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

// lastToken is the highest token in DRIFT: revisions start again when somebody makes LEASES anew, and tokens must not.
func (s *Service) lastToken(ctx context.Context) (uint64, error) {
	r, _, err := drift.Read(ctx, s.deps.JS)
	if err != nil {
		return 0, err
	}
	var token uint64
	for _, x := range r.Statuses {
		token = max(token, x.Token)
	}
	for _, x := range r.Integrities {
		token = max(token, x.Token)
	}
	for _, x := range r.Fairness {
		token = max(token, x.Token)
	}
	return token, nil
}

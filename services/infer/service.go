package infer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/conditions"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/streams"
)

// reloadEvery is how often a model that could not be loaded is tried again.
const reloadEvery = 5 * time.Second

// runTimeout bounds a run of a model. What takes longer is of no use to anybody who watches.
const runTimeout = 5 * time.Second

// Config are the settings of one infer process.
type Config struct {
	// Instance names this process.
	Instance string
	// Workers is how many batches of one model run at the same time; 0 is the number of cores.
	Workers int
	// Options are how models are run.
	Options Options
}

// Deps are what a Service needs from outside.
type Deps struct {
	JS      jetstream.JetStream
	Backend Backend
	// Open finds one version of a model.
	Open func(name string, version int) (model.Artifact, error)
	// Member is this process's place in the fleet; nil is none.
	Member *fleet.Member
	// Stuck is told that runs do not end: only the end of the process helps. May be nil.
	Stuck func(error)
	// Telemetry counts and traces; nil does not.
	Telemetry *telemetry.Telemetry
	Log       *slog.Logger
}

// Service joins the work group of every model in the bucket MODELS, and follows it: a new version is loaded and checked
// before the old one leaves, a model that cannot be used is refused with an event that says why, and the old one stays.
type Service struct {
	cfg  Config
	deps Deps

	reporter *ledger.Reporter
	events   *events.Publisher

	conditions *conditions.View // what is wrong with cameras
	refused    *telemetry.Set

	told map[string]string // why a model was refused last; of Run's goroutine

	mu      sync.Mutex
	status  map[string]error // nil: serves; otherwise why it was refused
	changed chan struct{}    // closes when status changes
	serving map[*stage.Stage]fleet.Lane
	retired time.Duration // time at work of stages that have ended
	meter   fleet.BusyMeter
}

// NewService makes a Service; Run runs it.
func NewService(cfg Config, deps Deps) *Service {
	if cfg.Workers == 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	s := &Service{
		cfg: cfg, deps: deps, serving: map[*stage.Stage]fleet.Lane{},
		reporter: ledger.NewReporter(deps.JS, "infer", cfg.Instance),
		events:   events.NewPublisher(deps.JS, cfg.Instance),
		refused:  deps.Telemetry.Set(),
		told:     map[string]string{},
		status:   map[string]error{}, changed: make(chan struct{}),
	}
	if deps.Member != nil {
		deps.Member.Describe(s.describe)
	}
	return s
}

// describe says what this process serves and how busy it is.
func (s *Service) describe(w *fleet.Worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	busy := s.retired
	for st, lane := range s.serving {
		busy += st.Stats().Busy
		w.Lanes = append(w.Lanes, lane)
	}
	slices.SortFunc(w.Lanes, func(a, b fleet.Lane) int {
		return cmp.Or(cmp.Compare(a.Model, b.Model), cmp.Compare(a.Version, b.Version))
	})
	w.Capacity = s.cfg.Workers
	w.Load.Busy = s.meter.Share(busy, s.cfg.Workers)
}

// Ready waits until all these models serve, and returns early with the reason when one of them is refused.
func (s *Service) Ready(ctx context.Context, names ...string) error {
	for {
		s.mu.Lock()
		changed, waiting := s.changed, 0
		var refused []error
		for _, name := range names {
			err, known := s.status[name]
			if !known {
				waiting++
			} else if err != nil {
				refused = append(refused, err)
			}
		}
		s.mu.Unlock()
		if waiting == 0 || len(refused) > 0 {
			return errors.Join(refused...)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Service) setStatus(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status[name] = err
	close(s.changed)
	s.changed = make(chan struct{})
}

// Run serves until ctx ends; then every model finishes what it has.
func (s *Service) Run(ctx context.Context) error {
	models, err := catalog.FollowModels(ctx, s.deps.JS, s.deps.Log)
	if err != nil {
		return fmt.Errorf("infer: %w", err)
	}
	// Until the last answer is given.
	following, stopFollowing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFollowing()
	if s.conditions, err = conditions.Follow(following, s.deps.JS, s.deps.Log); err != nil {
		return fmt.Errorf("infer: %w", err)
	}
	tell, stopTelling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTelling()
	var telling, atWork sync.WaitGroup
	report := func(ctx context.Context) error {
		err := s.reporter.Run(ctx)
		if err != nil && s.deps.Member != nil {
			s.deps.Member.Stay()
		}
		return err
	}
	for _, run := range []func(context.Context) error{report, s.events.Run} {
		telling.Go(func() {
			if err := run(tell); err != nil {
				s.deps.Log.WarnContext(tell, "what this instance saw last is not reported", slog.Any("error", err))
			}
		})
	}

	running := map[string]*serving{}
	for ctx.Err() == nil {
		want, changed := models.All()
		failed := s.reconcile(ctx, want, running, &atWork)
		var again <-chan time.Time
		if failed {
			again = time.After(reloadEvery)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again:
		}
	}
	atWork.Wait()
	stopTelling()
	telling.Wait()
	return nil
}

// serving is one model at work.
type serving struct {
	revision uint64
	stop     context.CancelFunc
}

// reconcile brings what runs to what is wanted and reports whether something could not be.
func (s *Service) reconcile(ctx context.Context, want map[string]catalog.Entry[catalog.Model], running map[string]*serving, wg *sync.WaitGroup) (failed bool) {
	for name, r := range running {
		if _, ok := want[name]; !ok {
			r.stop()
			delete(running, name)
		}
	}
	for name, e := range want {
		old := running[name]
		if old != nil && old.revision == e.Revision {
			continue
		}
		m, err := s.load(ctx, e.Value)
		if err != nil {
			if ctx.Err() == nil {
				failed = true
				s.refused.Counter(telemetry.ModelsRefused, name).Inc()
				if old == nil { // else the old version goes on serving
					s.setStatus(name, err)
				}
				if s.told[name] == err.Error() { // once for each reason, however often it is tried
					continue
				}
				s.told[name] = err.Error()
				s.deps.Log.ErrorContext(ctx, "model refused", slog.String("model", name), slog.Any("error", err))
				s.events.Tell(events.Event{Area: "model", Kind: "refused", Name: name, State: "refused", Detail: err.Error(), Facts: facts(e.Value)})
			}
			continue
		}
		serve, stop := context.WithCancel(ctx)
		wg.Go(func() { s.serve(serve, m) })
		delete(s.told, name)
		running[name] = &serving{revision: e.Revision, stop: stop}
		if old != nil {
			old.stop()
		}
		s.events.Tell(events.Event{Area: "model", Kind: "loaded", Name: name, State: "serving", Facts: facts(e.Value)})
		s.setStatus(name, nil)
	}
	return failed
}

func facts(m catalog.Model) map[string]string {
	return map[string]string{"version": strconv.Itoa(m.Version), "sha256": m.SHA256}
}

func (s *Service) load(ctx context.Context, want catalog.Model) (*Model, error) {
	a, err := s.deps.Open(want.Name, want.Version)
	if err != nil {
		return nil, err
	}
	if want.SHA256 != "" && a.SHA256 != want.SHA256 {
		return nil, fmt.Errorf("%s has sha256 %s, %s was declared", a.Path, a.SHA256, want.SHA256)
	}
	a.Declaration = want.Declaration
	return Load(ctx, s.deps.Backend, a, s.cfg.Options)
}

// serve works for one model until ctx ends.
func (s *Service) serve(ctx context.Context, m *Model) {
	a := m.Artifact()
	measured := newMeasure(s.deps.Telemetry, a.Name, strconv.Itoa(a.Version), streams.LaneStable)
	defer measured.close()
	w := &worker{model: m, now: time.Now, measure: measured, reasons: func(camera string) []string { return s.conditions.Of(camera, a.Name) }}
	cfg := stage.Config{
		Name: "infer", Version: a.Name + "@" + strconv.Itoa(a.Version), Sources: streams.Infer(s.deps.JS, a.Name, streams.LaneStable), Publisher: s.deps.JS, Strikes: s.deps.JS,
		Observer: books{s.reporter, a.Name, measured}, Telemetry: s.deps.Telemetry, BatchSpan: "infer batch", Log: s.deps.Log,
		Quarantine: func(m stage.Message) string { return streams.DLQSubject("infer", streams.LastToken(m.Subject)) },
		Workers:    s.cfg.Workers, MaxBatch: a.Declaration.MaxBatchSize, MaxQueueDelay: a.Declaration.MaxQueueDelay(),
		MaxInFlight: 2*s.cfg.Workers + a.Declaration.MaxBatchSize, Timeout: runTimeout, Stuck: s.deps.Stuck,
	}
	if s.deps.Member != nil {
		cfg.Member = s.deps.Member
	}
	st := stage.New(cfg, w.handle)
	s.mu.Lock()
	s.serving[st] = fleet.Lane{Model: a.Name, Lane: streams.LaneStable, Version: a.Version}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.serving, st)
		s.retired += st.Stats().Busy
	}()
	if err := st.Run(ctx); err != nil { // a run that hangs would hang Close too: the model is left behind
		s.deps.Log.ErrorContext(ctx, "draining failed", slog.String("model", a.Name), slog.Any("error", err))
		return
	}
	if err := m.Close(); err != nil {
		s.deps.Log.ErrorContext(ctx, "closing failed", slog.String("model", a.Name), slog.Any("error", err))
	}
}

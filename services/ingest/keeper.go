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

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/streams"
)

// claimEvery is how often an instance tries for a lease that another one holds.
const claimEvery = streams.LeaseTTL / 3

// keep captures one camera whenever its lease can be had.
func (s *Service) keep(ctx context.Context, cfg config.Camera) {
	gaps := newGapTeller(s.deps.JS, cfg.Name, cfg.Models)
	tell, stopTelling := context.WithCancel(context.WithoutCancel(ctx))
	var telling sync.WaitGroup
	telling.Go(func() { gaps.run(tell) })
	defer telling.Wait()
	defer stopTelling()
	told := false
	for ctx.Err() == nil {
		models, ok := s.awaitModels(ctx, cfg)
		if !ok {
			return
		}
		lease, err := s.claim(ctx, cfg.Name)
		if err != nil {
			if !errors.Is(err, ErrLeaseHeld) && ctx.Err() == nil && !told { // once for each outage
				told = true
				s.deps.Log.WarnContext(ctx, "cannot claim camera", slog.String("camera", cfg.Name), slog.Any("error", err))
			}
			wait(ctx, claimEvery)
			continue
		}
		told = false
		s.hold(ctx, cfg, lease, models, gaps)
	}
}

// claim takes the lease of a camera under an epoch that the ledger does not know yet: revisions start again when somebody
// makes the bucket anew, and a frame's name must never come twice.
func (s *Service) claim(ctx context.Context, camera string) (*Lease, error) {
	stream, err := s.deps.JS.Stream(ctx, streams.Ledger)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", streams.Ledger, err)
	}
	var known uint64
	switch m, err := stream.GetLastMsgForSubject(ctx, streams.LedgerSubject(camera)); {
	case errors.Is(err, jetstream.ErrMsgNotFound):
	case err != nil:
		return nil, fmt.Errorf("last epoch of %s: %w", camera, err)
	default:
		if r, err := ledger.Decode(m.Data); err == nil {
			known = r.Epoch
		}
	}
	return Acquire(ctx, s.leases, camera, s.cfg.Instance, known)
}

// hold captures under one lease, until ctx ends or the lease is lost.
func (s *Service) hold(ctx context.Context, cfg config.Camera, lease *Lease, models []model.Declaration, gaps *gapTeller) {
	capture, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	holding, giveBack := context.WithCancel(context.WithoutCancel(ctx)) // the lease outlives the last frame
	defer giveBack()

	var keeping sync.WaitGroup
	keeping.Go(func() {
		err := lease.Keep(holding)
		stop(err)
		if errors.Is(err, ErrLeaseLost) {
			s.events.Tell(events.Event{Area: "camera", Kind: "lease", Name: cfg.Name, State: "lost", Detail: err.Error()})
		}
	})
	keeping.Go(func() { s.watchModels(capture, cfg, models, stop) })
	c := &camera{cfg: cfg, epoch: lease.Epoch, models: models, js: s.deps.JS, marks: s.marks, events: s.events, gaps: gaps}
	s.events.Tell(events.Event{Area: "camera", Kind: "lease", Name: cfg.Name, State: "acquired", Facts: c.epochFact()})
	if stream, err := s.deps.JS.Stream(ctx, streams.Predictions); err == nil {
		gaps.adopt(ctx, stream)
	}
	source, err := s.deps.NewSource(cfg)
	if err == nil {
		err = c.run(capture, source, s.deps.NewDecoder)
	}
	if err != nil && ctx.Err() == nil {
		s.events.Tell(events.Event{Area: "camera", Kind: "state", Name: cfg.Name, State: string(PhaseDown), Cause: string(CauseOf(err)), Detail: NewRedactor(cfg.URL.Reveal()).Redact(err.Error()), Facts: c.epochFact()})
		gaps.down(CauseOf(err), time.Now())
		<-capture.Done() // no attempt with these settings will do better
	}
	if !errors.Is(context.Cause(capture), ErrLeaseLost) { // else somebody looks
		gaps.down(causeReleased, c.lastPicture(time.Now()))
	}
	giveBack()
	keeping.Wait()
}

// causeReleased is the reason of a gap that begins because nobody captures the camera any more: it was removed or disabled,
// its settings change, or the instance stops.
const causeReleased Cause = "released"

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

package preprocess

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/ledger"
)

// Service is the stage together with what it follows and reports to.
type Service struct {
	cfg  Config
	deps Deps
}

// NewService makes a Service, which needs of Deps what it does not make itself: JetStream, Imager, Log, and Member where
// there is a fleet. Run runs it.
func NewService(cfg Config, d Deps) *Service { return &Service{cfg: cfg, deps: d} }

// Run works until ctx ends, finishes what it has, and reports it to the ledger.
func (s *Service) Run(ctx context.Context) error {
	models, err := catalog.FollowModels(ctx, s.deps.JetStream, s.deps.Log)
	if err != nil {
		return fmt.Errorf("%s: %w", Name, err)
	}
	reporter := ledger.NewReporter(s.deps.JetStream, Name, s.cfg.Instance)
	d := s.deps
	d.Models, d.Observer, d.Owners = models, NewObserver(reporter), lease.Follow(ctx, d.JetStream, d.Log)
	st, err := New(s.cfg, d)
	if err != nil {
		return err
	}
	tell, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var telling sync.WaitGroup
	telling.Go(func() {
		if err := reporter.Run(tell); err != nil {
			s.deps.Log.WarnContext(tell, "the ledger misses what this instance saw last", slog.Any("error", err))
			if s.deps.Member != nil {
				s.deps.Member.Stay()
			}
		}
	})
	err = st.Run(ctx)
	stop()
	telling.Wait()
	return err
}

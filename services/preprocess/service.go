package preprocess

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/ledger"
)

// Service is the stage together with what it follows and reports to.
type Service struct {
	cfg    Config
	js     jetstream.JetStream
	imager Imager
	log    *slog.Logger
}

// NewService makes a Service; Run runs it.
func NewService(cfg Config, js jetstream.JetStream, imager Imager, log *slog.Logger) *Service {
	return &Service{cfg: cfg, js: js, imager: imager, log: log}
}

// Run works until ctx ends, finishes what it has, and reports it to the ledger.
func (s *Service) Run(ctx context.Context) error {
	models, err := catalog.FollowModels(ctx, s.js, s.log)
	if err != nil {
		return fmt.Errorf("%s: %w", Name, err)
	}
	reporter := ledger.NewReporter(s.js, Name, s.cfg.Instance)
	st, err := New(s.cfg, Deps{JetStream: s.js, Models: models, Imager: s.imager, Observer: NewObserver(reporter), Log: s.log})
	if err != nil {
		return err
	}
	tell, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var telling sync.WaitGroup
	telling.Go(func() {
		if err := reporter.Run(tell); err != nil {
			s.log.WarnContext(tell, "the ledger misses what this instance saw last", slog.Any("error", err))
		}
	})
	err = st.Run(ctx)
	stop()
	telling.Wait()
	return err
}

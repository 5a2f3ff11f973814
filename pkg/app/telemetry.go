package app

import (
	"context"
	"log/slog"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/health"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/pkg/telemetry/machine"
)

// Measure starts the telemetry of a process and puts /metrics on its board. environ has the OTEL_ variables. The caller ends
// it with Shutdown.
func Measure(ctx context.Context, service string, p config.Process, environ []string, b *health.Board, log *slog.Logger) (*telemetry.Telemetry, error) {
	build := health.ReadBuild()
	t, err := telemetry.Start(ctx, telemetry.Config{
		Service: service, Instance: p.Instance, Region: p.Region, Version: build.Version, Revision: build.Revision, Go: build.Go,
		Env: config.Lookup(environ), Log: log,
	})
	if err != nil {
		return nil, err
	}
	machine.Observe(t, p.DataDir)
	b.Handle("GET /metrics", t.Handler())
	return t, nil
}

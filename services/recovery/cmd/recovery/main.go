// Command recovery notices what fails and mends it; see package recovery.
package main

import (
	"context"
	"os"

	"github.com/sightline-dev/sightline/pkg/app"
	"github.com/sightline-dev/sightline/services/recovery"
)

func main() {
	os.Exit(app.Main(app.Service{Name: recovery.Name, Does: "notices what fails and mends it", Declares: true, Run: run}))
}

func run(ctx context.Context, p *app.Process) error {
	return recovery.NewService(recovery.Config{
		Instance: p.Instance, Replicas: p.Replicas, ReactOff: !p.React, ReactMaxShare: p.ReactMaxShare,
	}, recovery.Deps{
		JS: p.JS, Member: p.Member, Telemetry: p.Telemetry, Log: p.Log,
	}).Run(ctx)
}

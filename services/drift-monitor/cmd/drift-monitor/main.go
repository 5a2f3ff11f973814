// Command drift-monitor watches what cameras show and models answer; see package driftmonitor.
package main

import (
	"context"
	"os"

	"github.com/sightline-dev/sightline/pkg/app"
	driftmonitor "github.com/sightline-dev/sightline/services/drift-monitor"
)

func main() {
	os.Exit(app.Main(app.Service{Name: driftmonitor.Name, Does: "watches pictures, answers and cameras for drift and faults", Run: run}))
}

func run(ctx context.Context, p *app.Process) error {
	return driftmonitor.NewService(driftmonitor.Config{Instance: p.Instance}, driftmonitor.Deps{JS: p.JS, Telemetry: p.Telemetry, Log: p.Log}).Run(ctx)
}

// Command ingest captures cameras; see package ingest.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/sightline-dev/sightline/pkg/app"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/adapters"
)

func main() {
	os.Exit(app.Main(app.Service{Name: "ingest", Does: "captures cameras", Run: run, Ready: ready}))
}

// ready: an instance says how many cameras it can take once it follows them.
func ready(w fleet.Worker) error {
	if w.Capacity == 0 {
		return errors.New("does not follow its cameras yet")
	}
	return nil
}

func run(ctx context.Context, p *app.Process) error {
	others, err := fleet.Follow(ctx, p.JS, p.Member.Key(), p.Log)
	if err != nil {
		return err
	}
	return ingest.NewService(ingest.Config{Instance: p.Instance, Capacity: p.Capacity}, ingest.Deps{
		JS: p.JS, NewSource: adapters.NewSource, NewDecoder: adapters.NewDecoder, Fleet: others, Member: p.Member, Telemetry: p.Telemetry, Log: p.Log,
	}).Run(ctx)
}

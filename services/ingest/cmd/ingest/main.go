// Command ingest captures cameras; see package ingest.
package main

import (
	"context"
	"os"

	"github.com/sightline-dev/sightline/pkg/app"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/adapters"
)

func main() {
	os.Exit(app.Main(app.Service{Name: "ingest", Does: "captures cameras", Run: run}))
}

func run(ctx context.Context, p *app.Process) error {
	others, err := fleet.Follow(ctx, p.JS, p.Member.Key(), p.Log)
	if err != nil {
		return err
	}
	return ingest.NewService(ingest.Config{Instance: p.Instance, Capacity: p.Capacity}, ingest.Deps{
		JS: p.JS, NewSource: adapters.NewSource, NewDecoder: adapters.NewDecoder, Fleet: others, Member: p.Member, Log: p.Log,
	}).Run(ctx)
}

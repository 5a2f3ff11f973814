// Command preprocess turns frames into model input; see package preprocess.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/sightline-dev/sightline/pkg/app"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/preprocess/cv"
)

func main() {
	os.Exit(app.Main(app.Service{Name: "preprocess", Does: "turns frames into model input", Run: run, Ready: ready}))
}

// ready: a worker says how much it can hold when it knows the models and takes frames.
func ready(w fleet.Worker) error {
	if w.Capacity == 0 {
		return errors.New("does not follow the models yet")
	}
	return nil
}

func run(ctx context.Context, p *app.Process) error {
	cfg := preprocess.Default()
	cfg.Instance, cfg.Workers = p.Instance, p.Workers
	return preprocess.NewService(cfg, preprocess.Deps{JetStream: p.JS, Imager: cv.Imager{}, Member: p.Member, Stuck: p.Crash, Telemetry: p.Telemetry, Log: p.Log}).Run(ctx)
}

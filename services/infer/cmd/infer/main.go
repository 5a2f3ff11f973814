// Command infer answers model input with predictions; see package infer.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/sightline-dev/sightline/pkg/app"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/pkg/telemetry/machine"
	"github.com/sightline-dev/sightline/pkg/telemetry/machine/nvml"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/infer/ort"
)

func main() {
	os.Exit(app.Main(app.Service{Name: "infer", Does: "answers model input with predictions", Run: run, Ready: ready}))
}

// ready: frames wait where no model serves.
func ready(w fleet.Worker) error {
	if len(w.Lanes) == 0 {
		return errors.New("no model serves yet")
	}
	return nil
}

func run(ctx context.Context, p *app.Process) error {
	machine.ObserveGPUs(ctx, p.Telemetry, nvml.Open, p.Log)
	backend, err := ort.New(p.OrtLibrary)
	if err != nil {
		return err
	}
	repository := model.Repository{Dir: p.Models}
	return infer.NewService(infer.Config{Instance: p.Instance, Workers: p.Workers}, infer.Deps{
		JS: p.JS, Backend: backend, Open: repository.OpenVersion, Member: p.Member, Stuck: p.Crash, Telemetry: p.Telemetry, Log: p.Log,
	}).Run(ctx)
}

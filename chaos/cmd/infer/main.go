// Command infer is the infer service as it ships, with a backend that poison frames can hurt. It exists for chaos tests.
package main

import (
	"context"
	"os"

	"github.com/sightline-dev/sightline/chaos/poison"
	"github.com/sightline-dev/sightline/pkg/app"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/infer/ort"
)

func main() {
	os.Exit(app.Main(app.Service{Name: "infer", Does: "answers model input with predictions", Run: run}))
}

func run(ctx context.Context, p *app.Process) error {
	backend, err := ort.New(p.OrtLibrary)
	if err != nil {
		return err
	}
	repository := model.Repository{Dir: p.Models}
	return infer.NewService(infer.Config{Instance: p.Instance, Workers: p.Workers}, infer.Deps{
		JS: p.JS, Backend: poison.Backend(backend), Open: repository.OpenVersion, Member: p.Member, Stuck: p.Crash, Telemetry: p.Telemetry, Log: p.Log,
	}).Run(ctx)
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/camera"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/sightline/detect"
	"github.com/sightline-dev/sightline/services/sightline/system"
	"github.com/sightline-dev/sightline/streams"
)

// Config is one benchmark.
type Config struct {
	Footage    string
	Repository string
	Model      string // name, or path of an .onnx file
	Family     string
	Rounds     int
	Round      time.Duration
	Cameras    int
	Delivery   streams.Delivery
	ORTLibrary string
	Log        *slog.Logger
	Progress   func(string)
}

// Result is what was measured.
type Result struct {
	Model    string           `json:"model"`
	Cameras  int              `json:"cameras"`
	Delivery streams.Delivery `json:"delivery"`
	Loop     Figures          `json:"loop_fps"`
	Pipeline Figures          `json:"pipeline_fps"`
	Ratio    Figures          `json:"ratio"` // pipeline / loop, round by round
	// Milliseconds of CPU that this process spent per frame: less disturbed by other programs than frames per second.
	LoopCPU     Figures `json:"loop_cpu_ms"`
	PipelineCPU Figures `json:"pipeline_cpu_ms"`
}

// Round is one measurement of one round.
type Round struct {
	Frames int64
	Took   time.Duration
	CPU    time.Duration // of this process
}

// FPS is frames per second.
func (r Round) FPS() float64 { return float64(r.Frames) / r.Took.Seconds() }

// CPUPerFrame is in milliseconds.
func (r Round) CPUPerFrame() float64 { return r.CPU.Seconds() * 1000 / float64(r.Frames) }

// cpu is what this process has used so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Figures are the rounds of one measurement.
type Figures struct {
	Rounds []float64 `json:"rounds"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
}

func (f *Figures) add(v float64) {
	f.Rounds = append(f.Rounds, v)
	s := slices.Sorted(slices.Values(f.Rounds))
	f.Min, f.Max = s[0], s[len(s)-1]
	f.Median = (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// Run measures loop and pipeline alternately. One round of each warms up and is not counted.
func Run(ctx context.Context, cfg Config) (res Result, err error) {
	footage, err := camera.Load(cfg.Footage, 0)
	if err != nil {
		return res, err
	}
	backend, err := system.NewBackend(cfg.ORTLibrary)
	if err != nil {
		return res, err
	}
	artifact, err := detect.Find(model.Repository{Dir: cfg.Repository}, cfg.Model, cfg.Family)
	if err != nil {
		return res, err
	}
	m, err := infer.Load(ctx, backend, artifact, infer.Options{})
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	repository, cleanUp, err := repositoryOf(cfg, artifact)
	if err != nil {
		return res, err
	}
	defer cleanUp()

	res = Result{Model: artifact.Name, Cameras: cfg.Cameras, Delivery: cfg.Delivery}
	p := PipelineConfig{
		Footage: footage, Repository: repository, Model: artifact.Name, Cameras: cfg.Cameras, Delivery: cfg.Delivery,
		ORTLibrary: cfg.ORTLibrary, Log: cfg.Log,
	}
	err = WithPipeline(ctx, p, func(ctx context.Context, p *Pipeline) error {
		for round := range cfg.Rounds + 1 {
			loop, err := Loop(ctx, footage, m, cfg.Round)
			if err != nil {
				return err
			}
			pipeline, err := p.Round(ctx, cfg.Round)
			if err != nil {
				return err
			}
			if round == 0 {
				continue
			}
			res.Loop.add(loop.FPS())
			res.Pipeline.add(pipeline.FPS())
			res.Ratio.add(pipeline.FPS() / loop.FPS())
			res.LoopCPU.add(loop.CPUPerFrame())
			res.PipelineCPU.add(pipeline.CPUPerFrame())
			cfg.Progress(fmt.Sprintf("%s round %d of %d: loop %.1f frames/s (%.2f ms CPU each), pipeline %.1f frames/s (%.2f ms), ratio %.3f",
				artifact.Name, round, cfg.Rounds, loop.FPS(), loop.CPUPerFrame(), pipeline.FPS(), pipeline.CPUPerFrame(), pipeline.FPS()/loop.FPS()))
		}
		return nil
	})
	return res, err
}

// repositoryOf makes a repository for a bare model file: the pipeline knows models by name.
func repositoryOf(cfg Config, a model.Artifact) (dir string, cleanUp func(), err error) {
	if filepath.Ext(cfg.Model) != ".onnx" {
		return cfg.Repository, func() {}, nil
	}
	dir, err = os.MkdirTemp("", "sightline-bench-models-")
	if err != nil {
		return "", nil, fmt.Errorf("bench: %w", err)
	}
	cleanUp = func() { _ = os.RemoveAll(dir) }
	version := filepath.Join(dir, a.Name, "1")
	path, err := filepath.Abs(a.Path)
	err = errors.Join(err, os.MkdirAll(version, 0o750), os.Symlink(path, filepath.Join(version, model.ModelFile)),
		os.WriteFile(filepath.Join(dir, a.Name, model.DeclarationFile), []byte("family: "+a.Declaration.Family+"\n"), 0o600))
	if err != nil {
		cleanUp()
		return "", nil, fmt.Errorf("bench: %w", err)
	}
	return dir, cleanUp, nil
}

package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/services/sightline/detect"
	"github.com/sightline-dev/sightline/services/sightline/system"
	"github.com/sightline-dev/sightline/streams"
)

// Age is how old predictions are when a subscriber has them, in milliseconds since capture.
type Age struct {
	Model       string  `json:"model"`
	Cameras     int     `json:"cameras"`
	FPS         float64 `json:"fps_per_camera"`
	Predictions int     `json:"predictions"`
	P50         float64 `json:"p50_ms"`
	P90         float64 `json:"p90_ms"`
	P99         float64 `json:"p99_ms"`
	Max         float64 `json:"max_ms"`
}

// demoPort is where the footage is served: not the demo's own, which may be running.
const demoPort = 18554

// warmUp is not measured: connecting, and the first frames.
const warmUp = 3 * time.Second

// MeasureAge runs cameras over real RTSP at their own pace for cfg.Round x cfg.Rounds.
func MeasureAge(ctx context.Context, cfg Config, cameras int) (Age, error) {
	store, err := os.MkdirTemp("", "sightline-bench-")
	if err != nil {
		return Age{}, fmt.Errorf("bench: %w", err)
	}
	defer func() { _ = os.RemoveAll(store) }()
	artifact, err := detect.Find(model.Repository{Dir: cfg.Repository}, cfg.Model, cfg.Family)
	if err != nil {
		return Age{}, err
	}
	repository, cleanUp, err := repositoryOf(cfg, artifact)
	if err != nil {
		return Age{}, err
	}
	defer cleanUp()
	file := &config.File{Models: repository, Demo: &config.Demo{Footage: cfg.Footage, Path: "bench", Port: demoPort}}
	for i := range cameras {
		c := config.DefaultCamera()
		c.Name, c.URL, c.Models = fmt.Sprintf("bench-%d", i+1), file.Demo.URL(), []string{artifact.Name}
		file.Cameras = append(file.Cameras, c)
	}
	var mu sync.Mutex
	var ages []float64
	sys := system.Config{File: file, Host: "127.0.0.1", Port: -1, StoreDir: store, ORTLibrary: cfg.ORTLibrary, Log: cfg.Log}
	err = system.Run(ctx, sys, func(ctx context.Context, s *system.System) error {
		nc, err := nats.Connect(s.URL, nats.Name("bench"))
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		defer nc.Close()
		if err := sleep(ctx, warmUp); err != nil {
			return err
		}
		_, err = nc.Subscribe(streams.PredictionSubject("*", "*"), func(m *nats.Msg) {
			now := time.Now()
			p, err := predictions.Decode(m.Data)
			if err != nil || p.Kind != predictions.KindPrediction {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ages = append(ages, float64(now.Sub(p.CapturedAt).Microseconds())/1000)
		})
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		return sleep(ctx, time.Duration(cfg.Rounds)*cfg.Round)
	}, func(context.Context) error { return nil })
	if err != nil {
		return Age{}, err
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ages) == 0 {
		return Age{}, errNothing
	}
	slices.Sort(ages)
	at := func(q float64) float64 { return ages[min(int(q*float64(len(ages))), len(ages)-1)] }
	return Age{
		Model: artifact.Name, Cameras: cameras, FPS: float64(file.Cameras[0].FPS), Predictions: len(ages),
		P50: at(.5), P90: at(.9), P99: at(.99), Max: ages[len(ages)-1],
	}, nil
}

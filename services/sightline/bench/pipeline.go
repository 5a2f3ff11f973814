package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/services/camera"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/sightline/system"
	"github.com/sightline-dev/sightline/streams"
)

// onTheWay is how many frames of one camera are on their way at a time: no more than a live stream's ring keeps, so that
// none is superseded and every frame is counted.
const onTheWay = streams.LiveRing

// gate lets sources deliver only while a round is measured, and only as fast as predictions come back.
type gate struct {
	open      atomic.Bool
	tokens    map[string]chan struct{}
	predicted atomic.Int64
}

func newGate(cameras []config.Camera) *gate {
	g := &gate{tokens: map[string]chan struct{}{}}
	for _, c := range cameras {
		tokens := make(chan struct{}, onTheWay)
		for range onTheWay {
			tokens <- struct{}{}
		}
		g.tokens[c.Name] = tokens
	}
	return g
}

// answered is called for every prediction.
func (g *gate) answered(m *nats.Msg) {
	g.predicted.Add(1)
	select {
	case g.tokens[streams.LastToken(m.Subject)] <- struct{}{}:
	default: // a frame that was answered twice would open the gate too far
	}
}

// source plays footage as fast as it is taken.
type source struct {
	footage *camera.Footage
	gate    *gate
	tokens  chan struct{}
}

var _ ingest.Source = (*source)(nil)

func (s *source) Run(ctx context.Context, sink func(ingest.AccessUnit)) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for base := time.Duration(0); ; base += s.footage.Length {
		for u := range s.footage.Pictures() {
			for !s.gate.open.Load() {
				select {
				case <-tick.C:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			select {
			case <-s.tokens:
				sink(unit(s.footage, u, base))
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// Pipeline is a running system whose cameras deliver as fast as they are answered.
type Pipeline struct {
	gate *gate
}

// WithPipeline runs the whole system on a broker of its own and hands it to use.
func WithPipeline(ctx context.Context, cfg PipelineConfig, use func(context.Context, *Pipeline) error) error {
	store, err := os.MkdirTemp("", "sightline-bench-")
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { _ = os.RemoveAll(store) }()
	url, err := config.ParseURL("rtsp://127.0.0.1:554/footage") // never dialled: NewSource below plays from memory
	if err != nil {
		return err
	}
	file := &config.File{Models: cfg.Repository}
	for i := range cfg.Cameras {
		c := config.DefaultCamera()
		c.Name, c.URL, c.Models, c.FPS, c.StallAfter = fmt.Sprintf("bench-%d", i+1), url, []string{cfg.Model}, config.AllFrames, 10*time.Minute
		c.Delivery = cfg.Delivery
		if c.Delivery == streams.EveryFrame {
			c.MaxAge = 0
		}
		file.Cameras = append(file.Cameras, c)
	}
	g := newGate(file.Cameras)
	sys := system.Config{
		File: file, Host: "127.0.0.1", Port: -1, StoreDir: store, ORTLibrary: cfg.ORTLibrary, Log: cfg.Log,
		NewSource: func(c config.Camera) (ingest.Source, error) {
			return &source{footage: cfg.Footage, gate: g, tokens: g.tokens[c.Name]}, nil
		},
	}
	return system.Run(ctx, sys, func(ctx context.Context, s *system.System) error {
		nc, err := nats.Connect(s.URL, nats.Name("bench"))
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		defer nc.Close()
		if _, err := nc.Subscribe(streams.PredictionSubject("*", "*"), g.answered); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		return use(ctx, &Pipeline{gate: g})
	}, func(context.Context) error { return nil })
}

// PipelineConfig is what a Pipeline runs.
type PipelineConfig struct {
	Footage    *camera.Footage
	Repository string // folder of models
	Model      string
	Cameras    int
	Delivery   streams.Delivery
	ORTLibrary string
	Log        *slog.Logger
}

// errNothing means that the pipeline did not move within a round.
var errNothing = errors.New("the pipeline predicted nothing")

// Round opens the gate for d and counts predictions.
func (p *Pipeline) Round(ctx context.Context, d time.Duration) (Round, error) {
	before, start, used := p.gate.predicted.Load(), time.Now(), cpu()
	p.gate.open.Store(true)
	defer p.gate.open.Store(false)
	if err := sleep(ctx, d); err != nil {
		return Round{}, err
	}
	n := p.gate.predicted.Load() - before
	if n == 0 {
		return Round{}, errNothing
	}
	return Round{Frames: n, Took: time.Since(start), CPU: cpu() - used}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Package poison makes frames that hurt whoever runs a model on them, and the backend that they hurt.
//
// A poison frame is an ordinary JPEG of one colour; which colour says what it does. It travels through the real ingest
// subjects, the real preprocess service and the real infer service. Only the innermost call differs: [Backend] wraps the
// real one and looks at the pixels of every batch, as a bug in a model's C++ would. No service knows of it.
package poison

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"syscall"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer"
)

// Kind is what a frame does.
type Kind string

// The kinds.
const (
	Harmless Kind = ""
	Error    Kind = "error" // the run fails
	Hang     Kind = "hang"  // the run never returns, whatever its context says
	Crash    Kind = "crash" // the process gets a real SIGSEGV
)

// Kinds are all that hurt.
func Kinds() []Kind { return []Kind{Error, Hang, Crash} }

// colours are far apart in every channel, so that JPEG and normalisation leave no doubt.
var colours = map[Kind]color.RGBA{ //nolint:gochecknoglobals // a table
	Error: {R: 230, G: 20, B: 20, A: 255}, Hang: {R: 20, G: 230, B: 20, A: 255}, Crash: {R: 20, G: 20, B: 230, A: 255},
}

// ErrPoison is what a run of an error frame returns.
var ErrPoison = errors.New("this picture cannot be computed")

// Picture is a JPEG of that kind. A harmless one is noise, drawn from rng.
func Picture(kind Kind, width, height int, rng *rand.Rand) ([]byte, error) {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			c, ok := colours[kind]
			if !ok {
				v := uint8(rng.UintN(256)) //nolint:gosec // below 256
				c = color.RGBA{R: v, G: 255 - v, B: v / 2, A: 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, img, &jpeg.Options{Quality: 90}); err != nil {
		return nil, fmt.Errorf("poison: %w", err)
	}
	return out.Bytes(), nil
}

// Backend wraps a backend so that poison hurts it.
func Backend(inner infer.Backend) infer.Backend { return &backend{inner: inner} }

type backend struct{ inner infer.Backend }

func (b *backend) Load(ctx context.Context, a model.Artifact, o infer.Options) (infer.Session, error) {
	s, err := b.inner.Load(ctx, a, o)
	if err != nil {
		return nil, err
	}
	return &session{Session: s, input: a.Declaration.Input}, nil
}

type session struct {
	infer.Session
	input model.Input
}

func (s *session) Run(ctx context.Context, b infer.Batch) (*infer.Outputs, error) {
	switch s.worst(b) {
	case Crash:
		// Not a Go panic, which a stage survives: what a bad pointer in C does to the whole process.
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGSEGV)
		select {}
	case Hang:
		select {}
	case Error:
		return nil, ErrPoison
	default:
		return s.Session.Run(ctx, b)
	}
}

// worst is the worst that the batch holds.
func (s *session) worst(b infer.Batch) Kind {
	size := s.input.Width * s.input.Height * s.input.Color.Channels()
	worst := Harmless
	for i := 0; size > 0 && (i+1)*size <= len(b.Data); i++ {
		switch kind := s.kind(b.Data[i*size : (i+1)*size]); {
		case kind == Crash, worst == Crash:
			worst = Crash
		case kind == Hang, worst == Hang:
			worst = Hang
		case kind == Error:
			worst = Error
		}
	}
	return worst
}

// kind recognises a picture by its colour: each channel is flat, and one stands out.
func (s *session) kind(data []float32) Kind {
	if s.input.Color.Channels() != 3 {
		return Harmless
	}
	var means [3]float64
	pixels := len(data) / 3
	for c := range means {
		at := func(i int) float64 {
			if s.input.Layout == model.NCHW {
				return float64(data[c*pixels+i])
			}
			return float64(data[3*i+c])
		}
		lo, hi, sum, n := math.Inf(1), math.Inf(-1), 0.0, 0
		for i := 0; i < pixels; i += 7 {
			v := at(i)
			lo, hi, sum, n = min(lo, v), max(hi, v), sum+v, n+1
		}
		unit := math.Abs(s.input.Scale[c])
		if (hi-lo)/unit > 12 { // of 255: what JPEG and scaling make of one colour
			return Harmless
		}
		means[c] = sum/float64(n)/unit + s.input.Mean[c]
	}
	r, g, b := means[0], means[1], means[2]
	if s.input.Color == model.BGR {
		r, b = b, r
	}
	const apart = 120
	switch {
	case r-max(g, b) > apart:
		return Error
	case g-max(r, b) > apart:
		return Hang
	case b-max(r, g) > apart:
		return Crash
	default:
		return Harmless
	}
}

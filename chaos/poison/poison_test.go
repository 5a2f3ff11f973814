package poison

import (
	"bytes"
	"context"
	"errors"
	"image/jpeg"
	"math/rand/v2"
	"testing"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer"
)

func input(layout model.Layout, c model.Color) model.Input {
	return model.Input{Width: 32, Height: 24, Layout: layout, Color: c, Scale: [3]float64{1. / 255, 1. / 255, 1. / 255}, Mean: [3]float64{100, 110, 120}}
}

// tensor does to a JPEG what preprocess and infer do.
func tensor(t *testing.T, data []byte, in model.Input) []float32 {
	t.Helper()
	img, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	n := in.Width * in.Height
	out := make([]float32, 3*n)
	for i := range n {
		r, g, b, _ := img.At(i%in.Width, i/in.Width).RGBA()
		rgb := [3]uint32{r >> 8, g >> 8, b >> 8}
		if in.Color == model.BGR {
			rgb[0], rgb[2] = rgb[2], rgb[0]
		}
		for c, v := range rgb {
			k := 3*i + c
			if in.Layout == model.NCHW {
				k = c*n + i
			}
			out[k] = float32((float64(v) - in.Mean[c]) * in.Scale[c])
		}
	}
	return out
}

func TestPicturesAreRecognised(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, in := range []model.Input{input(model.NCHW, model.RGB), input(model.NHWC, model.RGB), input(model.NCHW, model.BGR)} {
		s := &session{input: in}
		for _, kind := range append(Kinds(), Harmless) {
			data, err := Picture(kind, in.Width, in.Height, rng)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.kind(tensor(t, data, in)); got != kind {
				t.Errorf("%s %s: a picture of kind %q is taken for %q", in.Layout, in.Color, kind, got)
			}
		}
		gray := make([]float32, 3*in.Width*in.Height)
		if got := s.kind(gray); got != Harmless {
			t.Errorf("a warm-up picture is taken for %q", got)
		}
	}
}

func TestAnErrorSpoilsItsBatchOnly(t *testing.T) {
	in := input(model.NCHW, model.RGB)
	rng := rand.New(rand.NewPCG(1, 1))
	s := &session{Session: fakeSession{}, input: in}
	var batch infer.Batch
	for _, kind := range []Kind{Harmless, Error, Harmless} {
		data, err := Picture(kind, in.Width, in.Height, rng)
		if err != nil {
			t.Fatal(err)
		}
		batch.Data = append(batch.Data, tensor(t, data, in)...)
	}
	if _, err := s.Run(t.Context(), batch); !errors.Is(err, ErrPoison) {
		t.Errorf("a batch with poison: %v", err)
	}
	batch.Data = batch.Data[:3*in.Width*in.Height]
	if _, err := s.Run(t.Context(), batch); err != nil {
		t.Errorf("a batch without: %v", err)
	}
}

type fakeSession struct{ infer.Session }

func (fakeSession) Run(context.Context, infer.Batch) (*infer.Outputs, error) { return nil, nil }

package infer

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/sightline-dev/sightline/pkg/model"
)

func TestNormaliseProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := model.Input{
			Width: rapid.IntRange(1, 9).Draw(t, "w"), Height: rapid.IntRange(1, 9).Draw(t, "h"),
			Color:  rapid.SampledFrom([]model.Color{model.RGB, model.BGR, model.Gray}).Draw(t, "color"),
			Layout: rapid.SampledFrom([]model.Layout{model.NCHW, model.NHWC}).Draw(t, "layout"),
		}
		for c := range in.Mean {
			in.Mean[c] = rapid.Float64Range(0, 255).Draw(t, "mean")
			in.Scale[c] = rapid.Float64Range(0.001, 2).Draw(t, "scale")
		}
		src := rapid.SliceOfN(rapid.Byte(), in.Bytes(), in.Bytes()).Draw(t, "pixels")
		dst := make([]float32, in.Bytes())
		n := newNormaliser(in)
		n.apply(dst, src)
		channels, plane := in.Color.Channels(), in.Width*in.Height
		for i, v := range src {
			pixel, c := i/channels, i%channels
			at := i
			if in.Layout == model.NCHW {
				at = c*plane + pixel
			}
			if want := float32((float64(v) - in.Mean[c]) * in.Scale[c]); dst[at] != want {
				t.Fatalf("pixel %d channel %d: %v, want %v", pixel, c, dst[at], want)
			}
		}
	})
}

func BenchmarkNormalise(b *testing.B) {
	in := model.Input{Width: 416, Height: 416, Color: model.RGB, Layout: model.NCHW, Scale: model.All(1.0 / 255)}
	src, dst := make([]byte, in.Bytes()), make([]float32, in.Bytes())
	for i := range src {
		src[i] = byte(i * 7919)
	}
	for _, layout := range []model.Layout{model.NCHW, model.NHWC} {
		in.Layout = layout
		n := newNormaliser(in)
		b.Run(string(layout), func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				n.apply(dst, src)
			}
		})
	}
}

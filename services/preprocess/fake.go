package preprocess

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/draw"
	_ "image/jpeg" // the formats that picture.Check accepts
	_ "image/png"
	"math"
	"sync/atomic"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/preprocess/picture"
	"github.com/sightline-dev/sightline/services/preprocess/quality"
)

// ErrFake is the error that Fake.FailNext asks for.
var ErrFake = errors.New("the fake was told to fail")

// A Fake is an Imager in plain Go for tests: deterministic, slow, and within rounding of the real one. The zero value
// is ready to use.
type Fake struct {
	fail    atomic.Int64
	decoded atomic.Int64
}

var (
	_ Imager = (*Fake)(nil)
	_ Image  = (*fakeImage)(nil)
)

// FailNext makes the next n calls of Decode fail with ErrFake.
func (f *Fake) FailNext(n int) { f.fail.Store(int64(n)) }

// Decoded is how often Decode was called.
func (f *Fake) Decoded() int { return int(f.decoded.Load()) }

// Decode implements Imager.
func (f *Fake) Decode(data []byte) (Image, error) {
	f.decoded.Add(1)
	if f.fail.Add(-1) >= 0 {
		return nil, ErrFake
	}
	if _, _, err := picture.Check(data); err != nil {
		return nil, err
	}
	src, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("picture of %d bytes: %w: %w", len(data), picture.ErrDamaged, err)
	}
	size := src.Bounds().Size()
	rgba := image.NewNRGBA(image.Rectangle{Max: size})
	draw.Draw(rgba, rgba.Rect, src, src.Bounds().Min, draw.Src)
	img := &fakeImage{planes: planes{size: size, bgr: make([]byte, 3*size.X*size.Y)}}
	for i := range size.X * size.Y {
		img.bgr[3*i], img.bgr[3*i+1], img.bgr[3*i+2] = rgba.Pix[4*i+2], rgba.Pix[4*i+1], rgba.Pix[4*i]
	}
	return img, nil
}

// planes are rows of B, G, R pixels without gaps.
type planes struct {
	size image.Point
	bgr  []byte
}

type fakeImage struct{ planes }

// Size implements Image.
func (f *fakeImage) Size() (width, height int) { return f.size.X, f.size.Y }

// Close implements Image.
func (f *fakeImage) Close() { f.planes = planes{} }

// Quality implements Image.
func (f *fakeImage) Quality(region model.Region) frame.Quality {
	cut, ok := f.cut(region)
	if !ok {
		return frame.Quality{}
	}
	sums := quality.Measure(cut.bgr, 3*cut.size.X, cut.size.X, cut.size.Y)
	return sums.Quality()
}

// cut copies a region; an empty one is the whole picture.
func (f *fakeImage) cut(region model.Region) (planes, bool) {
	whole := image.Rectangle{Max: f.size}
	if region.Empty() {
		region = whole
	}
	region = region.Intersect(whole)
	out := planes{size: region.Size()}
	for y := region.Min.Y; y < region.Max.Y; y++ {
		out.bgr = append(out.bgr, f.bgr[3*(y*f.size.X+region.Min.X):3*(y*f.size.X+region.Max.X)]...)
	}
	return out, !region.Empty()
}

// Tensor implements Image.
func (f *fakeImage) Tensor(dst []byte, plan model.Plan, input model.Input) error {
	if err := CheckPlan(dst, plan, input, f.size.X, f.size.Y); err != nil {
		return err
	}
	scaled, _ := f.cut(plan.Source)
	for _, s := range Scale(plan.Source.Size(), plan.Content.Size(), input.Resize) {
		scaled = scaled.scale(s)
	}
	FillBars(dst, plan, input.Pad)
	channels := input.Color.Channels()
	for y := range scaled.size.Y {
		at := ((plan.Content.Min.Y+y)*plan.Width + plan.Content.Min.X) * channels
		for x := range scaled.size.X {
			p := scaled.bgr[3*(y*scaled.size.X+x):]
			switch input.Color {
			case model.Gray:
				dst[at+x] = quality.Grey(p[2], p[1], p[0])
			case model.BGR:
				copy(dst[at+3*x:at+3*x+3], p)
			default:
				dst[at+3*x], dst[at+3*x+1], dst[at+3*x+2] = p[2], p[1], p[0]
			}
		}
	}
	return nil
}

func (p planes) scale(s Step) planes {
	xs, ys := weights(p.size.X, s.To.X, s.Area), weights(p.size.Y, s.To.Y, s.Area)
	out := planes{size: s.To, bgr: make([]byte, 0, 3*s.To.X*s.To.Y)}
	for _, wy := range ys {
		for _, wx := range xs {
			var sum [3]float64
			for y, v := range wy.share {
				for x, h := range wx.share {
					for c := range sum {
						sum[c] += v * h * float64(p.bgr[3*((wy.first+y)*p.size.X+wx.first+x)+c])
					}
				}
			}
			for _, v := range sum {
				out.bgr = append(out.bgr, byte(math.Round(min(max(v, 0), 255))))
			}
		}
	}
	return out
}

// weight is how much each of a run of pixels adds to one pixel of the result.
type weight struct {
	first int
	share []float64
}

// weights scale n pixels to m: either the share of each pixel's area, or between the two nearest pixel centres.
func weights(n, m int, area bool) []weight {
	scale := float64(n) / float64(m)
	out := make([]weight, m)
	for i := range out {
		if !area {
			at := min(max((float64(i)+0.5)*scale-0.5, 0), float64(n-1))
			first := min(int(at), max(n-2, 0))
			out[i] = weight{first, []float64{1 - (at - float64(first)), at - float64(first)}[:min(n, 2)]}
			continue
		}
		from, to := float64(i)*scale, float64(i+1)*scale
		first, last := int(from), min(int(math.Ceil(to-1e-9)), n)
		w := weight{first: first}
		for p := first; p < last; p++ {
			w.share = append(w.share, (min(to, float64(p+1))-max(from, float64(p)))/scale)
		}
		out[i] = w
	}
	return out
}

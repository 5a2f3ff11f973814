package quality_test

import (
	"math"
	"math/bits"
	"testing"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/services/preprocess/quality"
)

func measure(bgr []byte, width, height int) frame.Quality {
	sums := quality.Measure(bgr, 3*width, width, height)
	return sums.Quality()
}

// TestMeasureByHand: figures small enough to check on paper.
func TestMeasureByHand(t *testing.T) {
	red := measure([]byte{0, 0, 255}, 1, 1)
	if red.Luma != 76 || red.Saturation != 255 || red.Contrast != 0 || red.Sharpness != 0 {
		t.Errorf("one red pixel: %+v", red)
	}
	// Black and white: mirrored, each pixel has the other one on both sides, so the Laplacian is +510 and -510.
	pair := measure([]byte{0, 0, 0, 255, 255, 255}, 2, 1)
	if pair.Luma != 127.5 || pair.Contrast != 127.5 || pair.Sharpness != 510*510 || pair.Saturation != 0 {
		t.Errorf("black and white: %+v", pair)
	}
	if got := (&quality.Sums{}).Quality(); got != (frame.Quality{}) {
		t.Errorf("nothing: %+v", got)
	}
}

func TestHash(t *testing.T) {
	cells := func(f func(u, v float64) float64) *[quality.Cells * quality.Cells]float64 {
		var c [quality.Cells * quality.Cells]float64
		for i := range c {
			c[i] = f(float64(i%quality.Cells)/quality.Cells, float64(i/quality.Cells)/quality.Cells)
		}
		return &c
	}
	scene := func(u, v float64) float64 { return 100 + 50*math.Sin(5*u+1)*math.Cos(7*v) + 20*math.Sin(11*u*v) }
	base := quality.Hash(cells(scene))
	brighter := quality.Hash(cells(func(u, v float64) float64 { return scene(u, v) + 30 }))
	dimmer := quality.Hash(cells(func(u, v float64) float64 { return 0.6 * scene(u, v) }))
	mirrored := quality.Hash(cells(func(u, v float64) float64 { return scene(1-u, v) }))
	if d := bits.OnesCount64(base ^ brighter); d > 1 {
		t.Errorf("brighter: %d bits away", d)
	}
	if d := bits.OnesCount64(base ^ dimmer); d > 2 {
		t.Errorf("less contrast: %d bits away", d)
	}
	if d := bits.OnesCount64(base ^ mirrored); d < 16 {
		t.Errorf("mirrored: only %d bits away", d)
	}
	if n := bits.OnesCount64(base); n < 28 || n > 32 || base&1 != 0 {
		t.Errorf("%064b: about half of 63 bits should be set, never the lowest", base)
	}
	if h := quality.Hash(cells(func(float64, float64) float64 { return 77.7 })); h != 0 {
		t.Errorf("one colour: %x", h)
	}
}

func BenchmarkHash(b *testing.B) {
	var c [quality.Cells * quality.Cells]float64
	for i := range c {
		c[i] = float64(i * i % 251)
	}
	for b.Loop() {
		quality.Hash(&c)
	}
}

package imagertest

import (
	"image"
	"image/draw"
	"testing"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/preprocess/quality"
)

func testQuality(t *testing.T, imager preprocess.Imager) {
	t.Helper()
	for _, size := range []image.Point{{1, 1}, {1, 9}, {9, 1}, {2, 2}, {31, 5}, {33, 70}, {320, 240}, {4200, 3}} {
		for name, src := range map[string]*image.NRGBA{"noise": Noise(size.X, size.Y, 6), "scene": Scene(size.X, size.Y, 0.5)} {
			want := measured(src)
			if got := decode(t, imager, PNG(src)).Quality(model.Region{}); got != want {
				t.Errorf("%s of %v: %+v, want %+v", name, size, got, want)
			}
		}
	}
	black := decode(t, imager, PNG(image.NewGray(image.Rect(0, 0, 50, 40)))).Quality(model.Region{})
	if black != (frame.Quality{}) {
		t.Errorf("black: %+v", black)
	}
}

func testQualityRegion(t *testing.T, imager preprocess.Imager) {
	t.Helper()
	src := Scene(160, 120, 1)
	img := decode(t, imager, PNG(src))
	for _, c := range []struct{ asked, measured model.Region }{
		{image.Rect(30, 20, 130, 100), image.Rect(30, 20, 130, 100)},
		{image.Rect(-10, 60, 500, 500), image.Rect(0, 60, 160, 120)},
		{model.Region{}, image.Rect(0, 0, 160, 120)},
		{image.Rect(159, 119, 160, 120), image.Rect(159, 119, 160, 120)},
	} {
		cut := image.NewNRGBA(image.Rectangle{Max: c.measured.Size()})
		draw.Draw(cut, cut.Rect, src, c.measured.Min, draw.Src)
		if got, want := img.Quality(c.asked), measured(cut); got != want {
			t.Errorf("%v: %+v, want %+v", c.asked, got, want)
		}
	}
	if got := img.Quality(image.Rect(200, 200, 300, 300)); got != (frame.Quality{}) {
		t.Errorf("outside: %+v", got)
	}
}

func measured(src *image.NRGBA) frame.Quality {
	size := src.Rect.Size()
	bgr := make([]byte, 0, 3*size.X*size.Y)
	for i := 0; i < len(src.Pix); i += 4 {
		bgr = append(bgr, src.Pix[i+2], src.Pix[i+1], src.Pix[i])
	}
	sums := quality.Measure(bgr, 3*size.X, size.X, size.Y)
	return sums.Quality()
}

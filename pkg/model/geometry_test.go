package model

import (
	"image"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestPlanResize(t *testing.T) {
	whole := image.Rectangle{}
	for _, c := range []struct {
		name            string
		sw, sh          int
		roi             Region
		w, h            int
		mode            Resize
		source, content Region
		transform       Transform
	}{
		{
			"stretch", 768, 576, whole, 352, 352, Stretch, image.Rect(0, 0, 768, 576), image.Rect(0, 0, 352, 352),
			Transform{ScaleX: 768.0 / 352, ScaleY: 576.0 / 352},
		},
		{
			"bars above and below", 1280, 720, whole, 320, 320, Letterbox, image.Rect(0, 0, 1280, 720), image.Rect(0, 70, 320, 250),
			Transform{PadY: 70, ScaleX: 4, ScaleY: 4},
		},
		{
			"bars at the sides, odd", 100, 200, whole, 101, 100, Letterbox, image.Rect(0, 0, 100, 200), image.Rect(25, 0, 75, 100),
			Transform{PadX: 25, ScaleX: 2, ScaleY: 2},
		},
		{
			"rounded content keeps its corners", 1000, 333, whole, 100, 100, Letterbox, image.Rect(0, 0, 1000, 333), image.Rect(0, 33, 100, 66),
			Transform{PadY: 33, ScaleX: 10, ScaleY: 333.0 / 33},
		},
		{
			"enlarged", 10, 10, whole, 40, 20, Letterbox, image.Rect(0, 0, 10, 10), image.Rect(10, 0, 30, 20),
			Transform{PadX: 10, ScaleX: 0.5, ScaleY: 0.5},
		},
		{
			"region", 640, 480, image.Rect(100, 200, 300, 400), 100, 100, Letterbox, image.Rect(100, 200, 300, 400), image.Rect(0, 0, 100, 100),
			Transform{ScaleX: 2, ScaleY: 2, OriginX: 100, OriginY: 200},
		},
		{
			"region that sticks out", 640, 480, image.Rect(-50, 400, 50, 900), 100, 80, Stretch, image.Rect(0, 400, 50, 480), image.Rect(0, 0, 100, 80),
			Transform{ScaleX: 0.5, ScaleY: 1, OriginY: 400},
		},
		{
			"sliver", 10000, 1, whole, 100, 100, Letterbox, image.Rect(0, 0, 10000, 1), image.Rect(0, 49, 100, 50),
			Transform{PadY: 49, ScaleX: 100, ScaleY: 1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := PlanResize(c.sw, c.sh, c.roi, c.w, c.h, c.mode)
			want := Plan{Source: c.source, Content: c.content, Width: c.w, Height: c.h, Transform: c.transform}
			if err != nil || p != want {
				t.Errorf("%+v, %v\nwant %+v", p, err, want)
			}
		})
	}
	for _, c := range []struct {
		sw, w int
		roi   Region
		want  string
	}{
		{0, 10, whole, "plan: the picture is 0x10"},
		{10, -1, whole, "plan: the model's input is -1x10"},
		{10, 10, image.Rect(10, 0, 20, 5), "plan: region (10,0)-(20,5) lies outside the 10x10 picture"},
	} {
		if _, err := PlanResize(c.sw, 10, c.roi, c.w, 10, Stretch); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}

func TestPlanProperties(t *testing.T) {
	size := rapid.IntRange(1, 4000)
	rapid.Check(t, func(t *rapid.T) {
		sw, sh, w, h := size.Draw(t, "sw"), size.Draw(t, "sh"), size.Draw(t, "w"), size.Draw(t, "h")
		mode := rapid.SampledFrom([]Resize{Stretch, Letterbox}).Draw(t, "mode")
		x, y := rapid.IntRange(0, sw-1).Draw(t, "x"), rapid.IntRange(0, sh-1).Draw(t, "y")
		roi := image.Rect(x, y, x+size.Draw(t, "rw"), y+size.Draw(t, "rh"))
		p, err := PlanResize(sw, sh, roi, w, h, mode)
		if err != nil {
			t.Fatal(err)
		}
		if p.Content.Empty() || !p.Content.In(image.Rect(0, 0, w, h)) {
			t.Fatalf("content %v is not within %dx%d", p.Content, w, h)
		}
		if p.Content.Dx() != w && p.Content.Dy() != h {
			t.Fatalf("content %v leaves bars on all sides of %dx%d", p.Content, w, h)
		}
		corner := func(tx, ty, sx, sy int) {
			gx, gy := p.Transform.Point(float64(tx), float64(ty))
			near(t, gx, float64(sx))
			near(t, gy, float64(sy))
			bx, by := p.Transform.Inverse(gx, gy)
			near(t, bx, float64(tx))
			near(t, by, float64(ty))
		}
		corner(p.Content.Min.X, p.Content.Min.Y, p.Source.Min.X, p.Source.Min.Y)
		corner(p.Content.Max.X, p.Content.Max.Y, p.Source.Max.X, p.Source.Max.Y)
		if err := p.Transform.Validate(); err != nil {
			t.Fatal(err)
		}

		point := rapid.Float64Range(-1000, 5000)
		px, py := point.Draw(t, "px"), point.Draw(t, "py")
		wantX, wantY := p.Transform.Point(px, py)
		gotX, gotY := FromAffine(p.Transform.Affine()).Point(px, py)
		near(t, gotX, wantX)
		near(t, gotY, wantY)

		// Scaled before: the same as scaling afterwards.
		fw, fh := size.Draw(t, "fw"), size.Draw(t, "fh")
		outer := Scaling(sw, sh, fw, fh)
		wantX, wantY = outer.Point(wantX, wantY)
		gotX, gotY = p.Transform.Then(outer).Point(px, py)
		near(t, gotX, wantX)
		near(t, gotY, wantY)
	})
}

func near(t *rapid.T, got, want float64) {
	if math.Abs(got-want) > 1e-6*(1+math.Abs(want)) {
		t.Helper()
		t.Fatalf("%v, want %v", got, want)
	}
}

func TestTransformValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		t    Transform
		ok   bool
	}{
		{"identity", Identity(), true},
		{"zero", Transform{}, false},
		{"mirrored", Transform{ScaleX: -1, ScaleY: 1}, false},
		{"nan", Transform{ScaleX: 1, ScaleY: 1, OriginX: math.NaN()}, false},
		{"infinite", Transform{ScaleX: math.Inf(1), ScaleY: 1}, false},
	} {
		if err := c.t.Validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestClipBox(t *testing.T) {
	for _, c := range []struct {
		box, want [4]float32
		inside    bool
	}{
		{[4]float32{1, 2, 3, 4}, [4]float32{1, 2, 3, 4}, true},
		{[4]float32{-5, -5, 20, 30}, [4]float32{0, 0, 10, 8}, true},
		{[4]float32{-5, 1, 0, 2}, [4]float32{0, 1, 0, 2}, false},
		{[4]float32{1, 9, 2, 12}, [4]float32{1, 8, 2, 8}, false},
	} {
		if got, inside := ClipBox(c.box, 10, 8); got != c.want || inside != c.inside {
			t.Errorf("%v: %v, %v, want %v, %v", c.box, got, inside, c.want, c.inside)
		}
	}
}

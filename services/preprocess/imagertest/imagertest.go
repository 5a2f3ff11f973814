// Package imagertest is the conformance suite of preprocess.Imager: whatever passes it can take the other's place.
package imagertest

import (
	"bytes"
	"image"
	"image/color"
	"sync"
	"testing"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/preprocess/quality"
)

// Run holds an Imager to its contract.
func Run(t *testing.T, imager preprocess.Imager) {
	t.Helper()
	t.Run("size", func(t *testing.T) { testSize(t, imager) })
	t.Run("bad bytes", func(t *testing.T) { testBadBytes(t, imager) })
	t.Run("colour order", func(t *testing.T) { testColorOrder(t, imager) })
	t.Run("jpeg colours", func(t *testing.T) { testJPEGColors(t, imager) })
	t.Run("geometry", func(t *testing.T) { testGeometry(t, imager) })
	t.Run("edge position", func(t *testing.T) { testEdge(t, imager) })
	t.Run("shrinking", func(t *testing.T) { testShrinking(t, imager) })
	t.Run("plan that does not fit", func(t *testing.T) { testMisfit(t, imager) })
	t.Run("quality", func(t *testing.T) { testQuality(t, imager) })
	t.Run("quality of a region", func(t *testing.T) { testQualityRegion(t, imager) })
	t.Run("concurrency", func(t *testing.T) { testConcurrency(t, imager) })
}

func decode(t *testing.T, imager preprocess.Imager, data []byte) preprocess.Image {
	t.Helper()
	img, err := imager.Decode(data)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	t.Cleanup(img.Close)
	return img
}

func testSize(t *testing.T, imager preprocess.Imager) {
	t.Helper()
	for _, size := range []image.Point{{1, 1}, {3, 1}, {1, 4}, {37, 23}, {320, 240}} {
		src := Noise(size.X, size.Y, 1)
		for name, data := range map[string][]byte{"png": PNG(src), "jpeg": JPEG(src, 90), "grey jpeg": JPEG(grey(src), 90)} {
			w, h := decode(t, imager, data).Size()
			if w != size.X || h != size.Y {
				t.Errorf("%s of %v: size is %dx%d", name, size, w, h)
			}
		}
	}
}

func testBadBytes(t *testing.T, imager preprocess.Imager) {
	t.Helper()
	jpg, png := JPEG(Noise(64, 48, 2), 90), PNG(Noise(64, 48, 2))
	cases := map[string][]byte{
		"nothing": nil, "one byte": {0xff}, "garbage": bytes.Repeat([]byte("garbage!"), 100),
		"magic only": {0xff, 0xd8, 0xff}, "gif": []byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), "bmp": append([]byte("BM"), make([]byte, 60)...),
		"jpeg without its last byte": jpg[:len(jpg)-1], "half a jpeg": jpg[:len(jpg)/2], "jpeg header": jpg[:100],
		"png without its last byte": png[:len(png)-1], "half a png": png[:len(png)/2],
		"png with flipped bits":   flip(png, len(png)/2),
		"jpeg of 65535 px a side": Oversized(jpg, 65535, 65535), "jpeg of 134 MP": Oversized(jpg, 16384, 8192),
		"empty jpeg": Oversized(jpg, 0, 48), "jpeg of other data": append(bytes.Clone(jpg[:2]), append(bytes.Repeat([]byte{0xff, 0xfe, 0, 4, 1, 1}, 20), 0xff, 0xd9)...),
	}
	for name, data := range cases {
		if img, err := imager.Decode(data); err == nil || img != nil {
			t.Errorf("%s: image %v, error %v", name, img, err)
		}
	}
	decode(t, imager, append(bytes.Clone(jpg), 0, 0, 0)) // padding behind the end is what some cameras send
}

func testColorOrder(t *testing.T, imager preprocess.Imager) {
	t.Helper()
	src := Noise(24, 16, 3)
	img := decode(t, imager, PNG(src))
	for _, order := range []model.Color{model.RGB, model.BGR, model.Gray} {
		got := tensor(t, img, model.Input{Width: 24, Height: 16, Color: order, Resize: model.Stretch}, model.Region{})
		var want []byte
		for i := 0; i < len(src.Pix); i += 4 {
			want = append(want, ordered(src.Pix[i:], order)...)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: a picture of the input's size is not passed through as it is", order)
		}
	}
	region := decode(t, imager, PNG(grey(src)))
	got := tensor(t, region, model.Input{Width: 5, Height: 4, Color: model.RGB, Resize: model.Letterbox}, image.Rect(7, 3, 12, 7))
	for i, v := range got {
		if want := grey(src).GrayAt(7+i/3%5, 3+i/15).Y; v != want {
			t.Fatalf("grey png, region: value %d is %d, want %d", i, v, want)
		}
	}
}

func ordered(rgb []byte, order model.Color) []byte {
	switch order {
	case model.BGR:
		return []byte{rgb[2], rgb[1], rgb[0]}
	case model.Gray:
		return []byte{quality.Grey(rgb[0], rgb[1], rgb[2])}
	default:
		return rgb[:3]
	}
}

func testJPEGColors(t *testing.T, imager preprocess.Imager) {
	t.Helper()
	src := Quadrants(160, 128)
	got := tensor(t, decode(t, imager, JPEG(src, 95)), model.Input{Width: 160, Height: 128, Color: model.RGB, Resize: model.Stretch}, model.Region{})
	for _, at := range []image.Point{{40, 32}, {120, 32}, {40, 96}, {120, 96}} {
		want := src.NRGBAAt(at.X, at.Y)
		near(t, "jpeg at "+at.String(), got[3*(at.Y*160+at.X):][:3], []byte{want.R, want.G, want.B}, 4)
	}
}

// testGeometry looks for every quadrant where the plan's transform says that it is.
func testGeometry(t *testing.T, imager preprocess.Imager) {
	t.Helper()
	src := Quadrants(160, 120)
	img := decode(t, imager, PNG(src))
	for _, c := range []struct {
		name   string
		input  model.Input
		region model.Region
	}{
		{"stretch down", model.Input{Width: 96, Height: 40, Resize: model.Stretch}, model.Region{}},
		{"stretch up", model.Input{Width: 200, Height: 300, Resize: model.Stretch}, model.Region{}},
		{"letterbox wide", model.Input{Width: 200, Height: 60, Resize: model.Letterbox, Pad: 114}, model.Region{}},
		{"letterbox tall, odd bar", model.Input{Width: 64, Height: 81, Resize: model.Letterbox, Pad: 7}, model.Region{}},
		{"letterbox up", model.Input{Width: 352, Height: 352, Resize: model.Letterbox, Pad: 114}, model.Region{}},
		{"region", model.Input{Width: 64, Height: 64, Resize: model.Letterbox, Pad: 114}, image.Rect(50, 30, 150, 110)},
		{"region, stretch", model.Input{Width: 64, Height: 64, Resize: model.Stretch}, image.Rect(61, 13, 99, 120)},
		{"region of the input's size", model.Input{Width: 60, Height: 50, Resize: model.Letterbox}, image.Rect(50, 40, 110, 90)},
	} {
		for _, order := range []model.Color{model.RGB, model.BGR, model.Gray} {
			c.input.Color = order
			checkGeometry(t, c.name+" "+string(order), src, img, c.input, c.region)
		}
	}
}

func checkGeometry(t *testing.T, name string, src *image.NRGBA, img preprocess.Image, input model.Input, region model.Region) {
	t.Helper()
	plan, err := input.Plan(src.Rect.Dx(), src.Rect.Dy(), region)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	got, n := tensor(t, img, input, region), input.Color.Channels()
	bars, seen := 0, 0
	for y := range plan.Height {
		for x := range plan.Width {
			px := got[(y*plan.Width+x)*n:][:n]
			if !image.Pt(x, y).In(plan.Content) {
				bars++
				near(t, name+": bar", px, []byte{input.Pad, input.Pad, input.Pad}[:n], 0)
				continue
			}
			sx, sy := plan.Transform.Point(float64(x)+0.5, float64(y)+0.5)
			fromX, fromY := max(sx-80, 80-sx), max(sy-60, 60-sy)
			if fromX < 3 || fromY < 3 { // interpolated with the neighbour
				continue
			}
			seen++
			c := src.NRGBAAt(int(sx), int(sy))
			near(t, name+" at "+image.Pt(x, y).String(), px, ordered([]byte{c.R, c.G, c.B}, input.Color), 1)
		}
	}
	if seen < plan.Content.Dx()*plan.Content.Dy()/2 {
		t.Errorf("%s: only %d pixels were compared", name, seen)
	}
	if want := plan.Width*plan.Height - plan.Content.Dx()*plan.Content.Dy(); bars != want {
		t.Errorf("%s: %d pixels of bars, want %d", name, bars, want)
	}
}

// testEdge measures where an upright edge lands, to a fraction of a pixel.
func testEdge(t *testing.T, imager preprocess.Imager) {
	t.Helper()
	const edge = 71
	src := image.NewNRGBA(image.Rect(0, 0, 160, 120))
	for y := range 120 {
		for x := range 160 {
			v := uint8(0)
			if x >= edge {
				v = 255
			}
			src.SetNRGBA(x, y, color.NRGBA{v, v, v, 255})
		}
	}
	img := decode(t, imager, PNG(src))
	for _, width := range []int{47, 80, 100, 160, 320, 333} {
		input := model.Input{Width: width, Height: width, Color: model.Gray, Resize: model.Letterbox}
		plan, err := input.Plan(160, 120, model.Region{})
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, v := range tensor(t, img, input, model.Region{})[plan.Height/2*width:][:width] {
			sum += int(v)
		}
		got := float64(width) - float64(sum)/255
		if want, _ := plan.Transform.Inverse(edge, 0); got < want-0.5 || got > want+0.5 {
			t.Errorf("width %d: the edge is at %.2f, want %.2f", width, got, want)
		}
	}
}

// testShrinking: a letterbox sees every pixel, a stretch interpolates as cv2.resize does.
func testShrinking(t *testing.T, imager preprocess.Imager) {
	t.Helper()
	src := image.NewNRGBA(image.Rect(0, 0, 320, 240))
	for y := range 240 {
		for x := range 320 {
			v := uint8(255 * ((x / 2) % 2))
			src.SetNRGBA(x, y, color.NRGBA{v, v, v, 255})
		}
	}
	img := decode(t, imager, PNG(src))
	for _, width := range []int{80, 64, 36} { // halved; interpolated and halved
		shrink(t, img, width, model.Region{})
		shrink(t, img, width, image.Rect(0, 0, 319, 239))
		shrink(t, img, width, image.Rect(0, 0, 320, 20))
	}
	input := model.Input{Width: 80, Height: 60, Color: model.Gray, Resize: model.Stretch}
	for i, v := range tensor(t, img, input, model.Region{}) {
		if v < 127 || v > 128 { // a quarter of the pixels: the middle two of each four are one dark, one light
			t.Fatalf("stretch: value %d is %d", i, v)
		}
	}
	input.Width = 64 // factor 5: the middle pixel of each five, never a mean
	for i, v := range tensor(t, img, input, model.Region{}) {
		if want := src.NRGBAAt(i%64*5+2, 0).R; v != want {
			t.Fatalf("stretch by 5: value %d is %d, want %d", i, v, want)
		}
	}
}

func shrink(t *testing.T, img preprocess.Image, width int, region model.Region) {
	t.Helper()
	input := model.Input{Width: width, Height: width * 3 / 4, Color: model.Gray, Resize: model.Letterbox, Pad: 128}
	for i, v := range tensor(t, img, input, region) {
		if v < 60 || v > 196 {
			t.Fatalf("letterbox to %d: value %d of a fine pattern is %d, want about 128", width, i, v)
		}
	}
}

func testMisfit(t *testing.T, imager preprocess.Imager) {
	t.Helper()
	img := decode(t, imager, PNG(Noise(40, 30, 4)))
	good := model.Input{Width: 20, Height: 20, Color: model.RGB, Resize: model.Letterbox}
	plan, err := good.Plan(40, 30, model.Region{})
	if err != nil {
		t.Fatal(err)
	}
	bad := func(name string, dst []byte, plan model.Plan, input model.Input) {
		t.Helper()
		if err := img.Tensor(dst, plan, input); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	bad("short buffer", make([]byte, good.Bytes()-1), plan, good)
	bad("no buffer", nil, plan, good)
	bad("long buffer", make([]byte, good.Bytes()+1), plan, good)
	other := good
	other.Color = ""
	bad("no colour order", make([]byte, good.Bytes()), plan, other)
	outside := plan
	outside.Source = image.Rect(0, 0, 41, 30)
	bad("source outside", make([]byte, good.Bytes()), outside, good)
	outside = plan
	outside.Content = image.Rect(0, 0, 21, 20)
	bad("content outside", make([]byte, good.Bytes()), outside, good)
	bad("nothing planned", make([]byte, good.Bytes()), model.Plan{}, good)
}

func testConcurrency(t *testing.T, imager preprocess.Imager) {
	t.Helper()
	data := JPEG(Noise(96, 64, 5), 90)
	input := model.Input{Width: 64, Height: 64, Color: model.RGB, Resize: model.Letterbox, Pad: 114}
	want := tensor(t, decode(t, imager, data), input, model.Region{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				img, err := imager.Decode(data)
				if err != nil {
					t.Errorf("decode: %v", err)
					return
				}
				plan, _ := input.Plan(96, 64, model.Region{})
				got := make([]byte, input.Bytes())
				if err := img.Tensor(got, plan, input); err != nil || !bytes.Equal(got, want) {
					t.Errorf("differs under load: %v", err)
				}
				img.Close()
			}
		})
	}
	wg.Wait()
}

func tensor(t *testing.T, img preprocess.Image, input model.Input, region model.Region) []byte {
	t.Helper()
	w, h := img.Size()
	plan, err := input.Plan(w, h, region)
	if err != nil {
		t.Fatal(err)
	}
	dst := bytes.Repeat([]byte{0xa5}, input.Bytes()) // what is not written shows
	if err := img.Tensor(dst, plan, input); err != nil {
		t.Fatal(err)
	}
	return dst
}

func near(t *testing.T, what string, got, want []byte, tolerance int) {
	t.Helper()
	for i := range got {
		if d := int(got[i]) - int(want[i]); d > tolerance || -d > tolerance {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
}

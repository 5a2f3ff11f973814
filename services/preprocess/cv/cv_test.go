package cv_test

import (
	"bytes"
	"encoding/json"
	"image"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"testing"

	"gocv.io/x/gocv"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/preprocess/cv"
	"github.com/sightline-dev/sightline/services/preprocess/imagertest"
)

func TestImager(t *testing.T) { imagertest.Run(t, cv.Imager{}) }

func decode(tb testing.TB, data []byte) *cv.Image {
	tb.Helper()
	img, err := cv.Decode(data)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(img.Close)
	return img
}

// TestExpectedFigures holds Quality to figures that cv2 4.6 computed.
func TestExpectedFigures(t *testing.T) {
	dir := os.Getenv("SIGHTLINE_SHARED_DATA")
	if dir == "" {
		dir = "../../../../shared/data"
	}
	raw, err := os.ReadFile(filepath.Join(dir, "expected", "image_properties.json"))
	if err != nil {
		t.Skipf("NOT TESTED: the reference figures are not there, set SIGHTLINE_SHARED_DATA to the folder that has expected/ and images/: %v", err)
	}
	var expected struct {
		Images map[string]struct {
			Width, Height int
			Luma          float64 `json:"brightness_bt601"`
			Contrast      float64 `json:"rms_contrast_bt601"`
			Sharpness     float64 `json:"laplacian_var"`
			Saturation    float64 `json:"saturation"`
		} `json:"images"`
	}
	if err := json.Unmarshal(raw, &expected); err != nil {
		t.Fatal(err)
	}
	if len(expected.Images) == 0 {
		t.Fatal("no images")
	}
	for name, want := range expected.Images {
		data, err := os.ReadFile(filepath.Join(dir, "images", name+".png"))
		if err != nil {
			t.Fatal(err)
		}
		img := decode(t, data)
		if w, h := img.Size(); w != want.Width || h != want.Height {
			t.Errorf("%s: %dx%d, want %dx%d", name, w, h, want.Width, want.Height)
		}
		q := img.Quality(model.Region{})
		for figure, v := range map[string][2]float64{
			"luma": {q.Luma, want.Luma}, "contrast": {q.Contrast, want.Contrast},
			"sharpness": {q.Sharpness, want.Sharpness}, "saturation": {q.Saturation, want.Saturation},
		} {
			if math.Abs(v[0]-v[1]) > 0.00005001 { // four decimals are written
				t.Errorf("%s: %s is %.6f, want %.4f", name, figure, v[0], v[1])
			}
		}
	}
}

// TestStretchIsResizeLinear: also where it shrinks a lot, a stretch is what cv2.resize does by default.
func TestStretchIsResizeLinear(t *testing.T) {
	data := imagertest.PNG(imagertest.Noise(317, 211, 1))
	src, err := gocv.IMDecode(data, gocv.IMReadColor)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	for _, size := range []image.Point{{352, 352}, {100, 100}, {31, 17}, {317, 100}, {1, 1}} {
		want := gocv.NewMat()
		if err := gocv.Resize(src, &want, size, 0, 0, gocv.InterpolationLinear); err != nil {
			t.Fatal(err)
		}
		input := model.Input{Width: size.X, Height: size.Y, Color: model.BGR, Resize: model.Stretch}
		got := make([]byte, input.Bytes())
		plan, err := input.Plan(317, 211, model.Region{})
		if err != nil {
			t.Fatal(err)
		}
		if err := decode(t, data).Tensor(got, plan, input); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want.ToBytes()) {
			t.Errorf("%v differs", size)
		}
		_ = want.Close()
	}
}

// TestAgreesWithFake: the pictures that tests without OpenCV see are those of production, within rounding.
func TestAgreesWithFake(t *testing.T) {
	data := imagertest.PNG(imagertest.Scene(317, 211, 0.7))
	img, err := cv.Imager{}.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	fake, err := (&preprocess.Fake{}).Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, input := range []model.Input{
		{Width: 352, Height: 300, Color: model.RGB, Resize: model.Letterbox, Pad: 114},
		{Width: 41, Height: 77, Color: model.BGR, Resize: model.Stretch},
		{Width: 50, Height: 50, Color: model.Gray, Resize: model.Letterbox, Pad: 114},
	} {
		for _, region := range []model.Region{{}, image.Rect(11, 7, 211, 157)} {
			plan, err := input.Plan(317, 211, region)
			if err != nil {
				t.Fatal(err)
			}
			a, b := make([]byte, input.Bytes()), make([]byte, input.Bytes())
			if err := img.Tensor(a, plan, input); err != nil {
				t.Fatal(err)
			}
			if err := fake.Tensor(b, plan, input); err != nil {
				t.Fatal(err)
			}
			for i := range a {
				if d := int(a[i]) - int(b[i]); d > 2 || d < -2 {
					t.Fatalf("%+v %v: value %d is %d, the fake says %d", input, region, i, a[i], b[i])
				}
			}
		}
	}
}

func TestHashSeesWhatPeopleSee(t *testing.T) {
	hash := func(data []byte) uint64 { return decode(t, data).Quality(model.Region{}).Hash }
	src := imagertest.Scene(320, 240, 0.3)
	brighter := imagertest.Scene(320, 240, 0.3)
	for i := range brighter.Pix {
		if i%4 != 3 {
			brighter.Pix[i] = uint8(min(int(brighter.Pix[i])+25, 255))
		}
	}
	base := hash(imagertest.PNG(src))
	for name, other := range map[string][]byte{
		"jpeg 90": imagertest.JPEG(src, 90), "jpeg 30": imagertest.JPEG(src, 30), "brighter": imagertest.JPEG(brighter, 85),
		"half the size": imagertest.PNG(imagertest.Scene(160, 120, 0.3)),
	} {
		if d := bits.OnesCount64(base ^ hash(other)); d > 6 {
			t.Errorf("%s: %d bits away, want a few", name, d)
		}
	}
	for _, seed := range []float64{1.1, 2, 2.9} {
		if d := bits.OnesCount64(base ^ hash(imagertest.PNG(imagertest.Scene(320, 240, seed)))); d < 14 {
			t.Errorf("another scene (%v): only %d bits away", seed, d)
		}
	}
}

// TestOrientationIsIgnored: the size in the header is the size of the picture, whatever EXIF says.
func TestOrientationIsIgnored(t *testing.T) {
	exif := []byte("\xff\xe1\x00\x22Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00")
	jpg := imagertest.JPEG(imagertest.Noise(64, 48, 1), 90)
	turned := append(append(bytes.Clone(jpg[:2]), exif...), jpg[2:]...)
	if w, h := decode(t, turned).Size(); w != 64 || h != 48 {
		t.Errorf("%dx%d", w, h)
	}
}

func FuzzDecode(f *testing.F) {
	jpg, png := imagertest.JPEG(imagertest.Noise(20, 12, 1), 80), imagertest.PNG(imagertest.Noise(20, 12, 1))
	for _, data := range [][]byte{jpg, png, jpg[:len(jpg)-9], png[:len(png)-9], {0xff}, imagertest.Oversized(jpg, 8192, 8192)} {
		f.Add(data)
	}
	input := model.Input{Width: 16, Height: 24, Color: model.RGB, Resize: model.Letterbox, Pad: 114}
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := cv.Decode(data)
		if err != nil {
			return
		}
		defer img.Close()
		w, h := img.Size()
		plan, err := input.Plan(w, h, model.Region{})
		if err != nil {
			t.Fatal(err)
		}
		if err := img.Tensor(make([]byte, input.Bytes()), plan, input); err != nil {
			t.Fatalf("%dx%d: %v", w, h, err)
		}
		if q := img.Quality(model.Region{}); !(q.Luma >= 0 && q.Luma <= 255 && q.Contrast <= 128) || q == (frame.Quality{Luma: -1}) {
			t.Fatalf("%+v", q)
		}
	})
}

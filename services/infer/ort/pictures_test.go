package ort_test

import (
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/infer/heads"
)

// shared is the directory of models and pictures that are too large for the repository.
func shared(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv("SIGHTLINE_SHARED_DATA")
	if dir == "" {
		dir = "../../../../shared/data"
	}
	if _, err := os.Stat(filepath.Join(dir, "models", "FastestDet.onnx")); err != nil {
		tb.Skipf("NOT TESTED: real models on real pictures: %v; set SIGHTLINE_SHARED_DATA to the directory that has them", err)
	}
	return dir
}

func loadShared(tb testing.TB, family, file string) *infer.Model {
	tb.Helper()
	d, ok := model.Preset(family)
	if !ok {
		tb.Fatalf("no family %s", family)
	}
	a, err := model.OpenFile(filepath.Join(shared(tb), "models", file), family, d)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := infer.Load(tb.Context(), newBackend(tb), a, infer.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
	})
	return m
}

// pixels reads a PNG as rows of RGB, or of gray.
func pixels(tb testing.TB, path string, channels int) (data []byte, w, h int) {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	img, err := png.Decode(f)
	if err != nil {
		tb.Fatal(err)
	}
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, bl, _ := img.At(x, y).RGBA()
			data = append(data, []byte{byte(r >> 8), byte(g >> 8), byte(bl >> 8)}[:channels]...)
		}
	}
	return data, b.Dx(), b.Dy()
}

// bilinear scales as cv2.INTER_LINEAR does: half-pixel centres, edges repeated, rounded to the nearest.
func bilinear(src []byte, sw, sh, channels, dw, dh int) []byte {
	axis := func(d, s, limit int, i int) (int, int, float64) {
		at := (float64(i)+0.5)*float64(s)/float64(d) - 0.5
		low := math.Floor(at)
		clampTo := func(v int) int { return min(max(v, 0), limit-1) }
		return clampTo(int(low)), clampTo(int(low) + 1), at - low
	}
	dst := make([]byte, 0, dw*dh*channels)
	for y := range dh {
		y0, y1, fy := axis(dh, sh, sh, y)
		for x := range dw {
			x0, x1, fx := axis(dw, sw, sw, x)
			for c := range channels {
				at := func(x, y int) float64 { return float64(src[(y*sw+x)*channels+c]) }
				top := at(x0, y0)*(1-fx) + at(x1, y0)*fx
				bottom := at(x0, y1)*(1-fx) + at(x1, y1)*fx
				dst = append(dst, byte(math.Round(top*(1-fy)+bottom*fy)))
			}
		}
	}
	return dst
}

// tensor makes a model's input of a PNG, for models that stretch.
func tensor(tb testing.TB, in model.Input, path string) infer.Tensor {
	tb.Helper()
	channels := in.Color.Channels()
	src, w, h := pixels(tb, path, channels)
	plan, err := in.Plan(w, h, image.Rectangle{})
	if err != nil {
		tb.Fatal(err)
	}
	data := bilinear(src, w, h, channels, in.Width, in.Height)
	if in.Color == model.BGR {
		for i := 0; i < len(data); i += 3 {
			data[i], data[i+2] = data[i+2], data[i]
		}
	}
	return infer.Tensor{Data: data, Transform: plan.Transform, SourceW: w, SourceH: h}
}

type expectation struct {
	Images []struct {
		Image string `json:"image"`
		Dets  []struct {
			Box   [4]float32 `json:"box"`
			Score float64    `json:"score"`
			Class int        `json:"cls"`
			Name  string     `json:"name"`
		} `json:"dets"`
	} `json:"images"`
}

// TestDetectors compares whole answers with those of two independent pipelines, as check.py beside the data does: the
// same boxes, each with an overlap of .97 and a score within .02, and no others.
func TestDetectors(t *testing.T) {
	for _, c := range []struct{ family, file, expected string }{
		{model.FastestDet, "FastestDet.onnx", "fastestdet.json"},
		{model.UltraFace, "version-RFB-320.onnx", "ultraface_rfb320.json"},
		{model.UltraFace, "version-slim-320.onnx", "ultraface_slim320.json"},
	} {
		t.Run(c.file, func(t *testing.T) {
			dir := shared(t)
			m := loadShared(t, c.family, c.file)
			raw, err := os.ReadFile(filepath.Join(dir, "expected", c.expected))
			if err != nil {
				t.Fatal(err)
			}
			var want expectation
			if err := json.Unmarshal(raw, &want); err != nil {
				t.Fatal(err)
			}
			tensors := make([]infer.Tensor, 0, len(want.Images))
			for _, e := range want.Images {
				tensors = append(tensors, tensor(t, m.Artifact().Declaration.Input, filepath.Join(dir, "images", e.Image)))
			}
			results, err := m.Infer(t.Context(), tensors)
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range want.Images {
				left := append([]heads.Detection{}, results[i].Detections...)
				worstIoU, worstScore := float32(1), 0.0
				for _, x := range e.Dets {
					best, at := float32(-1), -1
					for k, d := range left {
						if iou := heads.IoU(d.Box, x.Box); d.ClassID == x.Class && iou > best {
							best, at = iou, k
						}
					}
					if best < 0.97 {
						t.Errorf("%s: %s %v is not found: best overlap %.4f", e.Image, x.Name, x.Box, best)
						continue
					}
					d := left[at]
					left = append(left[:at], left[at+1:]...)
					diff := math.Abs(float64(d.Score) - x.Score)
					if diff > 0.02 || (x.Name != "" && d.Class != x.Name) {
						t.Errorf("%s: found %+v, want score %.4f and name %s", e.Image, d, x.Score, x.Name)
					}
					worstIoU, worstScore = min(worstIoU, best), max(worstScore, diff)
				}
				for _, d := range left {
					t.Errorf("%s: found %+v, which is not there", e.Image, d)
				}
				t.Logf("%s: %d boxes, least overlap %.4f, largest score difference %.4f",
					e.Image, len(e.Dets), worstIoU, worstScore)
			}
		})
	}
}

func TestDigits(t *testing.T) {
	dir := shared(t)
	raw, err := os.ReadFile(filepath.Join(dir, "expected", "mnist.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Cases []struct {
			Image  string    `json:"image"`
			Logits []float64 `json:"logits"`
		} `json:"cases"`
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	m := loadShared(t, model.Classification, "mnist.onnx")
	in := m.Artifact().Declaration.Input
	if in.Color != model.Gray || in.Width != 28 || in.Height != 28 {
		t.Fatalf("resolved input is %+v, want gray 28x28", in)
	}
	session, err := newBackend(t).Load(t.Context(), m.Artifact(), infer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close() //nolint:errcheck // its own test
	for _, c := range want.Cases {
		tn := infer.Tensor{Data: make([]byte, 28*28), Transform: model.Identity(), SourceW: 28, SourceH: 28}
		if c.Image != "all zeros" {
			tn = tensor(t, in, filepath.Join(dir, "images", c.Image))
		}
		batch := infer.Batch{Shape: []int64{1, 1, 28, 28}}
		for _, v := range tn.Data {
			batch.Data = append(batch.Data, float32(v))
		}
		o, err := session.Run(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		best := 0
		for i, x := range c.Logits {
			if got := o.Tensors["Plus214_Output_0"].Data[i]; math.Abs(float64(got)-x) > 1e-2 {
				t.Errorf("%s: logit %d is %v, want %v", c.Image, i, got, x)
			}
			if x > c.Logits[best] {
				best = i
			}
		}
		o.Release()
		results, err := m.Infer(t.Context(), []infer.Tensor{tn})
		if err != nil {
			t.Fatal(err)
		}
		top := results[0].Classes[0]
		if top.ClassID != best || top.Class != strconv.Itoa(best) || top.Score <= 0.1 || top.Score > 1 {
			t.Errorf("%s: best class is %+v, want %d", c.Image, top, best)
		}
	}
}

func TestGuessFamilyOfRealFiles(t *testing.T) {
	dir := filepath.Join(shared(t), "models")
	for file, want := range map[string]string{
		"FastestDet.onnx": model.FastestDet, "version-RFB-320.onnx": model.UltraFace,
		"version-slim-320.onnx": model.UltraFace, "mnist.onnx": model.Classification,
	} {
		s, err := newBackend(t).Load(t.Context(), model.Artifact{Path: filepath.Join(dir, file)}, infer.Options{})
		if err != nil {
			t.Fatal(err)
		}
		read, err := model.ReadSignature(filepath.Join(dir, file))
		if err != nil || fmt.Sprint(read) != fmt.Sprint(s.Signature()) {
			t.Errorf("%s: read without the library: %v, %v; with it: %v", file, read, err, s.Signature())
		}
		d, err := infer.GuessFamily(s.Signature())
		if err != nil || d.Family != want {
			t.Errorf("%s: guessed %q, %v, want %s", file, d.Family, err, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkModelInfer measures bytes to boxes, with as many goroutines as there are cores on one session.
func BenchmarkModelInfer(b *testing.B) {
	dir := shared(b)
	m := loadShared(b, model.FastestDet, "FastestDet.onnx")
	one := tensor(b, m.Artifact().Declaration.Input, filepath.Join(dir, "images", "dog.png"))
	for _, n := range []int{1, 4} {
		b.Run(fmt.Sprintf("pictures=%d", n), func(b *testing.B) {
			tensors := make([]infer.Tensor, n)
			for i := range tensors {
				tensors[i] = one
			}
			b.ReportAllocs()
			var once sync.Once
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					results, err := m.Infer(b.Context(), tensors)
					if err != nil || len(results) != n || len(results[0].Detections) != 3 {
						once.Do(func() { b.Errorf("results %v, error %v", results, err) })
						return
					}
				}
			})
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "pictures/s")
		})
	}
}

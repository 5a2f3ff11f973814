package infer_test

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/infer/backendtest"
	"github.com/sightline-dev/sightline/services/infer/heads"
)

func load(tb testing.TB, b infer.Backend, a model.Artifact, o infer.Options) *infer.Model {
	tb.Helper()
	m, err := infer.Load(tb.Context(), b, a, o)
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

// plain is a picture of 8x8 in one shade, whose person stands in the middle half.
func plain(shade byte) infer.Tensor {
	data := make([]byte, 3*8*8)
	for i := range data {
		data[i] = shade
	}
	return infer.Tensor{Data: data, Transform: model.Identity(), SourceW: 8, SourceH: 8}
}

func TestInfer(t *testing.T) {
	var fake infer.Fake
	a := backendtest.Artifact("")
	a.Declaration.MaxBatchSize = 2
	m := load(t, &fake, a, infer.Options{})
	before, _ := fake.Runs()
	tensors := []infer.Tensor{plain(255), plain(0), plain(204), plain(153), plain(51)}
	results, err := m.Infer(t.Context(), tensors)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float32{1, 0, 0.8, 0.6, 0} {
		found := results[i].Detections
		if found == nil || results[i].Classes != nil {
			t.Fatalf("picture %d: %+v: a detector's answer has detections and no classes", i, results[i])
		}
		if want == 0 {
			if len(found) != 0 {
				t.Errorf("picture %d: %+v, want nobody", i, found)
			}
			continue
		}
		if len(found) != 1 || math.Abs(float64(found[0].Score-want)) > 1e-5 || found[0].Box != [4]float32{2, 2, 6, 6} {
			t.Errorf("picture %d: %+v, want a person of %v in the middle", i, found, want)
		}
	}
	if after, _ := fake.Runs(); after-before != 3 {
		t.Errorf("five pictures took %d runs of at most two", after-before)
	}
	if results, err := m.Infer(t.Context(), nil); err != nil || len(results) != 0 {
		t.Errorf("no pictures: %v, %v", results, err)
	}
}

func TestInferMapsBoxes(t *testing.T) {
	m := load(t, &infer.Fake{}, backendtest.Artifact(""), infer.Options{})
	rapid.Check(t, func(t *rapid.T) {
		side := rapid.IntRange(1, 3000)
		w, h := side.Draw(t, "w"), side.Draw(t, "h")
		plan, err := model.PlanResize(w, h, model.Region{}, 8, 8, model.Letterbox)
		if err != nil {
			t.Fatal(err)
		}
		in := plain(255)
		in.Transform, in.SourceW, in.SourceH = plan.Transform, w, h
		results, err := m.Infer(t.Context(), []infer.Tensor{in})
		if err != nil {
			t.Fatal(err)
		}
		if len(results[0].Detections) == 0 {
			return // a sliver: the bars hide it
		}
		box := results[0].Detections[0].Box
		if box[0] < 0 || box[1] < 0 || box[2] > float32(w) || box[3] > float32(h) || box[0] >= box[2] || box[1] >= box[3] {
			t.Fatalf("box %v is not within %dx%d", box, w, h)
		}
		// The middle of the tensor is the middle of the picture, up to half a pixel of an odd bar.
		for axis, size := range []int{w, h} {
			scale := []float64{plan.Transform.ScaleX, plan.Transform.ScaleY}[axis]
			if middle := float64(box[axis]+box[axis+2]) / 2; math.Abs(middle-float64(size)/2) > scale {
				t.Fatalf("box %v is not in the middle of %dx%d", box, w, h)
			}
		}
	})
}

func TestInferRefusesOnlyWhatIsBad(t *testing.T) {
	m := load(t, &infer.Fake{}, backendtest.Artifact(""), infer.Options{})
	short, lost, broken := plain(255), plain(255), plain(255)
	short.Data = short.Data[1:]
	lost.SourceW = 0
	broken.Transform.ScaleX = 0
	results, err := m.Infer(t.Context(), []infer.Tensor{short, plain(255), lost, broken})
	items, ok := errors.AsType[*infer.ItemErrors](err)
	if !ok || items.Errs[1] != nil || len(results[1].Detections) != 1 {
		t.Fatalf("results %+v, error %v, want an answer for picture 1 alone", results, err)
	}
	const want = `picture 0: tensor has 191 bytes, person needs 8x8x3: 192
picture 2: source picture is 0x8
picture 3: transform {PadX:0 PadY:0 ScaleX:0 ScaleY:1 OriginX:0 OriginY:0} has a scale that is not above 0`
	if err.Error() != want {
		t.Errorf("have:\n%v\nwant:\n%s", err, want)
	}
}

func TestInferFailures(t *testing.T) {
	var fake infer.Fake
	m := load(t, &fake, backendtest.Artifact(""), infer.Options{})
	in := []infer.Tensor{plain(255), plain(0)}
	fake.FailNext(1)
	if results, err := m.Infer(t.Context(), in); !errors.Is(err, infer.ErrFake) || results != nil {
		t.Errorf("failed run: %v, %v", results, err)
	}
	fake.NaNNext(1)
	if _, err := m.Infer(t.Context(), in); err != nil {
		if _, ok := errors.AsType[*heads.NonFiniteError](err); !ok {
			t.Errorf("NaN: %v", err)
		}
	} else {
		t.Error("NaN became an answer")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the camera is gone")
	cancel(reason)
	if _, err := m.Infer(ctx, in); !errors.Is(err, reason) {
		t.Errorf("cancelled: %v", err)
	}
	if results, err := m.Infer(t.Context(), in); err != nil || len(results) != 2 {
		t.Errorf("afterwards: %v, %v", results, err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Infer(t.Context(), in); !errors.Is(err, infer.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestInferConcurrently(t *testing.T) {
	m := load(t, &infer.Fake{}, backendtest.Artifact(""), infer.Options{})
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 50 {
				shade := byte(160 + 10*worker)
				results, err := m.Infer(t.Context(), slices.Repeat([]infer.Tensor{plain(shade)}, 1+i%3))
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range results {
					if len(r.Detections) != 1 || math.Abs(float64(r.Detections[0].Score)-float64(shade)/255) > 1e-5 {
						t.Errorf("shade %d: %+v", shade, r)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestLadder(t *testing.T) {
	var fake infer.Fake
	m := load(t, &fake, backendtest.Artifact(""), infer.Options{Ladder: []int{4, 1, 16, 4}}) // 1, 4 and max_batch_size, 8
	if _, warm := fake.Runs(); warm < 1+4+8 {
		t.Errorf("warmed with %d pictures, want every rung", warm)
	}
	for n, want := range map[int]int{1: 1, 2: 4, 4: 4, 5: 8, 9: 9} {
		_, before := fake.Runs()
		results, err := m.Infer(t.Context(), slices.Repeat([]infer.Tensor{plain(255)}, n))
		if err != nil || len(results) != n {
			t.Fatalf("%d pictures: %v, %v", n, results, err)
		}
		if _, after := fake.Runs(); after-before != want {
			t.Errorf("%d pictures ran as %d, want %d", n, after-before, want)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(*infer.Fake, *model.Artifact)
		want  string
	}{
		{"no file", func(_ *infer.Fake, a *model.Artifact) { a.Path = "nowhere.onnx" }, "no such file"},
		{"a run that fails", func(f *infer.Fake, _ *model.Artifact) { f.FailNext(1) }, "warm-up with a batch of 1: the fake was told to fail"},
		{"NaN", func(f *infer.Fake, _ *model.Artifact) { f.NaNNext(2) }, "warm-up with a batch of 1: output detections holds NaN at 4: the model gives no answer"},
		{"no golden file", func(_ *infer.Fake, a *model.Artifact) { a.Golden = filepath.Join("nowhere", "golden.json") }, "golden file: open nowhere/golden.json: no such file"},
		{"declaration", func(_ *infer.Fake, a *model.Artifact) { a.Declaration.ScoreThreshold = 7 }, "score_threshold: 7 is out of range"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var fake infer.Fake
			a := backendtest.Artifact("")
			c.fault(&fake, &a)
			m, err := infer.Load(t.Context(), &fake, a, infer.Options{})
			if err == nil || !strings.HasPrefix(err.Error(), "load model person version 1: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %v, want %s", m, err, c.want)
			}
		})
	}
}

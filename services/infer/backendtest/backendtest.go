// Package backendtest holds the promises of infer.Backend and infer.Session as tests. Every backend runs them, the fake one
// too, so that what is tested with the fake holds for the real one.
package backendtest

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer"
)

const side = 8

// Artifact is the model that the suite runs: infer's testdata/person.onnx, which a fake need not read.
func Artifact(path string) model.Artifact {
	d, _ := model.Preset(model.Person)
	d.Input.Width, d.Input.Height = side, side
	d.MaxBatchSize = 8
	return model.Artifact{Name: "person", Version: 1, Declaration: d, Path: path}
}

// Run checks a backend with the model file testdata/person.onnx of services/infer.
func Run(t *testing.T, b infer.Backend, person string) {
	t.Helper()
	a := Artifact(person)
	open := func(t *testing.T) infer.Session {
		t.Helper()
		s, err := b.Load(t.Context(), a, infer.Options{})
		if err != nil {
			t.Fatalf("load: %v", err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		return s
	}
	t.Run("load", func(t *testing.T) { testLoad(t, b, a) })
	t.Run("signature", func(t *testing.T) { testSignature(t, open(t)) })
	t.Run("answers", func(t *testing.T) { testAnswers(t, open(t)) })
	t.Run("bad batch", func(t *testing.T) { testBadBatch(t, open(t)) })
	t.Run("outputs are the caller's", func(t *testing.T) { testOwnership(t, open(t)) })
	t.Run("concurrent", func(t *testing.T) { testConcurrent(t, open(t)) })
	t.Run("cancelled", func(t *testing.T) { testCancelled(t, open(t)) })
	t.Run("close", func(t *testing.T) { testClose(t, open(t)) })
}

// picture is a batch in which every picture is of one value.
func picture(values ...float32) infer.Batch {
	b := infer.Batch{Shape: []int64{int64(len(values)), 3, side, side}}
	for _, v := range values {
		for range 3 * side * side {
			b.Data = append(b.Data, v)
		}
	}
	return b
}

// expect checks that the outputs hold one row for each value.
func expect(t *testing.T, o *infer.Outputs, values ...float32) {
	t.Helper()
	got := o.Tensors["detections"]
	if len(got.Shape) != 3 || got.Shape[0] != int64(len(values)) || len(got.Data) != 5*len(values) {
		t.Fatalf("output is %v with %d values, want [%d 1 5]", got.Shape, len(got.Data), len(values))
	}
	for i, want := range values {
		row := got.Data[5*i : 5*i+5]
		if [4]float32(row[:4]) != [4]float32{2, 2, 6, 6} || math.Abs(float64(row[4]-want)) > 1e-5 {
			t.Fatalf("picture %d: output is %v, want [2 2 6 6 %v]", i, row, want)
		}
	}
}

func testLoad(t *testing.T, b infer.Backend, a model.Artifact) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the test said so")
	cancel(reason)
	if s, err := b.Load(ctx, a, infer.Options{}); !errors.Is(err, reason) {
		t.Errorf("cancelled: session %v, error %v, want %v", s, err, reason)
	}
	a.Path = filepath.Join(t.TempDir(), "missing.onnx")
	if s, err := b.Load(t.Context(), a, infer.Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: session %v, error %v", s, err)
	}
}

func testSignature(t *testing.T, s infer.Session) {
	t.Helper()
	sig := s.Signature()
	const want = `"images" float32 [?,3,8,8] -> "detections" float32 [?,1,5]`
	if got := model.FormatPorts(sig.Inputs) + " -> " + model.FormatPorts(sig.Outputs); got != want {
		t.Errorf("signature is %s, want %s", got, want)
	}
}

func testAnswers(t *testing.T, s infer.Session) {
	t.Helper()
	for range 2 { // the second time with whatever the session keeps
		for _, values := range [][]float32{{0.5}, {0, 1}, {0.25, 0.5, 0.75, 1}, {0.125}} {
			o, err := s.Run(t.Context(), picture(values...))
			if err != nil {
				t.Fatalf("run: %v", err)
			}
			expect(t, o, values...)
			o.Release()
			o.Release() // does nothing
		}
	}
}

func testBadBatch(t *testing.T, s infer.Session) {
	t.Helper()
	short := picture(1)
	short.Data = short.Data[1:]
	for name, b := range map[string]infer.Batch{
		"no shape": {},
		"no batch": {Shape: []int64{0, 3, side, side}},
		"negative": {Shape: []int64{-1, 3, side, side}, Data: picture(1).Data},
		"axes":     {Shape: []int64{1, 3, side * side}, Data: picture(1).Data},
		"size":     {Shape: []int64{1, 3, side, 2 * side}, Data: picture(1, 1).Data},
		"huge":     {Shape: []int64{math.MaxInt64, 3, side, side}, Data: picture(1).Data},
		"short":    short,
	} {
		if o, err := s.Run(t.Context(), b); err == nil {
			t.Errorf("%s: output %v, want an error", name, o.Tensors)
		}
	}
	o, err := s.Run(t.Context(), picture(0.5))
	if err != nil {
		t.Fatalf("run after the bad ones: %v", err)
	}
	expect(t, o, 0.5)
	o.Release()
}

func testOwnership(t *testing.T, s infer.Session) {
	t.Helper()
	b := picture(0.25)
	first, err := s.Run(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b.Data) // the session has no use for it any more
	second, err := s.Run(t.Context(), picture(0.75))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, first, 0.25)
	expect(t, second, 0.75)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, first, 0.25)
	first.Release()
	second.Release()
}

func testConcurrent(t *testing.T, s infer.Session) {
	t.Helper()
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 25 {
				values := []float32{float32(worker) / 8, float32(i) / 25}[:1+i%2]
				o, err := s.Run(t.Context(), picture(values...))
				if err != nil {
					t.Errorf("run: %v", err)
					return
				}
				for n, want := range values {
					if got := o.Tensors["detections"].Data[5*n+4]; math.Abs(float64(got-want)) > 1e-5 {
						t.Errorf("picture %d: score %v, want %v", n, got, want)
					}
				}
				o.Release()
			}
		})
	}
	wg.Wait()
}

func testCancelled(t *testing.T, s infer.Session) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the test said so")
	cancel(reason)
	if o, err := s.Run(ctx, picture(1)); !errors.Is(err, reason) {
		t.Errorf("outputs %v, error %v, want %v", o, err, reason)
	}
}

func testClose(t *testing.T, s infer.Session) {
	t.Helper()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				o, err := s.Run(t.Context(), picture(0.5))
				if errors.Is(err, infer.ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("run: %v", err)
					return
				}
				o.Release()
			}
		})
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	wg.Wait()
	if _, err := s.Run(t.Context(), picture(0.5)); !errors.Is(err, infer.ErrClosed) {
		t.Errorf("run after close: %v, want %v", err, infer.ErrClosed)
	}
}

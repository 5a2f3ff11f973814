package infer_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/infer/backendtest"
)

func TestFakeConforms(t *testing.T) {
	backendtest.Run(t, &infer.Fake{}, "testdata/person.onnx")
}

func TestFakeFaults(t *testing.T) {
	var fake infer.Fake
	s, err := fake.Load(t.Context(), backendtest.Artifact(""), infer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	batch := infer.Batch{Shape: []int64{1, 3, 8, 8}, Data: make([]float32, 3*8*8)}
	fake.FailNext(1)
	if _, err := s.Run(t.Context(), batch); !errors.Is(err, infer.ErrFake) {
		t.Errorf("error %v, want %v", err, infer.ErrFake)
	}
	fake.NaNNext(1)
	o, err := s.Run(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	if score := o.Tensors["detections"].Data[4]; !math.IsNaN(float64(score)) {
		t.Errorf("score %v, want NaN", score)
	}
	fake.SetLatency(time.Millisecond)
	if _, err := s.Run(t.Context(), batch); err != nil {
		t.Errorf("the faults did not end: %v", err)
	}
	if runs, pictures := fake.Runs(); runs != 3 || pictures != 3 {
		t.Errorf("%d runs of %d pictures, want 3 of 3", runs, pictures)
	}
}

package ort_test

import (
	"math"
	"testing"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer"
)

// TestRepository loads every model that this repository ships: each must have a golden file and give its answer, and a
// batch must answer as its pictures alone do.
func TestRepository(t *testing.T) {
	r := model.Repository{Dir: "../../../models"}
	names, err := r.List()
	if err != nil || len(names) == 0 {
		t.Fatalf("models %q, %v", names, err)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			a, err := r.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			if a.Golden == "" {
				t.Error("there is no golden.json")
			}
			m, err := infer.Load(t.Context(), newBackend(t), a, infer.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close() //nolint:errcheck // its own test
			in := m.Artifact().Declaration.Input
			tensors := make([]infer.Tensor, 3)
			for n := range tensors {
				data := make([]byte, in.Bytes())
				for i := range data {
					data[i] = byte((i + 1000*n) * 7919 >> n)
				}
				tensors[n] = infer.Tensor{Data: data, Transform: model.Identity(), SourceW: in.Width, SourceH: in.Height}
			}
			together, err := m.Infer(t.Context(), tensors)
			if err != nil {
				t.Fatal(err)
			}
			for n := range tensors {
				alone, err := m.Infer(t.Context(), tensors[n:n+1])
				if err != nil {
					t.Fatal(err)
				}
				if len(alone[0].Detections) != len(together[n].Detections) {
					t.Fatalf("picture %d: %v alone, %v in a batch", n, alone[0].Detections, together[n].Detections)
				}
				for i, d := range alone[0].Detections {
					if math.Abs(float64(d.Score-together[n].Detections[i].Score)) > 1e-4 {
						t.Errorf("picture %d: %v alone, %v in a batch", n, d, together[n].Detections[i])
					}
				}
			}
		})
	}
}

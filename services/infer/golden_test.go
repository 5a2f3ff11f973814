package infer

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/pkg/model"
)

func goldenArtifact() model.Artifact {
	d, _ := model.Preset(model.Person)
	d.Input.Width, d.Input.Height = 8, 8
	return model.Artifact{Name: "person", Version: 1, Declaration: d}
}

// goldenOfFake is what the fake answers to the golden input of 8x8.
func goldenOfFake() goldenFile {
	pattern := make([]float32, 3*8*8)
	fillPattern(0, pattern)
	score := float64(mean(pattern))
	return goldenFile{
		Input:      "images[0] flat in NCHW order: " + goldenPattern + ", after preprocessing",
		InputShape: []int64{1, 3, 8, 8}, OutputShape: []int64{1, 1, 5},
		Tolerance: goldenTolerance{Box: 0.05, Score: 0.001},
		Rows:      map[string][]float64{"0": {2, 2, 6, 6, score}}, LargestScore: score,
	}
}

func TestGoldenFile(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*goldenFile, *model.Artifact)
		want   string
	}{
		{"right", func(*goldenFile, *model.Artifact) {}, ""},
		{"within tolerance", func(g *goldenFile, _ *model.Artifact) { g.Rows["0"][0] += 0.04 }, ""},
		{
			"box", func(g *goldenFile, _ *model.Artifact) { g.Rows["0"][3] = 6.5 },
			"golden.json: row 0 column 3: expected 6.5 within 0.05, found 6",
		},
		{"score", func(g *goldenFile, _ *model.Artifact) { g.Rows["0"][4] = 0 }, "row 0 column 4: expected 0 within 0.001, found 0."},
		{"largest", func(g *goldenFile, _ *model.Artifact) { g.LargestScore = 1 }, "largest score: expected 1 within 0.001, found 0."},
		{"input shape", func(g *goldenFile, _ *model.Artifact) { g.InputShape[3] = 9 }, "input: expected [1,3,8,9], found [1,3,8,8]"},
		{"output shape", func(g *goldenFile, _ *model.Artifact) { g.OutputShape[1] = 2 }, "output: expected [1,2,5], found ["},
		{"other pattern", func(g *goldenFile, _ *model.Artifact) { g.Input = "zeros" }, `input is "zeros": only "` + goldenPattern + `" is known`},
		{"no rows", func(g *goldenFile, _ *model.Artifact) { g.Rows = nil }, "has no rows"},
		{"row", func(g *goldenFile, _ *model.Artifact) { g.Rows["9"] = g.Rows["0"] }, `row "9" is not one of the 1 rows`},
		{"columns", func(g *goldenFile, _ *model.Artifact) { g.Rows["0"] = []float64{1} }, "row 0 has 1 columns, want 5"},
		{"tolerance", func(g *goldenFile, _ *model.Artifact) { g.Tolerance.Score = 0 }, "tolerance.box and tolerance.score must be above 0"},
		{"output axes", func(g *goldenFile, _ *model.Artifact) { g.OutputShape = []int64{1, 5} }, "output_shape is [1 5]: want one picture's, [1,A,5]"},
		{
			"family", func(_ *goldenFile, a *model.Artifact) { a.Declaration.Family = model.UltraFace },
			"is for the family person, the model is of ultraface",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, a := goldenOfFake(), goldenArtifact()
			c.change(&g, &a)
			data, err := json.Marshal(g)
			if err != nil {
				t.Fatal(err)
			}
			a.Golden = filepath.Join(t.TempDir(), "golden.json")
			if err := os.WriteFile(a.Golden, data, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, ladder := range [][]int{nil, {4, 8}} {
				a.Declaration.MaxBatchSize = 1 + 7*len(ladder)/2
				_, err = Load(t.Context(), &Fake{}, a, Options{Ladder: ladder})
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Errorf("ladder %v: error %v, want %s", ladder, err, c.want)
				}
			}
		})
	}
	path := filepath.Join(t.TempDir(), "golden.json")
	if err := os.WriteFile(path, []byte(`{"inputs": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readGolden(path, goldenArtifact().Declaration); err == nil || !strings.HasSuffix(err.Error(), `unknown field "inputs"`) {
		t.Errorf("unknown field: %v", err)
	}
}

// shifting is a session whose answers can be moved, as those of a broken device.
type shifting struct {
	Session
	by float32
}

func (s *shifting) Run(ctx context.Context, b Batch) (*Outputs, error) {
	o, err := s.Session.Run(ctx, b)
	if err == nil {
		for _, t := range o.Tensors {
			t.Data[4] += s.by
		}
	}
	return o, err
}

func TestGoldenRecorded(t *testing.T) {
	var fake Fake
	m, err := Load(t.Context(), &fake, goldenArtifact(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &shifting{Session: m.session}
	m.session = s
	s.by = 1e-4
	if err := m.CheckGolden(t.Context()); err != nil {
		t.Errorf("a small difference: %v", err)
	}
	s.by = 0.1
	if err := m.CheckGolden(t.Context()); !errors.Is(err, ErrGolden) || !strings.Contains(err.Error(), "output detections at 4: expected 0.49") {
		t.Errorf("a large difference: %v", err)
	}
	s.by = float32(math.Inf(1))
	if err := m.CheckGolden(t.Context()); !errors.Is(err, ErrGolden) {
		t.Errorf("infinity: %v", err)
	}
	s.by = 0
	fake.FailNext(1)
	if err := m.CheckGolden(t.Context()); !errors.Is(err, ErrFake) || errors.Is(err, ErrGolden) {
		t.Errorf("no answer: %v", err)
	}
	if err := m.CheckGolden(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

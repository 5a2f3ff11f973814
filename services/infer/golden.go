package infer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer/heads"
)

// ErrGolden is what the error of [Model.CheckGolden] wraps when the model does not give its golden answer. A worker that
// sees it must stop answering: its device, its library or its file is not what it was.
var ErrGolden = errors.New("the golden answer is missed")

// goldenPattern is the input whose answer is golden, for any model: the element i of the normalised input, flat in the
// order of its layout. golden.json must name it in words.
const goldenPattern = "x[i] = ((i * 7919) mod 256) / 255"

func fillPattern(_ int, dst []float32) {
	for i := range dst {
		dst[i] = float32(i*7919%256) / 255
	}
}

// A goldenFile is golden.json as services/trainer/golden.py writes it, for models of the person family.
type goldenFile struct {
	Input       string               `json:"input"`
	InputShape  []int64              `json:"input_shape"`
	OutputShape []int64              `json:"output_shape"`
	Tolerance   goldenTolerance      `json:"tolerance"`
	Rows        map[string][]float64 `json:"rows"`
	// LargestScore is over all rows.
	LargestScore float64 `json:"largest_score"`
}

type goldenTolerance struct {
	Box   float64 `json:"box"` // pixels of the input
	Score float64 `json:"score"`
}

// golden is what a model must answer to the pattern: what its golden.json says, or else what it answered when it was
// loaded.
type golden struct {
	path     string
	file     *goldenFile
	recorded map[string]heads.Tensor // by role
}

// readGolden reads a golden file; there need be none.
func readGolden(path string, d model.Declaration) (*golden, error) {
	if path == "" {
		return &golden{}, nil
	}
	data, err := os.ReadFile(path) //nolint:gosec // the repository names the file
	if err != nil {
		return nil, fmt.Errorf("golden file: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var f goldenFile
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("golden file %s: %w", path, err)
	}
	if err := f.validate(d); err != nil {
		return nil, fmt.Errorf("golden file %s: %w", path, err)
	}
	return &golden{path: path, file: &f}, nil
}

func (f *goldenFile) validate(d model.Declaration) error {
	switch {
	case d.Family != model.Person:
		return fmt.Errorf("is for the family %s, the model is of %s", model.Person, d.Family)
	case !strings.Contains(f.Input, goldenPattern):
		return fmt.Errorf("input is %q: only %q is known", f.Input, goldenPattern)
	case len(f.OutputShape) != 3 || f.OutputShape[0] != 1 || f.OutputShape[1] <= 0 || f.OutputShape[2] != 5:
		return fmt.Errorf("output_shape is %v: want one picture's, [1,A,5]", f.OutputShape)
	case len(f.Rows) == 0:
		return errors.New("has no rows")
	case !(f.Tolerance.Box > 0) || !(f.Tolerance.Score > 0):
		return errors.New("tolerance.box and tolerance.score must be above 0")
	}
	for row, values := range f.Rows {
		if n, err := strconv.Atoi(row); err != nil || n < 0 || int64(n) >= f.OutputShape[1] {
			return fmt.Errorf("row %q is not one of the %d rows", row, f.OutputShape[1])
		}
		if len(values) != 5 {
			return fmt.Errorf("row %s has %d columns, want 5", row, len(values))
		}
	}
	return nil
}

// CheckGolden runs the golden input and compares the answer with the golden one, within its tolerance. Without a
// golden.json the answer at load time is the golden one, which finds a device that went wrong since. The error wraps
// [ErrGolden] when the answer is another, or not finite; any other error says that there was no answer.
func (m *Model) CheckGolden(ctx context.Context) error {
	return m.run(ctx, 1, fillPattern, func(outputs map[string]heads.Tensor) error {
		if _, err := m.head.Decode(outputs, 0); err != nil {
			return fmt.Errorf("%w: %w", ErrGolden, err)
		}
		if m.golden.file == nil {
			return m.golden.compare(outputs)
		}
		if err := m.golden.file.compare(m.shape(1), outputs[model.RoleDetections]); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrGolden, m.golden.path, err)
		}
		return nil
	})
}

// recordGolden takes the present answer for golden where no file has one.
func (m *Model) recordGolden(ctx context.Context) error {
	if m.golden.file != nil {
		return nil
	}
	return m.run(ctx, 1, fillPattern, func(outputs map[string]heads.Tensor) error {
		m.golden.recorded = map[string]heads.Tensor{}
		for role, t := range outputs {
			m.golden.recorded[role] = heads.Tensor{Shape: slices.Clone(t.Shape), Data: slices.Clone(t.Data)}
		}
		return nil
	})
}

func (g *golden) compare(outputs map[string]heads.Tensor) error {
	// Wide enough for a device that adds in another order each time, narrow enough for one that computes nonsense.
	const absolute, relative = 1e-2, 1e-2
	for _, role := range slices.Sorted(maps.Keys(g.recorded)) {
		want, got := g.recorded[role], outputs[role]
		if !slices.Equal(want.Shape, got.Shape) {
			return fmt.Errorf("%w: output %s: expected %s, found %s",
				ErrGolden, role, model.FormatShape(want.Shape), model.FormatShape(got.Shape))
		}
		for i, x := range want.Data {
			if diff := math.Abs(float64(got.Data[i] - x)); diff > absolute+relative*math.Abs(float64(x)) {
				return fmt.Errorf("%w: output %s at %d: expected %v as at load time, found %v",
					ErrGolden, role, i, x, got.Data[i])
			}
		}
	}
	return nil
}

// compare looks at the first picture: a ladder may have padded the run.
func (f *goldenFile) compare(input []int64, got heads.Tensor) error {
	if !slices.Equal(f.InputShape, input) {
		return fmt.Errorf("input: expected %s, found %s", model.FormatShape(f.InputShape), model.FormatShape(input))
	}
	if !slices.Equal(f.OutputShape[1:], got.Shape[1:]) {
		return fmt.Errorf("output: expected %s, found %s", model.FormatShape(f.OutputShape), model.FormatShape(got.Shape))
	}
	data := got.Data[:f.OutputShape[1]*5]
	for _, row := range slices.Sorted(maps.Keys(f.Rows)) {
		n, _ := strconv.Atoi(row) // validated
		for c, want := range f.Rows[row] {
			tolerance := f.Tolerance.Box
			if c == 4 {
				tolerance = f.Tolerance.Score
			}
			if x := float64(data[n*5+c]); !(math.Abs(x-want) <= tolerance) {
				return fmt.Errorf("row %s column %d: expected %v within %v, found %v", row, c, want, tolerance, x)
			}
		}
	}
	largest := math.Inf(-1)
	for i := 4; i < len(data); i += 5 {
		largest = max(largest, float64(data[i]))
	}
	if math.Abs(largest-f.LargestScore) > f.Tolerance.Score {
		return fmt.Errorf("largest score: expected %v within %v, found %v", f.LargestScore, f.Tolerance.Score, largest)
	}
	return nil
}

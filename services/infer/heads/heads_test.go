package heads

import (
	"errors"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sightline-dev/sightline/pkg/model"
)

func preset(tb testing.TB, name string) model.Declaration {
	tb.Helper()
	d, ok := model.Preset(name)
	if !ok {
		tb.Fatalf("no family %s", name)
	}
	for role, output := range d.Output {
		if output == "" {
			d.Output[role] = role
		}
	}
	return d
}

func head(tb testing.TB, d model.Declaration) *Head {
	tb.Helper()
	h, err := New(d)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

func TestTableMatchesFamilies(t *testing.T) {
	if got := sortedKeys(table()); !slices.Equal(got, model.Families()) {
		t.Errorf("heads are %q, families %q", got, model.Families())
	}
	for name, build := range table() {
		d := preset(t, name)
		f := build(d)
		for role := range d.Output {
			if len(f.shapes[role]) == 0 {
				t.Errorf("%s has no shape for role %s", name, role)
			}
		}
	}
	if _, err := New(model.Declaration{Family: "yolo"}); err == nil || err.Error() != `no head for family "yolo"` {
		t.Errorf("unknown family: %v", err)
	}
}

func TestPerson(t *testing.T) {
	h := head(t, preset(t, model.Person))
	out := map[string]Tensor{model.RoleDetections: {Shape: []int64{2, 4, 5}, Data: []float32{
		0, 0, 10, 10, 0.6, // dropped: overlaps the next
		1, 0, 10, 10, 0.9,
		20, 20, 20, 30, 0.9, // no area
		50, 50, 60, 60, 0.5, // not above the threshold
		0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0,
	}}}
	for n, want := range [][]Detection{
		{{Class: "person", Score: 0.9, Box: [4]float32{1, 0, 10, 10}}},
		{},
	} {
		a, err := h.Decode(out, n)
		if err != nil || !reflect.DeepEqual(a, Answer{Detections: want}) {
			t.Errorf("picture %d: %+v, %v, want %v", n, a, err, want)
		}
	}
}

func TestUltraFace(t *testing.T) {
	h := head(t, preset(t, model.UltraFace))
	a, err := h.Decode(map[string]Tensor{
		"scores": {Shape: []int64{1, 3, 2}, Data: []float32{0.1, 0.9, 0.9, 0.1, 0.2, 0.8}},
		"boxes":  {Shape: []int64{1, 3, 4}, Data: []float32{0.25, 0.5, 0.75, 1, 0, 0, 1, 1, 0, 0, 0.25, 0.25}},
	}, 0)
	want := []Detection{
		{Class: "face", Score: 0.9, Box: [4]float32{80, 120, 240, 240}},
		{Class: "face", Score: 0.8, Box: [4]float32{0, 0, 80, 60}},
	}
	if err != nil || !reflect.DeepEqual(a.Detections, want) {
		t.Errorf("%+v, %v, want %v", a, err, want)
	}
}

func TestFastestDet(t *testing.T) {
	d := preset(t, model.FastestDet)
	d.Classes = []string{"cat", "dog"}
	const gw, gh = 4, 2
	data := make([]float32, 7*gw*gh)
	set := func(plane, x, y int, v float32) { data[plane*gw*gh+y*gw+x] = v }
	set(0, 2, 1, 1)                         // an object in cell 2, 1
	set(6, 2, 1, 0.9)                       // a dog
	set(1, 2, 1, float32(math.Atanh(0.5)))  // in the middle of the cell
	set(2, 2, 1, float32(math.Atanh(-0.5))) // and half a cell above
	set(0, 0, 0, 0.9)                       // an object of no class
	set(0, 1, 0, -3)                        // numbers that have no power
	set(5, 1, 0, 1)
	a, err := head(t, d).Decode(map[string]Tensor{model.RoleDetections: {Shape: []int64{1, 7, gh, gw}, Data: data}}, 0)
	if err != nil || len(a.Detections) != 1 {
		t.Fatalf("%+v, %v", a, err)
	}
	got := a.Detections[0]
	score := math.Pow(0.9, 0.4)
	if got.ClassID != 1 || got.Class != "dog" || math.Abs(float64(got.Score)-score) > 1e-6 {
		t.Errorf("%+v, want a dog of %v", got, score)
	}
	// The box is half the input wide and high around 2.5/4, 0.5/2 of it.
	for i, want := range [4]float32{352 * 0.375, 0, 352 * 0.875, 352 * 0.5} {
		if math.Abs(float64(got.Box[i]-want)) > 1e-3 {
			t.Errorf("box %v, want [%v 0 %v %v]", got.Box, 352*0.375, 352*0.875, 352*0.5)
			break
		}
	}
}

func TestClassification(t *testing.T) {
	score := func(a Answer) (s []float32) {
		for _, c := range a.Classes {
			s = append(s, c.Score)
		}
		return s
	}
	e := float32(math.E / (math.E + 2)) // softmax of 1, 0, 0
	for _, c := range []struct {
		name, role string
		shape      []int64
		data       []float32
		classes    []string
		threshold  float64
		best       ClassScore
		n          int
	}{
		{"logits", model.RoleLogits, []int64{1, 3}, []float32{0, 1, 0}, nil, 0, ClassScore{1, "1", e}, 3},
		{"no batch axis", model.RoleLogits, []int64{3}, []float32{0, 1, 0}, []string{"a", "b", "c"}, 0, ClassScore{1, "b", e}, 3},
		{"four axes", model.RoleLogits, []int64{1, 3, 1, 1}, []float32{0, 1, 0}, nil, 0, ClassScore{1, "1", e}, 3},
		{"large logits", model.RoleScores, []int64{1, 2}, []float32{1e30, -1e30}, nil, 0, ClassScore{0, "0", 1}, 2},
		{"probabilities", model.RoleProbabilities, []int64{1, 2}, []float32{0.25, 0.75}, nil, 0, ClassScore{1, "1", 0.75}, 2},
		{"scores that are a distribution", model.RoleScores, []int64{1, 2}, []float32{0.25, 0.75}, nil, 0, ClassScore{1, "1", 0.75}, 2},
		{"scores that are logits", model.RoleScores, []int64{1, 3}, []float32{0, 0, 1}, nil, 0, ClassScore{2, "2", 1}, 3},
		{"threshold", model.RoleProbabilities, []int64{1, 2}, []float32{0.25, 0.75}, nil, 0.5, ClassScore{1, "1", 0.75}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := preset(t, model.Classification)
			d.Output, d.Classes, d.ScoreThreshold = map[string]string{c.role: "y"}, c.classes, c.threshold
			a, err := head(t, d).Decode(map[string]Tensor{c.role: {Shape: c.shape, Data: c.data}}, 0)
			if err != nil || a.Detections != nil || len(a.Classes) != c.n || a.Classes[0] != c.best {
				t.Fatalf("%+v, %v, want %+v first of %d", a, err, c.best, c.n)
			}
			if s := score(a); !slices.IsSortedFunc(s, func(a, b float32) int { return int(math.Copysign(1, float64(b-a))) }) {
				t.Errorf("not sorted: %v", s)
			}
		})
	}
}

// outputs draws outputs of the shapes that a head reads.
func outputs(t *rapid.T, d model.Declaration, batch int64) map[string]Tensor {
	var shapes map[string][]int64
	switch d.Family {
	case model.Person:
		shapes = map[string][]int64{model.RoleDetections: {batch, 6, 5}}
	case model.FastestDet:
		shapes = map[string][]int64{model.RoleDetections: {batch, int64(5 + len(d.Classes)), 2, 3}}
	case model.UltraFace:
		shapes = map[string][]int64{model.RoleScores: {batch, 6, 2}, model.RoleBoxes: {batch, 6, 4}}
	default:
		shapes = map[string][]int64{model.RoleScores: {batch, 5}}
	}
	made := map[string]Tensor{}
	for role, shape := range shapes {
		n := 1
		for _, s := range shape {
			n *= int(s)
		}
		made[role] = Tensor{Shape: shape, Data: rapid.SliceOfN(rapid.Float32Range(-2, 2), n, n).Draw(t, role)}
	}
	return made
}

func TestEveryHead(t *testing.T) {
	for _, name := range model.Families() {
		d := preset(t, name)
		if name == model.FastestDet {
			d.Classes = d.Classes[:3]
		}
		d.Input.Width, d.Input.Height = 32, 24
		h := head(t, d)
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				out := outputs(t, d, 2)
				first, err := h.Decode(out, 0)
				if err != nil {
					t.Fatal(err)
				}
				for _, found := range first.Detections {
					if !hasArea(found.Box) || float64(found.Score) <= d.ScoreThreshold || d.Classes[found.ClassID] != found.Class {
						t.Fatalf("%+v", found)
					}
				}
				if (first.Detections == nil) == (first.Classes == nil) {
					t.Fatalf("%+v: want exactly one of detections and classes", first)
				}

				// One broken value in the second picture: no answer for it, the same one for the first.
				role := rapid.SampledFrom(sortedKeys(out)).Draw(t, "role")
				data := out[role].Data
				at := rapid.IntRange(len(data)/2, len(data)-1).Draw(t, "at")
				bad := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}
				data[at] = rapid.SampledFrom(bad).Draw(t, "bad")
				var broken *NonFiniteError
				if a, err := h.Decode(out, 1); !errors.As(err, &broken) || broken.Role != role || broken.Index != at-len(data)/2 {
					t.Fatalf("with %v: %+v, %v", data[at], a, err)
				}
				if again, err := h.Decode(out, 0); err != nil || !reflect.DeepEqual(again, first) {
					t.Fatalf("the neighbour changed: %+v, %v, was %+v", again, err, first)
				}
			})
		})
	}
}

func TestDecodeErrors(t *testing.T) {
	h := head(t, preset(t, model.UltraFace))
	good := func() map[string]Tensor {
		return map[string]Tensor{
			"scores": {Shape: []int64{1, 2, 2}, Data: make([]float32, 4)},
			"boxes":  {Shape: []int64{1, 2, 4}, Data: make([]float32, 8)},
		}
	}
	if _, err := h.Decode(good(), 0); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		with map[string]Tensor
		n    int
		want string
	}{
		{"missing", map[string]Tensor{"boxes": {}}, 0, "output boxes: shape [] needs 1 values, there are 0"},
		{"empty", map[string]Tensor{"boxes": {Shape: []int64{1, 0, 4}}}, 0, "output boxes: shape [1,0,4] is empty or too large"},
		{
			"short",
			map[string]Tensor{"boxes": {Shape: []int64{1, 2, 4}, Data: make([]float32, 7)}},
			0,
			"output boxes: shape [1,2,4] needs 8 values, there are 7",
		},
		{
			"columns",
			map[string]Tensor{"boxes": {Shape: []int64{1, 2, 5}, Data: make([]float32, 10)}},
			0,
			"output.boxes: expected [N,A,4], found [1,2,5]",
		},
		{
			"unequal",
			map[string]Tensor{"scores": {Shape: []int64{1, 3, 2}, Data: make([]float32, 6)}},
			0,
			"output.scores: expected [N,A,2], found [1,3,2]",
		},
		{
			"axes",
			map[string]Tensor{"scores": {Shape: []int64{1, 4}, Data: make([]float32, 4)}},
			0,
			"output.scores: expected [N,A,2], found [1,4]",
		},
		{
			"huge",
			map[string]Tensor{"scores": {Shape: []int64{1 << 40, 1 << 40, 2}}},
			0,
			"output scores: shape [1099511627776,1099511627776,2] is empty or too large",
		},
		{"picture", nil, 1, "has no picture 1"},
	} {
		out := good()
		maps.Copy(out, c.with)
		if a, err := h.Decode(out, c.n); err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v, want %s", c.name, a, err, c.want)
		}
	}
	out := good()
	delete(out, "scores")
	if a, err := h.Decode(out, 0); err == nil || err.Error() != "output scores is missing" {
		t.Errorf("no scores: %+v, %v", a, err)
	}
}

func BenchmarkFastestDet(b *testing.B) {
	h := head(b, preset(b, model.FastestDet))
	data := make([]float32, 85*22*22)
	for i := range data {
		data[i] = float32(i%100) / 200
	}
	out := map[string]Tensor{model.RoleDetections: {Shape: []int64{1, 85, 22, 22}, Data: data}}
	for b.Loop() {
		if _, err := h.Decode(out, 0); err != nil {
			b.Fatal(err)
		}
	}
}

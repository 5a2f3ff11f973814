// Package heads turns the raw outputs of a model into detections or class scores. There is one file for each family of
// models, and one row for it in the table below.
//
// # Guarantees
//
// [Head.Decode] never guesses: an output of the wrong shape, or one that holds a NaN or an infinity anywhere, is an error
// and not an answer. "Nothing is in view" is only ever said by finite numbers. Boxes come out in pixels of the model's
// input, best score first, and no two of one class overlap by more than the declared threshold.
//
// # Concurrency
//
// A Head is immutable; any number of goroutines may decode with it.
//
// # A new family
//
// Add its defaults to pkg/model/family.go, a file here, and a row in table. TestTableMatchesFamilies fails until all
// three agree.
package heads

import (
	"fmt"
	"math"

	"github.com/sightline-dev/sightline/pkg/model"
)

// A Detection is one object in view.
type Detection struct {
	// ClassID is the number of the class and Class its name.
	ClassID int    `json:"class_id"`
	Class   string `json:"class"`
	// Score is the confidence, 0 to 1.
	Score float32 `json:"score"`
	// Box is x1, y1, x2, y2 with x1 < x2 and y1 < y2.
	Box [4]float32 `json:"box"`
}

// A ClassScore is how much a picture is of a class.
type ClassScore struct {
	ClassID int     `json:"class_id"`
	Class   string  `json:"class"`
	Score   float32 `json:"score"`
}

// An Answer is what a model says about one picture. A detector fills Detections and a classifier Classes; the other one
// is nil, and the one that is filled is not, even when it is empty.
type Answer struct {
	// Detections are sorted by falling score.
	Detections []Detection
	// Classes are all classes, sorted by falling score.
	Classes []ClassScore
}

// A Tensor is one output of a model for a batch of pictures.
type Tensor struct {
	Shape []int64
	Data  []float32
}

// A NonFiniteError says that an output holds a value that is not a number. The model, its file or the device is broken.
type NonFiniteError struct {
	// Role is the output's role, Index where in the picture's part of it, Value what is there.
	Role  string
	Index int
	Value float32
}

func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("output %s holds %v at %d: the model gives no answer", e.Role, e.Value, e.Index)
}

// table has one row for each family.
func table() map[string]func(model.Declaration) family {
	return map[string]func(model.Declaration) family{
		model.Person:         person,
		model.FastestDet:     fastestdet,
		model.UltraFace:      ultraface,
		model.Classification: classification,
	}
}

// A family is a decoder for one declaration.
type family struct {
	// shapes are the shapes that the output of each role may have; see match.
	shapes map[string][]string
	// decode reads the outputs of one picture.
	decode func(item) Answer
}

// An item is one picture's part of the outputs.
type item struct {
	data map[string][]float32 // by role
	axes map[string]int64     // lengths of the lettered axes
}

// A Head decodes the outputs of one model.
type Head struct {
	declaration model.Declaration
	family      family
}

// New is the head for a declaration.
func New(d model.Declaration) (*Head, error) {
	build, ok := table()[d.Family]
	if !ok {
		return nil, fmt.Errorf("no head for family %q", d.Family)
	}
	return &Head{declaration: d, family: build(d)}, nil
}

// Check compares the shapes that a model file declares for its outputs with what the head reads. Axes that the file
// leaves open pass; [Head.Decode] sees their real length.
func (h *Head) Check(outputs []model.Port) []model.Problem {
	var problems []model.Problem
	shapes := map[string][]int64{}
	for role, name := range h.declaration.Output {
		p, ok := model.Find(outputs, name)
		switch {
		case !ok:
			problems = append(problems, model.Problem{
				Path: "output." + role,
				Text: fmt.Sprintf("expected an output named %q, found %s", name, model.FormatPorts(outputs)),
			})
		case p.Type != "float32":
			problems = append(problems, model.Problem{
				Path: "output." + role, Text: "expected float32, found " + p.String(),
			})
		default:
			shapes[role] = p.Shape
		}
	}
	if len(problems) > 0 {
		return problems
	}
	_, problems = h.match(shapes)
	return problems
}

// match matches the shape of every role and returns the lengths of the lettered axes.
func (h *Head) match(shapes map[string][]int64) (map[string]int64, []model.Problem) {
	axes := map[string]int64{}
	var problems []model.Problem
	for _, role := range sortedKeys(shapes) {
		if !matchAny(h.family.shapes[role], shapes[role], axes) {
			problems = append(problems, model.Problem{
				Path: "output." + role,
				Text: fmt.Sprintf("expected %s, found %s", describe(h.family.shapes[role]), model.FormatShape(shapes[role])),
			})
		}
	}
	return axes, problems
}

// Decode reads the answer for the picture number n of a batch from the outputs, by role.
func (h *Head) Decode(outputs map[string]Tensor, n int) (Answer, error) {
	it := item{data: make(map[string][]float32, len(outputs))}
	shapes := make(map[string][]int64, len(outputs))
	for role := range h.family.shapes {
		t, ok := outputs[role]
		if !ok {
			if _, declared := h.declaration.Output[role]; declared {
				return Answer{}, fmt.Errorf("output %s is missing", role)
			}
			continue
		}
		data, err := t.picture(n)
		if err != nil {
			return Answer{}, fmt.Errorf("output %s: %w", role, err)
		}
		if i := nonFinite(data); i >= 0 {
			return Answer{}, &NonFiniteError{Role: role, Index: i, Value: data[i]}
		}
		it.data[role], shapes[role] = data, t.Shape
	}
	axes, problems := h.match(shapes)
	if len(problems) > 0 {
		return Answer{}, &model.Error{Problems: problems}
	}
	it.axes = axes
	return h.family.decode(it), nil
}

// picture is the part of the tensor that belongs to picture n.
func (t Tensor) picture(n int) ([]float32, error) {
	size := int64(1)
	for _, s := range t.Shape {
		if s <= 0 || size > math.MaxInt32/s {
			return nil, fmt.Errorf("shape %s is empty or too large", model.FormatShape(t.Shape))
		}
		size *= s
	}
	if size != int64(len(t.Data)) {
		return nil, fmt.Errorf("shape %s needs %d values, there are %d", model.FormatShape(t.Shape), size, len(t.Data))
	}
	batch := int64(1)
	if len(t.Shape) > 1 { // an output of one axis has no batch axis
		batch = t.Shape[0]
	}
	if n < 0 || int64(n) >= batch {
		return nil, fmt.Errorf("shape %s has no picture %d", model.FormatShape(t.Shape), n)
	}
	stride := len(t.Data) / int(batch)
	return t.Data[n*stride : (n+1)*stride], nil
}

// nonFinite is the index of the first NaN or infinity, or -1.
func nonFinite(data []float32) int {
	const exponent = 0x7f800000
	for i, v := range data {
		if math.Float32bits(v)&exponent == exponent {
			return i
		}
	}
	return -1
}

package model

import (
	_ "embed"
	"maps"
	"slices"
	"strings"
)

// The families: each has its decoder in services/infer/heads and its defaults here.
const (
	// Person is the detector that services/trainer makes: one output [N,A,5] of decoded boxes x1, y1, x2, y2 in input
	// pixels and their scores.
	Person = "person"
	// FastestDet is the one-scale COCO detector of that name.
	FastestDet = "fastestdet"
	// UltraFace is the family of the version-RFB-320 and version-slim-320 face detectors.
	UltraFace = "ultraface"
	// Classification is any model with one score for each class.
	Classification = "classification"
)

// The roles of outputs.
const (
	// RoleDetections is the one output of a detector: boxes and scores together.
	RoleDetections = "detections"
	// RoleScores and RoleBoxes are the outputs of a detector that keeps them apart. For a classifier, RoleScores takes
	// what already is a distribution as it is and anything else as logits.
	RoleScores = "scores"
	RoleBoxes  = "boxes"
	// RoleLogits and RoleProbabilities are outputs of a classifier before and after softmax.
	RoleLogits        = "logits"
	RoleProbabilities = "probabilities"
)

//go:embed coco.names
var cocoNames string

// family is what the declaration of a family's model starts from.
type family struct {
	preset Declaration
	// roles are the alternatives for the roles of the outputs.
	roles [][]string
	// classes is how many classes there must be: exactly as many when positive, any number from 1 when 0, none needed
	// when negative.
	classes int
}

func families() map[string]family {
	base := Input{Layout: NCHW, Color: RGB, Resize: Letterbox, Pad: 114, Scale: All(1.0 / 255)}
	person := Declaration{
		Family: Person, MaxBatchSize: 1, Input: base, Output: map[string]string{RoleDetections: ""},
		Classes: []string{"person"}, ScoreThreshold: 0.5, IoUThreshold: 0.5,
	}
	fastestdet := Declaration{
		Family: FastestDet, MaxBatchSize: 1, Input: base, Output: map[string]string{RoleDetections: ""},
		Classes: strings.Split(strings.TrimSpace(cocoNames), "\n"), ScoreThreshold: 0.65, IoUThreshold: 0.45,
	}
	fastestdet.Input.Width, fastestdet.Input.Height = 352, 352
	fastestdet.Input.Resize, fastestdet.Input.Color = Stretch, BGR
	ultraface := Declaration{
		Family: UltraFace, MaxBatchSize: 1, Input: base,
		Output:  map[string]string{RoleScores: "scores", RoleBoxes: "boxes"},
		Classes: []string{"face"}, ScoreThreshold: 0.7, IoUThreshold: 0.3,
	}
	ultraface.Input.Width, ultraface.Input.Height = 320, 240
	ultraface.Input.Resize = Stretch
	ultraface.Input.Mean, ultraface.Input.Scale = All(127), All(1.0/128)
	classification := Declaration{
		Family: Classification, MaxBatchSize: 1, Input: base, Output: map[string]string{RoleScores: ""}, IoUThreshold: 1,
	}
	classification.Input.Layout, classification.Input.Color = "", ""
	classification.Input.Resize, classification.Input.Scale = Stretch, All(1)

	return map[string]family{
		Person:     {preset: person, roles: [][]string{{RoleDetections}}, classes: 1},
		FastestDet: {preset: fastestdet, roles: [][]string{{RoleDetections}}},
		UltraFace:  {preset: ultraface, roles: [][]string{{RoleBoxes, RoleScores}}, classes: 1},
		Classification: {
			preset:  classification,
			roles:   [][]string{{RoleScores}, {RoleLogits}, {RoleProbabilities}},
			classes: -1,
		},
	}
}

// Families lists the names of the families, sorted.
func Families() []string { return slices.Sorted(maps.Keys(families())) }

// Preset is the declaration that a family's models start from, and whether there is such a family.
func Preset(name string) (Declaration, bool) {
	f, ok := families()[name]
	return f.preset, ok
}

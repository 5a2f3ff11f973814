// Package detect answers for picture files, with the same code that answers for cameras: preprocess's imager and infer's
// model, without a broker in between.
package detect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/preprocess"
)

// maxFile bounds what is read of a picture file.
const maxFile = 64 << 20

// Result is one line of output: an image and what is in it, boxes in its pixels.
type Result struct {
	Image   string      `json:"image"`
	Width   int         `json:"width"`
	Height  int         `json:"height"`
	Dets    []Detection `json:"dets"`
	Classes []Class     `json:"classes,omitempty"`
}

// Detection is one object; Box is x1, y1, x2, y2.
type Detection struct {
	Box   [4]float32 `json:"box"`
	Score float32    `json:"score"`
	Cls   int        `json:"cls"`
	Name  string     `json:"name"`
}

// Class is one score of a classification, best first.
type Class struct {
	Cls   int     `json:"cls"`
	Name  string  `json:"name"`
	Score float32 `json:"score"`
}

// Find finds a model: by name in the repository, or as a path of an .onnx file. A bare file takes its declaration from
// the model.yaml beside it, else from family, else from the one family that its inputs and outputs fit.
func Find(repository model.Repository, name, family string) (model.Artifact, error) {
	if !strings.HasSuffix(name, ".onnx") {
		if family != "" {
			return model.Artifact{}, errors.New("--family is for a bare .onnx file: the repository's model.yaml says the family")
		}
		return repository.Open(name)
	}
	d, err := declare(name, family)
	if err != nil {
		return model.Artifact{}, err
	}
	return model.OpenFile(name, fileModelName(name), d)
}

func declare(path, family string) (model.Declaration, error) {
	if family != "" {
		d, ok := model.Preset(family)
		if !ok {
			return d, fmt.Errorf("family %q is unknown: write one of %s", family, strings.Join(model.Families(), ", "))
		}
		return d, nil
	}
	beside := filepath.Join(filepath.Dir(path), model.DeclarationFile)
	if _, err := os.Stat(beside); err == nil {
		return model.Load(beside)
	}
	sig, err := model.ReadSignature(path)
	if err != nil {
		return model.Declaration{}, err
	}
	return infer.GuessFamily(sig)
}

// fileModelName makes a model name of a file name.
func fileModelName(path string) string {
	name := strings.ToLower(strings.TrimSuffix(filepath.Base(path), ".onnx"))
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, name)
	if !model.ValidName(name) {
		return "model"
	}
	return name
}

// File answers for one picture file.
func File(ctx context.Context, m *infer.Model, imager preprocess.Imager, path string) (Result, error) {
	data, err := read(path)
	if err != nil {
		return Result{}, err
	}
	img, err := imager.Decode(data)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", path, err)
	}
	defer img.Close()
	r := Result{Image: path, Dets: []Detection{}}
	r.Width, r.Height = img.Size()
	input := m.Artifact().Declaration.Input
	plan, err := input.Plan(r.Width, r.Height, model.Region{})
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", path, err)
	}
	pixels := make([]byte, input.Bytes())
	if err := img.Tensor(pixels, plan, input); err != nil {
		return Result{}, fmt.Errorf("%s: %w", path, err)
	}
	answers, err := m.Infer(ctx, []infer.Tensor{{Data: pixels, Transform: plan.Transform, SourceW: r.Width, SourceH: r.Height}})
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", path, err)
	}
	for _, d := range answers[0].Detections {
		r.Dets = append(r.Dets, Detection{Box: d.Box, Score: d.Score, Cls: d.ClassID, Name: d.Class})
	}
	for _, c := range answers[0].Classes {
		r.Classes = append(r.Classes, Class{Cls: c.ClassID, Name: c.Class, Score: c.Score})
	}
	return r, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: more than %d MiB", path, maxFile>>20)
	}
	return data, nil
}

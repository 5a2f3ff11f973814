//go:build cgo

package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/sightline/detect"
	"github.com/sightline-dev/sightline/services/sightline/system"
)

func (a *app) detect() *cobra.Command {
	var name, family, repository, library string
	cmd := &cobra.Command{
		Use:   "detect --model M IMAGE...",
		Short: "Try a model on picture files",
		Long: `Run a model on JPEG or PNG files with the code that runs on cameras, and write one JSON line per image:

  {"image": "dog.png", "width": 768, "height": 576, "dets": [{"box": [x1, y1, x2, y2], "score": 0.81, "cls": 16, "name": "dog"}]}

Boxes are in the image's own pixels. --model is a name in the model repository or the path of an .onnx file; a bare file
uses the model.yaml beside it, or --family, or the family that its inputs and outputs fit. A classifier's scores are in
"classes", best first. A file that cannot be answered is reported, the others still are, and the exit code is 1.`,
		Example: `  sightline detect --model person photo.jpg
  sightline detect --model FastestDet.onnx --family fastestdet *.png > answers.jsonl`,
		Args: usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, images []string) error {
			if name == "" {
				return exit(ExitUsage, errors.New("--model is missing: the name of a model in "+repository+", or an .onnx file"))
			}
			artifact, err := detect.Find(model.Repository{Dir: repository}, name, family)
			if err != nil {
				return exit(ExitUsage, err)
			}
			backend, err := system.NewBackend(library)
			if err != nil {
				return err
			}
			m, err := infer.Load(cmd.Context(), backend, artifact, infer.Options{})
			if err != nil {
				return err
			}
			var problems []error
			for _, image := range images {
				r, err := detect.File(cmd.Context(), m, system.NewImager(), image)
				if err != nil {
					problems = append(problems, err)
					continue
				}
				if err := a.writeJSON(r); err != nil {
					return err
				}
			}
			return errors.Join(append(problems, m.Close())...)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&name, "model", "m", "", "model name, or path of an .onnx file")
	flags.StringVar(&family, "family", "", "how to read a bare .onnx file: person, fastestdet, ultraface, classification")
	flags.StringVar(&repository, "models", "models", "model repository")
	flags.StringVar(&library, "ort-library", a.process.OrtLibrary, "ONNX Runtime's shared library (SIGHTLINE_ORT_LIBRARY; default: search)")
	return cmd
}

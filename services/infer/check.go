package infer

import (
	"fmt"
	"strings"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer/heads"
)

// Check compares a declaration with what its model file says about itself and returns it with every open point filled
// in from the file. It reports everything that does not fit at once, with what was expected and what was found, as a
// [*model.Error].
func Check(d model.Declaration, sig model.Signature) (model.Declaration, error) {
	if err := d.Validate(); err != nil {
		return d, err
	}
	if len(sig.Inputs) != 1 {
		return d, &model.Error{Problems: []model.Problem{{
			Path: "input", Text: "expected one input, found " + model.FormatPorts(sig.Inputs),
		}}}
	}
	d, err := d.Resolve(sig)
	if err != nil {
		return d, err
	}
	head, err := heads.New(d)
	if err != nil {
		return d, err
	}
	problems := checkInput(d, sig.Inputs[0])
	problems = append(problems, head.Check(sig.Outputs)...)
	problems = append(problems, checkBatch(d, sig)...)
	if len(problems) > 0 {
		return d, &model.Error{Problems: problems}
	}
	return d, nil
}

func checkInput(d model.Declaration, p model.Port) []model.Problem {
	var problems []model.Problem
	add := func(path, format string, args ...any) {
		problems = append(problems, model.Problem{Path: path, Text: fmt.Sprintf(format, args...)})
	}
	if p.Type != "float32" {
		add("input", "expected float32, found %s", p)
	}
	if len(p.Shape) != 4 {
		add("input", "expected four axes, %s, found %s", axesOf(d.Input.Layout), p)
		return problems
	}
	channels, height, width := p.Axes(d.Input.Layout)
	if want := int64(d.Input.Color.Channels()); channels >= 0 && channels != want {
		add("input.color", "expected %d channels for %s, found %d in %s as %s: correct color or layout",
			want, d.Input.Color, channels, p, d.Input.Layout)
	}
	if want := int64(d.Input.Width); width >= 0 && width != want {
		add("input.width", "expected %d, found %d in %s", want, width, p)
	}
	if want := int64(d.Input.Height); height >= 0 && height != want {
		add("input.height", "expected %d, found %d in %s", want, height, p)
	}
	return problems
}

func axesOf(l model.Layout) string {
	if l == model.NHWC {
		return "[N,H,W,C]"
	}
	return "[N,C,H,W]"
}

// checkBatch holds the batch axes of the file to max_batch_size.
func checkBatch(d model.Declaration, sig model.Signature) []model.Problem {
	batch := func(p model.Port) int64 {
		if len(p.Shape) == 0 {
			return 1
		}
		return p.Shape[0]
	}
	in := sig.Inputs[0]
	found := batch(in)
	if d.MaxBatchSize == 1 {
		if found > 1 {
			return []model.Problem{{Path: "max_batch_size", Text: fmt.Sprintf(
				"expected a first axis of 1 or of any length, found %s: export the model with an open batch axis", in)}}
		}
		return nil
	}
	fixed := []string{}
	if found >= 0 {
		fixed = append(fixed, in.String())
	}
	for _, name := range d.Output {
		if p, ok := model.Find(sig.Outputs, name); ok && (len(p.Shape) < 2 || batch(p) >= 0) {
			fixed = append(fixed, p.String())
		}
	}
	if len(fixed) == 0 {
		return nil
	}
	return []model.Problem{{Path: "max_batch_size", Text: fmt.Sprintf(
		"expected a first axis of any length for batches of %d, found %s: export the model with one, or write 1",
		d.MaxBatchSize, strings.Join(fixed, ", "))}}
}

// GuessFamily finds the declaration for a model file that comes without a model.yaml: the preset of the one family that
// its inputs and outputs fit, resolved. The preset's normalisation is taken on trust, so a guess is for trying a model
// out; what goes to production has a model.yaml.
func GuessFamily(sig model.Signature) (model.Declaration, error) {
	var fits []model.Declaration
	var names []string
	for _, name := range model.Families() {
		preset, _ := model.Preset(name)
		preset.Input.Width, preset.Input.Height, preset.Input.Layout = 0, 0, ""
		for _, output := range assignments(preset.Output, sig.Outputs) {
			preset.Output = output
			if d, err := Check(preset, sig); err == nil {
				fits = append(fits, d)
				names = append(names, name)
				break
			}
		}
	}
	if len(fits) == 1 {
		return fits[0], nil
	}
	found := fmt.Sprintf("inputs %s and outputs %s", model.FormatPorts(sig.Inputs), model.FormatPorts(sig.Outputs))
	if len(fits) == 0 {
		return model.Declaration{}, fmt.Errorf("no family fits %s: write a model.yaml with family: and one of %s",
			found, strings.Join(model.Families(), ", "))
	}
	return model.Declaration{}, fmt.Errorf("the families %s all fit %s: write a model.yaml with family: and one of them",
		strings.Join(names, ", "), found)
}

// assignments lists the ways to give every role an output of its own, where there are as many outputs as roles.
func assignments(roles map[string]string, outputs []model.Port) []map[string]string {
	if len(roles) != len(outputs) || len(outputs) > 2 {
		return nil
	}
	var first, second []string
	for _, p := range outputs {
		first = append(first, p.Name)
		second = append([]string{p.Name}, second...)
	}
	result := []map[string]string{{}, {}}
	i := 0
	for role := range roles {
		result[0][role], result[1][role] = first[i], second[i]
		i++
	}
	return result
}

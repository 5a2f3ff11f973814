package infer_test

import (
	"testing"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer"
)

func port(name string, shape ...int64) model.Port {
	return model.Port{Name: name, Type: "float32", Shape: shape}
}

func signature(in model.Port, out ...model.Port) model.Signature {
	return model.Signature{Inputs: []model.Port{in}, Outputs: out}
}

func TestCheck(t *testing.T) {
	images := port("images", -1, 3, 240, 320)
	for _, c := range []struct {
		name   string
		family string
		change func(*model.Declaration)
		sig    model.Signature
		want   string
	}{
		{"open batch", model.Person, func(d *model.Declaration) { d.MaxBatchSize = 8 }, signature(images, port("d", -1, 1200, 5)), ""},
		{"open axes", model.Person, func(d *model.Declaration) { d.MaxBatchSize = 8 }, signature(images, port("d", -1, -1, -1)), ""},
		{"open size", model.UltraFace, nil, signature(port("i", 1, 3, -1, -1), port("scores", 1, -1, 2), port("boxes", 1, -1, 4)), ""},
		{"nhwc", model.Person, func(d *model.Declaration) { d.Input.Layout = model.NHWC }, signature(port("i", 1, 240, 320, 3), port("d", 1, 9, 5)), ""},
		{"logits of one axis", model.Classification, nil, signature(port("x", 1, 1, 28, 28), port("y", 10)), ""},
		{
			"size", model.UltraFace, nil, signature(port("i", 1, 3, 480, 640), port("scores", 1, 4420, 2), port("boxes", 1, 4420, 4)),
			`input.width: expected 320, found 640 in "i" float32 [1,3,480,640]
input.height: expected 240, found 480 in "i" float32 [1,3,480,640]`,
		},
		{
			"layout", model.Person, func(d *model.Declaration) { d.Input.Width, d.Input.Height = 320, 240 }, signature(port("i", 1, 240, 320, 3), port("d", 1, 9, 5)),
			`input.color: expected 3 channels for rgb, found 240 in "i" float32 [1,240,320,3] as nchw: correct color or layout
input.width: expected 320, found 3 in "i" float32 [1,240,320,3]
input.height: expected 240, found 320 in "i" float32 [1,240,320,3]`,
		},
		{
			"gray", model.Classification, func(d *model.Declaration) { d.Input.Color = model.RGB }, signature(port("x", 1, 1, 28, 28), port("y", 1, 10)),
			`input.color: expected 3 channels for rgb, found 1 in "x" float32 [1,1,28,28] as nchw: correct color or layout`,
		},
		{
			"name", model.Person, func(d *model.Declaration) { d.Input.Name = "image"; d.Output["detections"] = "boxes" }, signature(images, port("d", -1, 9, 5)),
			`input.name: "image" is not in the file: the file has inputs "images" float32 [?,3,240,320]
output.detections: "boxes" is not in the file: the file has outputs "d" float32 [?,9,5]`,
		},
		{
			"which output", model.Person, nil, signature(images, port("a", -1, 9, 5), port("b", -1, 9, 5)),
			`output.detections: write which one: the file has outputs "a" float32 [?,9,5], "b" float32 [?,9,5]`,
		},
		{
			"axes", model.FastestDet, nil, signature(port("i", 1, 352, 352), port("d", 1, 80, 22, 22)),
			`input: expected four axes, [N,C,H,W], found "i" float32 [1,352,352]
output.detections: expected [N,85,H,W], found [1,80,22,22]`,
		},
		{
			"anchors", model.UltraFace, nil, signature(port("i", 1, 3, 240, 320), port("scores", 1, 4420, 2), port("boxes", 1, 17640, 4)),
			"output.scores: expected [N,A,2], found [1,4420,2]",
		},
		{"type", model.Person, nil, model.Signature{
			Inputs:  []model.Port{{Name: "i", Type: "uint8", Shape: []int64{1, 3, 240, 320}}},
			Outputs: []model.Port{{Name: "d", Type: "float16", Shape: []int64{1, 9, 5}}},
		}, `input: expected float32, found "i" uint8 [1,3,240,320]
output.detections: expected float32, found "d" float16 [1,9,5]`},
		{
			"classes", model.Classification, func(d *model.Declaration) { d.Classes = []string{"cat", "dog"} }, signature(port("x", 1, 1, 28, 28), port("y", 1, 10)),
			"output.scores: expected [N,2] or [N,2,1,1] or [2], found [1,10]",
		},
		{
			"one axis for a batch", model.Classification, func(d *model.Declaration) { d.MaxBatchSize = 2 }, signature(port("x", -1, 1, 28, 28), port("y", 10)),
			`max_batch_size: expected a first axis of any length for batches of 2, found "y" float32 [10]: export the model with one, or write 1`,
		},
		{
			"invalid", model.Person, func(d *model.Declaration) { d.MaxBatchSize = 0 }, signature(images),
			"max_batch_size: 0 is out of range: write 1 to 1024 (1 means no batching)",
		},
		{"no input", model.Person, nil, model.Signature{}, "input: expected one input, found none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, _ := model.Preset(c.family)
			if c.change != nil {
				c.change(&d)
			}
			got, err := infer.Check(d, c.sig)
			if c.want != "" {
				if err == nil || err.Error() != c.want {
					t.Errorf("have:\n%v\nwant:\n%s", err, c.want)
				}
				return
			}
			if err != nil || !got.Input.Resolved() || got.Input.Name != c.sig.Inputs[0].Name {
				t.Errorf("%+v, %v, want it resolved", got, err)
			}
			for role, name := range got.Output {
				if name == "" {
					t.Errorf("role %s has no name", role)
				}
			}
		})
	}
}

func TestGuessFamily(t *testing.T) {
	images := port("images", 1, 3, 64, 96)
	for _, c := range []struct {
		name string
		sig  model.Signature
		want string
	}{
		{"person", signature(images, port("d", 1, 100, 5)), model.Person},
		{"person with open axes", signature(images, port("d", -1, -1, -1)), model.Person},
		{"fastestdet", signature(images, port("758", 1, 85, 4, 6)), model.FastestDet},
		{"ultraface", signature(images, port("scores", 1, 9, 2), port("boxes", 1, 9, 4)), model.UltraFace},
		{"ultraface by other names, turned round", signature(images, port("b", 1, 9, 4), port("a", 1, 9, 2)), model.UltraFace},
		{"classification", signature(images, port("y", 1, 1000)), model.Classification},
	} {
		d, err := infer.GuessFamily(c.sig)
		if err != nil || d.Family != c.want || d.Input.Width != 96 || d.Input.Height != 64 {
			t.Errorf("%s: %q, %v", c.name, d.Family, err)
		}
		if d.Family == model.UltraFace && c.sig.Outputs[0].Name == "b" && (d.Output["boxes"] != "b" || d.Output["scores"] != "a") {
			t.Errorf("%s: roles %v", c.name, d.Output)
		}
	}
	const want = `no family fits inputs "images" float32 [1,3,64,96] and outputs "masks" float32 [1,32,16,24]: ` +
		`write a model.yaml with family: and one of classification, fastestdet, person, ultraface`
	if d, err := infer.GuessFamily(signature(images, port("masks", 1, 32, 16, 24))); err == nil || err.Error() != want {
		t.Errorf("%v, %v\nwant %s", d, err, want)
	}
	const both = `the families fastestdet, classification`
	if d, err := infer.GuessFamily(signature(images, port("y", 1, -1, -1, -1))); err == nil {
		t.Errorf("four open axes: %v, want an error as in %s", d, both)
	}
}

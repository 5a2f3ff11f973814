package model

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

func TestOneLineIsEnough(t *testing.T) {
	for _, name := range Families() {
		d, err := Parse("model.yaml", []byte("family: "+name+"\n"), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		preset, _ := Preset(name)
		if !reflect.DeepEqual(d, preset) {
			t.Errorf("%s: %+v, want the preset %+v", name, d, preset)
		}
	}
	d, _ := Preset(FastestDet)
	if len(d.Classes) != 80 || d.Classes[0] != "person" || d.Classes[79] != "toothbrush" {
		t.Errorf("classes %q are not those of COCO", d.Classes)
	}
}

func TestParse(t *testing.T) {
	const text = `
family: person
description: people from above
version: 3
max_batch_size: 8
max_queue_delay_microseconds: 2000
input: {name: images, width: 320, height: 240, layout: nhwc, color: bgr, resize: stretch, pad: 0, scale: [0.5, 1, 2], mean: 127.5}
output: {detections: found}
classes_file: people.names
score_threshold: 0.25
iou_threshold: 0.75
`
	want := Declaration{
		Family: "person", Description: "people from above", Version: 3, MaxBatchSize: 8, MaxQueueDelayMicroseconds: 2000,
		Input: Input{
			Name: "images", Width: 320, Height: 240, Layout: NHWC, Color: BGR, Resize: Stretch,
			Scale: PerChannel{0.5, 1, 2}, Mean: All(127.5),
		},
		Output: map[string]string{"detections": "found"}, Classes: []string{"somebody"},
		ScoreThreshold: 0.25, IoUThreshold: 0.75,
	}
	beside := fstest.MapFS{"people.names": {Data: []byte("\nsomebody \r\n\n")}}
	d, err := Parse("model.yaml", []byte(text), beside)
	if err != nil || !reflect.DeepEqual(d, want) {
		t.Fatalf("%+v, %v\nwant %+v", d, err, want)
	}
	data, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back Declaration
	if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back, d) {
		t.Errorf("through JSON: %+v, %v", back, err)
	}
}

func TestParseKeepsOrReplacesRoles(t *testing.T) {
	for _, c := range []struct {
		text string
		want map[string]string
	}{
		{"family: ultraface\noutput: {boxes: b}", map[string]string{"boxes": "b", "scores": "scores"}},
		{"family: classification\noutput: {logits: y}", map[string]string{"logits": "y"}},
		{"a: &n y\nfamily: classification\noutput: {probabilities: *n}", nil},
	} {
		d, err := Parse("m", []byte(c.text), nil)
		if c.want != nil && (err != nil || !reflect.DeepEqual(d.Output, c.want)) {
			t.Errorf("%q: %v, %v", c.text, d.Output, err)
		}
	}
	d, err := Parse("m", []byte("description: &n y\nfamily: classification\noutput: {logits: *n}"), nil)
	if err != nil || d.Output["logits"] != "y" {
		t.Errorf("alias: %v, %v", d.Output, err)
	}
}

func TestParseErrors(t *testing.T) {
	beside := fstest.MapFS{"empty.names": {Data: []byte("\n")}}
	families := "classification, fastestdet, person or ultraface"
	keys := "classes, classes_file, description, family, input, iou_threshold, max_batch_size, " +
		"max_queue_delay_microseconds, output, score_threshold or version"
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "m.yaml:1: is empty: write at least family: and one of " + families},
		{"only a comment", "# later\n", "m.yaml:1: is empty: write at least family: and one of " + families},
		{"null", "null\n", "m.yaml:1: is empty: write at least family: and one of " + families},
		{"not YAML", "family: [person\n", "m.yaml:1: not YAML: did not find expected ',' or ']'"},
		{"tab", "family: person\ninput:\n\twidth: 3\n", "m.yaml:3: not YAML: found character that cannot start any token"},
		{"two documents", "family: person\n---\nfamily: person\n", "m.yaml:2: a second document: keep one model per file"},
		{"a list", "- person\n", "m.yaml:1: is a list: write keys and values\nm.yaml:1: family: is missing: write one of " + families},
		{"no family", "description: x\n", "m.yaml:1: family: is missing: write one of " + families},
		{"family", "\nfamily: yolo\n", `m.yaml:2: family: "yolo" is not a family: write one of ` + families},
		{"family is a list", "family: [person]\n", "m.yaml:1: family: is a list: write one word or text"},
		{"typo", "family: person\nmax_batchsize: 8\n", "m.yaml:2: max_batchsize: is not a key: did you mean max_batch_size?"},
		{"unknown key", "family: person\nthreads: 8\n", "m.yaml:2: threads: is not a key: write one of " + keys},
		{"twice", "family: person\nversion: 1\nversion: 2\n", "m.yaml:3: version: is given twice: it already stands in line 2"},
		{"no value", "family: person\nclasses:\n", "m.yaml:2: classes: is empty: write a value or leave the key out"},
		{"word for a number", "family: person\nmax_batch_size: eight\n", `m.yaml:2: max_batch_size: is "eight": write a whole number`},
		{"fraction", "family: person\nmax_batch_size: 1.5\n", `m.yaml:2: max_batch_size: is "1.5": write a whole number`},
		{"too large", "family: person\nmax_batch_size: 99999999999999999999\n", `m.yaml:2: max_batch_size: is "99999999999999999999": write a whole number`},
		{"batch", "family: person\nmax_batch_size: 0\n", "m.yaml:2: max_batch_size: 0 is out of range: write 1 to 1024 (1 means no batching)"},
		{"version 0", "family: person\nversion: 0\n", "m.yaml:2: version: 0 is not a version: leave it out to take the highest"},
		{"version", "family: person\nversion: -1\n", "m.yaml:2: version: -1 is out of range: write 0 to 2147483647 (a positive version pins one, 0 takes the highest)"},
		{"delay", "family: person\nmax_queue_delay_microseconds: -5\n", "m.yaml:2: max_queue_delay_microseconds: -5 is out of range: write 0 to 10000000 (0 does not wait)"},
		{"input", "family: person\ninput: images\n", `m.yaml:2: input: is "images": write keys and values`},
		{"in input", "family: person\ninput:\n  widht: 3\n", "m.yaml:3: input.widht: is not a key: did you mean width?"},
		{"layout", "family: person\ninput: {layout: chw}\n", `m.yaml:2: input.layout: "chw" is unknown: write nchw or nhwc`},
		{"color", "family: person\ninput: {color: yuv}\n", `m.yaml:2: input.color: "yuv" is unknown: write rgb or bgr or gray`},
		{"resize", "family: person\ninput: {resize: crop}\n", `m.yaml:2: input.resize: "crop" is unknown: write stretch or letterbox`},
		{"pad", "family: person\ninput: {pad: 256}\n", "m.yaml:2: input.pad: 256 is out of range: write 0 to 255"},
		{"scale", "family: person\ninput: {scale: 0}\n", "m.yaml:2: input.scale: 0 loses the picture: write 1 for 0..255, 0.00392157 for 0..1"},
		{"scales", "family: person\ninput: {scale: [1, 2]}\n", "m.yaml:2: input.scale: is a list of 2: write one number, or three in the order of color"},
		{"one scale", "family: person\ninput: {scale: [1, x, 2]}\n", `m.yaml:2: input.scale[1]: is "x": write a number`},
		{"mean", "family: person\ninput: {mean: .nan}\n", "m.yaml:2: input.mean: NaN is not a number: write 0 for none, it is on the scale of 0..255"},
		{"role", "family: person\noutput: {boxes: b}\n", "m.yaml:2: output: roles are boxes: this family has detections"},
		{"roles", "family: classification\noutput: {logits: a, scores: b}\n", "m.yaml:2: output: roles are logits, scores: this family has scores, or logits, or probabilities"},
		{"classes", "family: person\nclasses: person\n", `m.yaml:2: classes: is "person": write a list, as in [person, car]`},
		{"class", "family: person\nclasses: [true]\n", `m.yaml:2: classes: name 0 is "true": write a word, in quotes where YAML sees more in it`},
		{"two people", "family: person\nclasses: [man, woman]\n", "m.yaml:2: classes: 2 names: this family has exactly 1"},
		{"no classes", "family: fastestdet\nclasses: []\n", "m.yaml:2: classes: are missing: name every class of the model, in order"},
		{"same class", "family: fastestdet\nclasses: [a, b, a]\n", `m.yaml:2: classes: names 0 and 2 are both "a": make them differ`},
		{"blank class", "family: fastestdet\nclasses: [a, ' b']\n", `m.yaml:2: classes: name 1 is " b": write a word without blanks around it`},
		{
			"both", "family: person\nclasses: [a]\nclasses_file: empty.names\n",
			"m.yaml:2: classes: and classes_file are both given: keep one\nm.yaml:3: classes_file: empty.names is empty: write one name a line",
		},
		{"no such file", "family: person\nclasses_file: no.names\n", "m.yaml:2: classes_file: no.names: file does not exist: put it beside model.yaml, one name a line"},
		{"elsewhere", "family: person\nclasses_file: ../x\n", `m.yaml:2: classes_file: "../x" leaves the model's directory: put the file beside model.yaml`},
		{"score", "family: person\nscore_threshold: 50\n", "m.yaml:2: score_threshold: 50 is out of range: write 0 to 1"},
		{"iou", "family: person\niou_threshold: -.inf\n", "m.yaml:2: iou_threshold: -Inf is out of range: write 0 to 1"},
		{
			"all at once", "familly: person\nmax_batch_size: 0\ninput: {widht: 3, height: -1}\nscore_threshold: 2\n",
			"m.yaml:1: familly: is not a key: did you mean family?\n" +
				"m.yaml:1: family: is missing: write one of " + families + "\n" +
				"m.yaml:2: max_batch_size: 0 is out of range: write 1 to 1024 (1 means no batching)\n" +
				"m.yaml:3: input.widht: is not a key: did you mean width?\n" +
				"m.yaml:3: input.height: -1 is out of range: write 0 to 8192 (0 takes it from the file)\n" +
				"m.yaml:4: score_threshold: 2 is out of range: write 0 to 1",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Parse("m.yaml", []byte(c.text), beside)
			if err == nil {
				t.Fatalf("parsed: %+v", d)
			}
			if err.Error() != c.want {
				t.Errorf("have:\n%v\nwant:\n%s", err, c.want)
			}
		})
	}
}

func TestValidateWithoutFile(t *testing.T) {
	err := Declaration{Family: Person}.Validate()
	const want = `output: roles are none: this family has detections
classes: 0 names: this family has exactly 1
max_batch_size: 0 is out of range: write 1 to 1024 (1 means no batching)
input.resize: "" is unknown: write stretch or letterbox
input.scale: 0 loses the picture: write 1 for 0..255, 0.00392157 for 0..1`
	if err == nil || err.Error() != want {
		t.Errorf("have:\n%v\nwant:\n%s", err, want)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, DeclarationFile)
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	write(t, path, "family: person\nversion: x\n")
	if _, err := Load(path); err == nil || err.Error() != path+`:2: version: is "x": write a whole number` {
		t.Errorf("bad: %v", err)
	}
	write(t, path, "family: person\nclasses_file: one.names\n")
	write(t, filepath.Join(dir, "one.names"), "human\n")
	if d, err := Load(path); err != nil || d.Classes[0] != "human" {
		t.Errorf("good: %v, %v", d.Classes, err)
	}
	write(t, path, "# "+strings.Repeat("x", maxFileSize))
	if _, err := Load(path); err == nil || !strings.HasSuffix(err.Error(), "larger than 1048576 bytes") {
		t.Errorf("large: %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("family: person\ninput: {width: 320, scale: [1, 2, 3]}\n"))
	f.Add([]byte("family: fastestdet\nclasses: &c [a, b]\ndescription: *c\n"))
	f.Add([]byte("family: ultraface\noutput: {boxes: b}\nclasses_file: x\n---\n"))
	beside := fstest.MapFS{"x": {Data: []byte("a\nb\n")}}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse("m", data, beside)
		if err != nil {
			var all *Error
			if !errors.As(err, &all) || len(all.Problems) == 0 {
				t.Fatalf("error %T without problems: %v", err, err)
			}
			for _, p := range all.Problems {
				if p.Line < 1 || p.Text == "" {
					t.Fatalf("problem without a line or a text: %+v", p)
				}
			}
			return
		}
		if err := d.Validate(); err != nil {
			t.Fatalf("parsed, but not valid: %v", err)
		}
		j, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var back Declaration
		if err := json.Unmarshal(j, &back); err != nil {
			t.Fatal(err)
		}
		if again, err := json.Marshal(back); err != nil || string(again) != string(j) {
			t.Fatalf("through JSON %s became %s, %v", j, again, err)
		}
	})
}

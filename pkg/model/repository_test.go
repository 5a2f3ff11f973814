package model

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// proto writes one field of a protocol buffer: a number or bytes.
func proto(field uint64, value any) []byte {
	switch v := value.(type) {
	case int:
		return binary.AppendUvarint(binary.AppendUvarint(nil, field<<3), uint64(v))
	case string:
		return proto(field, []byte(v))
	case []byte:
		b := binary.AppendUvarint(binary.AppendUvarint(nil, field<<3|2), uint64(len(v)))
		return append(b, v...)
	default:
		panic("number or bytes")
	}
}

// port is a ValueInfoProto; 0 is an axis with a name instead of a length.
func port(name string, dims ...int) []byte {
	var shape []byte
	for _, n := range dims {
		if n == 0 {
			shape = append(shape, proto(1, proto(2, "N"))...)
		} else {
			shape = append(shape, proto(1, proto(1, n))...)
		}
	}
	tensor := slices.Concat(proto(1, 1), proto(2, shape))
	return slices.Concat(proto(1, name), proto(2, proto(1, tensor)))
}

// onnxFile is a model with the inputs x and w, of which w is a weight, and the output y.
func onnxFile(dims ...int) []byte {
	weight := slices.Concat(proto(8, "w"), proto(9, make([]byte, 100)))
	graph := slices.Concat(
		proto(1, proto(4, "Add")), proto(5, weight),
		proto(11, port("x", dims...)), proto(11, port("w", 1)), proto(12, port("y", 0, 10)),
	)
	return slices.Concat(proto(1, 8), proto(2, "test"), proto(7, graph))
}

func TestReadSignature(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.onnx")
	whole := onnxFile(0, 1, 28, 20)
	write(t, path, string(whole))
	sig, err := ReadSignature(path)
	want := Signature{
		Inputs:  []Port{{Name: "x", Type: "float32", Shape: []int64{-1, 1, 28, 20}}},
		Outputs: []Port{{Name: "y", Type: "float32", Shape: []int64{-1, 10}}},
	}
	if err != nil || !reflect.DeepEqual(sig, want) {
		t.Fatalf("%v, %v\nwant %v", sig, err, want)
	}
	for n := range whole {
		if sig, err := parseSignature(bytes.NewReader(whole[:n]), int64(n)); err == nil {
			t.Errorf("cut off at %d of %d: %v", n, len(whole), sig)
		}
	}
	write(t, path, "<html>not found</html>")
	if _, err := ReadSignature(path); err == nil || !strings.HasPrefix(err.Error(), path+" is not a complete ONNX file: ") {
		t.Errorf("a web page: %v", err)
	}
}

func FuzzReadSignature(f *testing.F) {
	f.Add(onnxFile(0, 3, 8, 8))
	f.Add(onnxFile(1, 28, 28, 1)[:40])
	f.Fuzz(func(t *testing.T, data []byte) {
		sig, err := parseSignature(bytes.NewReader(data), int64(len(data)))
		if err == nil && len(sig.Outputs) == 0 {
			t.Fatal("neither outputs nor an error")
		}
	})
}

func TestRepository(t *testing.T) {
	dir := t.TempDir()
	file := func(text string, parts ...string) string {
		path := filepath.Join(append([]string{dir}, parts...)...)
		write(t, path, text)
		return path
	}
	file("family: classification\n", "digits", "model.yaml")
	file("family: person\nversion: 2\ninput: {width: 8, height: 8}\n", "person", "model.yaml")
	file("family: person\n", "none", "model.yaml")
	file("notes\n", "docs", "readme")
	first := file(string(onnxFile(1, 1, 28, 20)), "digits", "9", "model.onnx")
	last := file(string(onnxFile(1, 1, 28, 24)), "digits", "10", "model.onnx")
	file("", "digits", "010", "model.onnx")
	file("", "digits", "0", "model.onnx")
	golden := file("{}", "digits", "golden.json")
	for _, v := range []string{"1", "2", "3"} {
		file("weights", "person", v, "model.onnx")
	}
	own := file("{}", "person", "2", "golden.json")
	r := Repository{Dir: dir}

	if names, err := r.List(); err != nil || !slices.Equal(names, []string{"digits", "none", "person"}) {
		t.Errorf("list %q, %v", names, err)
	}
	if v, err := r.Versions("digits"); err != nil || !slices.Equal(v, []int{9, 10}) {
		t.Errorf("versions %v, %v", v, err)
	}
	a, err := r.Open("digits")
	if err != nil || a.Version != 10 || a.Path != last || a.Golden != golden || a.Name != "digits" {
		t.Errorf("highest: %+v, %v", a, err)
	}
	if in := a.Declaration.Input; in.Width != 24 || in.Height != 28 || in.Color != Gray || in.Layout != NCHW || in.Name != "x" {
		t.Errorf("resolved input %+v", in)
	}
	if a, err = r.OpenVersion("digits", 9); err != nil || a.Path != first {
		t.Errorf("version 9: %+v, %v", a, err)
	}
	const hash = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c" // of the word
	if a, err = r.Open("person"); err != nil || a.Version != 2 || a.Golden != own || a.SHA256 != hash {
		t.Errorf("pinned: %+v, %v", a, err)
	}

	if err := os.Remove(last); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		version int
		want    string
	}{
		{"Person", 0, `model name "Person": write a-z, 0-9, _ and -, beginning with a letter or digit, at most 64`},
		{"../person", 0, `model name "../person": write a-z, 0-9, _ and -, beginning with a letter or digit, at most 64`},
		{"cat", 0, "model cat: not found: write " + filepath.Join(dir, "cat", "model.yaml") +
			", for which family: and one of classification, fastestdet, person or ultraface may be enough"},
		{"none", 0, "model none: no version: not found: put the file at " + filepath.Join(dir, "none", "1", "model.onnx")},
		{"digits", 4, "model digits: version 4: not found: there are [9 10]"},
		{"digits", 0, "model digits version 10: not found: put the file at " + last},
	} {
		_, err := r.OpenVersion(c.name, c.version)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s %d: %v\nwant %s", c.name, c.version, err, c.want)
		}
		if !strings.HasPrefix(c.want, "model name") && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s %d: %v is not ErrNotFound", c.name, c.version, err)
		}
	}
	file("family: person\n", "Bad", "model.yaml")
	if names, err := r.List(); len(names) != 3 || err == nil || !strings.HasPrefix(err.Error(), `model name "Bad": `) {
		t.Errorf("with a bad name: %q, %v", names, err)
	}
	if _, err := (Repository{Dir: dir + "x"}).List(); err == nil {
		t.Error("no directory: no error")
	}
}

func TestResolveErrors(t *testing.T) {
	in := func(name string, shape ...int64) Port { return Port{Name: name, Type: "float32", Shape: shape} }
	y := []Port{in("y", -1, 10)}
	for _, c := range []struct {
		name string
		sig  Signature
		want string
	}{
		{
			"two inputs",
			Signature{Inputs: []Port{in("a", 1), in("b", 2)}, Outputs: y},
			`input.name: write which one: the file has inputs "a" float32 [1], "b" float32 [2]`,
		},
		{
			"rank",
			Signature{Inputs: []Port{in("a", 1, 784)}, Outputs: y},
			`input: is "a" float32 [1,784] in the file: a picture needs four axes, [N,C,H,W] or [N,H,W,C]`,
		},
		{
			"layout",
			Signature{Inputs: []Port{in("a", 1, -1, -1, -1)}, Outputs: y},
			`input.layout: cannot be seen from "a" float32 [1,?,?,?]: write nchw or nhwc`,
		},
		{
			"size",
			Signature{Inputs: []Port{in("a", 1, 3, -1, -1)}, Outputs: nil},
			`input.height: cannot be seen from "a" float32 [1,3,?,?]: write it
input.width: cannot be seen from "a" float32 [1,3,?,?]: write it
output.scores: write which one: the file has outputs none`,
		},
	} {
		d, _ := Preset(Classification)
		if _, err := d.Resolve(c.sig); err == nil || err.Error() != c.want {
			t.Errorf("%s: have:\n%v\nwant:\n%s", c.name, err, c.want)
		}
	}
	d, _ := Preset(Classification)
	d.Input.Name, d.Output = "image", map[string]string{RoleLogits: "z"}
	_, err := d.Resolve(Signature{Inputs: []Port{in("a", 1, 8, 8, 3)}, Outputs: y})
	const want = `input.name: "image" is not in the file: the file has inputs "a" float32 [1,8,8,3]
output.logits: "z" is not in the file: the file has outputs "y" float32 [?,10]`
	if err == nil || err.Error() != want {
		t.Errorf("names: have:\n%v\nwant:\n%s", err, want)
	}
}

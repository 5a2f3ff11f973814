package model

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DeclarationFile is the name of the file that declares a model.
const DeclarationFile = "model.yaml"

// maxFileSize bounds what is read of a declaration or a list of classes.
const maxFileSize = 1 << 20

// Load reads the declaration in the file path.
func Load(path string) (Declaration, error) {
	data, err := readBounded(os.DirFS(filepath.Dir(path)), filepath.Base(path))
	if err != nil {
		return Declaration{}, fmt.Errorf("load declaration %s: %w", path, err)
	}
	return Parse(path, data, os.DirFS(filepath.Dir(path)))
}

// Parse reads a declaration. The name file only serves messages; beside is the directory where classes_file is looked
// up, and may be nil. Everything that is wrong is reported at once, as one [*Error].
func Parse(file string, data []byte, beside fs.FS) (Declaration, error) {
	var root yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&root); err != nil && !errors.Is(err, io.EOF) {
		return Declaration{}, &Error{File: file, Problems: []Problem{syntaxProblem(err)}}
	}
	r := reader{beside: beside, lines: map[string]int{}}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		r.add(&second, "", "a second document: keep one model per file")
	} else if !errors.Is(err, io.EOF) {
		r.problems = append(r.problems, syntaxProblem(err))
	}
	if root.Kind == 0 || len(root.Content) == 0 || root.Content[0].Tag == "!!null" {
		return Declaration{}, &Error{File: file, Problems: []Problem{{
			Line: 1, Text: "is empty: write at least family: and one of " + list(Families()),
		}}}
	}
	d := r.declaration(root.Content[0])
	r.merge(d.problems())
	if len(r.problems) > 0 {
		return Declaration{}, &Error{File: file, Problems: r.sorted()}
	}
	return d, nil
}

func syntaxProblem(err error) Problem {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int
	if _, scanErr := fmt.Sscanf(text, "line %d: ", &line); scanErr == nil {
		_, text, _ = strings.Cut(text, ": ")
	}
	return Problem{Line: max(line, 1), Text: "not YAML: " + text}
}

// declaration reads the whole file over the preset of its family.
func (r *reader) declaration(n *yaml.Node) Declaration {
	d := Declaration{}
	if f := value(n, "family"); f != nil {
		if preset, ok := Preset(f.Value); ok {
			d = preset
		} else {
			// The message is about the family; everything else is checked against neutral defaults.
			d, _ = Preset(Classification)
		}
	} else {
		d, _ = Preset(Classification)
		d.Family = ""
	}
	classesLine := 0
	var classesFile string
	r.mapping(n, "", fields{
		"family":                       text(&d.Family),
		"description":                  text(&d.Description),
		"version":                      r.pinned(&d.Version),
		"max_batch_size":               integer(&d.MaxBatchSize),
		"max_queue_delay_microseconds": integer(&d.MaxQueueDelayMicroseconds),
		"input":                        func(r *reader, n *yaml.Node, path string) { r.input(n, path, &d.Input) },
		"output":                       func(r *reader, n *yaml.Node, path string) { r.output(n, path, &d.Output) },
		"classes": func(r *reader, n *yaml.Node, path string) {
			classesLine = n.Line
			r.words(n, path, &d.Classes)
		},
		"classes_file": func(r *reader, n *yaml.Node, path string) {
			if text(&classesFile)(r, n, path); classesFile != "" {
				r.classesFile(n, path, classesFile, &d.Classes)
			}
		},
		"score_threshold": number(&d.ScoreThreshold),
		"iou_threshold":   number(&d.IoUThreshold),
	})
	if classesLine > 0 && classesFile != "" {
		r.problems = append(r.problems, Problem{
			Line: classesLine, Path: "classes", Text: "and classes_file are both given: keep one",
		})
	}
	return d
}

func (r *reader) pinned(dst *int) field {
	return func(r *reader, n *yaml.Node, path string) {
		before := len(r.problems)
		integer(dst)(r, n, path)
		if len(r.problems) == before && *dst == 0 {
			r.add(n, path, "0 is not a version: leave it out to take the highest")
		}
	}
}

func (r *reader) input(n *yaml.Node, path string, in *Input) {
	r.mapping(n, path, fields{
		"name":   text(&in.Name),
		"width":  integer(&in.Width),
		"height": integer(&in.Height),
		"layout": text(&in.Layout),
		"color":  text(&in.Color),
		"resize": text(&in.Resize),
		"pad": func(r *reader, n *yaml.Node, path string) {
			var v int
			integer(&v)(r, n, path)
			if v < 0 || v > 255 {
				r.add(n, path, "%d is out of range: write 0 to 255", v)
				return
			}
			in.Pad = uint8(v)
		},
		"scale": channels(&in.Scale),
		"mean":  channels(&in.Mean),
	})
}

// output reads roles. Naming a role keeps the preset's names of the others where the family knows that role, and
// replaces the preset's roles altogether where it is an alternative, as logits is for scores.
func (r *reader) output(n *yaml.Node, path string, dst *map[string]string) {
	named := map[string]string{}
	roles := fields{}
	for _, role := range []string{RoleDetections, RoleScores, RoleBoxes, RoleLogits, RoleProbabilities} {
		roles[role] = func(r *reader, n *yaml.Node, path string) {
			var name string
			if text(&name)(r, n, path); name != "" {
				named[role] = name
			}
		}
	}
	r.mapping(n, path, roles)
	for role, name := range *dst {
		if _, ok := named[role]; !ok && len(*dst) > 1 {
			named[role] = name
		}
	}
	if len(named) > 0 {
		*dst = named
	}
}

func (r *reader) classesFile(n *yaml.Node, path, name string, dst *[]string) {
	*dst = []string{"unread"} // one problem is enough: do not also report that classes are missing
	if !fs.ValidPath(name) || name == "." {
		r.add(n, path, "%q leaves the model's directory: put the file beside %s", name, DeclarationFile)
		return
	}
	if r.beside == nil {
		r.add(n, path, "cannot be read here: write classes: [...] instead")
		return
	}
	data, err := readBounded(r.beside, name)
	if err != nil {
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			err = pathErr.Err
		}
		r.add(n, path, "%s: %v: put it beside %s, one name a line", name, err, DeclarationFile)
		return
	}
	*dst = nil
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" {
			*dst = append(*dst, line)
		}
	}
	if len(*dst) == 0 {
		r.add(n, path, "%s is empty: write one name a line", name)
		*dst = []string{"unread"}
	}
}

func readBounded(dir fs.FS, name string) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("larger than %d bytes", maxFileSize)
	}
	return data, nil
}

// Package config reads sightline.yaml, the one file that a user writes, and the settings of processes.
//
// # The file
//
// [Load] and [Parse] report every problem at once, sorted by line, each with what to write instead; what they accept
// passes [Camera.Validate]. Something that works but should be known is a [Warning]. docs/configuration.md is the
// reference, and is tested against this package.
//
// # Secrets
//
// No error, no warning and no ordinary print of a value from this package holds a secret: not a password of the file,
// not what an environment variable held, also when the value could not be read. A [Secret] or [URL] must be asked with
// Reveal. [Camera.MarshalStored] is the one form of a camera that has its credentials.
//
// # Precedence
//
// Settings of a process come from [DefaultProcess], then SIGHTLINE_* variables ([ProcessFromEnv]), then flags, which
// the command line lays over a [Process]. Settings of a camera come from [DefaultCamera], then defaults: of the file,
// then the camera.
//
// # Concurrency
//
// Nothing here keeps state; every function is safe for concurrent use.
package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/pkg/internal/strictyaml"
)

// A File is what sightline.yaml says, with defaults filled in.
type File struct {
	// Models is the path of the model repository.
	Models string `json:"models"`
	// Cameras are all cameras in the order of the file, also those that are not enabled.
	Cameras []Camera `json:"cameras"`
	// Demo is the built-in camera, or nil.
	Demo *Demo `json:"demo,omitempty"`
}

var topKeys = []string{"models", "defaults", "cameras", "demo"}

const exampleHint = "write at least cameras: with a name, a url and a model"

// Load reads the file at path, relative names in it being beside it. The error is [Problems].
func Load(path string, env Env) (*File, []Warning, error) {
	data, err := readRegular(path, strictyaml.MaxSize)
	if err != nil {
		looked := path
		if absolute, absErr := filepath.Abs(path); absErr == nil {
			looked = absolute
		}
		return nil, nil, Problems{{File: path, Message: "cannot be read: " + reason(err), Hint: "looked at " + looked, cause: err}}
	}
	f, warnings, err := Parse(path, data, filepath.Dir(path), env)
	if info, statErr := os.Stat(path); statErr == nil && info.Mode().Perm()&0o004 != 0 {
		if i := slices.IndexFunc(warnings, func(w Warning) bool { return w.Message == clearTextMessage }); i >= 0 {
			warnings = slices.Insert(warnings, 0, Warning{
				File: path, Message: "can be read by every user of this machine, and has a password in line " + strconv.Itoa(warnings[i].Line),
				Explain: fmt.Sprintf("chmod o-r it (its mode is %04o), or write ${NAME} for the password", info.Mode().Perm()),
			})
		}
	}
	return f, warnings, err
}

// Parse reads a file's content. The name serves messages only; relative names in the file are looked up in dir. The
// error is [Problems]. Warnings are returned beside an error too.
func Parse(name string, data []byte, dir string, env Env) (*File, []Warning, error) {
	r := &reader{file: name, dir: dir, env: env, keys: cameraKeys()}
	r.known = keyNames(r.keys)
	root, problems := strictyaml.Parse(data)
	if root == nil {
		if len(problems) == 0 {
			problems = []strictyaml.Problem{{Line: 1, Message: "is empty", Hint: exampleHint}}
		}
		return nil, nil, r.all(problems)
	}
	r.mask = newMask(root)
	r.Show = r.show
	r.Problems = problems
	f := r.top(root)
	if err := r.all(r.Problems); err != nil {
		return nil, r.sortedWarnings(), err
	}
	return f, r.sortedWarnings(), nil
}

// all makes the error of what was found.
func (r *reader) all(problems []strictyaml.Problem) error {
	found := r.foreign
	for _, p := range problems {
		found = append(found, Problem{File: r.file, Line: p.Line, Path: p.Path, Message: p.Message, Hint: p.Hint})
	}
	return found.sorted(r.file).orNil()
}

func (r *reader) sortedWarnings() []Warning {
	slices.SortStableFunc(r.warnings, func(a, b Warning) int { return a.Line - b.Line })
	return slices.Compact(r.warnings)
}

func (r *reader) top(root *yaml.Node) *File {
	entries := r.Entries(root, "", exampleHint)
	section := map[string]strictyaml.Entry{}
	for _, e := range entries {
		if !slices.Contains(topKeys, e.Key) {
			r.unknownTop(e)
			continue
		}
		section[e.Key] = e
		if strictyaml.Empty(e.Value) {
			r.Add(e.Line, e.Path, "is empty", "write a value, or leave the key out")
		}
	}
	if root.Kind != yaml.MappingNode {
		return nil
	}
	models, line := r.modelsPath(section["models"])
	v := resolver{reader: r, repo: r.repository(models, line)}
	if e, ok := section["demo"]; ok {
		v.demoDeclared = true
		v.demo = r.demo(e)
	}
	v.defaults = r.defaults(section["defaults"])
	v.checkDefaults()
	f := &File{Models: r.beside(models.String()), Demo: v.demo}
	if e, ok := section["cameras"]; ok {
		f.Cameras = v.cameras(e)
	} else {
		r.Add(1, "", "has no cameras", exampleHint)
	}
	if len(r.Problems)+len(r.foreign) == 0 {
		r.unused(v.repo, f.Cameras, line)
	}
	if e, ok := section["demo"]; ok && v.demo != nil && !v.demoUsed {
		r.warn(e.Line, e.Path, "no camera has url: "+demoURL, "the built-in camera is not started for nobody; give it to a camera, or remove the section")
	}
	return f
}

// unknownTop helps whoever wrote a camera's key at the top level.
func (r *reader) unknownTop(e strictyaml.Entry) {
	if slices.Contains(r.known, e.Key) {
		r.Add(e.Line, e.Path, "is a key of a camera", "write it under a camera or under defaults:")
		return
	}
	r.Unknown(e, topKeys)
}

func (r *reader) modelsPath(e strictyaml.Entry) (scalar, int) {
	fallback := scalar{parts: []part{{text: defaultModels}}}
	if e.Value == nil || strictyaml.Empty(e.Value) {
		return fallback, max(e.Line, 1)
	}
	s, ok := r.scalar(node{e.Value, e.Path}, "write the path of the folder of models")
	if !ok {
		return fallback, e.Line
	}
	return s, e.Line
}

func (r *reader) defaults(e strictyaml.Entry) layer {
	if e.Value == nil || strictyaml.Empty(e.Value) {
		return layer{}
	}
	entries := r.Entries(e.Value, e.Path, "write keys of a camera, as in fps: 5")
	return r.layer(layer{line: e.Line, path: e.Path}, entries, map[string]string{"name": "cannot have a default: every camera has its own"})
}

// checkDefaults looks at defaults by themselves, since every camera may have overridden a bad one.
func (r *resolver) checkDefaults() {
	used := r.demoUsed
	r.own, r.onlyDefaults = layer{}, true
	r.resolve()
	r.onlyDefaults, r.demoUsed = false, used
}

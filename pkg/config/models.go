package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sightline-dev/sightline/pkg/internal/strictyaml"
	"github.com/sightline-dev/sightline/pkg/model"
)

// A repository answers what is in the folder of models, looking at each model once.
type repository struct {
	model.Repository
	shown  string // the folder as messages may show it
	names  []string
	usable bool
	looked map[string]bool
}

const defaultModels = "./models"

// repository opens the folder of models. The path is as written in the file, or the default.
func (r *reader) repository(s scalar, line int) repository {
	repo := repository{Repository: model.Repository{Dir: r.beside(s.String())}, shown: r.shownPath(s), looked: map[string]bool{}}
	names, err := repo.List()
	repo.names = names
	looked := "looked at " + repo.shown
	switch {
	case err != nil && len(names) == 0 && isPathError(err):
		r.Add(line, "models", "the folder of models cannot be read: "+reason(unwrapPath(err)), looked)
		return repo
	case err != nil:
		r.Add(line, "models", "the folder of models has a folder whose name is not that of a model",
			"rename it with a-z, 0-9, _ and -; "+looked)
	case len(names) == 0:
		r.Add(line, "models", "the folder of models has no model", "put one in, as in person/model.yaml and person/1/model.onnx; "+looked)
		return repo
	}
	repo.usable = true
	return repo
}

func isPathError(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}

func unwrapPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e
	}
	return err
}

// knows says whether the folder has the model, and how to say what to write instead.
func (p repository) knows(name string) (ok bool, hint string) {
	if slices.Contains(p.names, name) {
		return true, ""
	}
	hint = "there is " + strings.Join(p.names, ", ")
	if meant := strictyaml.Suggest(name, p.names); meant != "" && len(p.names) > 1 {
		hint = "did you mean " + meant + "? " + "there is " + strings.Join(p.names, ", ")
	}
	return false, hint
}

// inspect reports, once, what is wrong with a model that the folder has.
func (r *reader) inspect(p repository, name string) {
	if p.looked[name] {
		return
	}
	p.looked[name] = true
	declared := filepath.Join(p.shown, name, model.DeclarationFile)
	d, err := p.Declaration(name)
	if e, ok := errors.AsType[*model.Error](err); ok {
		for _, problem := range e.Problems {
			r.foreign = append(r.foreign, Problem{File: declared, Line: problem.Line, Path: problem.Path, Message: problem.Text})
		}
		return
	}
	if err != nil {
		message := "cannot be read" // another error than the system's would tell the path, and that may come from a variable
		if isPathError(err) {
			message += ": " + reason(unwrapPath(err))
		}
		r.foreign = append(r.foreign, Problem{File: declared, Message: message, Hint: "it must be a file of at most 1 MiB"})
		return
	}
	versions, err := p.Versions(name)
	if err != nil || len(versions) == 0 {
		r.foreign = append(r.foreign, Problem{
			File: declared, Message: "model " + name + " has no version",
			Hint: "put the file at " + filepath.Join(p.shown, name, "1", model.ModelFile),
		})
		return
	}
	version := d.Version
	if version == 0 {
		version = versions[len(versions)-1]
	}
	file := filepath.Join(strconv.Itoa(version), model.ModelFile)
	if info, err := os.Stat(filepath.Join(p.Dir, name, file)); err != nil || !info.Mode().IsRegular() {
		r.foreign = append(r.foreign, Problem{
			File: declared, Message: "version " + strconv.Itoa(version) + " of model " + name + " has no file", Hint: "put it at " + filepath.Join(p.shown, name, file),
		})
	}
}

// unused warns of models that no enabled camera asks.
func (r *reader) unused(p repository, cameras []Camera, line int) {
	if !p.usable {
		return
	}
	used := map[string]bool{}
	for _, c := range cameras {
		for _, name := range c.Models {
			used[name] = used[name] || c.Enabled
		}
	}
	for _, name := range p.names {
		if !used[name] {
			r.warn(line, "models", "model "+name+" is used by no camera", "it is not loaded; name it in model: of a camera, or remove its folder")
		}
	}
}

package model

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// The names of files in a repository, besides [DeclarationFile].
const (
	ModelFile  = "model.onnx"
	GoldenFile = "golden.json"
)

// ErrNotFound is what an error wraps when a repository has no such model or version.
var ErrNotFound = errors.New("not found")

// A Repository is a directory of models; the package comment shows its layout.
type Repository struct {
	// Dir is the directory.
	Dir string
}

// An Artifact is one immutable version of a model, ready to be loaded.
type Artifact struct {
	// Name is the model's name and Version its version.
	Name    string
	Version int
	// Declaration says how to use the file. Its input is resolved.
	Declaration Declaration
	// Path is the model file, SHA256 the hash of its bytes in hexadecimal.
	Path   string
	SHA256 string
	// Golden is the golden file that belongs to the version, or empty.
	Golden string
}

// List names the models of the repository, sorted: the directories that hold a model.yaml.
func (r Repository) List() ([]string, error) {
	entries, err := os.ReadDir(r.Dir)
	if err != nil {
		return nil, fmt.Errorf("list models: %w", err)
	}
	var names []string
	var problems []error
	for _, e := range entries {
		_, err := os.Stat(filepath.Join(r.Dir, e.Name(), DeclarationFile))
		if err != nil {
			continue // a directory of something else
		}
		if !ValidName(e.Name()) {
			problems = append(problems, nameError(e.Name()))
			continue
		}
		names = append(names, e.Name())
	}
	return names, errors.Join(problems...)
}

func nameError(name string) error {
	return fmt.Errorf("model name %q: write a-z, 0-9, _ and -, beginning with a letter or digit, at most 64", name)
}

// Versions lists the versions of a model, ascending.
func (r Repository) Versions(name string) ([]int, error) {
	if !ValidName(name) {
		return nil, nameError(name)
	}
	entries, err := os.ReadDir(filepath.Join(r.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("model %s: %w in %s", name, ErrNotFound, r.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	var versions []int
	for _, e := range entries {
		v, err := strconv.Atoi(e.Name())
		if err == nil && v > 0 && strconv.Itoa(v) == e.Name() {
			versions = append(versions, v)
		}
	}
	slices.Sort(versions)
	return versions, nil
}

// Declaration reads the model.yaml of a model.
func (r Repository) Declaration(name string) (Declaration, error) {
	if !ValidName(name) {
		return Declaration{}, nameError(name)
	}
	path := filepath.Join(r.Dir, name, DeclarationFile)
	d, err := Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Declaration{}, fmt.Errorf("model %s: %w: write %s, for which family: and one of %s may be enough",
			name, ErrNotFound, path, list(Families()))
	}
	return d, err
}

// Open opens the version that the model's declaration pins, or else the highest one.
func (r Repository) Open(name string) (Artifact, error) { return r.OpenVersion(name, 0) }

// OpenVersion opens one version of a model; 0 means what [Repository.Open] means. A version whose directory has no model
// file is an error, never a reason to take another version.
func (r Repository) OpenVersion(name string, version int) (Artifact, error) {
	d, err := r.Declaration(name)
	if err != nil {
		return Artifact{}, err
	}
	versions, err := r.Versions(name)
	if err != nil {
		return Artifact{}, err
	}
	if len(versions) == 0 {
		return Artifact{}, fmt.Errorf("model %s: no version: %w: put the file at %s",
			name, ErrNotFound, filepath.Join(r.Dir, name, "1", ModelFile))
	}
	if version == 0 {
		version = d.Version
	}
	if version == 0 {
		version = versions[len(versions)-1]
	}
	if !slices.Contains(versions, version) {
		return Artifact{}, fmt.Errorf("model %s: version %d: %w: there are %v", name, version, ErrNotFound, versions)
	}
	dir := filepath.Join(r.Dir, name, strconv.Itoa(version))
	a := Artifact{Name: name, Version: version, Declaration: d, Path: filepath.Join(dir, ModelFile)}
	for _, golden := range []string{filepath.Join(dir, GoldenFile), filepath.Join(r.Dir, name, GoldenFile)} {
		if _, err := os.Stat(golden); err == nil {
			a.Golden = golden
			break
		}
	}
	return a.finish()
}

// OpenFile makes an artifact, version 1, of a model file outside any repository.
func OpenFile(path, name string, d Declaration) (Artifact, error) {
	return Artifact{Name: name, Version: 1, Declaration: d, Path: path}.finish()
}

// finish hashes the file and resolves the declaration's input from it.
func (a Artifact) finish() (Artifact, error) {
	f, err := os.Open(a.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return Artifact{}, fmt.Errorf("model %s version %d: %w: put the file at %s", a.Name, a.Version, ErrNotFound, a.Path)
	}
	if err != nil {
		return Artifact{}, fmt.Errorf("model %s version %d: %w", a.Name, a.Version, err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return Artifact{}, fmt.Errorf("model %s version %d: hash %s: %w", a.Name, a.Version, a.Path, err)
	}
	a.SHA256 = hex.EncodeToString(hash.Sum(nil))
	if a.Declaration.Input.Resolved() {
		return a, nil
	}
	sig, err := ReadSignature(a.Path)
	if err == nil {
		a.Declaration, err = a.Declaration.Resolve(sig)
	}
	if err != nil {
		return Artifact{}, fmt.Errorf("model %s version %d: %w", a.Name, a.Version, err)
	}
	return a, nil
}

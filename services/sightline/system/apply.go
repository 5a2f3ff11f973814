package system

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/model"
)

// Plan says what Apply would change, and changes nothing. Problems of models are reported all at once.
func Plan(ctx context.Context, js jetstream.JetStream, f *config.File) (Changes, error) {
	var c Changes
	repository := model.Repository{Dir: f.Models}
	have, err := catalog.ListModels(ctx, js)
	if err != nil {
		return c, err
	}
	var problems []error
	for _, name := range UsedModels(f) {
		a, err := repository.Open(name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		want := catalog.Model{Name: a.Name, Version: a.Version, SHA256: a.SHA256, Declaration: a.Declaration}
		if !reflect.DeepEqual(have[name], want) {
			c.Models = append(c.Models, name)
			c.put = append(c.put, want)
		}
		delete(have, name)
	}
	if err := errors.Join(problems...); err != nil {
		return c, err
	}
	c.Removed = slices.Sorted(maps.Keys(have))
	cameras, names, err := catalog.Cameras(ctx, js)
	if err != nil {
		return c, err
	}
	c.Cameras = config.Diff(cameras, f.Cameras)
	for _, x := range cameras {
		names = append(names, x.Name) // beside those that cannot be read: they are replaced or removed too
	}
	c.have = names
	return c, nil
}

// Apply makes the desired state of a running system that of the file: its cameras and the models that they name, and no
// others. Nothing is written unless everything can be; applying the same file again changes nothing.
func Apply(ctx context.Context, js jetstream.JetStream, f *config.File) (Changes, error) {
	c, err := Plan(ctx, js, f)
	if err != nil {
		return c, err
	}
	for _, m := range c.put {
		if _, err := catalog.PutModel(ctx, js, m); err != nil {
			return c, err
		}
	}
	if err := catalog.PutCameras(ctx, js, c.have, f.Cameras); err != nil {
		return c, fmt.Errorf("apply: %w", err)
	}
	for _, name := range c.Removed { // last: until now cameras named them
		if err := catalog.RemoveModel(ctx, js, name); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Changes are what an Apply changes.
type Changes struct {
	Models  []string        `json:"models"` // declared anew or changed
	Removed []string        `json:"removed_models"`
	Cameras []config.Change `json:"changes"`

	put  []catalog.Model
	have []string
}

// UsedModels are the models that enabled cameras name, sorted.
func UsedModels(f *config.File) []string {
	var names []string
	for _, c := range f.Cameras {
		if c.Enabled {
			names = append(names, c.Models...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

package system

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/model"
)

// Apply makes the desired state of a running system that of the file: models are declared, cameras written, and cameras
// that the file does not name are removed. Applying the same file again changes nothing.
func Apply(ctx context.Context, js jetstream.JetStream, f *config.File) (Applied, error) {
	var done Applied
	repository := model.Repository{Dir: f.Models}
	var models []catalog.Model
	var problems []error
	for _, name := range UsedModels(f) {
		a, err := repository.Open(name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		models = append(models, catalog.Model{Name: a.Name, Version: a.Version, SHA256: a.SHA256, Declaration: a.Declaration})
	}
	if err := errors.Join(problems...); err != nil { // nothing is written unless everything can be
		return done, err
	}
	for _, m := range models {
		changed, err := catalog.PutModel(ctx, js, m)
		if err != nil {
			return done, err
		}
		if changed {
			done.Models = append(done.Models, m.Name)
		}
	}
	have, names, err := catalog.Cameras(ctx, js)
	if err != nil {
		return done, err
	}
	done.Changes = config.Diff(have, f.Cameras)
	for _, c := range have {
		names = append(names, c.Name) // beside those that cannot be read: they are replaced or removed too
	}
	if err := catalog.PutCameras(ctx, js, names, f.Cameras); err != nil {
		return done, fmt.Errorf("apply: %w", err)
	}
	return done, nil
}

// Applied is what an Apply changed.
type Applied struct {
	Models  []string        `json:"models"` // declared anew or changed
	Changes []config.Change `json:"changes"`
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

package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/streams"
)

// Model is what the bucket MODELS holds for one model: which version is wanted and how it is used.
type Model struct {
	Name        string            `json:"name"`
	Version     int               `json:"version"`
	SHA256      string            `json:"sha256"`
	Declaration model.Declaration `json:"declaration"`
}

// decodeModel reads a value of MODELS.
func decodeModel(data []byte) (Model, error) {
	var m Model
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("model: %w", err)
	}
	if !model.ValidName(m.Name) || m.Version < 1 {
		return m, fmt.Errorf("model: name %q version %d", m.Name, m.Version)
	}
	if err := m.Declaration.Validate(); err != nil {
		return m, fmt.Errorf("model %s: %w", m.Name, err)
	}
	if !m.Declaration.Input.Resolved() {
		return m, fmt.Errorf("model %s: its input size or colour order is not stated", m.Name)
	}
	return m, nil
}

// Models is a live copy of MODELS.
type Models struct{ *View[Model] }

// FollowModels follows the bucket MODELS until ctx ends.
func FollowModels(ctx context.Context, js jetstream.JetStream, log *slog.Logger) (Models, error) {
	v, err := Follow(ctx, js, streams.ModelsBucket, decodeModel, log)
	return Models{v}, err
}

// Model is the declaration of a model.
func (m Models) Model(name string) (model.Declaration, bool) {
	e, ok := m.Get(name)
	return e.Value.Declaration, ok
}

// ListModels are what MODELS holds now, by name; a value that cannot be read has only its name.
func ListModels(ctx context.Context, js jetstream.JetStream) (map[string]Model, error) {
	kv, err := js.KeyValue(ctx, streams.ModelsBucket)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", streams.ModelsBucket, err)
	}
	names, err := kv.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, fmt.Errorf("list bucket %s: %w", streams.ModelsBucket, err)
	}
	models := make(map[string]Model, len(names))
	for _, name := range names {
		e, err := kv.Get(ctx, name)
		if errors.Is(err, jetstream.ErrKeyNotFound) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s/%s: %w", streams.ModelsBucket, name, err)
		}
		if models[name], err = decodeModel(e.Value()); err != nil {
			models[name] = Model{Name: name}
		}
	}
	return models, nil
}

// RemoveModel says that a model is no longer wanted.
func RemoveModel(ctx context.Context, js jetstream.JetStream, name string) error {
	return remove(ctx, js, streams.ModelsBucket, name)
}

// PutModel writes what is wanted of a model, unless that is already there.
func PutModel(ctx context.Context, js jetstream.JetStream, m Model) (changed bool, err error) {
	data, err := json.Marshal(m)
	if err != nil {
		return false, fmt.Errorf("model %s: %w", m.Name, err)
	}
	if _, err := decodeModel(data); err != nil {
		return false, err
	}
	return put(ctx, js, streams.ModelsBucket, m.Name, data)
}

package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/streams"
)

// FollowCameras follows the bucket CAMERAS until ctx ends.
func FollowCameras(ctx context.Context, js jetstream.JetStream, log *slog.Logger) (*View[config.Camera], error) {
	kv, err := js.KeyValue(ctx, streams.CamerasBucket)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", streams.CamerasBucket, err)
	}
	return Follow(ctx, kv, config.ParseStored, log)
}

// Cameras are what CAMERAS holds now, by name. Values that cannot be read are reported together; the others are returned.
func Cameras(ctx context.Context, js jetstream.JetStream) ([]config.Camera, error) {
	kv, err := js.KeyValue(ctx, streams.CamerasBucket)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", streams.CamerasBucket, err)
	}
	names, err := kv.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, fmt.Errorf("list bucket %s: %w", streams.CamerasBucket, err)
	}
	var out []config.Camera
	var problems []error
	for _, name := range names {
		e, err := kv.Get(ctx, name)
		if err != nil {
			if !errors.Is(err, jetstream.ErrKeyNotFound) { // removed meanwhile
				problems = append(problems, fmt.Errorf("read %s/%s: %w", streams.CamerasBucket, name, err))
			}
			continue
		}
		c, err := config.ParseStored(e.Value())
		if err != nil {
			problems = append(problems, fmt.Errorf("%s/%s: %w", streams.CamerasBucket, name, err))
			continue
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b config.Camera) int { return cmp.Compare(a.Name, b.Name) })
	return out, errors.Join(problems...)
}

// PutCameras makes CAMERAS hold want, and nothing of have that is not wanted.
func PutCameras(ctx context.Context, js jetstream.JetStream, have, want []config.Camera) error {
	keep := map[string]bool{}
	for _, c := range want {
		keep[c.Name] = true
		data, err := c.MarshalStored()
		if err != nil {
			return fmt.Errorf("camera %s: %w", c.Name, err)
		}
		if _, err := put(ctx, js, streams.CamerasBucket, c.Name, data); err != nil {
			return err
		}
	}
	for _, c := range have {
		if !keep[c.Name] {
			if err := remove(ctx, js, streams.CamerasBucket, c.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

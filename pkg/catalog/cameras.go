package catalog

import (
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
	return Follow(ctx, js, streams.CamerasBucket, config.ParseStored, log)
}

// Cameras are what CAMERAS holds now, by name, and the keys whose values cannot be read, say because a newer version wrote
// them.
func Cameras(ctx context.Context, js jetstream.JetStream) (cameras []config.Camera, unreadable []string, err error) {
	kv, err := js.KeyValue(ctx, streams.CamerasBucket)
	if err != nil {
		return nil, nil, fmt.Errorf("bucket %s: %w", streams.CamerasBucket, err)
	}
	names, err := kv.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, nil, fmt.Errorf("list bucket %s: %w", streams.CamerasBucket, err)
	}
	slices.Sort(names)
	for _, name := range names {
		e, err := kv.Get(ctx, name)
		if errors.Is(err, jetstream.ErrKeyNotFound) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read %s/%s: %w", streams.CamerasBucket, name, err)
		}
		c, err := config.ParseStored(e.Value())
		if err != nil {
			unreadable = append(unreadable, name)
			continue
		}
		cameras = append(cameras, c)
	}
	return cameras, unreadable, nil
}

// PutCameras makes CAMERAS hold want, and of the names in have nothing that is not wanted.
func PutCameras(ctx context.Context, js jetstream.JetStream, have []string, want []config.Camera) error {
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
	for _, name := range have {
		if !keep[name] {
			if err := remove(ctx, js, streams.CamerasBucket, name); err != nil {
				return err
			}
		}
	}
	return nil
}

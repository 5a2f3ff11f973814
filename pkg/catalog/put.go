package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// put writes a value unless it is already there, so that applying twice changes nothing.
func put(ctx context.Context, js jetstream.JetStream, bucket, key string, value []byte) (bool, error) {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return false, fmt.Errorf("bucket %s: %w", bucket, err)
	}
	have, err := kv.Get(ctx, key)
	switch {
	case err == nil && bytes.Equal(have.Value(), value):
		return false, nil
	case err != nil && !errors.Is(err, jetstream.ErrKeyNotFound):
		return false, fmt.Errorf("read %s/%s: %w", bucket, key, err)
	}
	if _, err := kv.Put(ctx, key, value); err != nil {
		return false, fmt.Errorf("write %s/%s: %w", bucket, key, err)
	}
	return true, nil
}

// remove deletes a key; a key that is not there is no error.
func remove(ctx context.Context, js jetstream.JetStream, bucket, key string) error {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", bucket, err)
	}
	if err := kv.Delete(ctx, key); err != nil {
		return fmt.Errorf("delete %s/%s: %w", bucket, key, err)
	}
	return nil
}

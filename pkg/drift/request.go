package drift

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

// RequestPrefix begins the keys of the bucket REFERENCES with which people ask for references to be captured anew.
const RequestPrefix = "_request"

// Request asks that what is seen from now on be the reference: somebody moved the camera, or what has changed is there to
// stay.
type Request struct {
	Model  string
	Camera string // "" is every camera
}

// Key is where the request is.
func (r Request) Key() string {
	key := RequestPrefix + "." + r.Model
	if r.Camera != "" {
		key += "." + r.Camera
	}
	return key
}

// ParseRequest reads a key of REFERENCES. It is false for those that are no request.
func ParseRequest(key string) (Request, bool) {
	parts := strings.Split(key, ".")
	if parts[0] != RequestPrefix || len(parts) < 2 || len(parts) > 3 {
		return Request{}, false
	}
	r := Request{Model: parts[1]}
	if len(parts) == 3 {
		r.Camera = parts[2]
	}
	return r, true
}

// Ask asks, and returns when the drift-monitor has taken the request, or ctx ends: then it is withdrawn.
func Ask(ctx context.Context, js jetstream.JetStream, r Request) error {
	if err := streams.CheckToken(r.Model); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	if r.Camera != "" {
		if err := streams.CheckToken(r.Camera); err != nil {
			return fmt.Errorf("camera: %w", err)
		}
	}
	kv, err := js.KeyValue(ctx, streams.ReferencesBucket)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", streams.ReferencesBucket, err)
	}
	if _, err := kv.Put(ctx, r.Key(), []byte("{}")); err != nil {
		return fmt.Errorf("ask for a reference: %w", err)
	}
	w, err := kv.Watch(ctx, r.Key())
	if err != nil {
		return fmt.Errorf("ask for a reference: %w", err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return errors.New("ask for a reference: the watch ended")
			case e != nil && e.Operation() != jetstream.KeyValuePut:
				return nil
			}
		case <-ctx.Done():
			_ = kv.Delete(context.WithoutCancel(ctx), r.Key())
			return fmt.Errorf("ask for a reference: %w", context.Cause(ctx))
		}
	}
}

package streams

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Ensure creates every stream and bucket that is missing and brings those that differ back to their declaration. It lowers no
// limit that a stream on disk holds more than: that would delete messages. A stream whose node is away is left as it is: the
// recovery service makes it anew elsewhere when it can, and must get so far itself.
func Ensure(ctx context.Context, js jetstream.JetStream, o Options) error {
	for _, cfg := range Streams(o) {
		if err := declare(ctx, js, cfg); err != nil && !Offline(err) {
			return fmt.Errorf("declare stream %s: %w", cfg.Name, err)
		}
	}
	for _, cfg := range Buckets(o) {
		if _, err := js.CreateOrUpdateKeyValue(ctx, cfg); err != nil && !Offline(err) {
			return fmt.Errorf("declare bucket %s: %w", cfg.Bucket, err)
		}
	}
	return nil
}

// Await returns when every stream and bucket is declared. Most services may not create any: whoever sets a system up does, and
// the recovery service. tell, which may be nil, is told what stands in the way, whenever that is something else than before.
func Await(ctx context.Context, js jetstream.JetStream, tell func(error)) error {
	const look = 500 * time.Millisecond
	for told := ""; ; {
		err := missing(ctx, js)
		if err == nil {
			return nil
		}
		if tell != nil && ctx.Err() == nil && err.Error() != told {
			told = err.Error()
			tell(err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("await streams: %w", context.Cause(ctx))
		case <-time.After(look):
		}
	}
}

// missing is why a stream or bucket cannot be used.
func missing(ctx context.Context, js jetstream.JetStream) error {
	for _, name := range slices.Sorted(maps.Keys(Declared(Options{}))) {
		if _, err := js.Stream(ctx, name); err != nil && !Offline(err) {
			return fmt.Errorf("stream %s: %w", name, err)
		}
	}
	return nil
}

func declare(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig) error {
	if cfg.Storage == jetstream.FileStorage {
		s, err := js.Stream(ctx, cfg.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
		case err != nil:
			return err
		default:
			keep, err := Overfull(ctx, js, cfg, s.CachedInfo())
			if err != nil {
				return err
			}
			keepFields(&cfg, s.CachedInfo().Config, keep)
		}
	}
	_, err := js.CreateOrUpdateStream(ctx, cfg)
	return err
}

// EnsureBucket does for one bucket what Ensure does for all.
func EnsureBucket(ctx context.Context, js jetstream.JetStream, bucket string, o Options) error {
	for _, cfg := range Buckets(o) {
		if cfg.Bucket != bucket {
			continue
		}
		if _, err := js.CreateOrUpdateKeyValue(ctx, cfg); err != nil {
			return fmt.Errorf("declare bucket %s: %w", bucket, err)
		}
		return nil
	}
	return fmt.Errorf("declare bucket %s: it is not declared", bucket)
}

// Binder binds to one work group, creating its consumer as declared when it is missing.
type Binder func(ctx context.Context) (jetstream.Consumer, error)

// Preprocess are the work groups of the preprocess service: live first, its twin last.
func Preprocess(js jetstream.JetStream) []Binder { return binders(js, preprocessGroups()) }

// Infer are the work groups of one model's lane: live first, its twin last.
func Infer(js jetstream.JetStream, model string, lane Lane) []Binder {
	return binders(js, inferGroups(model, lane))
}

func binders(js jetstream.JetStream, groups []consumer) []Binder {
	out := make([]Binder, len(groups))
	for i, g := range groups {
		out[i] = func(ctx context.Context) (jetstream.Consumer, error) {
			c, err := js.CreateOrUpdateConsumer(ctx, g.stream, g.config)
			if err != nil {
				return nil, fmt.Errorf("bind %s of %s: %w", g.config.Durable, g.stream, err)
			}
			return c, nil
		}
	}
	return out
}

// Package catalog is the desired state that services share: which cameras and models there are. It lives in KV buckets,
// is written by `sightline apply`, and every service follows it.
//
// # Delivery
//
// A View holds the latest value of every key and follows changes; it survives broker restarts. A value that cannot be
// read is reported and leaves the earlier one in place: a bad write never takes a working camera away.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Entry is one value of a bucket and the revision under which it was written.
type Entry[T any] struct {
	Value    T
	Revision uint64
}

// View is a live copy of one bucket.
type View[T any] struct {
	mu      sync.Mutex
	entries map[string]Entry[T]
	changed chan struct{}
}

// Follow fills a View with what the bucket holds now and keeps it up to date until ctx ends.
func Follow[T any](ctx context.Context, kv jetstream.KeyValue, decode func([]byte) (T, error), log *slog.Logger) (*View[T], error) {
	watcher, err := kv.WatchAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("follow bucket %s: %w", kv.Bucket(), err)
	}
	v := &View[T]{entries: map[string]Entry[T]{}, changed: make(chan struct{})}
	filled := make(chan struct{})
	go v.follow(watcher.Updates(), filled, decode, log.With(slog.String("bucket", kv.Bucket())))
	select {
	case <-filled:
		return v, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("follow bucket %s: %w", kv.Bucket(), context.Cause(ctx))
	case <-time.After(fillTimeout):
		return nil, errors.Join(fmt.Errorf("follow bucket %s: no answer within %s", kv.Bucket(), fillTimeout), watcher.Stop())
	}
}

const fillTimeout = 10 * time.Second

// follow ends when the watcher does, that is with its context.
func (v *View[T]) follow(updates <-chan jetstream.KeyValueEntry, filled chan struct{}, decode func([]byte) (T, error), log *slog.Logger) {
	for e := range updates {
		if e == nil { // everything that was there has been read
			close(filled)
			continue
		}
		if e.Operation() != jetstream.KeyValuePut {
			v.set(e.Key(), nil)
			continue
		}
		value, err := decode(e.Value())
		if err != nil {
			log.Error("unreadable value, keeping the earlier one", slog.String("key", e.Key()), slog.Uint64("revision", e.Revision()), slog.Any("error", err))
			continue
		}
		v.set(e.Key(), &Entry[T]{value, e.Revision()})
	}
}

func (v *View[T]) set(key string, e *Entry[T]) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e == nil {
		delete(v.entries, key)
	} else {
		v.entries[key] = *e
	}
	close(v.changed)
	v.changed = make(chan struct{})
}

// Get is the value of a key.
func (v *View[T]) Get(key string) (Entry[T], bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, ok := v.entries[key]
	return e, ok
}

// All is a copy of everything, and a channel that closes at the next change.
func (v *View[T]) All() (map[string]Entry[T], <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.entries), v.changed
}

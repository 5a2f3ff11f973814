// Package catalog is the desired state that services share: which cameras and models there are. It lives in KV buckets,
// is written by `sightline apply`, and every service follows it.
//
// # Delivery
//
// A View holds the latest value of every key and follows changes; it survives broker restarts. A value that cannot be
// read is reported and leaves the earlier one in place: a bad write never takes a working camera away.
//
// # When the bucket is deleted
//
// A View notices that its bucket was deleted and made anew, within a few seconds. An empty new bucket says that somebody
// deleted the desired state, not that nothing is desired: nobody meant to stop every camera, and to stop them would turn a
// slip into blindness. So a View keeps what it had, and takes the new bucket's values over as they come. Once somebody has
// written to the new bucket, and then nothing for settleFor, it is the desired state again: what it lacks is gone. A
// process that starts while it is empty knows nothing of the former state.
package catalog

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"maps"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// Entry is one value of a bucket and the revision under which it was written. Revisions of a key grow and are never used
// twice, even when the bucket was made anew.
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
func Follow[T any](ctx context.Context, js jetstream.JetStream, bucket string, decode func([]byte) (T, error), log *slog.Logger) (*View[T], error) {
	f := &follower[T]{
		js: js, bucket: bucket, decode: decode, sums: map[string][sha256.Size]byte{}, log: log.With(slog.String("bucket", bucket)),
		view: &View[T]{entries: map[string]Entry[T]{}, changed: make(chan struct{})},
	}
	fill, cancel := context.WithTimeoutCause(ctx, fillTimeout, fmt.Errorf("no answer within %s", fillTimeout))
	defer cancel()
	if err := f.open(fill, ctx); err != nil {
		return nil, fmt.Errorf("follow bucket %s: %w", bucket, err)
	}
	for !f.filled {
		select {
		case e, ok := <-f.watcher.Updates():
			if !ok {
				f.close()
				return nil, fmt.Errorf("follow bucket %s: the watch ended", bucket)
			}
			f.take(e)
		case <-fill.Done():
			f.close()
			return nil, fmt.Errorf("follow bucket %s: %w", bucket, context.Cause(fill))
		}
	}
	go f.run(ctx)
	return f.view, nil
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

// keep drops every key that is not in keys.
func (v *View[T]) keep(keys map[string]bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	before := len(v.entries)
	maps.DeleteFunc(v.entries, func(k string, _ Entry[T]) bool { return !keys[k] })
	if len(v.entries) != before {
		close(v.changed)
		v.changed = make(chan struct{})
	}
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

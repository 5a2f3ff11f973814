package driftmonitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/streams"
)

const (
	writeAgain  = 500 * time.Millisecond
	writeWithin = 5 * time.Second
	// confirmEvery is how old the confirmation of the lease may be when something is kept.
	confirmEvery = 500 * time.Millisecond
)

// writer writes to DRIFT and REFERENCES what the monitor wants to be there, in the background: the latest for every key, in the order
// in which keys were first wanted. Whatever waits is bounded by the number of keys.
type writer struct {
	deps Deps
	lead lease.Leadership

	mu      sync.Mutex
	order   []place
	wanted  map[place]write
	waiting chan struct{} // something is wanted
	empty   []chan struct{}
	stale   bool // somebody else leads

	buckets   map[string]jetstream.KeyValue // of the goroutine of run
	confirmed time.Time
}

// place is where something is written.
type place struct{ bucket, key string }

// write is what is wanted there: a record of DRIFT, other data, or nothing.
type write struct {
	record *drift.Record
	data   []byte
}

func newWriter(deps Deps, lead lease.Leadership) *writer {
	return &writer{deps: deps, lead: lead, wanted: map[place]write{}, waiting: make(chan struct{}, 1), buckets: map[string]jetstream.KeyValue{}}
}

// put says something in DRIFT.
func (w *writer) put(r drift.Record) { w.want(place{streams.DriftBucket, r.Key()}, write{record: &r}) }

// keep keeps something in REFERENCES.
func (w *writer) keep(key string, data []byte) {
	w.want(place{streams.ReferencesBucket, key}, write{data: data})
}

// done removes a request.
func (w *writer) done(key string) { w.want(place{streams.ReferencesBucket, key}, write{}) }

// forget removes what is said and kept about a camera that is no more.
func (w *writer) forget(camera string, models ...string) {
	for _, model := range models {
		w.want(place{streams.DriftBucket, drift.StatusKey(camera, model)}, write{})
	}
	w.want(place{streams.DriftBucket, drift.IntegrityKey(camera)}, write{})
	w.want(place{streams.ReferencesBucket, statePrefix + camera}, write{})
}

// retire removes what is said and kept about a model that nothing uses any more.
func (w *writer) retire(model string) {
	w.want(place{streams.DriftBucket, drift.FairnessKey(model)}, write{})
	w.want(place{streams.ReferencesBucket, fairnessPrefix + model}, write{})
}

func (w *writer) want(p place, x write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.wanted[p]; !ok {
		w.order = append(w.order, p)
	}
	w.wanted[p] = x
	select {
	case w.waiting <- struct{}{}:
	default:
	}
}

// next is what has waited longest.
func (w *writer) next() (place, write, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.order) == 0 || w.stale {
		for _, c := range w.empty {
			close(c)
		}
		w.empty = nil
		return place{}, write{}, false
	}
	return w.order[0], w.wanted[w.order[0]], true
}

// wrote says that it is there. Something newer may be wanted meanwhile: then it stays in its place.
func (w *writer) wrote(p place, x write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.order = w.order[1:]
	if now := w.wanted[p]; now.record != x.record || len(now.data) != len(x.data) || len(x.data) > 0 && &now.data[0] != &x.data[0] {
		w.order = append(w.order, p)
		return
	}
	delete(w.wanted, p)
}

// run writes until ctx ends.
func (w *writer) run(ctx context.Context) {
	for {
		p, x, ok := w.next()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-w.waiting:
				continue
			}
		}
		err := w.write(ctx, p, x)
		switch {
		case err == nil:
			w.wrote(p, x)
			continue
		case ctx.Err() != nil:
			return
		case errors.Is(err, drift.ErrStale): // the lease will say so, too
			w.mu.Lock()
			w.stale = true
			w.mu.Unlock()
			continue
		}
		delete(w.buckets, p.bucket) // it may have been made anew
		w.deps.Log.DebugContext(ctx, "writing again", slog.String("bucket", p.bucket), slog.String("key", p.key), slog.Any("error", err))
		clock.Pause(ctx, writeAgain)
	}
}

func (w *writer) write(ctx context.Context, p place, x write) error {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	kv, err := w.bucket(ctx, p.bucket)
	if err != nil {
		return err
	}
	switch {
	case x.record != nil:
		return drift.Put(ctx, kv, *x.record)
	case x.data != nil:
		if err := w.confirm(ctx); err != nil {
			return err
		}
		_, err = kv.Put(ctx, p.key, x.data)
	default:
		err = kv.Delete(ctx, p.key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("write %s/%s: %w", p.bucket, p.key, err)
	}
	return nil
}

func (w *writer) bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	if kv := w.buckets[name]; kv != nil {
		return kv, nil
	}
	kv, err := w.deps.JS.KeyValue(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, err)
	}
	w.buckets[name] = kv
	return kv, nil
}

// confirm makes sure that this is the leader: one that was stopped must not set back what its successor knows.
func (w *writer) confirm(ctx context.Context) error {
	now := time.Now()
	if now.Sub(w.confirmed) < confirmEvery {
		return nil
	}
	err := w.lead.Confirm(ctx)
	if errors.Is(err, lease.ErrLost) {
		return fmt.Errorf("%w: %w", drift.ErrStale, err)
	}
	if err == nil {
		w.confirmed = now
	}
	return err
}

// flush returns when nothing waits any more. run must be running.
func (w *writer) flush(ctx context.Context) error {
	done := make(chan struct{})
	w.mu.Lock()
	w.empty = append(w.empty, done)
	w.mu.Unlock()
	select {
	case w.waiting <- struct{}{}:
	default:
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

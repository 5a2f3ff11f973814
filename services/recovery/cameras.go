package recovery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/streams"
)

// freeCameras frees the cameras that a dead ingest captured; the other instances watch for that.
func (h *handing) freeCameras(ctx context.Context) error {
	if h.dead.Service != "ingest" {
		return nil
	}
	if err := h.lead.Confirm(ctx); err != nil {
		return err
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	kv, err := h.s.deps.JS.KeyValue(ctx, streams.LeasesBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w", streams.LeasesBucket, err)
	}
	mine, err := h.cameras(ctx, kv)
	var freed []string
	errs := []error{err}
	for _, e := range mine {
		ok, err := lease.Free(ctx, kv, e)
		errs = append(errs, err)
		if ok {
			freed = append(freed, e.Key())
		}
	}
	err = errors.Join(errs...)
	if len(freed) == 0 && err == nil {
		return nil
	}
	h.s.tell("leases_freed", h.dead.Instance, h.lead, func(e *events.Event) {
		e.Cause, e.Detail = h.dead.cause, "camera leases freed"
		e.Facts["action"] = "freed camera leases"
		e.Facts["cameras"] = strings.Join(freed, ",")
		e.Facts["duration_ms"] = millis(time.Since(began))
		e.Facts["outcome"] = "done"
		if err != nil {
			e.Facts["outcome"] = "in part: " + err.Error()
		}
	})
	return err
}

// cameras are the leases of the dead, not those of a process that took its name.
func (h *handing) cameras(ctx context.Context, kv jetstream.KeyValue) ([]jetstream.KeyValueEntry, error) {
	var successor time.Time
	if s, known := h.watch.view.All()[h.dead.Key()]; known && s.Incarnation != h.dead.Incarnation && s.State == fleet.Alive {
		successor = s.Started
	}
	all, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("list leases: %w", err)
	}
	defer func() { _ = all.Stop() }()
	var out []jetstream.KeyValueEntry
	for {
		select {
		case e, ok := <-all.Updates():
			if !ok || e == nil { // that was all
				return out, nil
			}
			holder, err := lease.Decode(e.Value())
			if err != nil || holder.Instance != h.dead.Instance || e.Key() == leaseKey {
				continue
			}
			if successor.IsZero() || holder.Since.Before(successor) {
				out = append(out, e)
			}
		case <-ctx.Done():
			return out, fmt.Errorf("list leases: %w", context.Cause(ctx))
		}
	}
}

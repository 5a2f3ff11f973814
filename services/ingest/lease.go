package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

// ErrLeaseLost means that another instance may own the camera now, ErrLeaseHeld that one does.
var (
	ErrLeaseLost = errors.New("lease lost")
	ErrLeaseHeld = errors.New("lease held by another instance")
)

// Lease is the right to capture one camera. Its epoch is the revision under which it was acquired: revisions only grow,
// so a later owner's frames are told from an earlier one's.
type Lease struct {
	kv       jetstream.KeyValue
	camera   string
	value    []byte
	revision uint64
	// Epoch names the frames captured under this lease.
	Epoch uint64
}

// Holder is the value of a lease.
type Holder struct {
	Instance string    `json:"instance"`
	Since    time.Time `json:"since"`
}

// Acquire takes the lease of a camera, or reports ErrLeaseHeld when another instance has it. Its epoch is the lease's
// revision, or the next after known if that is greater.
func Acquire(ctx context.Context, kv jetstream.KeyValue, camera, instance string, known uint64) (*Lease, error) {
	value, err := json.Marshal(Holder{Instance: instance, Since: time.Now().UTC()})
	if err != nil {
		return nil, fmt.Errorf("lease %s: %w", camera, err)
	}
	rev, err := kv.Create(ctx, camera, value)
	switch {
	case errors.Is(err, jetstream.ErrKeyExists):
		return nil, fmt.Errorf("lease %s: %w", camera, ErrLeaseHeld)
	case err != nil:
		return nil, fmt.Errorf("lease %s: %w", camera, err)
	}
	return &Lease{kv: kv, camera: camera, value: value, revision: rev, Epoch: max(rev, known+1)}, nil
}

// Keep renews the lease until ctx ends, and then gives it back. It returns ErrLeaseLost as soon as another instance could
// own the camera. While the broker cannot be reached it keeps trying. Cut off from a broker that others still reach, it
// learns only afterwards that somebody took over: both captured meanwhile, under different epochs.
func (l *Lease) Keep(ctx context.Context) error {
	tick := time.NewTicker(streams.LeaseTTL / 6)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return l.release(context.WithoutCancel(ctx))
		case <-tick.C:
		}
		attempt, cancel := context.WithTimeout(ctx, streams.LeaseTTL/3)
		rev, err := l.kv.Update(attempt, l.camera, l.value, l.revision)
		cancel()
		switch {
		case err == nil:
			l.revision = rev
		case isWrongRevision(err):
			// Either it expired during an outage, or our own last update was stored and its answer lost.
			if err := l.recheck(ctx); err != nil {
				return err
			}
		}
	}
}

// recheck adopts the stored revision when the lease is still ours.
func (l *Lease) recheck(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, streams.LeaseTTL/3)
	defer cancel()
	e, err := l.kv.Get(ctx, l.camera)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return fmt.Errorf("lease %s: expired: %w", l.camera, ErrLeaseLost)
	case err != nil:
		return nil // the broker is away: the next tick asks again
	case string(e.Value()) != string(l.value):
		return fmt.Errorf("lease %s: taken over: %w", l.camera, ErrLeaseLost)
	}
	l.revision = e.Revision()
	return nil
}

func (l *Lease) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, streams.LeaseTTL)
	defer cancel()
	if err := l.kv.Delete(ctx, l.camera, jetstream.LastRevision(l.revision)); err != nil && !isWrongRevision(err) {
		return fmt.Errorf("release lease %s: %w", l.camera, err) // it expires by itself
	}
	return nil
}

func isWrongRevision(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || errors.Is(err, jetstream.ErrKeyExists)
}

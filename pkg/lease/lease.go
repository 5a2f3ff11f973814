// Package lease is the right to do something alone: to capture a camera, to lead a service. A lease is a key of the
// bucket LEASES that its owner renews by compare-and-set and that expires when nobody does.
//
// # What a lease guarantees
//
// Its epoch is the revision under which it was acquired. Revisions only grow, so what a later owner did is told from what an
// earlier one did: the epoch is the fencing token of everything done under the lease.
//
// An owner that was stopped for a while may find only afterwards that somebody else has its lease. [Lease.Fresh] tells by
// the local clock that this may be so, and [Lease.Confirm] finds out: it renews the lease by compare-and-set. From then on
// nobody else gets it for [streams.LeaseTTL], unless the owner is taken for dead ([Free]). Whoever must not act twice
// confirms directly before the deed, and what slips through in between must do no harm.
package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/streams"
)

// ErrLost means that another instance may have the lease now, ErrHeld that one does.
var (
	ErrLost = errors.New("lease lost")
	ErrHeld = errors.New("lease held by another instance")
)

const (
	renewEvery = streams.LeaseTTL / 6
	// attempt bounds one renewal.
	attempt = streams.LeaseTTL / 3
	// margin is what is taken off a lease's time for clocks that do not run alike.
	margin = streams.LeaseTTL / 10
)

// Leadership is what somebody needs to know of a lease who acts under it.
type Leadership interface {
	// Confirm returns nil when the lease is held, and [ErrLost] when somebody else may have it. Call it directly before
	// every action.
	Confirm(ctx context.Context) error
	// Token is the fencing token: it goes into everything that is written under the lease.
	Token() uint64
}

// Lease is a lease that was acquired. Its methods may be called by several goroutines.
type Lease struct {
	kv    jetstream.KeyValue
	key   string
	value []byte // with the epoch
	first []byte // without: as it was acquired
	// Epoch names what is done under this lease.
	Epoch uint64
	// Since is when it was acquired, as its [Holder] has it.
	Since time.Time

	renewing sync.Mutex // one renewal at a time; guards revision
	revision uint64

	mu      sync.Mutex
	renewed time.Time // when the last renewal that succeeded was sent
	lost    error
}

// Holder is the value of a lease.
type Holder struct {
	Instance string    `json:"instance"`
	Since    time.Time `json:"since"`
	// Epoch is 0 in the moment between acquisition and the first renewal: it is known only then.
	Epoch uint64 `json:"epoch,omitempty"`
}

// Decode reads the value of a lease.
func Decode(data []byte) (Holder, error) {
	var h Holder
	if err := json.Unmarshal(data, &h); err != nil {
		return h, fmt.Errorf("lease: %w", err)
	}
	return h, nil
}

// Acquire takes the lease named key for an instance, or reports ErrHeld when another one has it. Its epoch is the
// lease's revision, or the next after known if that is greater.
func Acquire(ctx context.Context, kv jetstream.KeyValue, key, instance string, known uint64) (*Lease, error) {
	h := Holder{Instance: instance, Since: time.Now().UTC()}
	first, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("lease %s: %w", key, err)
	}
	sent := time.Now()
	rev, err := kv.Create(ctx, key, first)
	switch {
	case streams.Conflict(err):
		return nil, fmt.Errorf("lease %s: %w", key, ErrHeld)
	case err != nil:
		return nil, fmt.Errorf("lease %s: %w", key, err)
	}
	h.Epoch = max(rev, known+1)
	value, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("lease %s: %w", key, err)
	}
	l := &Lease{kv: kv, key: key, value: value, first: first, revision: rev, renewed: sent, Epoch: h.Epoch, Since: h.Since}
	if err := l.Confirm(ctx); errors.Is(err, ErrLost) { // any other trouble is the next renewal's
		return nil, err
	}
	return l, nil
}

// Keep renews the lease until ctx ends, and then gives it back. It returns ErrLost as soon as another instance could
// have it. While the broker cannot be reached it keeps trying. Cut off from a broker that others still reach, it learns
// only afterwards that somebody took over.
func (l *Lease) Keep(ctx context.Context) error {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return l.Release(context.WithoutCancel(ctx))
		case <-tick.C:
		}
		if err := l.Confirm(ctx); errors.Is(err, ErrLost) {
			return err
		}
	}
}

// Confirm renews the lease. It returns nil when it is held, ErrLost when another instance may have it, and any other error
// when that could not be found out.
func (l *Lease) Confirm(ctx context.Context) error {
	l.renewing.Lock()
	defer l.renewing.Unlock()
	if err := l.gone(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	err := l.renew(ctx)
	if streams.Conflict(err) {
		// Either it expired, or our own last update was stored and its answer lost.
		if err := l.recheck(ctx); err != nil {
			return err
		}
		err = l.renew(ctx)
	}
	if err != nil {
		return fmt.Errorf("renew lease %s: %w", l.key, err)
	}
	return nil
}

// Token is the lease's epoch.
func (l *Lease) Token() uint64 { return l.Epoch }

// Fresh reports whether nobody else can have the lease by the local clock. An instance that finds it is not was stopped,
// or the broker is away.
func (l *Lease) Fresh() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost == nil && clock.Since(l.renewed) < streams.LeaseTTL-margin
}

// Renewed is when the last renewal that succeeded was sent, by the local clock: from then on nobody else could have the
// lease for [streams.LeaseTTL], unless its owner was taken for dead.
func (l *Lease) Renewed() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.renewed
}

func (l *Lease) gone() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func (l *Lease) renew(ctx context.Context) error {
	sent := time.Now()
	rev, err := l.kv.Update(ctx, l.key, l.value, l.revision)
	if err != nil {
		return err
	}
	l.revision = rev
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed = sent
	return nil
}

// recheck adopts the stored revision when the lease is still ours.
func (l *Lease) recheck(ctx context.Context) error {
	e, err := l.kv.Get(ctx, l.key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return l.lose(fmt.Errorf("lease %s: expired: %w", l.key, ErrLost))
	case err != nil:
		return fmt.Errorf("lease %s: %w", l.key, err) // the broker is away: the next renewal asks again
	case string(e.Value()) != string(l.value) && string(e.Value()) != string(l.first):
		return l.lose(fmt.Errorf("lease %s: taken over: %w", l.key, ErrLost))
	}
	l.revision = e.Revision()
	return nil
}

// lose is for good: what was lost once is acquired under another epoch.
func (l *Lease) lose(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = err
	return err
}

// Release gives the lease back: somebody else gets it at once.
func (l *Lease) Release(ctx context.Context) error {
	l.renewing.Lock()
	defer l.renewing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, streams.LeaseTTL)
	defer cancel()
	err := l.kv.Delete(ctx, l.key, jetstream.LastRevision(l.revision))
	if streams.Conflict(err) && l.recheck(ctx) == nil { // our own last renewal
		err = l.kv.Delete(ctx, l.key, jetstream.LastRevision(l.revision))
	}
	_ = l.lose(fmt.Errorf("lease %s: given back: %w", l.key, ErrLost))
	if err != nil && !streams.Conflict(err) {
		return fmt.Errorf("release lease %s: %w", l.key, err) // it expires by itself
	}
	return nil
}

// Free takes a lease away from its holder, on condition that it was not renewed since it was read as e. The key's
// watchers are told at once. It reports whether it did.
func Free(ctx context.Context, kv jetstream.KeyValue, e jetstream.KeyValueEntry) (bool, error) {
	err := kv.Delete(ctx, e.Key(), jetstream.LastRevision(e.Revision()))
	switch {
	case streams.Conflict(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("free lease %s: %w", e.Key(), err)
	}
	return true, nil
}

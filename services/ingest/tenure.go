package ingest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// freshFor is how long after a renewal frames may be published without asking: nobody else has the camera before that.
	freshFor   = fleet.FreshFor
	renewEvery = streams.LeaseTTL / 6
	renewAgain = 50 * time.Millisecond // once somebody waits for it
	// renewWithin is how long the bucket may take for a renewal.
	renewWithin = 300 * time.Millisecond
	// doubtsAnew is how many renewals over a new connection must go unanswered before that says something of the bucket:
	// to others a lost connection looks like a death.
	doubtsAnew = 2
	// doubtFor bounds how long frames are published under a lease that cannot be renewed.
	doubtFor = 15 * time.Second
)

// errOldEpoch refuses what was captured when another instance had the camera already.
var errOldEpoch = errors.New("another instance has the camera since then")

// tenure is the time under one lease. An instance that was cut off or stopped does not know whether it still has the
// lease: it goes on capturing, because nobody may be there to take over, but publishes nothing under the lease's epoch
// before it knows who had the camera when.
type tenure struct {
	lease   *lease.Lease
	told    atomic.Uint64 // a number in EVENTS from when nobody else had had the lease
	connect func() uint64 // which connection to the broker this is
	// inTouch says that this process has been running since a time, and that its server of the broker has heard it after
	// another: then that a renewal was not answered is the broker's trouble, and nobody else can have the lease either.
	inTouch func(running, sent time.Time) bool

	mu         sync.Mutex
	connection uint64    // through which it was renewed
	refused    time.Time // when the last renewal was sent that was neither done nor turned down
	doubts     int       // how many of those there were since the last that was done
	over       bool
	taken      time.Time     // when another owner began; zero: none did
	news       chan struct{} // closes with the next attempt at a renewal, and at the end
	now        chan struct{} // asks for a renewal at once
}

// newTenure is the time under a lease that was acquired through a connection.
func newTenure(l *lease.Lease, connection uint64, connect func() uint64, inTouch func(running, sent time.Time) bool) *tenure {
	return &tenure{lease: l, connect: connect, inTouch: inTouch, connection: connection, news: make(chan struct{}), now: make(chan struct{}, 1)}
}

// Await returns nil when what was captured at that time may be published: at once while the lease is fresh, and otherwise
// once it is known who has the camera. A connection that was lost makes it stale: to others that looks like a death. It
// returns errOldEpoch when another instance had it then, and ctx's error when that cannot be found out in time.
func (t *tenure) Await(ctx context.Context, captured time.Time) error {
	for {
		t.mu.Lock()
		over, taken, news, connection, refused, doubts := t.over, t.taken, t.news, t.connection, t.refused, t.doubts
		t.mu.Unlock()
		renewed := t.lease.Renewed()
		switch {
		case over && !taken.IsZero() && captured.After(taken):
			return errOldEpoch
		case over:
			return nil
		case clock.Since(renewed) < freshFor && connection == t.connect():
			return nil
		case connection != t.connect() && doubts < doubtsAnew:
		case clock.Since(refused) < freshFor && clock.Since(renewed) < doubtFor && t.inTouch(renewed, refused):
			return nil
		}
		select {
		case t.now <- struct{}{}:
		default:
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// keep renews the lease until ctx ends, and returns nil then; it returns lease.ErrLost when it is over. Call end then.
func (t *tenure) keep(ctx context.Context) error {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-t.now:
		}
		connection, sent := t.connect(), time.Now()
		attempt, cancel := context.WithTimeout(ctx, renewWithin)
		err := t.lease.Confirm(attempt)
		cancel()
		switch {
		case errors.Is(err, lease.ErrLost):
			return err
		case err == nil:
			t.mu.Lock()
			t.connection, t.doubts = connection, 0
			t.mu.Unlock()
			t.signal()
		default: // the broker is away, or elects a leader
			t.mu.Lock()
			t.refused = sent
			t.doubts++
			t.mu.Unlock()
			t.signal()
			clock.Pause(ctx, renewAgain)
		}
	}
}

// check renews the lease soon: somebody else seems to have it.
func (t *tenure) check() {
	select {
	case t.now <- struct{}{}:
	default:
	}
}

// unsure is when another instance may have begun at the earliest, for want of better knowledge.
func (t *tenure) unsure() time.Time { return t.lease.Renewed().Add(freshFor) }

// end says when another owner began, if one did: what was captured before that is published, what came after is refused.
func (t *tenure) end(taken time.Time) {
	t.mu.Lock()
	t.over, t.taken = true, taken
	t.mu.Unlock()
	t.signal()
}

func (t *tenure) signal() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.news)
	t.news = make(chan struct{})
}

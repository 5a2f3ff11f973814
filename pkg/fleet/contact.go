package fleet

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	touchEvery = 250 * time.Millisecond
	// touchWithin is how long the broker may take to answer a ping, and this process to run again.
	touchWithin = time.Second
	// unbrokenFor bounds how long contact stands in for a lease: well below the time for which repeats are recognised.
	unbrokenFor = 30 * time.Second
)

// contact knows whether this process has been running, and in touch with its server, without a break. Then whoever might
// have declared it dead has heard its beats, stored or not: that the bucket cannot be written, because it elects a leader,
// is no reason to do nothing.
type contact struct {
	nc *nats.Conn

	mu         sync.Mutex
	touched    time.Time // when the last ping was answered
	broken     time.Time // when there was a break last
	reconnects uint64
}

// run keeps in touch until ctx ends.
func (c *contact) run(ctx context.Context) {
	tick := time.NewTicker(touchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.note(c.nc.FlushTimeout(touchWithin) == nil, time.Now())
		}
	}
}

func (c *contact) note(answered bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reconnects := c.nc.Stats().Reconnects
	if !answered || now.Sub(c.touched) > touchWithin+touchEvery || reconnects != c.reconnects {
		c.broken = now
	}
	if answered {
		c.touched = now
	}
	c.reconnects = reconnects
}

// unbroken reports whether there was no break since a time.
func (c *contact) unbroken(since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !since.IsZero() && c.broken.Before(since) && time.Since(c.touched) < touchWithin+touchEvery &&
		time.Since(since) < unbrokenFor && c.nc.Stats().Reconnects == c.reconnects
}

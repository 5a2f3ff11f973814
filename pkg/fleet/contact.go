package fleet

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/pkg/clock"
)

const (
	touchEvery = 250 * time.Millisecond
	// touchWithin is how long the broker may take to answer a ping.
	touchWithin = time.Second
	// stillFor is how long a process that runs may go without running this goroutine.
	stillFor = touchWithin + 2*touchEvery
)

// contact knows whether this process has been running without a stop, and when its server of the broker has heard it last.
type contact struct {
	nc *nats.Conn

	mu      sync.Mutex
	ran     time.Time // when this was looked at last
	stopped time.Time // when the process was found to have been stopped
	touched time.Time // when the last ping was sent that was answered
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
			sent := time.Now()
			answered := c.nc.FlushTimeout(touchWithin) == nil
			c.note(sent, answered, time.Now())
		}
	}
}

func (c *contact) note(sent time.Time, answered bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ran.IsZero() && clock.Between(c.ran, now) > stillFor {
		c.stopped = now
	}
	c.ran = now
	if answered {
		c.touched = sent
	}
}

// fine reports whether the process has not been stopped since a time, and whether the server has heard it after another.
func (c *contact) fine(running, sent time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !running.IsZero() && c.stopped.Before(running) && clock.Since(c.ran) < stillFor && c.touched.After(sent)
}

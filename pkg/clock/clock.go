// Package clock tells how much time has passed on a machine that may have slept.
//
// The clock behind [time.Since] stands still while a laptop or a virtual machine is suspended, so that a lease of a second
// looks fresh after a night. The other clock goes on, but can be set back. Here the one that says more is believed: who
// takes too much time for too little asks once more, who takes too little for too much acts upon what somebody else has.
package clock

import (
	"context"
	"time"
)

// Since is how long ago t was.
func Since(t time.Time) time.Duration { return Between(t, time.Now()) }

// Between is how long after from to is.
func Between(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}

// Pause waits for d, and reports false when ctx ended before.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package ingest

import (
	"math/rand/v2"
	"time"
)

// Backoff counts out the pauses between attempts: they double from Min to Max, and each is drawn from between half and
// all of that, so that cameras behind one switch do not come back in step. The zero value never waits.
type Backoff struct {
	Min, Max time.Duration

	// Rand returns a number in [0, 1); nil is the runtime's generator.
	Rand func() float64

	next time.Duration
}

// Next returns the pause before the next attempt.
func (b *Backoff) Next() time.Duration {
	b.next = min(max(b.next, b.Min), b.Max)
	d := b.next
	if b.next > b.Max/2 {
		b.next = b.Max
	} else {
		b.next *= 2
	}
	random := b.Rand
	if random == nil {
		random = rand.Float64
	}
	return d/2 + time.Duration(random()*float64(d-d/2))
}

// Reset starts again from Min.
func (b *Backoff) Reset() { b.next = 0 }

package fleet

import (
	"sync"
	"time"
)

// busyOver is the time over which a BusyMeter looks back.
const busyOver = time.Second

// BusyMeter turns the time that handlers have spent at work into the share of them at work.
type BusyMeter struct {
	mu   sync.Mutex
	was  []busySample
	busy float64
}

type busySample struct {
	at    time.Time
	total time.Duration
}

// Share is the share, 0 to 1, over the last second, given the time at work of all handlers together since the start.
func (b *BusyMeter) Share(total time.Duration, handlers int) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.was = append(b.was, busySample{now, total})
	for len(b.was) > 2 && now.Sub(b.was[1].at) >= busyOver {
		b.was = b.was[1:]
	}
	first := b.was[0]
	if elapsed := now.Sub(first.at); elapsed > 0 && handlers > 0 {
		b.busy = min(max(float64(total-first.total)/float64(elapsed)/float64(handlers), 0), 1)
	}
	return b.busy
}

package stage

import (
	"context"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/pkg/clock"
)

// gather is how long the first suspect waits for those that were redelivered with it.
const gather = 50 * time.Millisecond

// alone holds the suspects: messages on one of their last two attempts. They run one at a time, on the last but one
// attempt in the order of the stream, on the last in reverse. Messages that share a process share its death, and so
// their delivery counts; but those in front of the killer are answered in the first of these lives and those behind
// it in the second. Only the killer is left to be quarantined, or what was between two of them: strikes tell those apart.
type alone struct {
	mu    sync.Mutex
	items []*item
	wake  chan struct{}
	next  chan *item
}

func (s *Stage) suspect(it *item) bool {
	return s.cfg.MaxAttempts >= 3 && it.msg.Attempt > s.cfg.MaxAttempts-2
}

func (a *alone) add(it *item) {
	a.mu.Lock()
	a.items = append(a.items, it)
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// take removes the suspect that is next.
func (a *alone) take(last int) *item {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.items) == 0 {
		return nil
	}
	best := 0
	for i, it := range a.items {
		if before(it.msg, a.items[best].msg, last) {
			best = i
		}
	}
	it := a.items[best]
	a.items = append(a.items[:best], a.items[best+1:]...)
	return it
}

func before(m, o Message, last int) bool {
	switch {
	case m.Attempt != o.Attempt:
		return m.Attempt > o.Attempt
	case m.Attempt == last:
		return m.Sequence > o.Sequence
	default:
		return m.Sequence < o.Sequence
	}
}

// offerAlone hands suspects to the workers, the next when the fate of the one before it is written down, until there
// are no more.
func (s *Stage) offerAlone(work context.Context, noMore <-chan struct{}) {
	defer close(s.alone.next)
	for {
		it := s.alone.take(s.cfg.MaxAttempts)
		if it == nil {
			select {
			case <-s.alone.wake:
				clock.Pause(work, gather)
				continue
			case <-noMore:
			case <-work.Done():
			}
			if it = s.alone.take(s.cfg.MaxAttempts); it == nil {
				return
			}
		}
		select {
		case s.alone.next <- it:
		case <-work.Done(): // handed back with all that is held
			return
		}
		select {
		case <-it.settled:
		case <-work.Done():
			return
		}
	}
}

package ingest

import (
	"context"
	"sync"
)

// unitQueue is the bounded queue between a source, which must never wait, and the decoder.
//
// When it is full it jumps to the newest key frame inside, and without one it drops everything and takes nothing before
// the next key frame: late is wrong, and what remains can still be decoded.
type unitQueue struct {
	size int

	mu        sync.Mutex
	units     []AccessUnit
	closed    bool
	needKey   bool
	overflows uint64
	dropped   uint64
	wake      chan struct{} // one slot
}

func newUnitQueue(size int) *unitQueue {
	return &unitQueue{size: size, wake: make(chan struct{}, 1)}
}

// push never blocks.
func (q *unitQueue) push(au AccessUnit) {
	q.mu.Lock()
	if len(q.units) >= q.size {
		q.overflows++
		keep := len(q.units)
		for i := len(q.units) - 1; i > 0; i-- {
			if q.units[i].Key {
				keep = i
				break
			}
		}
		q.needKey = keep == len(q.units)
		q.discard(keep)
	}
	if q.needKey && !au.Key {
		q.dropped++
	} else {
		q.needKey = false
		q.units = append(q.units, au)
	}
	q.mu.Unlock()
	q.signal()
}

// discard drops the first n units. q.mu is held.
func (q *unitQueue) discard(n int) {
	q.dropped += uint64(n) //nolint:gosec // a length
	left := copy(q.units, q.units[n:])
	clear(q.units[left:]) // let go of the data
	q.units = q.units[:left]
}

// pop blocks until there is a unit, or returns false when the queue is closed and empty, or ctx ends.
func (q *unitQueue) pop(ctx context.Context) (AccessUnit, bool) {
	for ctx.Err() == nil {
		q.mu.Lock()
		if len(q.units) > 0 {
			au := q.units[0]
			left := copy(q.units, q.units[1:])
			q.units[left] = AccessUnit{}
			q.units = q.units[:left]
			q.mu.Unlock()
			return au, true
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return AccessUnit{}, false
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
		}
	}
	return AccessUnit{}, false
}

// close lets pop return false once the queue is empty.
func (q *unitQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

func (q *unitQueue) counts() (overflows, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.overflows, q.dropped
}

func (q *unitQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

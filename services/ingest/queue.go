package ingest

import (
	"context"
	"sync"
)

// unitQueue is the bounded queue between a source, which must never wait, and the decoder.
//
// When it is full it jumps to the newest key frame inside, and without one it drops everything and takes nothing before
// the next key frame: late is wrong, and what remains can still be decoded.
//
// While it is held nobody takes from it, and it keeps what the present picture can be decoded from: everything since the
// last key frame.
type unitQueue struct {
	size int

	mu        sync.Mutex
	units     []AccessUnit
	bytes     int // of the units, while held
	held      bool
	limit     int // how many units there may be: more than size until what was held is decoded
	closed    bool
	needKey   bool
	overflows uint64
	dropped   uint64
	skipped   uint64        // passed while held
	wake      chan struct{} // one slot
}

// heldUnits and heldBytes bound what a held queue keeps: ten seconds at 30 pictures in a second and 12 Mbit/s. Of a camera
// with fewer key frames or more bits it keeps nothing from there to the next key frame.
const (
	heldUnits = 300
	heldBytes = 15 << 20
)

func newUnitQueue(size int, held bool) *unitQueue {
	return &unitQueue{size: size, limit: size, held: held, needKey: held, wake: make(chan struct{}, 1)}
}

// push never blocks.
func (q *unitQueue) push(au AccessUnit) {
	q.mu.Lock()
	if q.held {
		q.keep(au)
		q.mu.Unlock()
		q.signal()
		return
	}
	if len(q.units) >= q.limit {
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

// keep takes a unit while the queue is held. The caller holds mu.
func (q *unitQueue) keep(au AccessUnit) {
	switch {
	case au.Key:
		q.forget()
		q.needKey = false
	case q.needKey:
		q.skipped++
		return
	case au.AfterLoss, len(q.units) >= heldUnits, q.bytes+len(au.Data) > heldBytes:
		q.forget()
		q.needKey = true
		q.skipped++
		return
	}
	q.bytes += len(au.Data)
	q.units = append(q.units, au)
}

// forget lets go of everything that a held queue keeps. The caller holds mu.
func (q *unitQueue) forget() {
	q.skipped += uint64(len(q.units))
	clear(q.units)
	q.units, q.bytes = q.units[:0], 0
}

// discardAll lets go of everything.
func (q *unitQueue) discardAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forget()
}

// release ends the holding: what was kept can be taken now.
func (q *unitQueue) release() {
	q.mu.Lock()
	q.held, q.limit = false, len(q.units)+q.size
	q.mu.Unlock()
	q.signal()
}

// holding reports whether the queue is held, whether there is a picture in it, and whether it is closed.
func (q *unitQueue) holding() (held, picture, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held, len(q.units) > 0, q.closed
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
			q.limit = max(q.size, min(q.limit, left+q.size))
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

// count adds what the queue counted to the counters of its session.
func (q *unitQueue) count(st *Stats) {
	q.mu.Lock()
	defer q.mu.Unlock()
	st.QueueOverflows += q.overflows
	st.QueueDropped += q.dropped
	st.Skipped += q.skipped
}

func (q *unitQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

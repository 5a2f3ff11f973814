package ingest

import (
	"maps"
	"sync"
)

// Stats are the counters of a [Session] since it was made. Every access unit is in one of Skipped, Decoded,
// DecodeErrors, QueueDropped, in the queue, or held back by the decoder.
type Stats struct {
	AccessUnits  uint64 // received
	Skipped      uint64 // not decoded while waiting for a key frame, or while nobody wanted pictures
	Decoded      uint64 // pictures that came out of the decoder
	Pictures     uint64 // of these, handed on
	Damaged      uint64 // of these, not handed on because the decoder concealed errors
	DecodeErrors uint64 // access units that the decoder refused
	Resyncs      uint64 // times that pictures went on at a key frame after damage

	QueueOverflows uint64 // times that decoding could not keep up
	QueueDropped   uint64 // access units dropped by that

	Reconnects map[Cause]uint64 // failed connections by cause

	Source SourceStats // zero unless the source counts
}

// books are the counters and their lock.
type books struct {
	mu    sync.Mutex
	stats Stats
	queue *unitQueue // of the connection that is open
}

func (b *books) count(change func(*Stats)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stats.Reconnects == nil {
		b.stats.Reconnects = make(map[Cause]uint64)
	}
	change(&b.stats)
}

func (b *books) use(q *unitQueue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = q
}

// connectionEnded takes over what q counted; units that nobody will decode any more were dropped too.
func (b *books) connectionEnded(q *unitQueue) {
	q.mu.Lock()
	left := uint64(len(q.units))
	q.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = nil
	q.count(&b.stats)
	b.stats.QueueDropped += left
}

func (b *books) snapshot() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	stats := b.stats
	stats.Reconnects = maps.Clone(b.stats.Reconnects)
	if b.queue != nil {
		b.queue.count(&stats)
	}
	return stats
}

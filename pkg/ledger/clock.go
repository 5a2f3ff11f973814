package ledger

import (
	"slices"
	"time"
)

// clock says which frames had been captured when, whatever the order in which that was learnt: sorted by time, and
// by frame number, because a later entry that knows no more is left out.
type clock []capture

// capture says that frames up to seq had been captured at that time.
type capture struct {
	seq uint64
	at  time.Time
}

func (c *clock) add(seq uint64, at time.Time) {
	s := *c
	i, _ := slices.BinarySearchFunc(s, at, func(e capture, at time.Time) int {
		if e.at.After(at) {
			return 1
		}
		return -1 // behind those of the same time
	})
	if i > 0 && s[i-1].seq >= seq {
		return // known
	}
	j := i
	for j < len(s) && s[j].seq <= seq {
		j++
	}
	if i > 0 && s[i-1].at.Equal(at) {
		i--
	}
	*c = slices.Replace(s, i, j, capture{seq, at})
}

// by is the largest frame number known to have been captured at t.
func (c clock) by(t time.Time) uint64 {
	var seq uint64
	for _, e := range c {
		if e.at.After(t) {
			break
		}
		seq = e.seq
	}
	return seq
}

// forget drops what says nothing of frames behind upTo, or no more than another entry from before t.
func (c *clock) forget(upTo uint64, t time.Time) {
	s := *c
	first := 0
	for first < len(s) && (s[first].seq <= upTo || first+1 < len(s) && !s[first+1].at.After(t)) {
		first++
	}
	*c = slices.Delete(s, 0, first)
}

// since is when the ledger first heard of a frame; zero when that is forgotten.
func (c clock) since(seq uint64) time.Time {
	for _, x := range c {
		if x.seq >= seq {
			return x.at
		}
	}
	return time.Time{}
}

// last is when the ledger last heard of a new frame; zero when that is forgotten.
func (c clock) last() time.Time {
	if len(c) == 0 {
		return time.Time{}
	}
	return c[len(c)-1].at
}

const (
	// heldFor is longer than a worker of a live stream has a message in hand: what it takes is at most LiveMaxAge old, and its
	// handler, its publishing and its acknowledging are bounded by seconds each.
	heldFor = 45 * time.Second
	// quiet is what a time counts at most in which nothing was told: when the broker is away workers hold what they have.
	quiet = MaxFlushInterval
)

// heldAt is the last frame that was too old at t to be in a live worker's hands; 0 when there is none, or none is known.
func (c clock) heldAt(t time.Time) uint64 {
	var age time.Duration
	for _, e := range slices.Backward(c) {
		if e.at.After(t) {
			continue
		}
		if age += min(t.Sub(e.at), quiet); age > heldFor {
			return e.seq
		}
		t = e.at
	}
	return 0
}

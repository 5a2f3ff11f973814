package ledger

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Ranges is a set of frame numbers of one epoch, as sorted, disjoint, non-touching closed ranges. What a healthy
// camera leaves behind is one range, however many frames it sent.
type Ranges [][2]uint64

// Add puts lo to hi, both included, into the set.
func (r *Ranges) Add(lo, hi uint64) {
	if lo > hi {
		return
	}
	s := *r
	switch n := len(s); { // the common cases: the next frame, and one behind it
	case n == 0 || s[n-1][1] < lo && s[n-1][1]+1 < lo:
		*r = append(*r, [2]uint64{lo, hi})
		return
	case s[n-1][1] < lo:
		s[n-1][1] = hi
		return
	}
	// i: first range that touches or follows [lo,hi]; j: first that lies wholly behind it
	i, _ := slices.BinarySearchFunc(s, lo, func(e [2]uint64, lo uint64) int {
		if e[1] != ^uint64(0) && e[1]+1 < lo {
			return -1
		}
		return 1
	})
	j := i
	for j < len(s) && (hi == ^uint64(0) || s[j][0] <= hi+1) {
		lo, hi = min(lo, s[j][0]), max(hi, s[j][1])
		j++
	}
	*r = slices.Replace(s, i, j, [2]uint64{lo, hi})
}

// AddAll puts every number of o into the set.
func (r *Ranges) AddAll(o Ranges) {
	s := *r
	if few := 4; len(o) <= few || len(s) == 0 || s[len(s)-1][1] < o[0][0] {
		for _, e := range o {
			r.Add(e[0], e[1])
		}
		return
	}
	// Both are sorted: always the next of the two is behind, or touches, what there is.
	out := make(Ranges, 0, len(s)+len(o))
	for i, j := 0, 0; i < len(s) || j < len(o); {
		var next [2]uint64
		if j == len(o) || i < len(s) && s[i][0] <= o[j][0] {
			next = s[i]
			i++
		} else {
			next = o[j]
			j++
		}
		if n := len(out); n > 0 && (out[n-1][1] >= next[0] || out[n-1][1]+1 == next[0]) {
			out[n-1][1] = max(out[n-1][1], next[1])
		} else {
			out = append(out, next)
		}
	}
	*r = out
}

// Count is the size of the set.
func (r Ranges) Count() uint64 {
	var n uint64
	for _, e := range r {
		n += e[1] - e[0] + 1
	}
	return n
}

// Minus is the set without the numbers of o.
func (r Ranges) Minus(o Ranges) Ranges {
	if len(r) == 0 {
		return nil
	}
	out := make(Ranges, 0, len(r))
	j := 0
	for _, e := range r {
		lo := e[0]
		for j < len(o) && o[j][1] < lo {
			j++
		}
		k := j
		left := true // something of e, from lo
		for ; left && k < len(o) && o[k][0] <= e[1]; k++ {
			if o[k][0] > lo {
				out = append(out, [2]uint64{lo, o[k][0] - 1})
			}
			lo, left = o[k][1]+1, o[k][1] < e[1]
		}
		if left {
			out = append(out, [2]uint64{lo, e[1]})
		}
	}
	return out
}

// And is the set of numbers that are in both.
func (r Ranges) And(o Ranges) Ranges {
	var out Ranges
	for i, j := 0, 0; i < len(r) && j < len(o); {
		if lo, hi := max(r[i][0], o[j][0]), min(r[i][1], o[j][1]); lo <= hi {
			out = append(out, [2]uint64{lo, hi})
		}
		if r[i][1] < o[j][1] {
			i++
		} else {
			j++
		}
	}
	return out
}

// Last is the largest number, 0 when empty.
func (r Ranges) Last() uint64 {
	if len(r) == 0 {
		return 0
	}
	return r[len(r)-1][1]
}

// UnmarshalJSON refuses what Add would not have made.
func (r *Ranges) UnmarshalJSON(b []byte) error {
	var raw [][2]uint64
	if err := json.Unmarshal(b, &raw); err != nil {
		return fmt.Errorf("ranges: %w", err)
	}
	for i, e := range raw {
		if e[0] == 0 || e[0] > e[1] || e[1] == ^uint64(0) || i > 0 && e[0] <= raw[i-1][1]+1 {
			return fmt.Errorf("ranges: %v at %d: want sorted, disjoint [first,last] pairs from 1", e, i)
		}
	}
	*r = raw
	return nil
}

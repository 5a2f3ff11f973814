// Package schedule draws which fault comes when. The same seed draws the same schedule, on any machine.
package schedule

import (
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"time"
)

// Entry is one fault of a schedule.
type Entry struct {
	// After is the pause since the end of the fault before.
	After time.Duration
	Name  string
}

// Weighted is a fault that may be drawn, and how often compared with others.
type Weighted struct {
	Name   string
	Weight int
}

// The bounds of the pause between faults: shorter than many recovery times, so that faults overlap with recoveries.
const (
	MinPause = 2 * time.Second
	MaxPause = 8 * time.Second
)

// Rand is a generator for one purpose, so that what one round draws does not depend on which others were run.
func Rand(seed uint64, purpose string, round int) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(purpose + "/" + strconv.Itoa(round)))
	return rand.New(rand.NewPCG(seed, h.Sum64())) //nolint:gosec // it must be repeatable
}

// Draw makes a schedule of n entries. Each fault comes once, in a random order, before any comes by its weight.
func Draw(seed uint64, purpose string, faults []Weighted, n int) []Entry {
	rng := Rand(seed, "schedule/"+purpose, 0)
	var deck []string
	total := 0
	for _, f := range faults {
		if f.Weight > 0 {
			deck = append(deck, f.Name)
			total += f.Weight
		}
	}
	if total == 0 {
		return nil
	}
	rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	out := make([]Entry, n)
	for i := range out {
		out[i].After = MinPause + time.Duration(rng.Int64N(int64(MaxPause-MinPause)))
		if i < len(deck) {
			out[i].Name = deck[i]
			continue
		}
		x := rng.IntN(total)
		for _, f := range faults {
			if x -= f.Weight; x < 0 {
				out[i].Name = f.Name
				break
			}
		}
	}
	return out
}

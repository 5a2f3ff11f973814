package recovery

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/pkg/fleet"
)

const (
	// beatsWithin is how long the beats of the living are waited for that tell what they hold: who is silent for so long is
	// none of them. Right after the broker was away that takes longer to say: judgedWithin.
	beatsWithin  = silentFor + 300*time.Millisecond
	judgedWithin = calmFor + beatsWithin
	lookForBeats = 20 * time.Millisecond
	// onTheWay is how long a message may take to a worker and into its beat.
	onTheWay = 50 * time.Millisecond
)

// errUntold means that a worker that counts as living may have what no other claims.
var errUntold = errors.New("a living worker has not told what it holds")

// search hands back what was with somebody when the groups were looked at, and is with nobody.
func (h *handing) search(ctx context.Context, groups []group) error {
	if len(groups) == 0 {
		return nil
	}
	if h.dead.cause == causeReconnected {
		// This process may have been away too: who joined meanwhile beats within that.
		if err := h.awaitBeats(ctx, h.looked.Add(onTheWay+fleet.BeatEvery), judgedWithin); err != nil {
			return err
		}
	} else if err := h.awaitBeats(ctx, h.looked.Add(onTheWay), beatsWithin); err != nil && !errors.Is(err, errUntold) {
		return err
	}
	if err := h.lead.Confirm(ctx); err != nil {
		return err
	}
	var errs []error
	for _, g := range groups {
		errs = append(errs, h.handBack(ctx, g, "searched", h.unclaimed(g)))
	}
	return errors.Join(errs...)
}

// claimed are the messages of a group that the worker's last entry claims and nobody got after it.
func (h *handing) claimed(g group) []uint64 {
	others := claims(h.others(), g)
	var out []uint64
	for _, claim := range h.dead.Claims {
		if claim.Stream != g.stream || claim.Consumer != g.consumer {
			continue
		}
		for _, d := range claim.Held {
			if others[d[0]] <= d[1] {
				out = append(out, d[0])
			}
		}
	}
	return out
}

// searchAtMost bounds how far back messages are searched that the worker took after its last beat.
const searchAtMost = 4096

// unclaimed are the messages of a group that were with somebody when the worker died, and that nobody claims. Most of them
// are answered, and to hand those back does nothing.
func (h *handing) unclaimed(g group) []uint64 {
	if g.info.NumAckPending == 0 {
		return nil
	}
	others := claims(h.others(), g)
	resting := resting(append(h.watch.departed(), h.dead.Seen), g)
	last := g.info.Delivered.Stream
	first := g.info.AckFloor.Stream + 1
	if last >= searchAtMost {
		first = max(first, last-searchAtMost+1)
	}
	var out []uint64
	for n := first; n <= last; n++ {
		if others[n] == 0 && !resting[n] {
			out = append(out, n)
		}
	}
	return out
}

// claims are the messages of a group that workers claim, and how often those had been delivered.
func claims(workers []fleet.Seen, g group) map[uint64]uint64 {
	out := map[uint64]uint64{}
	for _, w := range workers {
		for _, claim := range w.Claims {
			if claim.Stream != g.stream || claim.Consumer != g.consumer {
				continue
			}
			for _, d := range slices.Concat(claim.Held, claim.Resting) {
				out[d[0]] = max(out[d[0]], d[1], 1)
			}
		}
	}
	return out
}

// resting are the messages of a group that workers handed back with a delay.
func resting(workers []fleet.Seen, g group) map[uint64]bool {
	out := map[uint64]bool{}
	for _, w := range workers {
		for _, claim := range w.Claims {
			if claim.Stream == g.stream && claim.Consumer == g.consumer {
				for _, d := range claim.Resting {
					out[d[0]] = true
				}
			}
		}
	}
	return out
}

// others are the workers that may have messages in their hands.
func (h *handing) others() []fleet.Seen {
	if h.dead.cause == causeReconnected {
		return h.watch.known()
	}
	return h.watch.living(h.dead.Incarnation)
}

// awaitBeats returns when every living worker of the service has told what it held after a time, and errUntold when one has
// not after so long.
func (h *handing) awaitBeats(ctx context.Context, after time.Time, within time.Duration) error {
	limit := time.NewTimer(within)
	defer limit.Stop()
	look := time.NewTicker(lookForBeats)
	defer look.Stop()
	for {
		if !slices.ContainsFunc(h.others(), func(s fleet.Seen) bool { return s.Service == h.dead.Service && s.Heard.Before(after) }) {
			return nil
		}
		select {
		case <-look.C:
		case <-limit.C:
			return errUntold
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// handBack hands messages of a group back to its stream, but for those that were since the case was noticed.
func (h *handing) handBack(ctx context.Context, g group, fact string, sequences []uint64) error {
	sequences = h.s.handed.take(g.name(), h.dead.noticed, sequences, time.Now())
	done, err := nak(ctx, h.s.deps.JS.Conn(), g, sequences)
	if err != nil {
		h.s.handed.putBack(g.name(), sequences, done)
	}
	if n := len(done); n > 0 {
		key := fact + "." + g.stream
		before, _ := strconv.Atoi(h.facts[key])
		h.facts[key] = strconv.Itoa(before + n)
	}
	return err
}

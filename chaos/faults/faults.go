// Package faults is what can go wrong, one table: how it is done to the world, how it ends, and what may come of it.
//
// # Phases
//
// A fault divides its round into phases. A phase that is marked counts towards the recovery time, from its own beginning:
// what is visibly not steady in it, up to the next phase, is the fault's doing ([meter]). An aside does not count: while a
// camera is off or an ingest is cut off, nobody expects its predictions, and the target begins when it is back.
//
// # Expectations
//
// Some faults must leave traces: a gap record with the right reason, a quarantined frame, an event that names what an
// operator did. A round whose expectation does not come true in time has failed. One that bears on recovery (the poison
// frame is in DLQ) extends the recovery time to the moment at which it came true.
package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sightline-dev/sightline/chaos/report"
	"github.com/sightline-dev/sightline/chaos/world"
)

// Fault is one row of the table, or one part of a row.
type Fault struct {
	// Name is for flags and files, Title for people.
	Name, Title string
	World       world.Kind
	Rounds      int
	// Target is what the median recovery time may be; 0 means that only losses and doubles are judged.
	Target time.Duration
	// From says what the recovery time is counted from.
	From string
	// Limits are what medians of other figures may be.
	Limits map[string]time.Duration
	// Weight is how often it comes in the random run, 0 for never.
	Weight int
	// Drops says that the fault may cost frames, which the books must then explain.
	Drops bool
	// Inject does it, ends it, and returns. It may take as long as the fault lasts.
	Inject func(ctx context.Context, r *Round) error
}

// LiveGap is the figure that every round has: the longest time without an answer for a camera that wants the freshest,
// beyond its frame interval.
const LiveGap = "live gap"

// Round is one injection. It is used by one goroutine.
type Round struct {
	World *world.World
	Rand  *rand.Rand
	// Number counts the rounds of a fault from 1. Random says that it is one of the random run, in which of everything that
	// there are two of, one is spared.
	Number int
	Random bool

	Phases  []Phase
	Expects []Expectation
	Figures map[string]time.Duration
	Notes   []string
	// Away are the times at which the fault itself took a camera away.
	Away []Absence
}

// Absence is a camera's.
type Absence struct {
	Camera   string
	From, To time.Time
}

// Phase is a part of a round.
type Phase = report.Phase

// Expectation is something that must come true.
type Expectation struct {
	What   string
	Within time.Duration // of the call of Expect
	Since  time.Time
	// Met returns when it came true, and whether it did.
	Met func() (time.Time, bool)
	// Extends makes the recovery time include it.
	Extends bool
	// Always is checked in the random run too, where faults overlap.
	Always bool
	// Figure is the name under which the time from Since until it came true is kept; "" for none.
	Figure string
}

// NewRound begins a round.
func NewRound(w *world.World, rng *rand.Rand, number int) *Round {
	return &Round{World: w, Rand: rng, Number: number, Figures: map[string]time.Duration{}}
}

// Mark begins a phase that counts.
func (r *Round) Mark(name string) time.Time { return r.phase(name, true) }

// MarkAt is Mark for a phase that has begun already.
func (r *Round) MarkAt(name string, at time.Time) {
	r.Phases = append(r.Phases, Phase{Name: name, At: at, Counts: true})
}

// Aside begins a phase that does not count.
func (r *Round) Aside(name string) time.Time { return r.phase(name, false) }

func (r *Round) phase(name string, counts bool) time.Time {
	now := time.Now()
	r.Phases = append(r.Phases, Phase{Name: name, At: now, Counts: counts})
	return now
}

// Note keeps something about the round that a reader may want to know.
func (r *Round) Note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Expect adds an expectation.
func (r *Round) Expect(e Expectation) {
	if e.Since.IsZero() {
		e.Since = time.Now()
	}
	r.Expects = append(r.Expects, e)
}

// pick draws one of several.
func pick[T any](r *Round, from []T) T { return from[r.Rand.IntN(len(from))] }

// last waits for as long as a fault lasts.
func last(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// The bounds of how long somebody stays dead whose return is a phase of its own: until the others have been steady for a
// while, so that the recovery is not cut short by the return.
const (
	steadyFor = 1500 * time.Millisecond
	deadLeast = steadyFor + time.Second
	deadMost  = 20 * time.Second
	lookAgain = 50 * time.Millisecond
)

// borne waits until the system is steady without the one that was killed just now, or for deadMost.
func (r *Round) borne(ctx context.Context) error {
	if err := last(ctx, deadLeast); err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < deadMost-deadLeast; {
		if len(r.World.Meter.Unsteady(time.Now(), steadyFor)) == 0 {
			return nil
		}
		if err := last(ctx, lookAgain); err != nil {
			return err
		}
	}
	return nil
}

// between draws a duration.
func (r *Round) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(r.Rand.Int64N(int64(hi-lo)))
}

// All are the faults in the order in which they are tried.
func All() []Fault {
	var all []Fault
	for _, part := range [][]Fault{workers(), poisons(), cameras(), operators(), cuts(), brokers()} {
		all = append(all, part...)
	}
	return all
}

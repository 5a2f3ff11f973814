// Package scenarios shows what the drift-monitor finds: cameras that play real footage over RTSP, through the whole system, first as it is,
// then with a fault, then as it is again.
//
// # What is expected
//
// A fault of a camera must be found as that fault and as no other. A picture that has changed must lead to a state, and which one, its
// true loss decides: what the model finds in the changed pictures of what it finds in the same pictures unchanged. Where much is
// lost, suspected_loss; where hardly anything is, data_drift and nothing worse. Footage that is as it always was must lead to
// nothing.
package scenarios

import (
	"slices"
	"time"

	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/services/camera"
)

// Times within which something must be found.
const (
	withinBlind = 10 * time.Second
	withinFault = 60 * time.Second
	withinState = 2 * time.Minute
)

// Shares of true recall and precision that decide which state is right.
const (
	lossy    = 0.8  // below is loss
	harmless = 0.93 // above, and precise, is none
	precise  = 0.9
	wrong    = 0.7 // precision below is loss, too
)

// scenario is what befalls one camera.
type scenario struct {
	name   string
	look   string        // of its footage meanwhile; "" is as it was
	faults camera.Faults // of the camera meanwhile
	skip   time.Duration // of the footage at the start
	fault  drift.Fault   // that must be found; "" is none
	states []drift.State // one of which must be found; nil asks for none
	within time.Duration
	truth  bool // answers on the same pictures unchanged are the truth
	steady bool
}

func all() []scenario {
	const hour = time.Hour
	changed := []drift.State{drift.DataDrift, drift.SuspectedLoss}
	return []scenario{
		{name: "steady-1", steady: true},
		{name: "steady-2", skip: 31 * time.Second, steady: true},
		{name: "steady-3", skip: 57 * time.Second, steady: true},
		{name: "frozen", faults: camera.Faults{Frozen: true}, fault: drift.Frozen, within: withinBlind},
		{name: "black", look: "black", fault: drift.Black, within: withinBlind},
		{name: "covered", look: "covered", fault: drift.Covered, within: withinBlind},
		{name: "defocused", look: "defocused", fault: drift.Defocused, within: withinFault, truth: true},
		{name: "rotated", look: "rotated", fault: drift.Rotated, within: withinFault, truth: true},
		{name: "flipped", look: "flipped", fault: drift.Flipped, within: withinFault, truth: true},
		{name: "shifted", look: "shifted", fault: drift.Shifted, within: withinFault},
		{name: "lying-fps", faults: camera.Faults{Pace: 0.5}, fault: drift.FPS, within: withinFault},
		{name: "wrong-clock", faults: camera.Faults{ClockOffset: -hour}, fault: drift.Clock, within: withinFault},
		{name: "fast-clock", faults: camera.Faults{ClockRate: 1.3}, fault: drift.Clock, within: withinFault},
		{name: "darkened", look: "darkened", states: changed, within: withinState, truth: true},
		{name: "over-exposed", look: "over_exposed", states: changed, within: withinState, truth: true},
		{name: "low-contrast", look: "low_contrast", states: changed, within: withinState, truth: true},
		{name: "fogged", look: "fogged", states: changed, within: withinState, truth: true},
		{name: "blurred", look: "blurred", fault: drift.Defocused, states: changed, within: withinState, truth: true},
		{name: "noisy", look: "noisy", states: changed, within: withinState, truth: true},
		{name: "jpeg-crushed", look: "jpeg_crushed", states: changed, within: withinState, truth: true},
		{name: "colour-shifted", look: "colour_shifted", states: changed, within: withinState, truth: true},
		{name: "empty", look: "empty", states: []drift.State{drift.DataDrift}, within: withinState},
		{name: "crowd", look: "crowd", states: []drift.State{drift.DataDrift}, within: withinState},
	}
}

// Names are those of all scenarios.
func Names() []string {
	table := all()
	names := make([]string, len(table))
	for i, s := range table {
		names[i] = s.name
	}
	return names
}

// Truth is what a look does to a model, against its own answers to the same pictures unchanged.
type Truth struct {
	Recall    float64 `json:"recall"`
	Precision float64 `json:"precision"`
	Objects   int     `json:"objects"`
}

// judge is which states are right, once the truth is known.
func (s *scenario) judge(t *Truth) {
	if t == nil || len(s.states) == 0 {
		return
	}
	switch {
	case t.Recall < lossy || t.Precision < wrong:
		s.states = []drift.State{drift.SuspectedLoss}
	case t.Recall > harmless && t.Precision > precise:
		s.states = []drift.State{drift.DataDrift}
	}
}

// seen is what was told of one camera.
type seen struct {
	at    time.Time
	fault drift.Fault // raised, or cleared
	up    bool
	state drift.State // entered
}

// Outcome is what became of a scenario.
type Outcome struct {
	Name    string        `json:"name"`
	Want    string        `json:"want"`
	Found   string        `json:"found"`
	After   *float64      `json:"after_s,omitempty"` // seconds, until the last of what must be found was
	Within  float64       `json:"within_s,omitempty"`
	Back    *float64      `json:"back_s,omitempty"` // until faults were cleared afterwards
	Truth   *Truth        `json:"truth,omitempty"`
	Misses  []string      `json:"misses,omitempty"`
	Learnt  float64       `json:"learnt_s"` // until there was a reference
	watched time.Duration // while nothing was wrong
	alarms  int           // meanwhile
}

// weigh judges what was told of a camera: before the fault was switched on, while it lasted, and afterwards.
func (s *scenario) weigh(told []seen, began, on, off time.Time, truth *Truth) Outcome {
	o := Outcome{Name: s.name, Want: s.want(), Within: s.within.Seconds(), Truth: truth}
	var found []string
	note := func(x seen) {
		name := string(x.state)
		if x.fault != "" {
			name = string(x.fault)
		}
		if !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	var faultAt, stateAt time.Duration = -1, -1
	learnt := false
	for _, x := range told {
		alarm := x.up || x.state == drift.DataDrift || x.state == drift.SuspectedLoss
		switch {
		case x.state == drift.OK && !learnt:
			learnt, o.Learnt = true, x.at.Sub(began).Seconds()
		case x.at.Before(on) || s.steady:
			if alarm {
				note(x)
				o.alarms++
				o.Misses = append(o.Misses, "false alarm: "+found[len(found)-1])
			}
		case x.at.After(off):
			if !x.up && x.fault == s.fault && x.fault != "" && o.Back == nil {
				back := x.at.Sub(off).Seconds()
				o.Back = &back
			}
		case x.up && x.fault == s.fault && faultAt < 0:
			note(x)
			faultAt = x.at.Sub(on)
		case x.up && x.fault != s.fault:
			note(x)
			o.Misses = append(o.Misses, "not that fault: "+string(x.fault))
		case slices.Contains(s.states, x.state) && stateAt < 0:
			note(x)
			stateAt = x.at.Sub(on)
		case x.state == drift.SuspectedLoss && len(s.states) > 0 && !slices.Contains(s.states, x.state):
			note(x)
			o.Misses = append(o.Misses, "worse than it is: suspected_loss")
		case alarm:
			note(x)
		}
	}
	if !learnt && len(s.states) > 0 {
		o.Misses = append(o.Misses, "no reference")
	}
	after := max(faultAt, stateAt)
	if s.fault != "" {
		o.Misses = append(o.Misses, late(string(s.fault), faultAt, s.faultWithin())...)
	}
	if len(s.states) > 0 {
		o.Misses = append(o.Misses, late(s.want(), stateAt, s.within)...)
	}
	if after >= 0 {
		seconds := after.Seconds()
		o.After = &seconds
	}
	o.Found = join(found)
	o.watched = on.Sub(began)
	if s.steady {
		o.watched = off.Sub(began)
	}
	slices.Sort(o.Misses)
	o.Misses = slices.Compact(o.Misses)
	return o
}

// faultWithin is how soon the fault must be found of a scenario that asks for a state, too.
func (s *scenario) faultWithin() time.Duration { return min(s.within, withinFault) }

func late(what string, after, within time.Duration) []string {
	switch {
	case after < 0:
		return []string{"not found: " + what}
	case after > within:
		return []string{what + " after " + after.Round(time.Second/10).String()}
	}
	return nil
}

func (s *scenario) want() string {
	var out []string
	if s.fault != "" {
		out = append(out, string(s.fault))
	}
	states := make([]string, len(s.states))
	for i, x := range s.states {
		states[i] = string(x)
	}
	if len(states) > 0 {
		out = append(out, joinWith(states, " or "))
	}
	if s.steady {
		return "nothing"
	}
	return join(out)
}

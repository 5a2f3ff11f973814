package integrity

import (
	"math"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/pkg/drift"
)

// verdict is what one picture says of one fault.
type verdict int

const (
	unknown verdict = iota
	good
	bad
)

// patience is how long signs of a fault must last before it is raised, and be gone before it is cleared.
type patience struct{ raise, clear time.Duration }

// patiences of the faults that pictures show. A frozen picture has been still for stillSlots when its first sign is seen.
var patiences = map[drift.Fault]patience{
	drift.Frozen:    {500 * time.Millisecond, 2 * time.Second},
	drift.Black:     {3 * time.Second, 3 * time.Second},
	drift.Covered:   {3 * time.Second, 3 * time.Second},
	drift.Defocused: {6 * time.Second, 6 * time.Second},
	drift.Rotated:   {8 * time.Second, 6 * time.Second},
	drift.Flipped:   {8 * time.Second, 6 * time.Second},
	drift.Shifted:   {10 * time.Second, 10 * time.Second},
}

// seenBy are the faults that pictures show, in the order of patiences' keys above.
var seenBy = []drift.Fault{drift.Frozen, drift.Black, drift.Covered, drift.Defocused, drift.Rotated, drift.Flipped, drift.Shifted}

const (
	fewSigns = 3 // pictures that a fault takes, however long they are apart
	// confirmWithin is how long a fault that ingest told under an earlier epoch lasts without being told again.
	confirmWithin = 90 * time.Second
)

// alarm is the state of one fault.
type alarm struct {
	Level    time.Duration      `json:"level,omitempty"` // signs less their absence
	Signs    int                `json:"signs,omitempty"` // pictures with signs, since there were none
	Raised   bool               `json:"raised,omitempty"`
	First    time.Time          `json:"first,omitzero"` // picture with signs
	Since    time.Time          `json:"since,omitzero"`
	Calm     time.Duration      `json:"calm,omitempty"` // without signs, while raised
	Evidence map[string]float64 `json:"evidence,omitempty"`
	Epoch    uint64             `json:"epoch,omitempty"` // under which ingest told it
}

// Camera is what is known of one camera. The zero value knows nothing.
type Camera struct {
	view   view
	still  still
	alarms map[drift.Fault]*alarm
	first  time.Time // since when the slots of still are followed
	last   time.Time
	epoch  uint64
	since  time.Time // of the epoch, by its first picture
}

// Observe takes one picture into account and reports whether a fault was raised or cleared. Pictures that are not newer than the last one
// say nothing: several models, or workers, answer one camera.
func (c *Camera) Observe(o Observation) (changed bool) {
	if !o.At.After(c.last) {
		return false
	}
	step := min(o.At.Sub(c.last), maxStep)
	if c.last.IsZero() {
		step = 0
	}
	if o.Epoch != c.epoch {
		c.epoch, c.since = o.Epoch, o.At
	}
	if c.last.IsZero() || o.At.Sub(c.last) > stillSlots*stillSlot || o.Difference < 0 {
		c.still.reset()
		c.first = o.At
	}
	c.last = o.At
	verdicts, evidence := c.judge(o)
	clean := true
	for i, f := range seenBy {
		if c.step(f, verdicts[i], o.At, step, evidence) {
			changed = true
		}
		clean = clean && verdicts[i] != bad && !c.raised(f)
	}
	if clean {
		c.view.learn(o, step)
	}
	return c.expire(o.At) || changed
}

// step moves one alarm.
func (c *Camera) step(f drift.Fault, v verdict, at time.Time, step time.Duration, evidence func(drift.Fault) map[string]float64) (changed bool) {
	a, p := c.alarms[f], patiences[f]
	if a == nil {
		if v != bad {
			return false
		}
		a = &alarm{}
		c.set(f, a)
	}
	switch {
	case v == bad && a.Raised:
		a.Calm = 0
	case v == bad:
		if a.Signs == 0 {
			a.First = at
		} else {
			a.Level += step
		}
		if a.Signs++; a.Signs >= fewSigns && a.Level >= p.raise {
			*a = alarm{Raised: true, First: a.First, Since: a.First, Evidence: evidence(f)}
			return true
		}
	case v == good && a.Raised:
		if a.Calm += step; a.Calm >= p.clear {
			delete(c.alarms, f)
			return true
		}
	case v == good:
		if a.Level -= 2 * step; a.Level <= 0 {
			delete(c.alarms, f)
		}
	}
	return false
}

func (c *Camera) set(f drift.Fault, a *alarm) {
	if c.alarms == nil {
		c.alarms = map[drift.Fault]*alarm{}
	}
	c.alarms[f] = a
}

func (c *Camera) raised(f drift.Fault) bool {
	a := c.alarms[f]
	return a != nil && a.Raised
}

// Tell takes what ingest says about a clock or a frame rate, under an epoch. It reports whether that was new.
func (c *Camera) Tell(f drift.Fault, raised bool, at time.Time, epoch uint64, evidence map[string]float64) (changed bool) {
	if !raised {
		changed = c.raised(f)
		delete(c.alarms, f)
		return changed
	}
	if c.raised(f) {
		c.alarms[f].Evidence, c.alarms[f].Epoch = evidence, epoch
		return false
	}
	c.set(f, &alarm{Raised: true, First: at, Since: at, Evidence: evidence, Epoch: epoch})
	return true
}

// expire clears what an earlier owner of the camera told and the present one does not confirm.
func (c *Camera) expire(at time.Time) (changed bool) {
	for f, a := range c.alarms {
		if a.Raised && a.Epoch != 0 && a.Epoch < c.epoch && at.Sub(c.since) > confirmWithin {
			delete(c.alarms, f)
			changed = true
		}
	}
	return changed
}

// Faults are those that last, in the order of [drift.Faults].
func (c *Camera) Faults() []drift.Raised {
	var out []drift.Raised
	for _, f := range drift.Faults() {
		if a := c.alarms[f]; a != nil && a.Raised {
			out = append(out, drift.Raised{Fault: f, Since: a.Since, Evidence: a.Evidence})
		}
	}
	return out
}

// Suspicious reports whether the last pictures show signs of a fault, or a fault lasts: they are no reference for anything.
func (c *Camera) Suspicious() bool {
	for _, f := range seenBy {
		if a := c.alarms[f]; a != nil && (a.Raised || a.Level > 0) {
			return true
		}
	}
	return false
}

// Blind reports whether the last pictures show nothing of the world, or seem to: they are frozen, black or covered.
func (c *Camera) Blind() bool {
	for f, a := range c.alarms {
		if f.Blinds() && (a.Raised || a.Signs > 0) {
			return true
		}
	}
	return false
}

// Last is when the last picture was captured that was taken into account.
func (c *Camera) Last() time.Time { return c.last }

// Relearn forgets how the view usually looks, and what was held against it: somebody moved the camera, and meant to.
func (c *Camera) Relearn() (changed bool) {
	c.view = view{}
	for _, f := range []drift.Fault{drift.Defocused, drift.Rotated, drift.Flipped, drift.Shifted} {
		changed = changed || c.raised(f)
		delete(c.alarms, f)
	}
	return changed
}

// Limits of single figures.
const (
	blackLuma, blackContrast = 20, 6
	plainContrast            = 6      // a picture with less has nothing in it
	dullContrast, dullSharp  = 16, 12 // nor has one with less of both
	dullShare                = 0.4    // of the usual contrast
	dullDetail               = 0.1    // of the usual detail
	blurDetail               = 0.2
	blurSharp                = 0.5 // of the usual sharpness

	near, far  = 0.2, 0.3 // shares of steady bits
	fartherBy  = 0.2
	elsewhere  = 0.22
	otherLuma  = 40  // grey levels, beyond which the light is another
	otherLight = 1.8 // and factors
)

// judge looks at one picture.
func (c *Camera) judge(o Observation) (verdicts [7]verdict, evidence func(drift.Fault) map[string]float64) {
	set := func(f drift.Fault, v verdict) { verdicts[slices.Index(seenBy, f)] = v }
	v := &c.view
	var quiet, quietMost float64
	var d distances
	evidence = func(f drift.Fault) map[string]float64 {
		e := map[string]float64{}
		switch f {
		case drift.Frozen:
			e["temporal_difference"], e["limit"] = quiet, quietMost
		case drift.Rotated, drift.Flipped, drift.Shifted:
			e["distance"], e["distance_rotated"], e["distance_mirrored"], e["distance_upside_down"] = d.same, d.rotated, d.mirrored, d.upsideDown
		default:
			e["luma"], e["contrast"], e["sharpness"] = o.Luma, o.Contrast, o.Sharpness
			if v.ready() {
				e["usual_contrast"], e["usual_sharpness"] = v.Contrast, math.Exp(v.Sharpness)
			}
		}
		for k, x := range e {
			e[k] = math.Round(x*1000) / 1000
		}
		return e
	}

	black := o.Luma <= blackLuma && o.Contrast <= blackContrast
	dull := o.Contrast <= plainContrast || o.Contrast <= dullContrast && o.Sharpness <= dullSharp
	if v.ready() {
		dull = dull || o.Contrast <= dullShare*v.Contrast && detail(o) <= dullDetail*math.Exp(v.Detail)
	}
	set(drift.Black, goodUnless(black))
	set(drift.Covered, goodUnless(dull && !black))
	if black || dull { // nothing moves in it, and it has neither edges nor a view
		c.still.reset()
		c.first = o.At
		return verdicts, evidence
	}

	if o.Difference >= 0 {
		c.still.add(o.At, o.Difference)
	}
	var most float64
	limit, mostLimit := stillLimits(v)
	q, most, enough := c.still.look(c.first)
	quiet, quietMost = q, limit
	switch {
	case enough && quiet <= limit && most <= mostLimit:
		set(drift.Frozen, bad)
	case enough, o.Difference > mostLimit:
		set(drift.Frozen, good)
	}
	if !v.ready() {
		return verdicts, evidence
	}
	set(drift.Defocused, goodUnless(detail(o) <= blurDetail*math.Exp(v.Detail) && o.Sharpness <= blurSharp*math.Exp(v.Sharpness)))
	d, few := v.distances(o.Hash)
	if few {
		return verdicts, evidence
	}
	flipped := min(d.mirrored, d.upsideDown)
	isRotated := d.same >= far && d.rotated <= near && d.same-d.rotated >= fartherBy && d.rotated < flipped
	isFlipped := d.same >= far && flipped <= near && d.same-flipped >= fartherBy && flipped < d.rotated
	set(drift.Rotated, goodUnless(isRotated))
	set(drift.Flipped, goodUnless(isFlipped))
	switch {
	case isRotated || isFlipped || v.otherLight(o):
	default:
		set(drift.Shifted, goodUnless(d.same >= elsewhere))
	}
	return verdicts, evidence
}

// otherLight reports whether the light differs so much from the usual that the hash may for that reason alone.
func (v *view) otherLight(o Observation) bool {
	beyond := func(a, b float64) bool { return max(a, b) > otherLight*max(min(a, b), 1) }
	return math.Abs(o.Luma-v.Luma) > otherLuma || beyond(o.Contrast, v.Contrast) || beyond(o.Saturation, v.Saturation)
}

func goodUnless(wrong bool) verdict {
	if wrong {
		return bad
	}
	return good
}

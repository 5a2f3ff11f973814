package detect

import (
	"fmt"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/services/drift-monitor/feature"
	"github.com/sightline-dev/sightline/services/drift-monitor/reference"
)

// A Detector judges one camera and model. Make one with [New] or [Decode].
type Detector struct {
	cfg Config
	s   state
	// view is what Scene is measured against, of the bucket viewOf.
	view   *feature.View
	viewOf *reference.Bucket
}

// state is all of a detector that lasts; its JSON is what Encode writes.
type state struct {
	Format    int                  `json:"format"`
	Reference *reference.Reference `json:"reference"`
	Learner   *reference.Learner   `json:"learner,omitempty"`

	Blocks  []feature.Block `json:"blocks"` // the newest last
	Current feature.Block   `json:"current"`
	Ends    time.Time       `json:"ends"`    // of the current block
	Seen    time.Time       `json:"seen"`    // last picture
	Counted time.Time       `json:"counted"` // last that was not thinned out
	Slot    int             `json:"slot"`
	Sudden  *sudden         `json:"sudden,omitempty"`

	State  State     `json:"state"`
	Since  time.Time `json:"since"`
	Cause  string    `json:"cause,omitempty"`
	Detail string    `json:"detail,omitempty"`
	Latch  [2]latch  `json:"latch"` // data drift or worse, suspected loss
}

// stateFormat is the version of the stored form.
const stateFormat = 1

// New judges by a reference, which it completes as it sees hours of the day that the reference does not have yet. r may
// have nothing in it. It is the detector's from here on.
func New(cfg Config, r *reference.Reference) (*Detector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("detect: %w", err)
	}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("detect: %w", err)
	}
	if r.Hours != cfg.Reference.Hours {
		return nil, fmt.Errorf("detect: the reference has buckets of %d hours, not %d", r.Hours, cfg.Reference.Hours)
	}
	return &Detector{cfg: cfg, s: state{Format: stateFormat, Reference: r, State: NotEnoughData, Cause: NoReference, Slot: -1}}, nil
}

// Reference is what it judges by. It changes with Observe only; see Verdict.ReferenceChanged.
func (d *Detector) Reference() *reference.Reference { return d.s.Reference }

// block is how long a block is.
func (d *Detector) block() time.Duration {
	if b := d.s.Reference.Block(); b > 0 {
		return b
	}
	return d.cfg.Reference.Block
}

// Observe takes the next picture's observation. It has a verdict once a block; then the second result is true. Pictures
// that were captured before the last one are ignored.
func (d *Detector) Observe(o *feature.Observation) (Verdict, bool) {
	s := &d.s
	if o.At.Before(s.Seen) {
		return Verdict{}, false
	}
	if gap := o.At.Sub(s.Seen); !s.Seen.IsZero() && gap > reference.Short*d.block() {
		d.forget(o.At)
		s.Learner = nil
	}
	s.Seen = o.At
	d.enter(o.At)
	if o.At.Sub(s.Counted) < s.Reference.Thin() {
		return Verdict{}, false
	}
	s.Counted = o.At

	bucket, _ := d.bucket()
	view := d.viewFor(bucket)
	if bucket != nil && !o.NoQuality {
		if s.Sudden == nil {
			s.Sudden = newSudden()
		}
		if s.Sudden.add(o, bucket, view) {
			d.forget(o.At)
		}
	}
	if s.Ends.IsZero() {
		s.Ends = o.At.Add(d.block())
	}
	var v Verdict
	over := !o.At.Before(s.Ends)
	if over {
		v = d.turn(o.At)
	}
	s.Current.Add(o, view)
	learnt := d.learn(o)
	if !over && !learnt {
		return Verdict{}, false
	}
	if learnt && !over {
		v = d.verdict(o.At, nil)
	}
	v.ReferenceChanged = learnt
	return v, true
}

// Silence is the verdict when no picture came until now; it is none while the last one is within a short window.
func (d *Detector) Silence(now time.Time) (Verdict, bool) {
	if d.s.Seen.IsZero() || now.Sub(d.s.Seen) <= reference.Short*d.block() {
		return Verdict{}, false
	}
	d.forget(time.Time{})
	d.s.Latch = [2]latch{}
	changed := d.set(now, NotEnoughData, Silent, "no picture since "+d.s.Seen.UTC().Format(time.RFC3339))
	v := d.verdict(now, nil)
	v.Changed = changed
	return v, true
}

// forget empties the windows; the current block begins at a time, or with the next picture.
func (d *Detector) forget(at time.Time) {
	d.s.Blocks, d.s.Current, d.s.Ends = nil, feature.Block{}, time.Time{}
	if !at.IsZero() {
		d.s.Ends = at.Add(d.block())
	}
}

// enter notices that another part of the day has begun. Windows do not reach over the change if the new part has a bucket.
func (d *Detector) enter(at time.Time) {
	slot := reference.Slot(at, d.cfg.Reference.Hours, d.cfg.Reference.Location)
	if slot == d.s.Slot {
		return
	}
	if d.s.Slot >= 0 && d.s.Reference.Buckets[slot] != nil {
		d.forget(at)
	}
	d.s.Slot, d.s.Learner = slot, nil
}

// bucket is the present part of the day's, or the one nearest to it; nil when there is none.
func (d *Detector) bucket() (b *reference.Bucket, slot int) { return d.s.Reference.Nearest(d.s.Slot) }

func (d *Detector) viewFor(b *reference.Bucket) *feature.View {
	if b == nil {
		return nil
	}
	if d.viewOf != b {
		d.view, d.viewOf = b.AsView(), b
	}
	return d.view
}

// learn captures the present part of the day for as long as it has no bucket, and reports whether it has one now. What is
// suspected to be loss by the neighbouring hour is not taken for normal.
func (d *Detector) learn(o *feature.Observation) bool {
	s, c := &d.s, &d.cfg.Reference
	if s.Reference.Buckets[s.Slot] != nil || o.At.Sub(s.Reference.Since) > c.Learn {
		s.Learner = nil
		return false
	}
	if s.State == SuspectedLoss {
		s.Learner = nil
		return false
	}
	if s.Learner == nil {
		s.Learner = reference.NewLearner(s.Slot, d.block().Seconds())
	}
	s.Learner.Observe(o)
	if !s.Learner.Finish(s.Reference, *c) {
		return false
	}
	s.Learner, s.Sudden = nil, nil
	d.forget(o.At)
	return true
}

// turn ends the current block and judges.
func (d *Detector) turn(at time.Time) Verdict {
	s := &d.s
	late := at.Sub(s.Ends)
	s.Blocks = append(s.Blocks, s.Current)
	if n := len(s.Blocks) - reference.Long; n > 0 {
		s.Blocks = slices.Delete(s.Blocks, 0, n)
	}
	s.Current = feature.Block{}
	if s.Ends = s.Ends.Add(d.block()); late >= d.block() {
		s.Ends = at.Add(d.block())
	}
	bucket, slot := d.bucket()
	if bucket == nil {
		changed := d.set(at, NotEnoughData, NoReference, "the reference is being captured")
		v := d.verdict(at, nil)
		v.Changed = changed
		return v
	}
	return d.judge(at, bucket, slot)
}

// judge holds the windows against a bucket.
func (d *Detector) judge(at time.Time, bucket *reference.Bucket, slot int) Verdict {
	s := &d.s
	borrowed := slot != s.Slot
	by := scales{1, 1}
	switch {
	case borrowed:
		by = scales{2, 2}
	case s.State == SuspectedLoss:
		by = scales{d.cfg.Relax, d.cfg.Relax}
	case s.State == DataDrift:
		by = scales{d.cfg.Relax, 1}
	}
	var best *comparison
	var said opinion
	short := false // of independent pictures
	for i, n := range windows() {
		if len(s.Blocks) < n {
			continue
		}
		var w feature.Block
		for k := len(s.Blocks) - n; k < len(s.Blocks); k++ {
			w.Merge(&s.Blocks[k])
		}
		c := compare(s.Reference, bucket, &w, i, float64(n)*d.block().Seconds(), by)
		if c.effective < d.cfg.Effective*float64(n)/reference.Long*0.999 {
			short = true
			continue
		}
		o := judge(&c, &d.cfg)
		if best == nil || rank(o.state) >= rank(said.state) {
			best, said = &c, o
		}
	}
	if best == nil {
		changed := false
		if short {
			s.Latch = [2]latch{}
			changed = d.set(at, NotEnoughData, TooFew, "too few independent pictures in a window")
		}
		v := d.verdict(at, nil)
		v.Changed = changed
		return v
	}
	if borrowed && said.state == DataDrift {
		said = opinion{state: OK} // an hour that is being learnt may be another than its neighbour
	}
	changed := d.settle(at, said)
	v := d.verdict(at, best)
	v.Changed = changed
	v.Slot, v.Borrowed = s.Reference.SlotName(slot), borrowed
	return v
}

// settle takes an opinion into account, with hysteresis.
func (d *Detector) settle(at time.Time, o opinion) (changed bool) {
	s := &d.s
	level := OK
	for i, st := range []State{DataDrift, SuspectedLoss} {
		if s.Latch[i].next(rank(o.state) >= rank(st), d.cfg.Raise, d.cfg.Lower) {
			level = st
		}
	}
	if level == OK {
		return d.set(at, OK, "", "")
	}
	if level == o.state {
		return d.set(at, level, o.cause, o.detail)
	}
	return d.set(at, level, s.Cause, s.Detail) // held up, or not yet as bad as said
}

// set changes the state and reports whether it is another one.
func (d *Detector) set(at time.Time, st State, cause, detail string) bool {
	s := &d.s
	s.Cause, s.Detail = cause, detail
	if s.State == st {
		return false
	}
	s.State, s.Since = st, at
	return true
}

func (d *Detector) verdict(at time.Time, c *comparison) Verdict {
	v := Verdict{State: d.s.State, Since: d.s.Since, At: at, Cause: d.s.Cause, Detail: d.s.Detail}
	if c == nil {
		return v
	}
	v.EffectiveSamples = c.effective
	v.Rate = c.rate
	v.Evidence = c.evidence
	slices.SortStableFunc(v.Evidence, func(a, b Evidence) int {
		switch {
		case a.Moved == b.Moved:
			return 0
		case a.Moved:
			return -1
		}
		return 1
	})
	return v
}

// rank orders states by how bad they are.
func rank(s State) int {
	switch s {
	case NotEnoughData, "":
		return -1
	case OK:
		return 0
	case DataDrift:
		return 1
	case SuspectedLoss:
		return 2
	}
	return -1
}

// A latch is on after so many times yes in a row, and off after so many times no.
type latch struct {
	On  bool `json:"on"`
	Run int  `json:"run"` // how often in a row the opposite was said
}

func (l *latch) next(yes bool, raise, lower int) bool {
	if yes == l.On {
		l.Run = 0
		return l.On
	}
	l.Run++
	need := lower
	if yes {
		need = raise
	}
	if l.Run >= need {
		l.On, l.Run = yes, 0
	}
	return l.On
}

package shed

import (
	"math"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/pkg/sampling"
)

// Sample is what is known of the system at one moment.
type Sample struct {
	Cameras []Camera
	Groups  []Group
	// Arrived is how many frames of these cameras reached the broker per second since the last sample; NaN if that is
	// not known.
	Arrived float64
}

// Group is one work group: all workers that take frames, or the tensors of one model's lane.
type Group struct {
	Name  string
	Model string // "" takes frames of every camera
	// Workers that are alive, and the share of their handlers that were at work in the last second.
	Workers int
	Busy    float64
	// Waiting messages are in nobody's hands, Held ones in those of workers: at work, or next.
	Waiting, Held int
	// Answered messages per second since the last sample; what was dropped because it was too late does not count.
	Answered float64
}

// Tuning are the controller's times and factors. The zero value means the defaults.
type Tuning struct {
	LowerAfter time.Duration // of overload on end; 2 s
	RaiseAfter time.Duration // of room on end, before the first raise; 10 s
	RaiseEvery time.Duration // between two raises; 5 s
	ProbeAfter time.Duration // of nothing waiting though workers seem to have no time left; 60 s
	DrainIn    time.Duration // in which what waits should be worked off after lowering; 4 s
	Longest    time.Duration // that RaiseAfter and ProbeAfter grow to; 32 min
}

func (t Tuning) withDefaults() Tuning {
	for _, d := range []struct {
		at    *time.Duration
		value time.Duration
	}{
		{&t.LowerAfter, 2 * time.Second},
		{&t.RaiseAfter, 10 * time.Second},
		{&t.RaiseEvery, 5 * time.Second},
		{&t.ProbeAfter, time.Minute},
		{&t.DrainIn, 4 * time.Second},
		{&t.Longest, 32 * time.Minute},
	} {
		if *d.at == 0 {
			*d.at = d.value
		}
	}
	return t
}

const (
	target    = 0.85 // of capacity that is used when sampling is lowered
	leastLoad = 0.4  // of capacity that is used while what waits is worked off
	stepUp    = 1.15 // a raise is no larger
	worthIt   = 1.05 // and no smaller
	probeUp   = 1.10
	giveWay   = 0.75 // when nothing that was measured explains why messages wait

	busyAt     = 0.8 // workers have no time left
	waitingAt  = 0.5 // messages per camera that wait
	lateAt     = 0.5 // of max_age that messages are on their way
	ringsFull  = 2.0 // and per camera when rings are as good as full
	slowWeight = 1.0 / 3
	calmWeight = 2.0 // one sample without overload outweighs two with it
	blame      = 3   // times RaiseAfter in which a raise is taken to be wrong
	baffled    = 3   // times LowerAfter until messages that wait need no explanation

	measureFor      = 2 * time.Second // and so many messages give a capacity
	measureMessages = 40
	recentMost      = 60               // samples
	stalled         = 10 * time.Second // without an answer

	busyOver    = 3 * time.Second  // over which busy is averaged
	forgetGroup = 30 * time.Second // after which a group without workers no longer holds sampling down
	longGap     = 5 * time.Second  // between samples makes what was seen before worthless
	fullFor     = time.Minute      // until the waits are as at the beginning
)

// Cause says why sampling is changed.
type Cause string

// The causes.
const (
	Overload Cause = "overload" // messages wait, and fewer are answered than arrive
	Drained  Cause = "drained"  // what waited is worked off
	Room     Cause = "room"     // workers have time left
	Probe    Cause = "probe"    // nothing has waited for long, though workers seem to have no time left
	Idle     Cause = "idle"     // there is no camera that could be lowered
)

// Decision is a change of sampling.
type Decision struct {
	Changed bool
	Lowered bool
	Cause   Cause
	// Group is the one that decided, as it was seen.
	Group Group
	// Capacity that was measured of it, per second; 0 if it was not.
	Capacity float64
	Shares   sampling.Shares
	// Since is when it began to show.
	Since time.Time
}

// Controller decides about sampling from samples. It has no clock and does nothing.
type Controller struct {
	tune   Tuning
	k      float64 // full: nobody is lowered
	goal   float64 // to which k returns when what waits is worked off; 0 when nothing is
	demand demand
	groups map[string]*track

	last      time.Time // sample
	changed   time.Time
	lowered   time.Time
	raised    time.Time
	roomSince time.Time // workers have time left
	calmSince time.Time // nothing waits
	fullSince time.Time
	calm      int    // samples without anything that waits
	culprit   string // the group for which sampling was lowered last
	wait      time.Duration
	probe     time.Duration
}

// track is what is remembered of a group.
type track struct {
	pressed time.Duration // weight of what speaks for overload
	since   time.Time     // when that began
	first   int           // how many waited then
	recent  []answered
	waited  bool      // at the last sample: too many, or for too long
	many    bool      // at the last sample
	moved   time.Time // when it last answered, or had nothing to answer
	busy    float64
	rate    float64 // answered, averaged as busy is
	seen    time.Time
	served  time.Time // when it last had workers
	// capacity is what was answered while messages waited, and by how many workers.
	capacity float64
	workers  int
}

type answered struct {
	messages float64
	over     time.Duration
}

// NewController makes a Controller that begins with what holds: nil shares mean full sampling.
func NewController(t Tuning, now sampling.Shares) *Controller {
	t = t.withDefaults()
	return &Controller{
		tune: t, k: scalar(now), demand: newDemand(), groups: map[string]*track{},
		wait: t.RaiseAfter, probe: t.ProbeAfter,
	}
}

// Shares are what holds.
func (c *Controller) Shares() sampling.Shares { return shares(c.k) }

// Forget is called when a sample could not be taken: what is measured across such a gap says nothing.
func (c *Controller) Forget() {
	for _, t := range c.groups {
		t.clear()
	}
	c.calm, c.roomSince, c.calmSince, c.last = 0, time.Time{}, time.Time{}, time.Time{}
}

// Step takes a sample and decides.
func (c *Controller) Step(now time.Time, s Sample) Decision {
	dt := now.Sub(c.last)
	if c.last.IsZero() || dt <= 0 || dt > longGap {
		c.Forget()
		c.last = now
		return Decision{}
	}
	c.last = now
	c.demand.cameras = s.Cameras
	if now.Sub(c.changed) > time.Second { // until then what arrives is a mixture
		c.demand.observe(dt, c.k, s.Arrived)
	}
	if len(s.Cameras) == 0 {
		if c.k >= full {
			return Decision{}
		}
		c.k, c.goal = full, 0
		return c.decide(now, Decision{Cause: Idle, Since: now})
	}
	for _, g := range s.Groups {
		c.observe(now, dt, g)
	}
	c.forgetGroups(now)
	if d := c.lower(now, s.Groups); d.Changed {
		return d
	}
	if d := c.drained(now, s.Groups); d.Changed {
		return d
	}
	return c.raise(now, s.Groups)
}

// threshold is how many messages of a group may wait.
func (c *Controller) threshold(g Group) float64 {
	return max(2, waitingAt*float64(c.demand.count(g.Model))*min(1, c.demand.scale))
}

func (c *Controller) observe(now time.Time, dt time.Duration, g Group) {
	t := c.groups[g.Name]
	if t == nil {
		t = &track{}
		c.groups[g.Name] = t
	}
	weight := 1 - math.Exp(-dt.Seconds()/busyOver.Seconds())
	if t.seen.IsZero() {
		weight = 1
	}
	t.seen = now
	if g.Workers == 0 { // nobody to be overloaded
		t.clear()
		return
	}
	t.served = now
	t.busy += weight * (g.Busy - t.busy)
	t.rate += weight * (g.Answered - t.rate)

	threshold := c.threshold(g)
	many := float64(g.Waiting) >= threshold
	slow := float64(g.Waiting) >= ringsFull/waitingAt*threshold
	// How long a message is on its way is how many are, by how many are answered. Workers may have in hand all there is.
	late := g.Busy >= busyAt && t.rate > 0 && float64(g.Waiting+g.Held) > lateAt*c.demand.maxAge(g.Model)*t.rate
	waits := many || late
	if !waits || g.Answered > 0 || t.moved.IsZero() {
		t.moved = now
	}
	switch {
	case !waits || now.Sub(t.moved) > stalled:
		t.pressed = max(0, t.pressed-time.Duration(calmWeight*float64(dt)))
	case g.Busy >= busyAt:
		t.press(now, dt, g)
	case slow: // something else than handlers is too slow
		t.press(now, time.Duration(slowWeight*float64(dt)), g)
	default:
		t.pressed = max(0, t.pressed-time.Duration(calmWeight*float64(dt)))
	}
	if waits && t.waited { // all the time, as it seems: this is what they can do
		t.recent = append(t.recent, answered{g.Answered * dt.Seconds(), dt})
		if len(t.recent) > recentMost {
			t.recent = t.recent[1:]
		}
	}
	t.waited, t.many = waits, many
}

func (t *track) press(now time.Time, weight time.Duration, g Group) {
	if t.pressed == 0 {
		t.since, t.first = now, g.Waiting
		t.recent = t.recent[:0]
	}
	t.pressed += weight
}

func (t *track) clear() {
	t.pressed, t.waited = 0, false
	t.recent = t.recent[:0]
}

// measured is the capacity that the last samples show: as few of them as will do.
func (t *track) measured() (perSecond, messages float64) {
	var n float64
	var over time.Duration
	for _, a := range slices.Backward(t.recent) {
		n += a.messages
		over += a.over
		if n >= measureMessages && over >= measureFor {
			break
		}
	}
	if over == 0 {
		return 0, 0
	}
	return n / over.Seconds(), n
}

// forgetGroups drops the groups that are no longer there.
func (c *Controller) forgetGroups(now time.Time) {
	for name, t := range c.groups {
		if now.Sub(t.seen) > forgetGroup {
			delete(c.groups, name)
		}
	}
}

// lower finds the group that allows least, among those that are overloaded.
func (c *Controller) lower(now time.Time, groups []Group) Decision {
	best := Decision{}
	k, goal := c.k, 0.0
	for _, g := range groups {
		t := c.groups[g.Name]
		if t.pressed < c.tune.LowerAfter {
			continue
		}
		capacity, n := t.measured()
		if capacity == 0 {
			continue
		}
		offered := c.demand.at(c.k, g.Model)
		load := target
		switch {
		case capacity*(1+1/math.Sqrt(n)) < offered: // more than chance
		case !t.many, t.pressed < baffled*c.tune.LowerAfter:
			continue // they catch up
		case float64(g.Waiting) < 0.8*float64(t.first): // slowly
			t.pressed, t.since, t.first = c.tune.LowerAfter, now, g.Waiting
			continue
		default:
			capacity, load = offered, giveWay
		}
		queue := max(0, float64(g.Waiting+g.Held)-capacity*c.demand.maxAge(g.Model)/4) // the rest will be in time
		drain := max(leastLoad, load-queue/(capacity*c.tune.DrainIn.Seconds()))
		if fit := c.demand.fit(drain*capacity, g.Model); fit < k {
			k, goal = fit, c.demand.fit(load*capacity, g.Model)
			t.capacity, t.workers = capacity, g.Workers
			best = Decision{Lowered: true, Cause: Overload, Group: g, Capacity: capacity, Since: t.since}
		}
	}
	if k > 0.97*c.k {
		return Decision{} // as low as it goes, or not worth telling
	}
	if c.goal > 0 {
		goal = min(goal, c.goal)
	}
	c.k, c.goal = k, goal
	if now.Sub(c.raised) < blame*c.tune.RaiseAfter { // the raise was wrong
		c.wait, c.probe = min(2*c.wait, c.tune.Longest), min(2*c.probe, c.tune.Longest)
	}
	c.lowered, c.culprit = now, best.Group.Name
	for _, t := range c.groups {
		t.clear()
	}
	return c.decide(now, best)
}

// drained ends the time in which less is captured than workers could answer, because they had to work off what waited.
func (c *Controller) drained(now time.Time, groups []Group) Decision {
	calm := true
	for _, g := range groups {
		calm = calm && (!c.works(now, g) || !c.groups[g.Name].waited)
	}
	if !calm {
		c.calm = 0
		return Decision{}
	}
	c.calm++
	if c.goal == 0 || c.calm < 2 {
		return Decision{}
	}
	d := Decision{Cause: Drained, Since: c.lowered}
	for _, g := range groups {
		if g.Name == c.culprit {
			d.Group, d.Capacity = g, c.groups[g.Name].capacity
		}
	}
	goal := c.goal
	c.goal = 0
	if goal < worthIt*c.k {
		return Decision{}
	}
	c.k = goal
	return c.decide(now, d)
}

// raise goes a step up when there has been room for long enough.
func (c *Controller) raise(now time.Time, groups []Group) Decision {
	if c.k >= full {
		if now.Sub(c.fullSince) > fullFor {
			c.wait, c.probe = c.tune.RaiseAfter, c.tune.ProbeAfter
		}
		return Decision{}
	}
	worst, used := Group{}, -1.0
	room := c.goal == 0
	for _, g := range groups {
		t := c.groups[g.Name]
		if g.Workers == 0 {
			if g.Name == c.culprit && now.Sub(t.served) < forgetGroup { // what they could do is not known any more
				room = false
			}
			continue
		}
		if !c.works(now, g) {
			continue
		}
		if t.waited || t.pressed > 0 {
			room = false
		}
		if g.Name == c.culprit && t.capacity > 0 && g.Workers > t.workers { // help has come
			t.capacity, t.workers = 0, 0
			c.wait, c.probe = c.tune.RaiseAfter, c.tune.ProbeAfter
		}
		if u := t.used(g); u > used {
			worst, used = g, u
		}
	}
	if !room || used < 0 {
		c.roomSince, c.calmSince = time.Time{}, time.Time{}
		return Decision{}
	}
	if c.calmSince.IsZero() {
		c.calmSince = now
	}
	up := min(stepUp, target/max(used, 0.01))
	if up < worthIt {
		c.roomSince = time.Time{}
	} else if c.roomSince.IsZero() {
		c.roomSince = now
	}
	d := Decision{Cause: Room, Group: worst, Since: c.roomSince}
	switch {
	case up >= worthIt && now.Sub(c.roomSince) >= c.wait && now.Sub(c.lowered) >= c.wait && now.Sub(c.raised) >= c.tune.RaiseEvery:
	case up < worthIt && now.Sub(c.calmSince) >= c.probe && now.Sub(c.changed) >= c.probe:
		d.Cause, d.Since, up = Probe, c.calmSince, probeUp
		c.probe = min(2*c.probe, c.tune.Longest)
	default:
		return Decision{}
	}
	c.k, c.raised = max(c.k, c.demand.least())*up, now
	if c.k >= c.demand.most() {
		c.k, c.fullSince = full, now
	}
	return c.decide(now, d)
}

// works reports whether a group's backlog says anything: nobody's, and that of workers who all hang, does not.
func (c *Controller) works(now time.Time, g Group) bool {
	return g.Workers > 0 && now.Sub(c.groups[g.Name].moved) < forgetGroup
}

// used is how much of a group's capacity is used. Handlers that take batches are at work all the time long before they have
// all that they can do in one; so what was measured when messages waited counts, for as many workers.
func (t *track) used(g Group) float64 {
	if t.capacity > 0 && t.workers == g.Workers {
		return min(t.busy, t.rate/t.capacity)
	}
	return t.busy
}

func (c *Controller) decide(now time.Time, d Decision) Decision {
	c.changed, c.calm = now, 0
	d.Changed, d.Shares = true, shares(c.k)
	return d
}

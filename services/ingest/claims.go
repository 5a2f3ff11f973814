package ingest

import (
	"maps"
	"math"
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/events"
)

const (
	// claimsEvery is how long a camera is watched before its claims are compared with what it did.
	claimsEvery = 10 * time.Second
	// claimsRun is how often in a row a claim must be found wrong before it is told, or right again.
	claimsRun = 2
	// fpsShare is how far the number of pictures may be from what is announced.
	fpsShare = 0.25
	// rateShare is how much faster or slower than ours the RTP clock may run.
	rateShare = 0.1
	// offsetLimit is how wrong the time of day in sender reports may be.
	offsetLimit = 5 * time.Second
)

// claims compares what a camera says of itself, its frame rate and its clock, with what it does. It is used by the
// goroutine that hands on pictures, which it costs nothing but once in a while.
type claims struct {
	tell func(fault drift.Fault, raised bool, facts map[string]string)

	began   time.Time // of the present window; zero: with the next picture
	pts     time.Duration
	units   uint64
	outages uint64
	report  time.Time // when the last sender report came that was looked at

	fps, rate, offset claim
	raised            map[drift.Fault]bool
}

// claim is how often in a row something was found wrong, or right.
type claim struct {
	wrong, right int
	lies         bool
	value        float64 // that was found last
	known        bool
}

// found takes one finding into account.
func (c *claim) found(value float64, wrong bool) {
	c.value, c.known = value, true
	if wrong {
		c.wrong, c.right = c.wrong+1, 0
	} else {
		c.wrong, c.right = 0, c.right+1
	}
	if c.wrong >= claimsRun || c.right >= claimsRun {
		c.lies = c.wrong >= claimsRun
	}
}

// picture is called for every picture. stats is asked only now and then.
func (c *claims) picture(pts time.Duration, received time.Time, stats func() Stats) {
	since := received.Sub(c.began)
	if !c.began.IsZero() && since < claimsEvery {
		return
	}
	s := stats()
	units, outages := s.AccessUnits+s.Source.UnitsDropped, uint64(0)
	for _, n := range s.Reconnects {
		outages += n
	}
	// A window over an outage, or one that a stall made longer, says nothing.
	if whole := !c.began.IsZero() && outages == c.outages && since < 2*claimsEvery; whole {
		c.judge(s, float64(units-c.units)/since.Seconds(), (pts-c.pts).Seconds()/since.Seconds())
	}
	c.began, c.pts, c.units, c.outages = received, pts, units, outages
}

func (c *claims) judge(s Stats, measured, rate float64) {
	if announced := s.Source.AnnouncedFPS; announced > 0 {
		c.fps.found(measured, math.Abs(measured-announced) > fpsShare*announced)
	}
	c.rate.found(rate, math.Abs(rate-1) > rateShare)
	if r := s.Source.Report; !r.NTP.IsZero() && r.Received.After(c.report) {
		c.report = r.Received
		offset := r.NTP.Sub(r.Received)
		c.offset.found(offset.Seconds(), offset.Abs() > offsetLimit)
	}
	c.set(drift.FPS, c.fps.lies, map[string]string{"announced": figure(s.Source.AnnouncedFPS), "measured": figure(measured)})
	facts := map[string]string{"rate": figure(rate)}
	if c.offset.known {
		facts["offset_s"] = figure(c.offset.value)
	}
	c.set(drift.Clock, c.rate.lies || c.offset.lies, facts)
}

func (c *claims) set(fault drift.Fault, raised bool, facts map[string]string) {
	if c.raised[fault] == raised {
		return
	}
	if c.raised == nil {
		c.raised = map[drift.Fault]bool{}
	}
	c.raised[fault] = raised
	c.tell(fault, raised, facts)
}

// again makes what lasts be told once more: the camera has another epoch.
func (c *claims) again() { c.raised = nil }

// end takes back what was told: whoever captures the camera next finds out by itself.
func (c *claims) end() {
	for _, fault := range []drift.Fault{drift.FPS, drift.Clock} {
		c.set(fault, false, map[string]string{})
	}
}

func figure(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }

// tellClaim tells that a camera's word is not, or is again, to be relied on. mu is not held.
func (c *camera) tellClaim(fault drift.Fault, raised bool, facts map[string]string) {
	e := events.Event{Area: "camera", Kind: "integrity", Name: c.cfg.Name, State: "cleared", Cause: string(fault), Facts: facts}
	if raised {
		e.State = "raised"
	}
	maps.Copy(e.Facts, c.epochFact())
	c.events.Tell(e)
}

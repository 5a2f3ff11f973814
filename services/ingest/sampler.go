package ingest

import (
	"time"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/sampling"
	"github.com/sightline-dev/sightline/streams"
)

// sampler picks pictures at a rate from a stream of any other rate, by the camera's own clock: what a camera announces as
// its frame rate cannot be trusted. A clock that stands still, runs slowly or jumps is not trusted either: then the time
// of arrival decides.
//
// While capacity is short it picks a share of that rate. A camera of which all pictures are wanted has no rate: there every
// picture adds the share to a credit, and a whole one is spent on a pick.
type sampler struct {
	fps     float64       // 0 picks all
	full    time.Duration // between two pictures at that rate
	every   time.Duration // and at this share
	share   float64
	credit  float64
	next    time.Duration
	last    time.Duration
	arrived time.Time // of the last pick
	begun   bool
}

// arrivalSlack is how much longer than two intervals nothing may be picked while pictures arrive.
const arrivalSlack = 500 * time.Millisecond

// leastEvery is the longest interval between two pictures, however small the share.
const leastEvery = time.Duration(float64(time.Second) / sampling.MinRate)

// shareOf is what a camera captures of its pictures while workers cannot keep up. One with delivery every_frame captures
// all: late is not wrong for it.
func shareOf(view *sampling.View, cfg config.Camera) func() float64 {
	if cfg.Delivery != streams.Freshest {
		return func() float64 { return 1 }
	}
	return func() float64 { return view.Share(cfg.Priority) }
}

func newSampler(fps float64) *sampler {
	s := &sampler{fps: max(fps, 0), share: 1}
	s.full = s.interval()
	s.every = s.full
	return s
}

func (s *sampler) interval() time.Duration {
	if s.fps == 0 {
		return 0
	}
	return time.Duration(float64(time.Second) / sampling.Rate(s.fps, s.share))
}

// lower sets the share that is picked from now on; 1 picks all that is wanted. The next picture comes when it is due at the
// new rate, counted from the last one.
func (s *sampler) lower(share float64) {
	if share == s.share {
		return
	}
	s.share, s.credit = share, 0
	every := s.interval()
	s.next += every - s.every
	s.every = every
}

// lowered reports whether less is picked than is wanted. A camera that is slower than what every camera keeps is not.
func (s *sampler) lowered() bool {
	return s.share < 1 && (s.fps == 0 || sampling.Rate(s.fps, s.share) < s.fps)
}

// pick reports whether the picture at pts, which arrived at that time, is wanted. A picture may come up to a quarter of an
// interval early, so that a 10 fps camera sampled at 10 fps loses none. After a jump of the clock (a reconnect) picking
// starts anew; a small step back is jitter.
func (s *sampler) pick(pts time.Duration, at time.Time) bool {
	if s.fps == 0 {
		return s.pickShare(at)
	}
	jump := s.last-pts > s.full || pts-s.last > 10*s.every+time.Second
	late := at.Sub(s.arrived) > 2*s.every+arrivalSlack
	s.last = pts
	if !s.begun || jump || late {
		s.begun, s.next, s.arrived = true, pts+s.every, at
		return true
	}
	if pts+s.every/4 < s.next {
		return false
	}
	s.arrived = at
	s.next += s.every
	if s.next <= pts { // fell behind: do not catch up with a burst
		s.next = pts + s.every
	}
	return true
}

func (s *sampler) pickShare(at time.Time) bool {
	const whole = 1 - 1e-9 // ten tenths add up to a little less than one
	if s.credit += s.share; s.begun && s.credit < whole && at.Sub(s.arrived) < leastEvery {
		return false
	}
	s.begun, s.arrived, s.credit = true, at, max(s.credit-1, 0)
	return true
}

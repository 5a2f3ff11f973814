package ingest

import "time"

// sampler picks pictures at a rate from a stream of any other rate, by the camera's own clock: what a camera announces as
// its frame rate cannot be trusted. A clock that stands still, runs slowly or jumps is not trusted either: then the time
// of arrival decides.
type sampler struct {
	every   time.Duration // 0 picks all
	next    time.Duration
	last    time.Duration
	arrived time.Time // of the last pick
	begun   bool
}

// arrivalSlack is how much longer than two intervals nothing may be picked while pictures arrive.
const arrivalSlack = 500 * time.Millisecond

func newSampler(fps float64) *sampler {
	if fps <= 0 {
		return &sampler{}
	}
	return &sampler{every: time.Duration(float64(time.Second) / fps)}
}

// pick reports whether the picture at pts, which arrived at that time, is wanted. A picture may come up to a quarter of an
// interval early, so that a 10 fps camera sampled at 10 fps loses none. After a jump of the clock (a reconnect) picking
// starts anew; a small step back is jitter.
func (s *sampler) pick(pts time.Duration, at time.Time) bool {
	if s.every == 0 {
		return true
	}
	jump := s.last-pts > s.every || pts-s.last > 10*s.every+time.Second
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

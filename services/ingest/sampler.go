package ingest

import "time"

// sampler picks pictures at a rate from a stream of any other rate, by the camera's own clock: what a camera
// announces as its frame rate cannot be trusted.
type sampler struct {
	every time.Duration // 0 picks all
	next  time.Duration
	last  time.Duration
	begun bool
}

func newSampler(fps float64) *sampler {
	if fps <= 0 {
		return &sampler{}
	}
	return &sampler{every: time.Duration(float64(time.Second) / fps)}
}

// pick reports whether the picture at pts is wanted. A picture may come up to half an interval of jitter early, so that
// a 10 fps camera sampled at 10 fps loses none. After a jump of the clock (a reconnect) picking starts anew.
func (s *sampler) pick(pts time.Duration) bool {
	if s.every == 0 {
		return true
	}
	jump := pts < s.last || pts-s.last > 10*s.every+time.Second
	s.last = pts
	if !s.begun || jump {
		s.begun, s.next = true, pts+s.every
		return true
	}
	if pts+s.every/4 < s.next {
		return false
	}
	s.next += s.every
	if s.next <= pts { // fell behind: do not catch up with a burst
		s.next = pts + s.every
	}
	return true
}

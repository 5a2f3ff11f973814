package integrity

import (
	"slices"
	"time"
)

const (
	// stillSlots of stillSlot each are looked at to tell a frozen picture.
	stillSlots = 10
	stillSlot  = 500 * time.Millisecond
	// fewStill slots with a picture in them say too little.
	fewStill = 4

	// A frozen picture that is coded anew, as most cameras do, changes a little from picture to picture, and more at a key
	// frame. stillUnknown is what it may change when it is not known how much is usual; otherwise stillUsual of what is
	// usual, within stillLeast and stillMost. No slot may have changed by more than a pulse.
	stillUnknown = 0.02
	stillUsual   = 0.035
	stillLeast   = 0.004
	stillMost    = 0.06
	pulseMost    = 0.6
	pulseUsual   = 0.5
)

// still remembers how much the last pictures changed: the most in each of the last slots of time.
type still struct {
	slots [stillSlots]float32 // negative: no picture
	at    int64               // number of the newest slot, in slots since 1970
	begun bool
}

func (s *still) reset() { *s = still{} }

func (s *still) add(at time.Time, diff float64) {
	slot := at.UnixNano() / int64(stillSlot)
	switch ahead := slot - s.at; {
	case !s.begun || ahead >= stillSlots:
		for i := range s.slots {
			s.slots[i] = -1
		}
		s.begun, s.at = true, slot
	case ahead > 0:
		for i := s.at + 1; i <= slot; i++ {
			s.slots[i%stillSlots] = -1
		}
		s.at = slot
	case ahead < 0:
		return
	}
	i := slot % stillSlots
	s.slots[i] = max(s.slots[i], float32(diff))
}

// look returns how much changed in the quieter slots and in the liveliest one, and whether the slots are as long as it takes to tell.
func (s *still) look(first time.Time) (quiet, most float64, enough bool) {
	var seen []float32
	var room [stillSlots]float32
	seen = room[:0]
	for _, v := range s.slots {
		if v >= 0 {
			seen = append(seen, v)
		}
	}
	if !s.begun || len(seen) < fewStill {
		return 0, 0, false
	}
	slices.Sort(seen)
	// All slots must be after the first picture; the one before the oldest may have been lively.
	full := (s.at-stillSlots+1)*int64(stillSlot) >= first.UnixNano()
	return float64(seen[len(seen)/4]), float64(seen[len(seen)-1]), full
}

// limits are what a picture of that view may change at most while it is frozen.
func stillLimits(v *view) (quiet, most float64) {
	if !v.ready() {
		return stillUnknown, pulseMost
	}
	quiet = min(max(stillUsual*v.Motion.quantile(0.5), stillLeast), stillMost)
	most = min(max(pulseUsual*v.Motion.quantile(0.5), 4*quiet), pulseMost)
	return quiet, most
}

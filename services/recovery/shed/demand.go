package shed

import (
	"math"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/pkg/sampling"
	"github.com/sightline-dev/sightline/streams"
)

// Camera is an enabled camera with delivery freshest.
type Camera struct {
	Priority int
	FPS      float64 // at full sampling; 0 is all that it sends
	MaxAge   time.Duration
	Models   []string
}

// full is the scalar at which nobody is lowered: a camera of the lowest priority captures all.
const full = sampling.MaxPriority / sampling.MinPriority

// leastShare is the smallest share that is written: the fastest camera's least rate is more.
const leastShare = 0.001

// share is what a priority keeps under a scalar.
func share(k float64, priority int) float64 {
	return min(1, max(leastShare, k*float64(priority)/sampling.MaxPriority))
}

// shares are what SAMPLING is told of a scalar, to three digits.
func shares(k float64) sampling.Shares {
	if k >= full {
		return nil
	}
	s := sampling.Shares{}
	for p := sampling.MinPriority; p <= sampling.MaxPriority; p++ {
		s[p] = max(leastShare, math.Round(share(k, p)*1000)/1000)
	}
	return s
}

// scalar is the inverse: what another leader decided. The largest share that is not full tells it best.
func scalar(s sampling.Shares) float64 {
	k, best := float64(full), 0.0
	for p, v := range s {
		if v < 1 && v > best {
			k, best = v*sampling.MaxPriority/float64(p), v
		}
	}
	return k
}

// demand is what cameras would send, as far as it is known: what they are configured to, corrected by what arrives.
type demand struct {
	cameras []Camera
	// scale is what arrives of what should: a camera may be away, or send less than is wanted of it.
	scale float64
	// unset is the rate of a camera of which all pictures are wanted.
	unset float64
	known bool
}

const (
	unsetRate          = 25.0 // until it is observed
	minUnset, maxUnset = 1.0, 120.0
	minScale, maxScale = 0.05, 1.3
	observeFor         = 3 * time.Second // over which what arrives is averaged
)

func newDemand() demand { return demand{scale: 1, unset: unsetRate} }

func (d *demand) fps(c Camera) float64 {
	if c.FPS > 0 {
		return c.FPS
	}
	return d.unset
}

// observe compares what arrived under a scalar with what should have.
func (d *demand) observe(dt time.Duration, k, arrived float64) {
	if math.IsNaN(arrived) {
		return
	}
	var known, open float64
	for _, c := range d.cameras {
		if c.FPS > 0 {
			known += sampling.Rate(c.FPS, share(k, c.Priority))
		} else {
			open += share(k, c.Priority)
		}
	}
	weight := 1.0
	if d.known {
		weight = 1 - math.Exp(-dt.Seconds()/observeFor.Seconds())
	}
	if open > 0 {
		rate := min(max((arrived-known)/open, minUnset), maxUnset)
		d.unset += weight * (rate - d.unset)
		known += open * d.unset
	}
	if known > 0 {
		d.scale += weight * (min(max(arrived/known, minScale), maxScale) - d.scale)
		d.known = true
	}
}

// at is what a model's group is offered per second under a scalar; model "" means every camera.
func (d *demand) at(k float64, model string) float64 {
	sum := 0.0
	for _, c := range d.cameras {
		if c.feeds(model) {
			sum += sampling.Rate(d.fps(c), share(k, c.Priority))
		}
	}
	return sum * d.scale
}

// count is how many cameras feed a model's group.
func (d *demand) count(model string) int {
	n := 0
	for _, c := range d.cameras {
		if c.feeds(model) {
			n++
		}
	}
	return n
}

// maxAge is what most cameras of a group allow, in seconds: the median. One that is in a greater hurry than the others would
// else decide how much of the capacity all of them may use.
func (d *demand) maxAge(model string) float64 {
	var ages []time.Duration
	for _, c := range d.cameras {
		if c.feeds(model) {
			ages = append(ages, c.MaxAge)
		}
	}
	if len(ages) == 0 {
		return streams.LiveMaxAge.Seconds()
	}
	slices.Sort(ages)
	return ages[len(ages)/2].Seconds()
}

func (c Camera) feeds(model string) bool {
	return model == "" || slices.Contains(c.Models, model)
}

// least is the scalar under which every camera is at its least rate: a smaller one lowers nobody any more.
func (d *demand) least() float64 {
	k := float64(full)
	for _, c := range d.cameras {
		if fps := d.fps(c); fps > sampling.MinRate {
			k = min(k, sampling.MinRate/fps*sampling.MaxPriority/float64(c.Priority))
		}
	}
	return max(k, leastShare)
}

// most is the smallest scalar under which nobody is lowered.
func (d *demand) most() float64 {
	k := 0.0
	for _, c := range d.cameras {
		k = max(k, sampling.MaxPriority/float64(c.Priority))
	}
	return k
}

// fit is the largest scalar under which a group is offered no more than rate.
func (d *demand) fit(rate float64, model string) float64 {
	low, high := d.least(), float64(full)
	if d.at(high, model) <= rate {
		return full
	}
	for range 40 {
		if k := math.Sqrt(low * high); d.at(k, model) <= rate {
			low = k
		} else {
			high = k
		}
	}
	return low
}

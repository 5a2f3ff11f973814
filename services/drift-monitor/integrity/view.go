package integrity

import (
	"math"
	"math/bits"
	"time"
)

const (
	// learnFor and learnFrames are how much must have been seen before anything is held against it.
	learnFor    = 15 * time.Second
	learnFrames = 15
	// forget is how long the view takes to follow slow changes, such as the sun's.
	forget = 10 * time.Minute
	// maxStep bounds what one picture stands for: silence is not evidence.
	maxStep = 2 * time.Second

	// A bit of the hash is steady when it is the same in so many pictures.
	steadyShare = 0.9
	// fewSteady bits say too little about a view.
	fewSteady = 16
)

// view is how a camera's pictures usually look.
type view struct {
	Frames int           `json:"frames"`
	Seen   time.Duration `json:"seen"` // how long it has been learnt from
	// Bits are the shares of pictures in which the bits of the hash were set.
	Bits       [64]float32 `json:"bits"`
	Luma       float64     `json:"luma"`
	Contrast   float64     `json:"contrast"`
	Saturation float64     `json:"saturation"`
	Sharpness  float64     `json:"sharpness"` // logarithm
	Detail     float64     `json:"detail"`    // logarithm of sharpness for its contrast
	Motion     motion      `json:"motion"`
}

func (v *view) ready() bool { return v.Frames >= learnFrames && v.Seen >= learnFor }

// learn takes a picture for a usual one. step is the time since the one before.
func (v *view) learn(o Observation, step time.Duration) {
	v.Frames++
	v.Seen += step
	rate := max(1/float64(v.Frames), min(float64(step)/float64(forget), 1))
	for i := range v.Bits {
		v.Bits[i] += float32(rate) * (float32(o.Hash>>i&1) - v.Bits[i])
	}
	follow := func(x *float64, to float64) { *x += rate * (to - *x) }
	follow(&v.Luma, o.Luma)
	follow(&v.Contrast, o.Contrast)
	follow(&v.Saturation, o.Saturation)
	follow(&v.Sharpness, math.Log(max(o.Sharpness, least)))
	follow(&v.Detail, math.Log(detail(o)))
	if o.Difference >= 0 {
		v.Motion.add(o.Difference, rate)
	}
}

const least = 0.01 // of a figure whose logarithm is taken

// detail is how sharp a picture is for its contrast: dimming a picture lowers both, blurring only this.
func detail(o Observation) float64 {
	return max(o.Sharpness, least) / max(o.Contrast*o.Contrast, least)
}

// steady are the bits of the hash that hardly change, and what they are.
func (v *view) steady() (mask, hash uint64) {
	for i, p := range v.Bits {
		switch {
		case i == 0: // it is always 0
		case p >= steadyShare:
			mask |= 1 << i
			hash |= 1 << i
		case p <= 1-steadyShare:
			mask |= 1 << i
		}
	}
	return mask, hash
}

// oddAcross and oddDown are the frequencies that change their sign when a picture is mirrored left to right, and upside
// down: bit v*8+u stands for frequency u across and v down.
const (
	oddAcross uint64 = 0xAAAAAAAAAAAAAAAA
	oddDown   uint64 = 0xFF00FF00FF00FF00
)

// distances are the shares of steady bits in which a hash differs from the usual view, as it is and turned. few is true when there are
// not enough of them to tell.
func (v *view) distances(hash uint64) (d distances, few bool) {
	mask, want := v.steady()
	n := bits.OnesCount64(mask)
	if n < fewSteady {
		return d, true
	}
	share := func(turned uint64) float64 { return float64(bits.OnesCount64((hash^want^turned)&mask)) / float64(n) }
	return distances{same: share(0), mirrored: share(oddAcross), upsideDown: share(oddDown), rotated: share(oddAcross ^ oddDown)}, false
}

type distances struct{ same, mirrored, upsideDown, rotated float64 }

// motion is a histogram of differences from picture to picture, in steps of a factor of the square root of 2.
type motion struct {
	Shares [motionSteps]float32 `json:"shares"`
	Sum    float32              `json:"sum"`
}

const (
	motionSteps = 36
	motionLeast = 0.001 // the upper end of the first step
)

func motionStep(diff float64) int {
	if diff <= motionLeast {
		return 0
	}
	return min(int(math.Ceil(2*math.Log2(diff/motionLeast))), motionSteps-1)
}

func (m *motion) add(diff, rate float64) {
	for i := range m.Shares {
		m.Shares[i] -= float32(rate) * m.Shares[i]
	}
	m.Shares[motionStep(diff)] += float32(rate)
	m.Sum += float32(rate) * (1 - m.Sum)
}

// quantile is the upper end of the step in which a share of all differences is reached; 0 when there were none.
func (m *motion) quantile(share float32) float64 {
	if m.Sum <= 0 {
		return 0
	}
	sum := float32(0)
	for i, s := range m.Shares {
		if sum += s; sum >= share*m.Sum {
			return motionLeast * math.Pow(2, float64(i)/2)
		}
	}
	return 255
}

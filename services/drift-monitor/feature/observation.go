package feature

import (
	"math"
	"math/bits"
	"time"
)

// An Observation is what is known of one picture and a model's answer to it.
type Observation struct {
	At time.Time // when it was captured
	// Width and Height are the picture's size in pixels, that of the boxes too.
	Width, Height float64
	// Luma, Contrast, Sharpness and Saturation are as in frame.Quality.
	Luma, Contrast, Sharpness, Saturation float64
	// Motion is the mean absolute difference of grey to the picture before, 0 to 255; NaN or negative when not measured.
	Motion float64
	// Hash is the perceptual hash of the picture.
	Hash uint64
	// Embedding describes the picture to a machine; nil where the model offers none.
	Embedding []float32
	// NoQuality says that the figures of the picture are not known; only the answer is.
	NoQuality bool

	Detections []Detection
}

// A Detection is one object in an answer.
type Detection struct {
	Class string
	Score float64
	Box   [4]float64 // x1, y1, x2, y2 in pixels
}

// hashBits are the bits of a perceptual hash; the first is always 0.
const hashBits = 64

// A View is what perceptual hashes of one view have in common: for each bit, how many of them had it set.
type View struct {
	Set   [hashBits]float32
	Count float32
}

// Add counts one hash.
func (v *View) Add(hash uint64) {
	v.Count++
	for h := hash; h != 0; h &= h - 1 {
		v.Set[bits.TrailingZeros64(h)]++
	}
}

// Merge adds the hashes of another.
func (v *View) Merge(o *View) {
	v.Count += o.Count
	for i, n := range o.Set {
		v.Set[i] += n
	}
}

// Distance is how many bits of a hash are, on average, not as in a hash of this view: about 5 to 12 for another picture of a
// busy view, about 31 for another view.
func (v *View) Distance(hash uint64) float64 {
	if v.Count == 0 {
		return 0
	}
	sum := float32(0)
	for i, n := range v.Set {
		if hash>>i&1 == 1 {
			n = v.Count - n
		}
		sum += n
	}
	return float64(sum / v.Count)
}

// turned are the bits of a hash whose frequencies change their sign when the picture is turned by half a circle: those of an
// odd sum of row and column.
func turned() (mask uint64) {
	for bit := range hashBits {
		if (bit%8+bit/8)%2 == 1 {
			mask |= 1 << bit
		}
	}
	return mask
}

// UpsideDown reports whether a hash is nearer to the view turned by half a circle than to the view, by more than chance.
func (v *View) UpsideDown(hash uint64) bool {
	const clearly = 10
	return v.Count > 0 && v.Distance(hash^turned())+clearly < v.Distance(hash)
}

// Measured reports whether the observation has a figure of motion.
func (o *Observation) Measured() bool { return o.Motion >= 0 && !math.IsInf(o.Motion, 0) }

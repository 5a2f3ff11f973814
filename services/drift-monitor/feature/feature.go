package feature

import (
	"fmt"
	"math"
)

// A Feature is one figure of a picture or of an answer.
type Feature uint8

// The features. Those up to Scene are of the input, the others of the output. Score and what follows are of single
// detections.
const (
	Luma       Feature = iota // mean grey, 0 to 255
	Contrast                  // standard deviation of grey, in octaves
	Sharpness                 // variance of the Laplacian, in octaves
	Saturation                // mean, 0 to 255
	Motion                    // mean difference to the picture before, in octaves
	Scene                     // bits of the perceptual hash that differ from the reference's
	Detections                // per picture, in octaves of one more than their number
	Score                     // 0 to 1
	Size                      // root of a box's area by the picture's, in octaves
	Aspect                    // height by width of a box, in octaves
	CenterX                   // of a box, share of the picture's width
	CenterY                   // of a box, share of the picture's height
	Count                     // how many features there are
)

// Names of what is compared but is no number on a scale.
const (
	Classes   = "classes"
	Embedding = "embedding"
)

// A Scale is how a feature's values are counted.
type Scale struct {
	Name      string
	Low, High float64 // values beyond count as these
	Least     float64 // the smallest change of the mean worth telling
	Octaves   bool    // values are logarithms to base 2
}

// All are the features in order.
func All() []Feature {
	all := make([]Feature, Count)
	for i := range all {
		all[i] = Feature(i)
	}
	return all
}

// Scale is the feature's scale. The least changes of the outputs: a fifth more or fewer objects, .05 of score, a fifth in
// size, a tenth of the picture in place.
func (f Feature) Scale() Scale {
	switch f {
	case Luma:
		return Scale{Name: "luma", High: 256, Least: 8}
	case Contrast:
		return Scale{Name: "contrast", Low: -1, High: 7, Least: 0.25, Octaves: true}
	case Sharpness:
		return Scale{Name: "sharpness", High: 14, Least: 0.3, Octaves: true}
	case Saturation:
		return Scale{Name: "saturation", High: 256, Least: 8}
	case Motion:
		return Scale{Name: "temporal_difference", Low: -4, High: 8, Least: 0.5, Octaves: true}
	case Scene:
		return Scale{Name: "scene", High: 64, Least: 4}
	case Detections:
		return Scale{Name: "detections", High: 8, Least: 0.3, Octaves: true}
	case Score:
		return Scale{Name: "score", High: 1, Least: 0.05}
	case Size:
		return Scale{Name: "size", Low: -8, Least: 0.25, Octaves: true}
	case Aspect:
		return Scale{Name: "aspect", Low: -4, High: 4, Least: 0.25, Octaves: true}
	case CenterX:
		return Scale{Name: "center_x", High: 1, Least: 0.1}
	case CenterY:
		return Scale{Name: "center_y", High: 1, Least: 0.1}
	case Count:
	}
	return Scale{Name: fmt.Sprintf("feature(%d)", uint8(f)), High: 1, Least: 1}
}

// String is the feature's name, as in metrics.
func (f Feature) String() string { return f.Scale().Name }

// Input reports whether the feature is of the picture, not of the answer.
func (f Feature) Input() bool { return f <= Scene }

// OfObjects reports whether the feature is of single detections.
func (f Feature) OfObjects() bool { return f >= Score && f < Count }

// Bins is how many bins the scale has: their centres are half of Least apart, from Low to High.
func (s Scale) Bins() int { return int(math.Ceil((s.High-s.Low)/s.width()-1e-9)) + 1 }

func (s Scale) width() float64 { return s.Least / 2 }

// Center is the value that bin i stands for.
func (s Scale) Center(i int) float64 { return s.Low + float64(i)*s.width() }

func octave(v float64) float64 { return math.Log2(max(v, 1.0/64)) }

// Values calls yield with every feature's values in one observation, on their scales. view is what Scene is measured
// against; nil leaves Scene out.
func Values(o *Observation, view *View, yield func(Feature, float64)) {
	if !o.NoQuality {
		yield(Luma, o.Luma)
		yield(Contrast, octave(o.Contrast))
		yield(Sharpness, octave(o.Sharpness))
		yield(Saturation, o.Saturation)
		if o.Measured() {
			yield(Motion, octave(o.Motion))
		}
		if view != nil && view.Count > 0 {
			yield(Scene, view.Distance(o.Hash))
		}
	}
	yield(Detections, math.Log2(1+float64(len(o.Detections))))
	if !(o.Width > 0 && o.Height > 0) {
		return
	}
	for i := range o.Detections {
		d := &o.Detections[i]
		w, h := d.Box[2]-d.Box[0], d.Box[3]-d.Box[1]
		if !(w > 0 && h > 0) {
			continue
		}
		yield(Score, d.Score)
		yield(Size, math.Log2(w*h/(o.Width*o.Height))/2)
		yield(Aspect, math.Log2(h/w))
		yield(CenterX, (d.Box[0]+d.Box[2])/2/o.Width)
		yield(CenterY, (d.Box[1]+d.Box[3])/2/o.Height)
	}
}

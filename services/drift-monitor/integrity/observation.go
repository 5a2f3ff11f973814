package integrity

import (
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/predictions"
)

// Observation is what one answer says about the picture that was looked at.
type Observation struct {
	At        time.Time // when it was captured
	Epoch     uint64
	Luma      float64
	Contrast  float64
	Sharpness float64
	// Saturation tells a camera that went over to infrared at night.
	Saturation float64
	Hash       uint64
	// Difference to the picture before; negative when it is not known.
	Difference float64
}

// FromPrediction reads an answer. It is false for gaps, and for answers without figures of the picture.
func FromPrediction(p predictions.Prediction) (Observation, bool) {
	if p.Kind != predictions.KindPrediction || p.Quality == nil {
		return Observation{}, false
	}
	name, err := frame.ParseName(p.Frame)
	if err != nil {
		return Observation{}, false
	}
	hash, err := strconv.ParseUint(p.Quality.PerceptualHash, 16, 64)
	if err != nil {
		return Observation{}, false
	}
	o := Observation{
		At: p.CapturedAt, Epoch: name.Epoch, Luma: p.Quality.Luma, Contrast: p.Quality.Contrast,
		Sharpness: p.Quality.Sharpness, Saturation: p.Quality.Saturation, Hash: hash, Difference: -1,
	}
	if d := p.Quality.TemporalDifference; d != nil {
		o.Difference = *d
	}
	return o, true
}

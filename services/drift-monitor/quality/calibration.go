package quality

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/sightline-dev/sightline/pkg/statistics"
)

// A Calibration turns the scores of one version of a model into the probability that a detection is right, class by class.
type Calibration struct {
	Model   string                      `json:"model"`
	Version string                      `json:"version"`
	Classes map[string]ClassCalibration `json:"classes"`
}

// ClassCalibration is that of one class.
type ClassCalibration struct {
	statistics.Isotonic
	// Count is how many labelled detections it was fitted to.
	Count int `json:"count"`
}

// fewFit is the least number of detections that a class is calibrated with.
const fewFit = 100

// maxPoints bounds how many bends a stored calibration may have.
const maxPoints = 4096

// Fit calibrates every class that has enough outcomes.
func Fit(model, version string, outcomes map[string][]Outcome) (Calibration, error) {
	c := Calibration{Model: model, Version: version, Classes: map[string]ClassCalibration{}}
	for _, class := range slices.Sorted(maps.Keys(outcomes)) {
		of := outcomes[class]
		if len(of) < fewFit {
			continue
		}
		scores, right := make([]float64, len(of)), make([]float64, len(of))
		for i, o := range of {
			scores[i] = o.Score
			if o.Right {
				right[i] = 1
			}
		}
		fit, err := statistics.FitIsotonic(scores, right, nil)
		if err != nil {
			return c, fmt.Errorf("calibrate %s: %w", class, err)
		}
		c.Classes[class] = ClassCalibration{Isotonic: fit, Count: len(of)}
	}
	if len(c.Classes) == 0 {
		return c, fmt.Errorf("calibrate %s: no class has %d labelled detections", model, fewFit)
	}
	return c, nil
}

// DecodeCalibration reads the JSON of a calibration and refuses what Fit does not make.
func DecodeCalibration(data []byte) (Calibration, error) {
	var c Calibration
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("calibration: %w", err)
	}
	if len(c.Classes) == 0 {
		return c, errors.New("calibration: no classes")
	}
	for name, class := range c.Classes {
		if class.Count < 1 || len(class.Scores) > maxPoints {
			return c, fmt.Errorf("calibration of %s: %d bends from %d detections", name, len(class.Scores), class.Count)
		}
		if err := class.Validate(); err != nil {
			return c, fmt.Errorf("calibration of %s: %w", name, err)
		}
		for _, v := range class.Values {
			if !(v >= 0 && v <= 1) {
				return c, fmt.Errorf("calibration of %s: a probability of %v", name, v)
			}
		}
	}
	return c, nil
}

// Scores adds up calibrated scores of unlabelled detections, for as long as one likes. The zero value is empty.
type Scores struct {
	Sum       float64 `json:"sum"`
	Spread    float64 `json:"spread"` // sum of p(1-p)
	Fitted    float64 `json:"fitted"` // sum of p(1-p)/fitted detections, of the curve's own uncertainty
	Count     int     `json:"count"`
	Unknown   int     `json:"unknown"`   // detections of classes without a calibration
	Pictures  int     `json:"pictures"`  // with detections
	Clustered float64 `json:"clustered"` // sum over pictures of the square of (sum of p)
	Sizes     float64 `json:"sizes"`     // and of the square of detections
	Cross     float64 `json:"cross"`     // and of their product
}

// Add takes the answers about one picture.
func (s *Scores) Add(c *Calibration, answers []Answer) {
	sum, n := 0.0, 0.0
	for _, a := range answers {
		class, ok := c.Classes[a.Class]
		p := class.At(a.Score)
		if !ok || math.IsNaN(p) {
			s.Unknown++
			continue
		}
		sum += p
		n++
		s.Spread += p * (1 - p)
		s.Fitted += p * (1 - p) / float64(class.Count)
	}
	if n == 0 {
		return
	}
	s.Sum += sum
	s.Count += int(n)
	s.Pictures++
	s.Clustered += sum * sum
	s.Sizes += n * n
	s.Cross += sum * n
}

// mostUnknown is the largest share of detections without a calibration.
const mostUnknown = 0.1

// Precision is the mean of the calibrated scores. Its variance is the sum of that of the detections being right or not, that
// of the calibration curve (p(1-p)/m where m detections fitted it), and that of pictures being different (as in share). It is
// false for fewer than FewScores detections, or when a tenth of all has no calibration.
func (s *Scores) Precision() (Estimate, bool) {
	e := Estimate{Count: s.Count}
	if s.Count < FewScores || s.Pictures < FewPictures || float64(s.Unknown) > mostUnknown*float64(s.Count+s.Unknown) {
		return e, false
	}
	n, k := float64(s.Count), float64(s.Pictures)
	e.Value = s.Sum / n
	between := k / (k - 1) * max(s.Clustered-2*e.Value*s.Cross+e.Value*e.Value*s.Sizes, 0) / (n * n)
	half := z * math.Sqrt(s.Spread/(n*n)+s.Fitted/n+between)
	e.Low, e.High = max(0, e.Value-half), min(1, e.Value+half)
	return e, true
}

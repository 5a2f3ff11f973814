package statistics

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

const maxCalibrationBins = 10_000

// Isotonic is a calibration that never falls: of detection scores to the probability that a detection is right, say. It is
// plain data, to be stored as JSON; [Isotonic.Validate] what was.
type Isotonic struct {
	// Scores are where the calibration bends, ascending.
	Scores []float64 `json:"scores"`
	// Values are what it is there; in between it is linear, beyond the ends it stays as at the end.
	Values []float64 `json:"values"`
}

// FitIsotonic finds the non-decreasing values that are closest to outcomes in weighted squares: pool adjacent violators
// (Ayer and others 1955). Equal scores are one point. weights may be nil, for 1 each. Agrees with scikit-learn's
// IsotonicRegression with out_of_bounds='clip'.
func FitIsotonic(scores, outcomes, weights []float64) (Isotonic, error) {
	if err := errors.Join(checkFinite("the list of scores", scores, 1), checkFinite("the list of outcomes", outcomes, 1)); err != nil {
		return Isotonic{}, fmt.Errorf("isotonic: %w", err)
	}
	if len(outcomes) != len(scores) || weights != nil && len(weights) != len(scores) {
		return Isotonic{}, fmt.Errorf("isotonic: %d scores, %d outcomes, %d weights", len(scores), len(outcomes), len(weights))
	}
	for i, w := range weights {
		if !(w > 0 && w <= maxMagnitude) {
			return Isotonic{}, fmt.Errorf("isotonic: weight %d is %v", i, w)
		}
	}
	points := make([]block, len(scores))
	for i := range scores {
		points[i] = block{first: scores[i], last: scores[i], value: outcomes[i], weight: 1}
		if weights != nil {
			points[i].weight = weights[i]
		}
	}
	slices.SortStableFunc(points, func(a, b block) int {
		switch {
		case a.first < b.first:
			return -1
		case a.first > b.first:
			return 1
		}
		return 0
	})
	distinct := pool(points, func(a, b block) bool { return a.first == b.first })
	var out Isotonic
	for _, b := range pool(distinct, func(a, b block) bool { return a.value >= b.value }) {
		out.Scores, out.Values = append(out.Scores, b.first), append(out.Values, b.value)
		if b.last > b.first {
			out.Scores, out.Values = append(out.Scores, b.last), append(out.Values, b.value)
		}
	}
	return out, nil
}

// block is a stretch of scores with one value.
type block struct {
	first, last, value, weight float64
}

// pool joins each block with the ones before it for as long as joined says so.
func pool(blocks []block, joined func(before, after block) bool) []block {
	var out []block
	for _, b := range blocks {
		for len(out) > 0 && joined(out[len(out)-1], b) {
			before := out[len(out)-1]
			out = out[:len(out)-1]
			sum := before.weight + b.weight
			b = block{first: before.first, last: b.last, weight: sum, value: before.value + (b.value-before.value)*(b.weight/sum)}
		}
		out = append(out, b)
	}
	return out
}

// At is the calibrated value of a score, NaN of NaN, and NaN when nothing was fitted.
func (c Isotonic) At(score float64) float64 {
	n := min(len(c.Scores), len(c.Values))
	if n == 0 || math.IsNaN(score) {
		return math.NaN()
	}
	i := above(c.Scores[:n], score)
	switch i {
	case 0:
		return c.Values[0]
	case n:
		return c.Values[n-1]
	}
	part := (score - c.Scores[i-1]) / (c.Scores[i] - c.Scores[i-1])
	return c.Values[i-1] + (c.Values[i]-c.Values[i-1])*part
}

// Validate reports a calibration that was not fitted.
func (c Isotonic) Validate() error {
	if len(c.Scores) != len(c.Values) {
		return fmt.Errorf("calibration: %d scores, %d values", len(c.Scores), len(c.Values))
	}
	if err := errors.Join(checkFinite("the list of scores", c.Scores, 1), checkFinite("the list of values", c.Values, 1)); err != nil {
		return fmt.Errorf("calibration: %w", err)
	}
	for i := 1; i < len(c.Scores); i++ {
		if c.Scores[i] <= c.Scores[i-1] || c.Values[i] < c.Values[i-1] {
			return fmt.Errorf("calibration: point %d is not above the one before", i)
		}
	}
	return nil
}

// CalibrationError is the expected calibration error: the mean distance between what probabilities say and what happened, over
// bins of equal width from 0 to 1, each weighted by how many values it has (Naeini and others 2015; Guo and others 2017 use
// 15 bins). It depends on the number of bins, and is above 0 by chance when there are few values.
func CalibrationError(probabilities []float64, happened []bool, bins int) (float64, error) {
	if err := checkOutcomes(probabilities, happened); err != nil {
		return 0, fmt.Errorf("calibration error: %w", err)
	}
	if bins < 1 || bins > maxCalibrationBins {
		return 0, fmt.Errorf("calibration error: %d bins are not 1 to %d", bins, maxCalibrationBins)
	}
	off := make([]float64, bins) // what was said less what happened
	for i, p := range probabilities {
		bin := min(bins-1, int(p*float64(bins)))
		off[bin] += p
		if happened[i] {
			off[bin]--
		}
	}
	sum := 0.0
	for _, v := range off {
		sum += math.Abs(v)
	}
	return sum / float64(len(probabilities)), nil
}

// Brier is the mean squared distance between probabilities and what happened, 0 or 1: Brier 1950. 0 is perfect, .25 is what
// "one half" always gets.
func Brier(probabilities []float64, happened []bool) (float64, error) {
	if err := checkOutcomes(probabilities, happened); err != nil {
		return 0, fmt.Errorf("brier: %w", err)
	}
	sum := 0.0
	for i, p := range probabilities {
		if happened[i] {
			p = 1 - p
		}
		sum += p * p
	}
	return sum / float64(len(probabilities)), nil
}

func checkOutcomes(probabilities []float64, happened []bool) error {
	if len(probabilities) != len(happened) {
		return fmt.Errorf("%d probabilities, %d outcomes", len(probabilities), len(happened))
	}
	if len(probabilities) == 0 {
		return ErrEmpty
	}
	for i, p := range probabilities {
		if !(p >= 0 && p <= 1) {
			return fmt.Errorf("probability %d is %v", i, p)
		}
	}
	return nil
}

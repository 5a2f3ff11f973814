package statistics

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat"
)

// MinSpread is the least standard deviation by which [WassersteinNormed] divides, as in Evidently: a reference that does not
// vary would make any difference infinite.
const MinSpread = 0.001

// Wasserstein is the earth mover's distance of order 1 between two samples, in units of their values: the area between
// their distribution functions. Agrees with scipy.stats.wasserstein_distance.
func Wasserstein(ref, cur []float64) (float64, error) {
	d, err := areaBetween(ref, cur, math.Abs)
	if err != nil {
		return 0, fmt.Errorf("wasserstein: %w", err)
	}
	return d, nil
}

// WassersteinNormed is [Wasserstein] in standard deviations of the reference (over n, not n-1), at least [MinSpread] each:
// the figure that Evidently compares with .1.
func WassersteinNormed(ref, cur []float64) (float64, error) {
	d, err := Wasserstein(ref, cur)
	if err != nil {
		return 0, err
	}
	return d / max(MinSpread, stat.PopStdDev(ref, nil)), nil
}

// Energy is the energy distance between two samples (Szekely and Rizzo): the root of twice the integral of the squared
// difference between their distribution functions. Agrees with scipy.stats.energy_distance.
func Energy(ref, cur []float64) (float64, error) {
	d, err := areaBetween(ref, cur, func(d float64) float64 { return d * d })
	if err != nil {
		return 0, fmt.Errorf("energy distance: %w", err)
	}
	return math.Sqrt(2 * d), nil
}

// areaBetween integrates a measure of the difference between two distribution functions.
func areaBetween(ref, cur []float64, measure func(d float64) float64) (float64, error) {
	r, c, err := sortedBoth(ref, cur, 1)
	if err != nil {
		return 0, err
	}
	var area, last float64
	var i, j int
	eachValue(r, c, func(v float64, inR, inC int) {
		if i+j > 0 {
			area += measure(float64(i)/float64(len(r))-float64(j)/float64(len(c))) * (v - last)
		}
		i, j, last = i+inR, j+inC, v
	})
	return area, nil
}

package statistics

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
)

const (
	// FloorEvidently is the least share of a bin in Evidently's PSI.
	FloorEvidently = 1e-4
	// FloorDeepchecks is the least share of a category in Deepchecks' PSI.
	FloorDeepchecks = 0.01
)

// shares are counts of bins or categories as parts of their sum.
func shares(ref, cur []float64) (p, q []float64, err error) {
	if err := checkCounts(ref, cur); err != nil {
		return nil, nil, err
	}
	p, q = make([]float64, len(ref)), make([]float64, len(cur))
	ofRef, ofCur := floats.Sum(ref), floats.Sum(cur)
	for i := range p {
		p[i], q[i] = ref[i]/ofRef, cur[i]/ofCur
	}
	return p, q, nil
}

func checkCounts(ref, cur []float64) error {
	if len(ref) != len(cur) {
		return fmt.Errorf("%s has %d counts, %s has %d", reference, len(ref), current, len(cur))
	}
	return errors.Join(checkSum(reference, ref), checkSum(current, cur))
}

func checkSum(name string, counts []float64) error {
	for i, n := range counts {
		if !(n >= 0 && n <= maxMagnitude) {
			return fmt.Errorf("count %d of %s is %v", i, name, n)
		}
	}
	if floats.Sum(counts) == 0 {
		return fmt.Errorf("%s counts nothing: %w", name, ErrEmpty)
	}
	return nil
}

// PSI is the population stability index of counts by bin or category: the sum of (q-p)*ln(q/p) over the shares p of the
// reference and q of the current sample.
//
// An empty bin would make it infinite. The rule here: a share below floor counts as floor, and the others stay as they are.
// The answer depends on floor by a factor ([FloorEvidently] 1e-4, [FloorDeepchecks] .01), so compare only figures with the
// same one; Evidently replaces shares of nothing alone, which is the same up to 1/floor values. Usual reading: below .1 is
// stable, above .2 has shifted; but see [PSINoise].
func PSI(ref, cur []float64, floor float64) (float64, error) {
	p, q, err := shares(ref, cur)
	if err != nil {
		return 0, fmt.Errorf("psi: %w", err)
	}
	if !(floor > 0 && floor < 1) {
		return 0, fmt.Errorf("psi: floor %v is not between 0 and 1", floor)
	}
	sum := 0.0
	for i := range p {
		a, b := max(floor, p[i]), max(floor, q[i])
		sum += (b - a) * math.Log(b/a)
	}
	return sum, nil
}

// PSINoise is about what [PSI] comes to between samples of n and m values of the same distribution: (bins-1)*(1/n+1/m), as
// PSI is close to a chi-square statistic of that many degrees of freedom (Yurdakul 2018, Statistical properties of population
// stability index). With 10 bins and 100 values each it is .18, above most alarm thresholds. It is infinite when n or m is
// not positive; both may be effective sizes.
func PSINoise(bins int, n, m float64) float64 {
	if bins <= 1 {
		return 0
	}
	if !(n > 0 && m > 0) {
		return math.Inf(1)
	}
	return float64(bins-1) * (1/n + 1/m)
}

// JensenShannon is the Jensen-Shannon distance of counts by bin or category: the square root of the divergence, with
// logarithms to a base: math.E, or 2 for a distance from 0 to 1. Agrees with scipy.spatial.distance.jensenshannon.
func JensenShannon(ref, cur []float64, base float64) (float64, error) {
	p, q, err := shares(ref, cur)
	if err != nil {
		return 0, fmt.Errorf("jensen-shannon: %w", err)
	}
	if !(base > 1) || math.IsInf(base, 0) {
		return 0, fmt.Errorf("jensen-shannon: logarithms to base %v", base)
	}
	return math.Sqrt(max(0, stat.JensenShannon(p, q)) / math.Log(base)), nil
}

// Hellinger is the Hellinger distance of counts by bin or category, from 0 to 1: the root of half the sum of
// (sqrt(p)-sqrt(q))^2. Equal shares give exactly 0, which the usual shorter formula does not.
func Hellinger(ref, cur []float64) (float64, error) {
	p, q, err := shares(ref, cur)
	if err != nil {
		return 0, fmt.Errorf("hellinger: %w", err)
	}
	sum := 0.0
	for i := range p {
		d := math.Sqrt(p[i]) - math.Sqrt(q[i])
		sum += d * d
	}
	return min(1, math.Sqrt(sum/2)), nil
}

// TotalVariation is the total variation distance of counts by bin or category, from 0 to 1: the share that would have to
// move to another bin.
func TotalVariation(ref, cur []float64) (float64, error) {
	p, q, err := shares(ref, cur)
	if err != nil {
		return 0, fmt.Errorf("total variation: %w", err)
	}
	return min(1, floats.Distance(p, q, 1)/2), nil
}

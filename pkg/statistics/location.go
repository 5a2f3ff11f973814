package statistics

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// WelchTest is what [Welch] comes to.
type WelchTest struct {
	Test // the statistic is t, of the reference's mean less the current one

	// Freedom is the degrees of freedom of Student's distribution, which need not be whole.
	Freedom float64
}

// Welch tests whether two samples have the same mean, whatever their variances: Welch 1947, two-sided. Agrees with
// scipy.stats.ttest_ind, equal_var=False. It is ErrConstant when neither sample varies.
func Welch(ref, cur []float64) (WelchTest, error) {
	if err := checkBoth(ref, cur, 2); err != nil {
		return WelchTest{}, fmt.Errorf("welch: %w", err)
	}
	n, m := float64(len(ref)), float64(len(cur))
	meanRef, varRef := stat.MeanVariance(ref, nil)
	meanCur, varCur := stat.MeanVariance(cur, nil)
	of, oc := varRef/n, varCur/m
	if constant(ref) && constant(cur) || of+oc == 0 {
		return WelchTest{}, fmt.Errorf("welch: %w", ErrConstant)
	}
	share := of / (of + oc) // of the reference in the variance of the difference
	w := WelchTest{Freedom: 1 / (share*share/(n-1) + (1-share)*(1-share)/(m-1))}
	w.Statistic = (meanRef - meanCur) / math.Sqrt(of+oc)
	w.P = 2 * distuv.StudentsT{Sigma: 1, Nu: w.Freedom}.CDF(-math.Abs(w.Statistic))
	return w, nil
}

// MannWhitney tests whether values of one sample tend to be larger than those of the other, two-sided. The statistic is U of
// the reference: in how many pairs its value is the larger one, ties counting half. The p-value is of the normal limit,
// with the variance that ties leave. Agrees with scipy.stats.mannwhitneyu, method 'asymptotic'. Samples that are one value
// throughout give p = 1.
func MannWhitney(ref, cur []float64, continuity Continuity) (Test, error) {
	r, c, err := sortedBoth(ref, cur, 1)
	if err != nil {
		return Test{}, fmt.Errorf("mann-whitney: %w", err)
	}
	n, m := float64(len(r)), float64(len(c))
	u := larger(r, c)
	sigma := math.Sqrt(shiftVariance(n, m, tied(r, c)))
	if !(sigma > 0) {
		return Test{Statistic: u, P: 1}, nil
	}
	beyond := math.Abs(u - n*m/2)
	if continuity == Corrected {
		beyond -= 0.5
	}
	// The lower tail: the upper one is one less the rest, which rounds small p-values to 0.
	return Test{Statistic: u, P: min(1, 2*distuv.UnitNormal.CDF(-beyond/sigma))}, nil
}

// CommonLanguage is the probability that a value of the current sample is larger than one of the reference, ties counting
// half: .5 when neither tends to be larger. It is U/(n*m): Vargha and Delaney 2000, and Kayenta's 'cles' effect size.
func CommonLanguage(ref, cur []float64) (float64, error) {
	r, c, err := sortedBoth(ref, cur, 1)
	if err != nil {
		return 0, fmt.Errorf("common language effect size: %w", err)
	}
	return larger(c, r) / (float64(len(r)) * float64(len(c))), nil
}

// LocationShift estimates by how much the current sample lies above the reference, with an interval: Hodges and Lehmann's
// median of all differences, and those differences at which the Mann-Whitney test, corrected for continuity, begins to
// reject. It is what R's wilcox.test(current, reference, conf.int=TRUE, exact=FALSE) and Kayenta approach by a search for a
// root; this takes the differences themselves, in time in proportion to n+m and without storing them.
//
// Where samples are so small that the test can reject nothing, the interval is all differences. Kayenta passes a metric
// unless the interval lies beyond +-.25 of the estimate.
func LocationShift(ref, cur []float64, confidence float64) (Interval, error) {
	r, c, err := sortedBoth(ref, cur, 1)
	if err == nil {
		err = checkConfidence(confidence)
	}
	if err != nil {
		return Interval{}, fmt.Errorf("location shift: %w", err)
	}
	n, m := float64(len(c)), float64(len(r))
	// Shifted by what is no difference, values of one sample tie with none of the other.
	sigma := math.Sqrt(shiftVariance(n, m, tied(c, nil)+tied(r, nil)))
	z := distuv.UnitNormal.Quantile((1 + confidence) / 2)
	first := max(1, int(math.Ceil(n*m/2-0.5-z*sigma)))
	pairs := len(r) * len(c)
	return Interval{
		Low:      nthDifference(c, r, first),
		Estimate: nthDifference(c, r, (pairs+1)/2)/2 + nthDifference(c, r, pairs/2+1)/2,
		High:     nthDifference(c, r, pairs+1-first),
	}, nil
}

// larger is in how many pairs the value of a is larger, ties counting half.
func larger(a, b []float64) float64 {
	u, below := 0.0, 0
	eachValue(a, b, func(_ float64, inA, inB int) {
		u += float64(inA) * (float64(below) + float64(inB)/2)
		below += inB
	})
	return u
}

// tied is what ties take away: the sum of t^3-t over groups of t equal values.
func tied(a, b []float64) float64 {
	sum := 0.0
	eachValue(a, b, func(_ float64, inA, inB int) {
		t := float64(inA + inB)
		sum += t*t*t - t
	})
	return sum
}

// shiftVariance is the variance of U.
func shiftVariance(n, m, ties float64) float64 {
	return n * m / 12 * (n + m + 1 - ties/((n+m)*(n+m-1)))
}

// nthDifference is the nth smallest, from 1, of all differences of a value of a less one of b. It searches among floats,
// which are ordered as the whole numbers that they are stored as.
func nthDifference(a, b []float64, nth int) float64 {
	// a ascends, so where b begins to be too small only moves on.
	atMost := func(d float64) int {
		count, from := 0, 0
		for _, v := range a {
			for from < len(b) && v-b[from] > d {
				from++
			}
			if from == len(b) {
				break
			}
			count += len(b) - from
		}
		return count
	}
	low, high := orderOf(a[0]-b[len(b)-1]), orderOf(a[len(a)-1]-b[0])
	for low < high {
		middle := low + int64((uint64(high)-uint64(low))/2) //nolint:gosec // the difference of two int64 fits, half of it is an int64
		if atMost(floatAt(middle)) >= nth {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return floatAt(low)
}

// orderOf numbers the floats in ascending order; floatAt is its inverse.
func orderOf(v float64) int64 {
	bits := int64(math.Float64bits(v)) //nolint:gosec // the same bits
	if bits < 0 {
		return math.MinInt64 - bits
	}
	return bits
}

func floatAt(order int64) float64 {
	if order < 0 {
		order = math.MinInt64 - order
	}
	return math.Float64frombits(uint64(order)) //nolint:gosec // the same bits
}

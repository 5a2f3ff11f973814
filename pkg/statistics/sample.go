package statistics

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

var (
	// ErrEmpty means that a sample has too few values for the question: nothing can be said, which is not "no difference".
	ErrEmpty = errors.New("too few values")
	// ErrConstant means that values do not vary, and that what was asked for is a share of their variation.
	ErrConstant = errors.New("values do not vary")
)

// Test is what a test of "both samples come from the same distribution" comes to.
type Test struct {
	// Statistic is the measure of difference, as the test defines it.
	Statistic float64
	// P is the probability of a difference at least that large between samples that do come from the same distribution.
	P float64
}

// Interval is an estimate with the limits of its confidence interval.
type Interval struct {
	Low, Estimate, High float64
}

// Alternative is the kind of difference that a test looks for.
type Alternative int

const (
	// TwoSided looks for any difference.
	TwoSided Alternative = iota
	// Less is SciPy's 'less': the reference's distribution function lies below the current one, so its values are larger.
	Less
	// Greater is SciPy's 'greater': the reference's distribution function lies above, so its values are smaller.
	Greater
)

// Continuity says whether half a unit is taken off a difference of counts before a continuous distribution judges it.
type Continuity bool

const (
	// Corrected takes off the half unit: SciPy's default.
	Corrected Continuity = true
	// Uncorrected does not.
	Uncorrected Continuity = false
)

const (
	reference = "the reference"
	current   = "the current sample"
	// maxMagnitude bounds values so that no sum of their squares leaves the range of floats. No measure comes near it.
	maxMagnitude = 1e100
)

// checkFinite wants at least least values, all of them finite and of a sane size.
func checkFinite(name string, x []float64, least int) error {
	if len(x) < least {
		return fmt.Errorf("%s has %d values, at least %d are needed: %w", name, len(x), least, ErrEmpty)
	}
	for i, v := range x {
		if math.IsNaN(v) || math.Abs(v) > maxMagnitude {
			return fmt.Errorf("value %d of %s is %v", i, name, v)
		}
	}
	return nil
}

func checkBoth(ref, cur []float64, least int) error {
	return errors.Join(checkFinite(reference, ref, least), checkFinite(current, cur, least))
}

// sortedBoth checks two samples and returns them in ascending order.
func sortedBoth(ref, cur []float64, least int) (r, c []float64, err error) {
	if err := checkBoth(ref, cur, least); err != nil {
		return nil, nil, err
	}
	return ascending(ref), ascending(cur), nil
}

func ascending(x []float64) []float64 {
	if slices.IsSorted(x) {
		return x
	}
	s := slices.Clone(x)
	slices.Sort(s)
	return s
}

// constant asks the values themselves: a variance of equal values need not come out as 0.
func constant(x []float64) bool {
	for _, v := range x {
		if v != x[0] {
			return false
		}
	}
	return true
}

// eachValue walks two ascending samples at once: one visit a distinct value, with how many of a and of b equal it.
func eachValue(a, b []float64, visit func(v float64, inA, inB int)) {
	for i, j := 0, 0; i < len(a) || j < len(b); {
		v := math.Inf(1)
		if i < len(a) {
			v = a[i]
		}
		if j < len(b) {
			v = min(v, b[j])
		}
		i0, j0 := i, j
		for i < len(a) && a[i] == v {
			i++
		}
		for j < len(b) && b[j] == v {
			j++
		}
		visit(v, i-i0, j-j0)
	}
}

func checkConfidence(confidence float64) error {
	if !(confidence > 0 && confidence < 1) {
		return fmt.Errorf("confidence %v is not between 0 and 1", confidence)
	}
	return nil
}

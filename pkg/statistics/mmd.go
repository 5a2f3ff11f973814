package statistics

import (
	"fmt"
	"math"
	"slices"
)

// Discrepancy is the squared maximum mean discrepancy between two sets of vectors.
type Discrepancy struct {
	// Unbiased is 0 on average when both sets have one distribution, and may be below 0.
	Unbiased float64
	// Biased counts the pairs of a vector with itself too: never below 0, and larger the fewer vectors there are.
	Biased float64
	// Sigma2 is the squared width of the kernel that was used.
	Sigma2 float64
}

// MMD2 is the squared maximum mean discrepancy between two sets of vectors under the kernel exp(-|x-y|^2/(2*sigma2)): Gretton
// and others 2012, A kernel two-sample test, equations 3 and 5. With sigma2 = 0 the width is the median heuristic: half the
// median of the squared distances between all vectors of both sets. To compare windows with each other, fix the width of the
// reference. It takes time in proportion to the square of the number of vectors: some hundreds are enough.
func MMD2(ref, cur [][]float64, sigma2 float64) (Discrepancy, error) {
	if err := checkVectors(ref, cur); err != nil {
		return Discrepancy{}, fmt.Errorf("mmd: %w", err)
	}
	if math.IsNaN(sigma2) || math.IsInf(sigma2, 0) || sigma2 < 0 {
		return Discrepancy{}, fmt.Errorf("mmd: squared width %v of the kernel", sigma2)
	}
	inRef, inCur, between := within(ref), within(cur), between(ref, cur)
	if sigma2 == 0 {
		if sigma2 = median(slices.Concat(inRef, inCur, between)) / 2; sigma2 == 0 {
			return Discrepancy{}, fmt.Errorf("mmd: half of the vectors or more are the same, give a width of the kernel: %w", ErrConstant)
		}
	}
	kernel := func(distances []float64) float64 {
		sum := 0.0
		for _, d := range distances {
			sum += math.Exp(-d / (2 * sigma2))
		}
		return sum
	}
	n, m := float64(len(ref)), float64(len(cur))
	withinRef, withinCur, across := 2*kernel(inRef), 2*kernel(inCur), 2*kernel(between)/(n*m)
	d := Discrepancy{
		Unbiased: withinRef/(n*(n-1)) + withinCur/(m*(m-1)) - across,
		Biased:   max(0, (withinRef+n)/(n*n)+(withinCur+m)/(m*m)-across),
		Sigma2:   sigma2,
	}
	return d, nil
}

func checkVectors(ref, cur [][]float64) error {
	for _, set := range []struct {
		name    string
		vectors [][]float64
	}{{reference, ref}, {current, cur}} {
		if len(set.vectors) < 2 {
			return fmt.Errorf("%s has %d vectors, at least 2 are needed: %w", set.name, len(set.vectors), ErrEmpty)
		}
		for i, v := range set.vectors {
			if len(v) != len(ref[0]) || len(v) == 0 {
				return fmt.Errorf("vector %d of %s has %d values, the first one of the reference has %d", i, set.name, len(v), len(ref[0]))
			}
			if err := checkFinite(fmt.Sprintf("vector %d of %s", i, set.name), v, 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// within is the squared distance of each pair of vectors.
func within(set [][]float64) []float64 {
	out := make([]float64, 0, len(set)*(len(set)-1)/2)
	for i, x := range set {
		for _, y := range set[:i] {
			out = append(out, squaredDistance(x, y))
		}
	}
	return out
}

// between is the squared distance of each vector of a from each of b.
func between(a, b [][]float64) []float64 {
	out := make([]float64, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			out = append(out, squaredDistance(x, y))
		}
	}
	return out
}

func squaredDistance(x, y []float64) float64 {
	sum := 0.0
	for k := range x {
		sum += (x[k] - y[k]) * (x[k] - y[k])
	}
	return sum
}

// median sorts x.
func median(x []float64) float64 {
	slices.Sort(x)
	return quantile(x, 0.5)
}

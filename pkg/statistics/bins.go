package statistics

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// SturgesEdges are the edges of bins of equal width over both samples together, ceil(log2(n)+1) of them as Sturges 1926 has
// it and numpy.histogram_bin_edges with 'sturges' computes it. Evidently's binned measures use them. They move with what is
// judged; [QuantileEdges] of the reference do not.
func SturgesEdges(ref, cur []float64) ([]float64, error) {
	if err := checkBoth(ref, cur, 1); err != nil {
		return nil, fmt.Errorf("sturges: %w", err)
	}
	low, high := min(slices.Min(ref), slices.Min(cur)), max(slices.Max(ref), slices.Max(cur))
	bins := 1
	if low == high {
		low, high = low-0.5, high+0.5
	} else {
		bins = int(math.Ceil(math.Log2(float64(len(ref)+len(cur))) + 1))
	}
	step := (high - low) / float64(bins)
	edges := make([]float64, bins+1)
	for i := range edges {
		edges[i] = low + float64(i)*step
	}
	edges[bins] = high
	return edges, nil
}

// QuantileEdges are the edges of bins that hold about equally many values of the sample: its quantiles, of type 7 as in
// numpy and R. 10 bins are the deciles of the usual PSI. Where many values are equal, edges are equal too, and bins are empty.
func QuantileEdges(ref []float64, bins int) ([]float64, error) {
	if err := checkFinite(reference, ref, 1); err != nil {
		return nil, fmt.Errorf("quantiles: %w", err)
	}
	if bins < 1 {
		return nil, fmt.Errorf("quantiles: %d bins", bins)
	}
	r := ascending(ref)
	edges := make([]float64, bins+1)
	for i := range edges {
		edges[i] = quantile(r, float64(i)/float64(bins))
	}
	return edges, nil
}

// quantile is of type 7 (Hyndman and Fan 1996), of an ascending sample.
func quantile(x []float64, q float64) float64 {
	at := q * float64(len(x)-1)
	i := int(at)
	if i+1 >= len(x) {
		return x[len(x)-1]
	}
	part := at - float64(i)
	// Exactly x[i] where both are equal, and never beyond the next value by rounding.
	return min(x[i+1], x[i]+(x[i+1]-x[i])*part)
}

// Bin counts the values of a sample between edges, in as many bins as there are edges less one. A value that equals an edge
// is in the bin above it, the outermost edge excepted. The first and the last bin also take what lies beyond the edges:
// values that the reference never had are the last ones to leave out.
func Bin(x, edges []float64) ([]float64, error) {
	if err := errors.Join(checkFinite("the sample", x, 1), checkEdges(edges)); err != nil {
		return nil, fmt.Errorf("bins: %w", err)
	}
	counts := make([]float64, len(edges)-1)
	inner := edges[1 : len(edges)-1]
	for _, v := range x {
		counts[above(inner, v)]++
	}
	return counts, nil
}

// above is how many edges are at most v.
func above(edges []float64, v float64) int {
	low, high := 0, len(edges)
	for low < high {
		if middle := (low + high) / 2; edges[middle] <= v {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

func checkEdges(edges []float64) error {
	if len(edges) < 2 {
		return fmt.Errorf("%d edges, at least 2 are needed", len(edges))
	}
	for i, e := range edges {
		if math.IsNaN(e) {
			return fmt.Errorf("edge %d is %v", i, e)
		}
		if i > 0 && e < edges[i-1] {
			return fmt.Errorf("edge %d is %v, after %v", i, e, edges[i-1])
		}
	}
	return nil
}

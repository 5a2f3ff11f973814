package statistics

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

const (
	// DefaultBins are those of a profile unless there is a reason: every fourth edge is a decile.
	DefaultBins = 40
	// MaxBins bounds what one profile takes.
	MaxBins = 256

	// maxCount is up to where counts are exact as floats.
	maxCount = 1 << 53
	// sameness is the part of a value within which others are the same value, when a reference knows no other.
	sameness = 1e-6
)

// Profile is a sample in bounded memory: how many of its values are in each of some bins, below and above them, and their number,
// mean, variance, least and greatest. It can be stored as JSON, added to, merged with others of the same edges, and compared
// with them.
//
// # Edges
//
// The edges are fixed when a reference is captured, at its quantiles, so that all its bins weigh the same; or between its values,
// if there are no more of those than bins: then nothing is lost. Every window that is to be compared with it, and the references
// of other hours, are made with [Profile.Empty], which shares the edges.
//
// # Size
//
// A profile of [DefaultBins] takes about 450 bytes, and another 350 for its edges if it shares them with nobody. 1,000 cameras of
// 15 features with a reference for every hour and two windows are 390,000 profiles: 180 MB, at most 320 MB.
//
// # Accuracy
//
// Number, mean, variance, least and greatest are of the values, not of the bins. A Kolmogorov-Smirnov statistic is at most the true one and falls short of
// it by no more than the largest bin weighs. What [Profile.Grouped] returns is exact for those bins.
//
// # Concurrency
//
// A profile belongs to one goroutine; edges are never written, so profiles that share them need not.
type Profile struct {
	edges  []float64
	counts []uint64 // below the first edge, between edges, from the last one on
	n      uint64
	mean   float64
	m2     float64 // the sum of squared distances from the mean
	least  float64
	most   float64
}

// CaptureProfile makes a profile of a reference with edges of its own, up to bins+1 of them.
func CaptureProfile(ref []float64, bins int) (*Profile, error) {
	if err := checkFinite(reference, ref, 1); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if bins < 1 || bins > MaxBins {
		return nil, fmt.Errorf("profile: %d bins are not 1 to %d", bins, MaxBins)
	}
	r := ascending(ref)
	edges := edgesBetween(slices.Compact(slices.Clone(r)), bins)
	if edges == nil {
		for i := range bins {
			edges = append(edges, quantile(r, float64(i)/float64(bins)))
		}
		// The greatest value is in the last bin, not above it.
		edges = slices.Compact(append(edges, math.Nextafter(r[len(r)-1], math.Inf(1))))
	}
	p, err := NewProfile(edges)
	if err != nil {
		return nil, err
	}
	for _, v := range r {
		p.add(v)
	}
	return p, nil
}

// edgesBetween are half-way between values, each of which then has a bin around it; nil if there are too many values.
func edgesBetween(distinct []float64, bins int) []float64 {
	last := len(distinct) - 1
	if last >= bins {
		return nil
	}
	before, after := sameness*max(1, math.Abs(distinct[0])), sameness*max(1, math.Abs(distinct[last]))
	if last > 0 {
		before, after = (distinct[1]-distinct[0])/2, (distinct[last]-distinct[last-1])/2
	}
	edges := []float64{distinct[0] - before}
	for i, v := range distinct[1:] {
		edges = append(edges, distinct[i]+(v-distinct[i])/2)
	}
	edges = append(edges, distinct[last]+after)
	for i := range edges[1:] {
		if edges[i] >= edges[i+1] {
			return nil // values that differ by the last bit have nothing between them
		}
	}
	return edges
}

// NewProfile is a profile of nothing, with edges that ascend.
func NewProfile(edges []float64) (*Profile, error) {
	if err := checkFinite("the list of edges", edges, 2); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if len(edges)-1 > MaxBins {
		return nil, fmt.Errorf("profile: %d bins, at most %d", len(edges)-1, MaxBins)
	}
	for i, e := range edges[1:] {
		if e <= edges[i] {
			return nil, fmt.Errorf("profile: edge %d is %v, after %v", i+1, e, edges[i])
		}
	}
	return &Profile{edges: slices.Clone(edges), counts: make([]uint64, len(edges)+1)}, nil
}

// Empty is a profile of nothing with the same edges.
func (p *Profile) Empty() *Profile {
	return &Profile{edges: p.edges, counts: make([]uint64, len(p.counts))}
}

// Add counts a value. One that is NaN, infinite or beyond reason is an error, and not counted.
func (p *Profile) Add(x float64) error {
	if !(math.Abs(x) <= maxMagnitude) {
		return fmt.Errorf("profile: value %v", x)
	}
	if len(p.edges) == 0 {
		return errors.New("profile: no edges")
	}
	if p.n >= maxCount {
		return errors.New("profile: full")
	}
	p.add(x)
	return nil
}

func (p *Profile) add(x float64) {
	p.counts[above(p.edges, x)]++
	if p.n == 0 {
		p.least, p.most = x, x
	}
	p.n++
	off := x - p.mean
	p.mean += off / float64(p.n)
	p.m2 += off * (x - p.mean)
	p.least, p.most = min(p.least, x), max(p.most, x)
}

// Merge adds all that another profile with the same edges has counted: Chan, Golub and LeVeque 1979. The result is that of one
// profile of both samples.
func (p *Profile) Merge(other *Profile) error {
	if !p.Comparable(other) {
		return errors.New("profile: edges differ")
	}
	if other.n == 0 {
		return nil
	}
	n := p.n + other.n
	if n > maxCount {
		return errors.New("profile: full")
	}
	if p.n == 0 {
		p.least, p.most = other.least, other.most
	}
	for i, c := range other.counts {
		p.counts[i] += c
	}
	off, share := other.mean-p.mean, float64(other.n)/float64(n)
	p.m2 += other.m2 + off*off*float64(p.n)*share
	p.mean += off * share
	p.least, p.most = min(p.least, other.least), max(p.most, other.most)
	p.n = n
	return nil
}

// Comparable reports whether another profile has the same edges.
func (p *Profile) Comparable(other *Profile) bool {
	return slices.Equal(p.edges, other.edges)
}

// Count is how many values there are.
func (p *Profile) Count() uint64 { return p.n }

// Mean is that of the values, 0 of none.
func (p *Profile) Mean() float64 { return p.mean }

// StdDev is the standard deviation of the values, over n, 0 of none.
func (p *Profile) StdDev() float64 { return math.Sqrt(p.m2 / max(1, float64(p.n))) }

// Range is the least and the greatest value; ok is false when there are none.
func (p *Profile) Range() (least, most float64, ok bool) { return p.least, p.most, p.n > 0 }

// Outside is the share of values below and above all edges: beyond what the reference had when its edges were fixed.
func (p *Profile) Outside() (below, over float64) {
	if p.n == 0 {
		return 0, 0
	}
	return float64(p.counts[0]) / float64(p.n), float64(p.counts[len(p.counts)-1]) / float64(p.n)
}

// Edges are the edges, ascending.
func (p *Profile) Edges() []float64 { return slices.Clone(p.edges) }

// Counts are how many values are below the first edge, between each edge and the next, and from the last one on.
func (p *Profile) Counts() []uint64 { return slices.Clone(p.counts) }

package statistics

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
)

// Grouped is the counts of a reference and of another profile in groups of adjacent bins that each have about the same share of
// the reference: for [PSI], [JensenShannon], [Hellinger] and [TotalVariation]. There are at most groups of them (fewer, where one
// bin has more than its share; all bins with groups = 0), and one more on either side for values outside of the edges, which no
// group may hide. The fewer groups, the less noise: 10 are usual for PSI, and [PSINoise] wants to know how many it became.
func (p *Profile) Grouped(cur *Profile, groups int) (ofRef, ofCur []float64, err error) {
	if err := p.check(cur); err != nil {
		return nil, nil, err
	}
	if groups < 0 {
		return nil, nil, fmt.Errorf("profile: %d groups", groups)
	}
	last := len(p.counts) - 1
	ends := p.groupEnds(groups)
	ofRef, ofCur = make([]float64, 0, len(ends)+2), make([]float64, 0, len(ends)+2)
	from := 0
	for _, end := range slices.Concat([]int{1}, ends, []int{last + 1}) {
		ofRef = append(ofRef, float64(sum(p.counts[from:end])))
		ofCur = append(ofCur, float64(sum(cur.counts[from:end])))
		from = end
	}
	return ofRef, ofCur, nil
}

// groupEnds are after which counts groups end.
func (p *Profile) groupEnds(groups int) []int {
	var ends []int
	last := len(p.counts) - 1
	inside := float64(sum(p.counts[1:last]))
	if groups == 0 || groups >= last-1 {
		for i := 2; i <= last; i++ {
			ends = append(ends, i)
		}
		return ends
	}
	// Each group ends at the edge that is nearest to where it should.
	end, so := 1, 0.0
	for k := 1; k < groups; k++ {
		want := inside * float64(k) / float64(groups)
		for end < last {
			next := so + float64(p.counts[end])
			if math.Abs(next-want) > math.Abs(so-want) {
				break
			}
			so = next
			end++
		}
		if so > 0 && so < inside && (len(ends) == 0 || ends[len(ends)-1] < end) {
			ends = append(ends, end)
		}
	}
	return append(ends, last)
}

func sum(counts []uint64) uint64 {
	var n uint64
	for _, c := range counts {
		n += c
	}
	return n
}

// KolmogorovSmirnov is the two-sided [KolmogorovSmirnov] test between a reference and another profile, as far as their bins tell
// them apart, with the asymptotic p-value.
func (p *Profile) KolmogorovSmirnov(cur *Profile) (Test, error) {
	if err := p.check(cur); err != nil {
		return Test{}, err
	}
	var t Test
	var ofRef, ofCur uint64
	n, m := float64(p.n), float64(cur.n)
	for i := range p.counts {
		ofRef, ofCur = ofRef+p.counts[i], ofCur+cur.counts[i]
		t.Statistic = max(t.Statistic, math.Abs(float64(ofRef)/n-float64(ofCur)/m))
	}
	t.P = KolmogorovSmirnovP(t.Statistic, n, m)
	return t, nil
}

// Wasserstein is the [Wasserstein] distance between a reference and another profile, with values spread evenly over their bin; what
// is outside of the edges up to the least and the greatest. It is never less than the distance of the means, which is exact,
// and is all there is to a mere shift.
func (p *Profile) Wasserstein(cur *Profile) (float64, error) {
	if err := p.check(cur); err != nil {
		return 0, err
	}
	first, last := p.edges[0], p.edges[len(p.edges)-1]
	knots := slices.Concat(
		[]float64{min(first, p.least), min(first, cur.least)}, p.edges,
		[]float64{max(last, p.most), max(last, cur.most)})
	slices.Sort(knots)
	off := make([]float64, len(knots)) // of the one distribution function from the other
	floats.SubTo(off, p.shareBelow(knots), cur.shareBelow(knots))
	area := 0.0
	for i := 1; i < len(knots); i++ {
		width := knots[i] - knots[i-1]
		a, b := math.Abs(off[i-1]), math.Abs(off[i])
		switch {
		case off[i-1]*off[i] >= 0:
			area += (a + b) / 2 * width
		default: // two triangles
			area += (a*a + b*b) / (2 * (a + b)) * width
		}
	}
	return max(area, math.Abs(p.mean-cur.mean)), nil
}

// WassersteinNormed is [Profile.Wasserstein] in standard deviations of the reference, at least [MinSpread] each.
func (p *Profile) WassersteinNormed(cur *Profile) (float64, error) {
	d, err := p.Wasserstein(cur)
	if err != nil {
		return 0, err
	}
	return d / max(MinSpread, p.StdDev()), nil
}

// shareBelow is the distribution function at points that include all edges and, besides those, only points outside of them.
func (p *Profile) shareBelow(points []float64) []float64 {
	first, last, n := p.edges[0], p.edges[len(p.edges)-1], float64(p.n)
	low, high := float64(p.counts[0])/n, float64(p.counts[len(p.counts)-1])/n
	out := make([]float64, len(points))
	var upTo uint64
	next := 0
	for i, x := range points {
		switch {
		case x < first:
			out[i] = low * along(p.least, first, x)
		case x > last:
			out[i] = 1 - high + high*along(last, p.most, x)
		default:
			for ; next < len(p.edges) && p.edges[next] <= x; next++ {
				upTo += p.counts[next]
			}
			out[i] = float64(upTo) / n
		}
	}
	return out
}

// along is which part of the way from one point to another x is.
func along(from, to, x float64) float64 {
	if to <= from {
		return 1
	}
	return clampShare((x - from) / (to - from))
}

func (p *Profile) check(cur *Profile) error {
	if !p.Comparable(cur) {
		return errors.New("profile: edges differ")
	}
	if p.n == 0 || cur.n == 0 {
		return fmt.Errorf("profile: %d values of %s, %d of %s: %w", p.n, reference, cur.n, current, ErrEmpty)
	}
	return nil
}

package statistics

import (
	"fmt"
	"math"
)

// Method is how a p-value is computed.
type Method int

const (
	// Auto is Exact while the product of the sample sizes is below 10,000 (as R's ks.test), Asymptotic from there on.
	Auto Method = iota
	// Exact counts orderings of the two samples. Ties make it err on the side of "no difference".
	Exact
	// Asymptotic uses the limit for large samples.
	Asymptotic
)

const (
	autoExactPairs = 10_000
	// maxExactPairs bounds Exact's time to about half a second.
	maxExactPairs = 100_000_000
)

// KolmogorovSmirnov tests whether two samples have the same distribution. The statistic is the largest difference between
// their empirical distribution functions: in either direction (TwoSided), of the current one above the reference's (Less)
// or of the reference's above the current one (Greater). Agrees with scipy.stats.ks_2samp.
//
// Exact is the share of all orderings with a statistic at least as large (Hodges 1958, The significance probability of the
// Smirnov two-sample test), as a recursion of positive terms, which keeps tiny p-values right. It takes time in proportion to
// the product of the sizes. Asymptotic is [KolmogorovSmirnovP] for two sides, and Hodges' formula 5.3 for one.
func KolmogorovSmirnov(ref, cur []float64, side Alternative, method Method) (Test, error) {
	r, c, err := sortedBoth(ref, cur, 1)
	if err != nil {
		return Test{}, fmt.Errorf("kolmogorov-smirnov: %w", err)
	}
	n, m := len(r), len(c)
	pairs := n * m
	switch method {
	case Exact:
		if pairs > maxExactPairs {
			return Test{}, fmt.Errorf("kolmogorov-smirnov: %d x %d values are too many for an exact p-value", n, m)
		}
	case Auto:
		if method = Asymptotic; pairs < autoExactPairs {
			method = Exact
		}
	case Asymptotic:
	default:
		return Test{}, fmt.Errorf("kolmogorov-smirnov: no method %d", method)
	}
	band, err := newBand(n, m, side)
	if err != nil {
		return Test{}, fmt.Errorf("kolmogorov-smirnov: %w", err)
	}
	i, j := 0, 0
	eachValue(r, c, func(_ float64, inR, inC int) {
		i, j = i+inR, j+inC
		band.width = max(band.width, band.distance(i, j))
	})
	t := Test{Statistic: float64(band.width) / (float64(band.a) * float64(m))}
	switch {
	case method == Exact:
		t.P = band.outside(n, m)
	case side == TwoSided:
		t.P = KolmogorovSmirnovP(t.Statistic, float64(n), float64(m))
	default:
		t.P = hodges(t.Statistic, float64(n), float64(m))
	}
	return t, nil
}

// KolmogorovSmirnovP is the two-sided p-value of a Kolmogorov-Smirnov statistic between samples of n and m values, which may
// be effective sizes: of correlated values, or of a statistic found on bins. It is that of one sample of n*m/(n+m) values,
// rounded, against its own distribution (scipy.stats.kstwo), as ks_2samp does with method 'asymp'. It is 1 when n or m is
// not positive.
func KolmogorovSmirnovP(statistic, n, m float64) float64 {
	if !(n > 0 && m > 0) || math.IsNaN(statistic) {
		return 1
	}
	return oneSampleKolmogorov(max(1, math.RoundToEven(1/(1/n+1/m))), statistic)
}

// hodges is the one-sided p-value for large samples: Hodges 1958, formula 5.3.
func hodges(d, n, m float64) float64 {
	large, small := max(n, m), min(n, m)
	z := d * math.Sqrt(large*small/(large+small))
	return min(1, math.Exp(-2*z*z-2*z*(large+2*small)/math.Sqrt(large*small*(large+small))/3))
}

// band is the strip in which the path through the two samples stays: i of the reference and j of the current sample have
// been seen. Distances are whole numbers, in units of 1/lcm(n,m), so that "as large as" is exact.
type band struct {
	a, b  int // n and m without their common divisor
	side  Alternative
	width int
}

func newBand(n, m int, side Alternative) (band, error) {
	if side != TwoSided && side != Less && side != Greater {
		return band{}, fmt.Errorf("no alternative %d", side)
	}
	g, rest := n, m
	for rest != 0 {
		g, rest = rest, g%rest
	}
	return band{a: n / g, b: m / g, side: side}, nil
}

// distance is how far the reference's distribution function is from the current one.
func (s band) distance(i, j int) int {
	d := i*s.b - j*s.a
	switch s.side {
	case Less:
		return -d
	case Greater:
		return d
	default:
		return max(d, -d)
	}
}

// outside is the share of paths from (0,0) to (n,m) that touch or leave the strip.
func (s band) outside(n, m int) float64 {
	if s.width <= 0 {
		return 1
	}
	// left[j] is the share of the paths to (i,j) that did: the last step came from the left with i of i+j chances.
	left := make([]float64, m+1)
	for i := 0; i <= n; i++ {
		for j := 0; j <= m; j++ {
			switch {
			case s.distance(i, j) >= s.width:
				left[j] = 1
			case i == 0 && j == 0:
				left[j] = 0
			default:
				p := float64(i) * left[j]
				if j > 0 {
					p += float64(j) * left[j-1]
				}
				left[j] = p / float64(i+j)
			}
		}
	}
	return min(1, left[m])
}

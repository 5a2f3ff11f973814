package statistics

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/integrate/quad"
)

// CramerVonMises tests whether two samples have the same distribution, by the square of the difference between their
// distribution functions all along, not only where it is largest. Ties get their middle rank. The p-value is that of the limit
// for large samples, with the statistic brought to the limit's mean and variance: Anderson 1962, On the distribution of the
// two-sample Cramer-von Mises criterion. Agrees with scipy.stats.cramervonmises_2samp, method 'asymptotic', except for
// p-values below 1e-7, which SciPy rounds off and this does not.
func CramerVonMises(ref, cur []float64) (Test, error) {
	r, c, err := sortedBoth(ref, cur, 2)
	if err != nil {
		return Test{}, fmt.Errorf("cramer-von mises: %w", err)
	}
	n, m := float64(len(r)), float64(len(c))
	// In each sample, the squared distance of the ranks among all from the ranks within.
	var i, j int
	var ofRef, ofCur float64
	eachValue(r, c, func(_ float64, inR, inC int) {
		rank := float64(i+j) + float64(inR+inC+1)/2
		for ; inR > 0; inR-- {
			i++
			ofRef += (rank - float64(i)) * (rank - float64(i))
		}
		for ; inC > 0; inC-- {
			j++
			ofCur += (rank - float64(j)) * (rank - float64(j))
		}
	})
	nm, all := n*m, n+m
	t := (n*ofRef+m*ofCur)/(nm*all) - (4*nm-1)/(6*all)
	mean := (1 + 1/all) / 6
	variance := (all + 1) * (4*nm*all - 3*(n*n+m*m) - 2*nm) / (45 * all * all * 4 * nm)
	return Test{Statistic: t, P: cramerVonMisesTail(1.0/6 + (t-mean)/math.Sqrt(45*variance))}, nil
}

// cramerVonMisesTail is the probability that the limit of the statistic is at least w: Smirnov's integral, Anderson and
// Darling 1952, Asymptotic theory of certain "goodness of fit" criteria. It gives the tail itself rather than one minus
// the rest, so that small p-values are right.
func cramerVonMisesTail(w float64) float64 {
	if w < 0.003 { // the chance of less is below 1e-17
		return 1
	}
	// The integrand is infinite at both ends of each stretch; running through it by the cosine takes that away.
	sum, sign := 0.0, 1.0
	for k := 1.0; ; k += 2 {
		term := quad.Fixed(func(angle float64) float64 {
			along := math.Pi / 2 * (1 - math.Cos(angle))
			u := k*math.Pi + along
			return math.Exp(-w*u*u/2) * math.Pi / 2 * math.Sin(angle) / math.Sqrt(u*math.Sin(along))
		}, 0, math.Pi, 80, quad.Legendre{}, 0)
		sum += sign * term
		if term <= 1e-17*sum || math.IsNaN(term) {
			return clampShare(2 / math.Pi * sum)
		}
		sign = -sign
	}
}

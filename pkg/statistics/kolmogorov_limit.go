package statistics

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// oneSampleKolmogorov is the probability that the two-sided Kolmogorov-Smirnov statistic of n values against their own
// distribution is at least d. Which method where: Simard and L'Ecuyer 2011, Computing the two-sided Kolmogorov-Smirnov
// distribution, doi:10.18637/jss.v039.i11. It is good to 1e-10 up to n = 140 and to about six digits beyond.
func oneSampleKolmogorov(n, d float64) float64 {
	nd, nd2 := n*d, n*d*d
	switch {
	case nd <= 0.5:
		return 1
	case d >= 1 || nd2 >= 370: // below the smallest float
		return 0
	case nd <= 1: // Ruben and Gambino
		lg, _ := math.Lgamma(n + 1)
		return 1 - math.Exp(lg+n*math.Log((2*nd-1)/n))
	case d >= 0.5, n <= 140 && nd2 > 4, n > 140 && nd2 >= 2.2:
		// Both sides at once are impossible (d >= 0.5) or too rare to matter.
		return min(1, 2*smirnov(n, d))
	case n <= 140, n <= 100_000 && n*math.Pow(d, 1.5) <= 1.4:
		return clampShare(1 - durbin(int(n), d))
	default:
		return clampShare(1 - pelzGood(n, d))
	}
}

func clampShare(p float64) float64 { return min(1, max(0, p)) }

// smirnov is the probability that the one-sided statistic of n values is at least d: Birnbaum and Tingey 1951, a sum of
// positive terms.
func smirnov(n, d float64) float64 {
	sum := 0.0
	all, _ := math.Lgamma(n + 1)
	for k := 0.0; k <= math.Floor(n*(1-d)); k++ {
		in, _ := math.Lgamma(k + 1)
		out, _ := math.Lgamma(n - k + 1)
		term := all - in - out + (k-1)*math.Log(d+k/n)
		if rest := 1 - d - k/n; rest > 0 {
			term += (n - k) * math.Log(rest)
		} else if k < n {
			continue
		}
		sum += math.Exp(term)
	}
	return d * sum
}

// durbin is the probability that the two-sided statistic of n values is below d, as a power of a matrix: Durbin 1973 in the
// form of Marsaglia, Tsang and Wang 2003, Evaluating Kolmogorov's distribution, doi:10.18637/jss.v008.i18.
func durbin(n int, d float64) float64 {
	k := int(float64(n)*d) + 1
	h := float64(k) - float64(n)*d
	m := 2*k - 1
	step := mat.NewDense(m, m, nil)
	for i := range m {
		for j := range min(m, i+2) {
			step.Set(i, j, 1)
		}
	}
	for i := range m {
		step.Set(i, 0, step.At(i, 0)-math.Pow(h, float64(i+1)))
		step.Set(m-1, i, step.At(m-1, i)-math.Pow(h, float64(m-i)))
	}
	if 2*h > 1 {
		step.Set(m-1, 0, step.At(m-1, 0)+math.Pow(2*h-1, float64(m)))
	}
	for i := range m {
		for j := range min(m, i+2) {
			lg, _ := math.Lgamma(float64(i - j + 2))
			step.Set(i, j, step.At(i, j)*math.Exp(-lg))
		}
	}
	middle, exponent := scaledPower(step, n, k-1)
	lg, _ := math.Lgamma(float64(n) + 1)
	return middle * math.Exp(exponent+lg-float64(n)*math.Log(float64(n)))
}

// scaledPower is entry (at,at) of a to the power n, as a number and the natural logarithm of its scale: powers of these
// matrices leave the range of floats.
func scaledPower(a *mat.Dense, n, at int) (entry, logScale float64) {
	size, _ := a.Dims()
	square, result, product := mat.DenseCopyOf(a), mat.NewDense(size, size, nil), mat.NewDense(size, size, nil)
	for i := range size {
		result.Set(i, i, 1)
	}
	squareScale := 0.0
	rescale := func(m *mat.Dense) float64 {
		top := mat.Max(m)
		m.Scale(1/top, m)
		return math.Log(top)
	}
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			product.Mul(result, square)
			result, product = product, result
			logScale += squareScale + rescale(result)
		}
		product.Mul(square, square)
		square, product = product, square
		squareScale = 2*squareScale + rescale(square)
	}
	return result.At(at, at), logScale
}

// pelzGood is the probability that the two-sided statistic of many values is below d: the expansion of Pelz and Good 1976
// in powers of 1/sqrt(n), whose first term is Kolmogorov's limit.
func pelzGood(n, d float64) float64 {
	const terms = 20 // with z below 1.5 the next one is below 1e-300
	z := math.Sqrt(n) * d
	z2 := z * z
	z4, z6 := z2*z2, z2*z2*z2
	var k0, k1, k2, k3, even2, even3 float64
	for k := range terms {
		// The sums run over all whole k; what they add is the same for k and -k-1, and for k and -k.
		h := math.Pi * math.Pi * (float64(k) + 0.5) * (float64(k) + 0.5)
		e := 2 * math.Exp(-h/(2*z2))
		k0 += e
		k1 += e * (h - z2)
		k2 += e * (6*z6 + 2*z4 + h*(2*z4-5*z2) + h*h*(1-2*z2))
		k3 += e * (h*h*h*(5-30*z2) + h*h*(-60*z2+212*z4) + h*(135*z4-96*z6) - 30*z6 - 90*z4*z4)
		w := math.Pi * math.Pi * float64(k) * float64(k)
		e = 2 * math.Exp(-w/(2*z2))
		even2 += e * w
		even3 += e * (3*w*z2 - w*w)
	}
	k2 = k2/(72*z4*z2*z) - even2/(36*z2*z)
	k3 = k3/(6480*z4*z6) + even3/(216*z6)
	return math.Sqrt(math.Pi/2) * (k0/z + k1/(6*z4*math.Sqrt(n)) + k2/n + k3/(n*math.Sqrt(n)))
}

package quality

import (
	"math"
)

// Estimate is a figure and what is known of its uncertainty.
type Estimate struct {
	Value float64
	// Low and High are its 95 % interval.
	Low, High float64
	// Count is how many things it was made from: detections, objects, pictures.
	Count int
}

const (
	// z is that of 95 %.
	z = 1.959963984540054
	// FewObjects is the least number of detections or objects that a share is told of.
	FewObjects = 30
	// FewPictures is the least number of pictures that they are of.
	FewPictures = 10
	// FewScores is the least number of detections that precision is estimated from without labels.
	FewScores = 100
)

// wilson is the score interval of a share of n, which need not be whole (Wilson 1927).
func wilson(share, n float64) (low, high float64) {
	middle := (share + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(share*(1-share)/n+z*z/(4*n*n))
	return max(0, middle-half), min(1, middle+half)
}

// A part is what one picture adds to a share: hits of trials.
type part struct{ hits, trials float64 }

// share is hits by trials over pictures, its interval widened by the design effect.
func share(parts []part) (Estimate, bool) {
	var hits, trials float64
	pictures := 0
	for _, p := range parts {
		hits, trials = hits+p.hits, trials+p.trials
		if p.trials > 0 {
			pictures++
		}
	}
	if trials < FewObjects || pictures < FewPictures {
		return Estimate{Count: int(trials)}, false
	}
	value := hits / trials
	n := trials / design(parts, value, trials, pictures)
	low, high := wilson(value, n)
	return Estimate{Value: value, Low: low, High: high, Count: int(trials)}, true
}

// design is the variance of hits/trials over pictures by that of independent trials, at least 1: for k pictures,
// k/(k-1) * sum (hits - value*trials)^2 / trials^2 over value*(1-value)/trials.
func design(parts []part, value, trials float64, pictures int) float64 {
	independent := value * (1 - value) / trials
	if independent == 0 {
		return 1
	}
	sum := 0.0
	for _, p := range parts {
		d := p.hits - value*p.trials
		sum += d * d
	}
	k := float64(pictures)
	return max(1, k/(k-1)*sum/(trials*trials)/independent)
}

// A Rate is how many detections pictures had.
type Rate struct {
	Mean     float64
	Variance float64 // of single pictures
	// Pictures is how many independent ones it comes to.
	Pictures float64
}

// fewIndependent is the least number of independent pictures that a rate is told of.
const fewIndependent = 3

// RateRatio is the detection rate by that of a baseline, with the interval of the logarithm of a ratio of means (delta method:
// its variance is the sum of variance/(pictures*mean^2)). A rate of nothing at all has the bound of the rule of three, 3 by
// pictures. It is false when either comes to too few independent pictures or the baseline saw nothing.
func RateRatio(baseline, now Rate) (Estimate, bool) {
	e := Estimate{Count: int(now.Pictures)}
	if !(baseline.Mean > 0) || !(now.Pictures >= fewIndependent) || !(baseline.Pictures >= fewIndependent) {
		return e, false
	}
	if now.Mean <= 0 {
		e.High = 3 / now.Pictures / baseline.Mean
		return e, true
	}
	e.Value = now.Mean / baseline.Mean
	// Counts vary at least as those of a Poisson process do, even if a short window happens not to show it.
	relative := func(r Rate) float64 { return max(r.Variance, r.Mean) / (r.Pictures * r.Mean * r.Mean) }
	spread := math.Exp(z * math.Sqrt(relative(baseline)+relative(now)))
	e.Low, e.High = e.Value/spread, e.Value*spread
	return e, true
}

package statistics

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// Proportion is a number of successes out of a number of trials.
type Proportion struct {
	Successes, Trials int
}

// Share is the proportion itself, NaN of no trials.
func (p Proportion) Share() float64 { return float64(p.Successes) / float64(p.Trials) }

func (p Proportion) check() error {
	if p.Trials == 0 {
		return fmt.Errorf("no trials: %w", ErrEmpty)
	}
	if p.Trials < 0 || p.Successes < 0 || p.Successes > p.Trials {
		return fmt.Errorf("%d successes of %d trials", p.Successes, p.Trials)
	}
	return nil
}

// Wilson is a proportion with its score interval, without continuity correction: Wilson 1927. It stays within 0 and 1 and
// holds what it promises for small numbers and for none or all, where the usual p +- 1.96*sqrt(p(1-p)/n) is no interval.
func Wilson(p Proportion, confidence float64) (Interval, error) {
	if err := errors.Join(p.check(), checkConfidence(confidence)); err != nil {
		return Interval{}, fmt.Errorf("wilson: %w", err)
	}
	n, share := float64(p.Trials), p.Share()
	z := distuv.UnitNormal.Quantile((1 + confidence) / 2)
	middle := (share + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(share*(1-share)/n+z*z/(4*n*n))
	i := Interval{Low: max(0, middle-half), Estimate: share, High: min(1, middle+half)}
	// Where they are known, the limits are not left to rounding.
	if p.Successes == 0 {
		i.Low = 0
	}
	if p.Successes == p.Trials {
		i.High = 1
	}
	return i, nil
}

// DifferenceOfProportions is the current share less the reference's, with the interval of Newcombe 1998 (Interval estimation
// for the difference between independent proportions, method 10), made of the two Wilson intervals.
func DifferenceOfProportions(ref, cur Proportion, confidence float64) (Interval, error) {
	r, c, err := bothWilson(ref, cur, confidence)
	if err != nil {
		return Interval{}, fmt.Errorf("difference of proportions: %w", err)
	}
	d := c.Estimate - r.Estimate
	return Interval{
		Low:      d - math.Hypot(c.Estimate-c.Low, r.High-r.Estimate),
		Estimate: d,
		High:     d + math.Hypot(c.High-c.Estimate, r.Estimate-r.Low),
	}, nil
}

// RatioOfProportions is the current share over the reference's, with the MOVER-R interval of Donner and Zou 2012 and Newcombe
// 2016, made of the two Wilson intervals. Fairness compares the ratio with .8, the four-fifths rule.
//
// High is +Inf where the reference may be 0, as is Estimate where it is; 0 of nothing is a ratio of 1.
func RatioOfProportions(ref, cur Proportion, confidence float64) (Interval, error) {
	r, c, err := bothWilson(ref, cur, confidence)
	if err != nil {
		return Interval{}, fmt.Errorf("ratio of proportions: %w", err)
	}
	p, q := c.Estimate, r.Estimate
	root := func(a, b float64) float64 { return math.Sqrt(max(0, p*p*q*q-a*(2*p-a)*b*(2*q-b))) }
	i := Interval{Estimate: p / q, High: math.Inf(1)}
	if p == 0 && q == 0 {
		i.Estimate = 1
	}
	// Written so that no difference of like numbers is divided by another.
	if c.Low > 0 {
		i.Low = c.Low * (2*p - c.Low) / (p*q + root(c.Low, r.High))
	}
	if r.Low > 0 {
		i.High = (p*q + root(c.High, r.Low)) / (r.Low * (2*q - r.Low))
	}
	return i, nil
}

func bothWilson(ref, cur Proportion, confidence float64) (r, c Interval, err error) {
	if r, err = Wilson(ref, confidence); err != nil {
		return r, c, fmt.Errorf("%s: %w", reference, err)
	}
	if c, err = Wilson(cur, confidence); err != nil {
		return r, c, fmt.Errorf("%s: %w", current, err)
	}
	return r, c, nil
}

package statistics

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat/distuv"
)

// ChiSquare is what a chi-square test comes to.
type ChiSquare struct {
	Test

	// Freedom is the degrees of freedom.
	Freedom int
}

// ChiSquareContingency tests whether two samples have the same shares of categories, from their counts: Pearson's test of
// the table of two rows. A category that neither sample has is left out. Corrected is Yates' correction, which SciPy applies
// to two categories unless told otherwise and to no more; Evidently and our reference figures have none.
//
// Agrees with scipy.stats.chi2_contingency. The p-value is rough where a category is expected fewer than five times.
func ChiSquareContingency(ref, cur []float64, continuity Continuity) (ChiSquare, error) {
	if err := checkCounts(ref, cur); err != nil {
		return ChiSquare{}, fmt.Errorf("chi-square: %w", err)
	}
	sumRef, sumCur := floats.Sum(ref), floats.Sum(cur)
	all := sumRef + sumCur
	categories := 0
	for i := range ref {
		if ref[i]+cur[i] > 0 {
			categories++
		}
	}
	c := ChiSquare{Freedom: categories - 1}
	for i := range ref {
		column := ref[i] + cur[i]
		if column == 0 {
			continue
		}
		expected := column / all * sumRef
		off := math.Abs(ref[i] - expected)
		if continuity == Corrected && categories == 2 {
			off -= min(0.5, off)
		}
		// The other row is off by as much.
		c.Statistic += off * off * (1/expected + 1/(column/all*sumCur))
	}
	return c.judged()
}

// ChiSquareFit tests whether counts of categories are what the reference's shares let expect, taking those for exact. Agrees
// with scipy.stats.chisquare with the reference scaled to the current sum. A category that the reference does not have makes
// it an error: nothing is expected there.
func ChiSquareFit(ref, cur []float64) (ChiSquare, error) {
	if err := checkCounts(ref, cur); err != nil {
		return ChiSquare{}, fmt.Errorf("chi-square: %w", err)
	}
	scale := floats.Sum(cur) / floats.Sum(ref)
	c := ChiSquare{Freedom: len(ref) - 1}
	for i := range ref {
		expected := ref[i] * scale
		if expected == 0 {
			return ChiSquare{}, fmt.Errorf("chi-square: category %d is not in the reference", i)
		}
		c.Statistic += (cur[i] - expected) * (cur[i] - expected) / expected
	}
	return c.judged()
}

func (c ChiSquare) judged() (ChiSquare, error) {
	if math.IsNaN(c.Statistic) || math.IsInf(c.Statistic, 0) {
		return ChiSquare{}, errors.New("chi-square: counts are too far apart for a float")
	}
	c.P = 1 // one category has no degree of freedom
	if c.Freedom > 0 {
		c.P = distuv.ChiSquared{K: float64(c.Freedom)}.Survival(c.Statistic)
	}
	return c, nil
}

// Association is how far two samples' shares of categories depend on the sample, from 0 to 1.
type Association struct {
	// V is Cramer's V, the root of chi-square over the number of values: it grows when values are few.
	V float64
	// Corrected is without that bias: Bergsma 2013, A bias-correction for Cramer's V and Tschuprow's T.
	Corrected float64
}

// CramersV measures the difference between two samples' shares of categories from their counts, by chi-square without
// correction. Unlike a p-value it does not grow with the samples. It is 0 with one category.
func CramersV(ref, cur []float64) (Association, error) {
	c, err := ChiSquareContingency(ref, cur, Uncorrected)
	if err != nil {
		return Association{}, err
	}
	if c.Freedom == 0 {
		return Association{}, nil
	}
	const rows = 2
	n, columns := floats.Sum(ref)+floats.Sum(cur), float64(c.Freedom+1)
	phi := c.Statistic / n // chi-square of two rows is at most n
	a := Association{V: min(1, math.Sqrt(phi))}
	if n <= 1 {
		return a, nil
	}
	rowsLeft := rows - 1/(n-1)
	columnsLeft := columns - (columns-1)*(columns-1)/(n-1)
	if least := min(rowsLeft, columnsLeft) - 1; least > 0 {
		a.Corrected = min(1, math.Sqrt(max(0, phi-(columns-1)/(n-1))/least))
	}
	return a, nil
}

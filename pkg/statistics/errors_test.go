package statistics_test

import (
	"errors"
	"math"
	"testing"

	"github.com/sightline-dev/sightline/pkg/statistics"
)

func TestErrors(t *testing.T) {
	nan, ok := []float64{1, math.NaN()}, []float64{1, 2, 3}
	trend := make([]float64, 40)
	for i := range trend {
		trend[i] = float64(i)
	}
	drop := func(_ any, err error) error { return err }
	tests := []struct {
		name string
		err  error
		want string
		is   error
	}{
		{"nothing", drop(statistics.KolmogorovSmirnov(nil, ok, statistics.TwoSided, statistics.Auto)), "kolmogorov-smirnov: the reference has 0 values, at least 1 are needed: too few values", statistics.ErrEmpty},
		{"not a number", drop(statistics.KolmogorovSmirnov(ok, nan, statistics.TwoSided, statistics.Auto)), "kolmogorov-smirnov: value 1 of the current sample is NaN", nil},
		{"both wrong", drop(statistics.Energy(nan, nil)), "energy distance: value 1 of the reference is NaN\nthe current sample has 0 values, at least 1 are needed: too few values", statistics.ErrEmpty},
		{"no such alternative", drop(statistics.KolmogorovSmirnov(ok, ok, 7, statistics.Auto)), "kolmogorov-smirnov: no alternative 7", nil},
		{"no such method", drop(statistics.KolmogorovSmirnov(ok, ok, statistics.Less, 7)), "kolmogorov-smirnov: no method 7", nil},
		{"too many for exact", drop(statistics.KolmogorovSmirnov(make([]float64, 20_000), make([]float64, 20_000), statistics.Less, statistics.Exact)), "kolmogorov-smirnov: 20000 x 20000 values are too many for an exact p-value", nil},
		{"infinite", drop(statistics.Wasserstein([]float64{math.Inf(1)}, ok)), "wasserstein: value 0 of the reference is +Inf", nil},
		{"beyond reason", drop(statistics.WassersteinNormed([]float64{-1e101}, ok)), "wasserstein: value 0 of the reference is -1e+101", nil},
		{"one value", drop(statistics.CramerVonMises([]float64{1}, ok)), "cramer-von mises: the reference has 1 values, at least 2 are needed: too few values", statistics.ErrEmpty},
		{"one value for a variance", drop(statistics.Welch(ok, []float64{1})), "welch: the current sample has 1 values, at least 2 are needed: too few values", statistics.ErrEmpty},
		{"no variance", drop(statistics.Welch([]float64{0.1, 0.1, 0.1}, []float64{0.3, 0.3, 0.3})), "welch: values do not vary", statistics.ErrConstant},
		{"mann-whitney of nothing", drop(statistics.MannWhitney(ok, nil, statistics.Corrected)), "mann-whitney: the current sample has 0 values, at least 1 are needed: too few values", statistics.ErrEmpty},
		{"effect of nothing", drop(statistics.CommonLanguage(nil, ok)), "common language effect size: the reference has 0 values, at least 1 are needed: too few values", statistics.ErrEmpty},
		{"certainty", drop(statistics.LocationShift(ok, ok, 1)), "location shift: confidence 1 is not between 0 and 1", nil},

		{"sturges of nothing", drop(statistics.SturgesEdges(nil, ok)), "sturges: the reference has 0 values, at least 1 are needed: too few values", statistics.ErrEmpty},
		{"no bins", drop(statistics.QuantileEdges(ok, 0)), "quantiles: 0 bins", nil},
		{"no edges", drop(statistics.Bin(ok, []float64{1})), "bins: 1 edges, at least 2 are needed", nil},
		{"edges that fall", drop(statistics.Bin(ok, []float64{1, 3, 2})), "bins: edge 2 is 2, after 3", nil},
		{"an edge that is none", drop(statistics.Bin(ok, nan)), "bins: edge 1 is NaN", nil},
		{"lengths differ", drop(statistics.PSI(ok, nan, 1e-4)), "psi: the reference has 3 counts, the current sample has 2", nil},
		{"a negative count", drop(statistics.PSI(ok, []float64{1, -1, 1}, 1e-4)), "psi: count 1 of the current sample is -1", nil},
		{"a floor of nothing", drop(statistics.PSI(ok, ok, 0)), "psi: floor 0 is not between 0 and 1", nil},
		{"no counts", drop(statistics.JensenShannon(nil, nil, 2)), "jensen-shannon: the reference counts nothing: too few values\nthe current sample counts nothing: too few values", statistics.ErrEmpty},
		{"a base of 1", drop(statistics.JensenShannon(ok, ok, 1)), "jensen-shannon: logarithms to base 1", nil},
		{"hellinger of zeros", drop(statistics.Hellinger(ok, make([]float64, 3))), "hellinger: the current sample counts nothing: too few values", statistics.ErrEmpty},
		{"a count that is none", drop(statistics.TotalVariation(nan, ok[:2])), "total variation: count 1 of the reference is NaN", nil},
		{"chi-square of zeros", drop(statistics.ChiSquareContingency(ok, make([]float64, 3), statistics.Corrected)), "chi-square: the current sample counts nothing: too few values", statistics.ErrEmpty},
		{"a category not expected", drop(statistics.ChiSquareFit([]float64{1, 0}, []float64{1, 1})), "chi-square: category 1 is not in the reference", nil},
		{"counts beyond floats", drop(statistics.CramersV([]float64{1e-300, 1e100}, []float64{0, 1})), "chi-square: counts are too far apart for a float", nil},

		{"few vectors", drop(statistics.MMD2([][]float64{{1}}, [][]float64{{1}, {2}}, 0)), "mmd: the reference has 1 vectors, at least 2 are needed: too few values", statistics.ErrEmpty},
		{"other dimensions", drop(statistics.MMD2([][]float64{{1}, {2}}, [][]float64{{1}, {2, 3}}, 0)), "mmd: vector 1 of the current sample has 2 values, the first one of the reference has 1", nil},
		{"no dimensions", drop(statistics.MMD2([][]float64{{}, {}}, [][]float64{{}, {}}, 0)), "mmd: vector 0 of the reference has 0 values, the first one of the reference has 0", nil},
		{"a vector with a hole", drop(statistics.MMD2([][]float64{{1}, {2}}, [][]float64{{1}, {math.NaN()}}, 0)), "mmd: value 0 of vector 1 of the current sample is NaN", nil},
		{"a negative width", drop(statistics.MMD2([][]float64{{1}, {2}}, [][]float64{{1}, {2}}, -1)), "mmd: squared width -1 of the kernel", nil},
		{"the same vector all along", drop(statistics.MMD2([][]float64{{1}, {1}}, [][]float64{{1}, {1}}, 0)), "mmd: half of the vectors or more are the same, give a width of the kernel: values do not vary", statistics.ErrConstant},

		{"no trials", drop(statistics.Wilson(statistics.Proportion{}, 0.95)), "wilson: no trials: too few values", statistics.ErrEmpty},
		{"more than all", drop(statistics.Wilson(statistics.Proportion{Successes: 2, Trials: 1}, 0.95)), "wilson: 2 successes of 1 trials", nil},
		{"no confidence", drop(statistics.DifferenceOfProportions(statistics.Proportion{Trials: 1}, statistics.Proportion{Trials: 1}, math.NaN())), "difference of proportions: the reference: wilson: confidence NaN is not between 0 and 1", nil},
		{"a ratio of nothing", drop(statistics.RatioOfProportions(statistics.Proportion{Trials: 1}, statistics.Proportion{Trials: -1}, 0.9)), "ratio of proportions: the current sample: wilson: 0 successes of -1 trials", nil},
		{"no scores", drop(statistics.FitIsotonic(nil, nil, nil)), "isotonic: the list of scores has 0 values, at least 1 are needed: too few values\nthe list of outcomes has 0 values, at least 1 are needed: too few values", statistics.ErrEmpty},
		{"fewer weights", drop(statistics.FitIsotonic(ok, ok, []float64{1})), "isotonic: 3 scores, 3 outcomes, 1 weights", nil},
		{"no weight", drop(statistics.FitIsotonic(ok, ok, []float64{1, 0, 1})), "isotonic: weight 1 is 0", nil},
		{"not a probability", drop(statistics.Brier([]float64{1.5}, []bool{true})), "brier: probability 0 is 1.5", nil},
		{"fewer outcomes", drop(statistics.Brier([]float64{0.5}, nil)), "brier: 1 probabilities, 0 outcomes", nil},
		{"calibration of nothing", drop(statistics.CalibrationError(nil, nil, 10)), "calibration error: too few values", statistics.ErrEmpty},
		{"calibration in no bins", drop(statistics.CalibrationError([]float64{0.5}, []bool{true}, 0)), "calibration error: 0 bins are not 1 to 10000", nil},

		{"a series of one", drop(statistics.Autocorrelation([]float64{1}, 0)), "autocorrelation: the series has 1 values, at least 2 are needed: too few values", statistics.ErrEmpty},
		{"a series that stands still", drop(statistics.EffectiveSampleSize([]float64{0.1, 0.1, 0.1})), "autocorrelation: values do not vary", statistics.ErrConstant},
		{"a lag beyond the series", drop(statistics.Autocorrelation(ok, 3)), "autocorrelation: lag 3 of 3 values", nil},
		{"a series too short to tell", drop(statistics.DecorrelationTime(trend)), "decorrelation time: it is more than 4, a tenth of the series: too few values", statistics.ErrEmpty},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.err == nil || test.err.Error() != test.want {
				t.Errorf("got  %q\nwant %q", test.err, test.want)
			}
			if test.is != nil && !errors.Is(test.err, test.is) {
				t.Errorf("%q is not %q", test.err, test.is)
			}
		})
	}
}

func TestProbabilityOfNothing(t *testing.T) {
	if p := statistics.KolmogorovSmirnovP(0.5, 0, 10); p != 1 {
		t.Errorf("p of nothing is %v", p)
	}
	if p := statistics.KolmogorovSmirnovP(math.NaN(), 10, 10); p != 1 {
		t.Errorf("p of NaN is %v", p)
	}
}

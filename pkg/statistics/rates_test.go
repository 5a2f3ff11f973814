package statistics_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sightline-dev/sightline/pkg/statistics"
)

func TestProportions(t *testing.T) {
	tests := []struct {
		name      string
		got       func() (statistics.Interval, error)
		low, high float64
	}{
		// The limits of none are 0 and z^2/(n+z^2).
		{"none of 10", func() (statistics.Interval, error) {
			return statistics.Wilson(statistics.Proportion{Trials: 10}, 0.95)
		}, 0, 0.277533},
		{"half of 10", func() (statistics.Interval, error) {
			return statistics.Wilson(statistics.Proportion{Successes: 5, Trials: 10}, 0.95)
		}, 0.236593, 0.763407},
		{"all of 10", func() (statistics.Interval, error) {
			return statistics.Wilson(statistics.Proportion{Successes: 10, Trials: 10}, 0.95)
		}, 1 - 0.277533, 1},
		{"Newcombe 1998, table II (a), method 10", func() (statistics.Interval, error) {
			return statistics.DifferenceOfProportions(statistics.Proportion{Successes: 48, Trials: 80}, statistics.Proportion{Successes: 56, Trials: 70}, 0.95)
		}, 0.0524, 0.3339},
		{"Newcombe 1998, table II (b)", func() (statistics.Interval, error) {
			return statistics.DifferenceOfProportions(statistics.Proportion{Successes: 3, Trials: 10}, statistics.Proportion{Successes: 9, Trials: 10}, 0.95)
		}, 0.1705, 0.8090},
		{"nothing is known of a ratio to nothing", func() (statistics.Interval, error) {
			return statistics.RatioOfProportions(statistics.Proportion{Trials: 10}, statistics.Proportion{Trials: 10}, 0.95)
		}, 0, math.Inf(1)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.got()
			if err != nil || math.Abs(got.Low-test.low) > 1e-4 || got.High != test.high && math.Abs(got.High-test.high) > 1e-4 {
				t.Errorf("%v, %v, want %v to %v", got, err, test.low, test.high)
			}
		})
	}
}

func TestProportionProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) statistics.Proportion {
			n := rapid.IntRange(1, 200).Draw(t, label)
			return statistics.Proportion{Successes: rapid.IntRange(0, n).Draw(t, label), Trials: n}
		}
		p, q := draw("p"), draw("q")
		confidence := rapid.Float64Range(0.5, 0.999).Draw(t, "confidence")
		w, err := statistics.Wilson(p, confidence)
		if err != nil || !(0 <= w.Low && w.Low <= p.Share() && p.Share() <= w.High && w.High <= 1) {
			t.Fatalf("wilson %v, %v", w, err)
		}
		d, err := statistics.DifferenceOfProportions(p, q, confidence)
		if err != nil || !(-1 <= d.Low && d.Low <= d.Estimate && d.Estimate <= d.High && d.High <= 1) {
			t.Fatalf("difference %v, %v", d, err)
		}
		ratio, err := statistics.RatioOfProportions(p, q, confidence)
		if err != nil || !(0 <= ratio.Low && ratio.Low <= ratio.Estimate && ratio.Estimate <= ratio.High) {
			t.Fatalf("ratio %v, %v", ratio, err)
		}
		// Both are made of the same two intervals, so they agree on whether there is a difference.
		if math.Abs(d.Low) > 1e-9 && (d.Low > 0) != (ratio.Low > 1) || math.Abs(d.High) > 1e-9 && (d.High < 0) != (ratio.High < 1) {
			t.Fatalf("difference %v, ratio %v", d, ratio)
		}
		if back, _ := statistics.RatioOfProportions(q, p, confidence); p.Successes > 0 && q.Successes > 0 && math.Abs(back.Low*ratio.High-1) > 1e-9 {
			t.Fatalf("ratio %v, and the other way round %v", ratio, back)
		}
	})
}

// TestIntervalsCover counts how often the truth is within.
func TestIntervalsCover(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	draw := func(n int, p float64) (out statistics.Proportion) {
		out.Trials = n
		for range n {
			if r.Float64() < p {
				out.Successes++
			}
		}
		return out
	}
	const rounds = 2000
	var wilson, difference, ratio int
	for range rounds {
		a, b := draw(60, 0.3), draw(80, 0.24)
		w, _ := statistics.Wilson(a, 0.95)
		d, _ := statistics.DifferenceOfProportions(a, b, 0.95)
		q, _ := statistics.RatioOfProportions(a, b, 0.95)
		wilson += inside(w, 0.3)
		difference += inside(d, -0.06)
		ratio += inside(q, 0.8)
	}
	for name, n := range map[string]int{"wilson": wilson, "difference": difference, "ratio": ratio} {
		if share := float64(n) / rounds; share < 0.93 || share > 0.975 {
			t.Errorf("%s covers the truth in %v of cases", name, share)
		}
	}
}

func inside(i statistics.Interval, truth float64) int {
	if i.Low <= truth && truth <= i.High {
		return 1
	}
	return 0
}

func TestIsotonic(t *testing.T) {
	c, err := statistics.FitIsotonic([]float64{5, 1, 2, 3, 4}, []float64{3.5, 1, 3, 2, 4}, nil)
	if want := (statistics.Isotonic{Scores: []float64{1, 2, 3, 4, 5}, Values: []float64{1, 2.5, 2.5, 3.75, 3.75}}); err != nil || !slices.Equal(c.Scores, want.Scores) || !slices.Equal(c.Values, want.Values) {
		t.Fatalf("%v, %v, want %v", c, err, want)
	}
	for score, want := range map[float64]float64{-1: 1, 1: 1, 1.5: 1.75, 2.2: 2.5, 3.5: 3.125, 9: 3.75} {
		near(t, "value", c.At(score), want, nil, tiny)
	}
	c, err = statistics.FitIsotonic([]float64{1, 1, 2}, []float64{0, 1, 0}, []float64{1, 1, 2})
	near(t, "one level for all", c.At(1), 0.25, err, tiny)
	if !math.IsNaN((statistics.Isotonic{}).At(1)) || !math.IsNaN(c.At(math.NaN())) {
		t.Error("the calibration of nothing is something")
	}
	if err := (statistics.Isotonic{Scores: []float64{1, 2}, Values: []float64{1, 0}}).Validate(); err == nil {
		t.Error("a calibration that falls is valid")
	}
}

func TestIsotonicProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		x, y, w := make([]float64, n), make([]float64, n), make([]float64, n)
		for i := range n {
			x[i] = float64(rapid.IntRange(0, 20).Draw(t, "x"))
			y[i] = rapid.Float64Range(-1, 1).Draw(t, "y")
			w[i] = float64(rapid.IntRange(1, 3).Draw(t, "w"))
		}
		c, err := statistics.FitIsotonic(x, y, w)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		// The fit keeps the weighted sum, and no other constant step is closer.
		var sum, fitted, weights float64
		for i := range n {
			sum += w[i] * y[i]
			fitted += w[i] * c.At(x[i])
			weights += w[i]
		}
		if math.Abs(sum-fitted) > 1e-9 {
			t.Fatalf("sum %v, fitted %v", sum, fitted)
		}
		ours, constant := 0.0, 0.0
		for i := range n {
			ours += w[i] * (y[i] - c.At(x[i])) * (y[i] - c.At(x[i]))
			constant += w[i] * (y[i] - sum/weights) * (y[i] - sum/weights)
		}
		if ours > constant+1e-9 {
			t.Fatalf("squares %v, of a constant %v", ours, constant)
		}
		again, err := statistics.FitIsotonic(c.Scores, c.Values, nil)
		if err != nil || math.Abs(again.At(x[0])-c.At(x[0])) > 1e-9 {
			t.Fatalf("fitted again %v, %v", again, err)
		}
		raw, err := json.Marshal(c)
		var back statistics.Isotonic
		if err != nil || json.Unmarshal(raw, &back) != nil || back.At(x[0]) != c.At(x[0]) {
			t.Fatalf("%s, %v", raw, err)
		}
	})
}

func TestCalibration(t *testing.T) {
	p, happened := []float64{0.1, 0.9, 0.9, 0.9}, []bool{false, true, true, false}
	e, err := statistics.CalibrationError(p, happened, 10)
	near(t, "calibration error", e, 0.1/4+0.7/4, err, tiny)
	e, err = statistics.CalibrationError([]float64{0, 1, 1}, []bool{false, true, true}, 15)
	near(t, "calibration error of certainty", e, 0, err, tiny)
	e, err = statistics.CalibrationError(p, happened, 1)
	near(t, "calibration error of all together", e, 0.8/4, err, tiny)
	b, err := statistics.Brier(p, happened)
	near(t, "brier", b, (0.01+0.01+0.01+0.81)/4, err, tiny)
}

func TestSeries(t *testing.T) {
	acf, err := statistics.Autocorrelation([]float64{1, 2, 3, 4}, 3)
	for lag, want := range []float64{1, 0.25, -0.3, -0.45} {
		near(t, "autocorrelation", acf[lag], want, err, tiny)
	}
	turns, err := statistics.EffectiveSampleSize([]float64{0, 1, 0, 1, 0, 1, 0, 1})
	near(t, "effective size of values that take turns", turns, 8, err, tiny)

	// x[t] = .8*x[t-1] + noise: autocorrelation .8^lag, below 1/e from lag 5 on; integrated (1+.8)/(1-.8) = 9.
	r := rand.New(rand.NewPCG(7, 8))
	series := normal(r, 100_000, 0)
	white := slices.Clone(series)
	for i := 1; i < len(series); i++ {
		series[i] += 0.8 * series[i-1]
	}
	lag, err := statistics.DecorrelationTime(series)
	near(t, "decorrelation time", float64(lag), 5, err, 0)
	tau, err := statistics.IntegratedTime(series)
	near(t, "integrated time", tau, 9, err, 1)
	n, err := statistics.EffectiveSampleSize(series)
	near(t, "effective size", n, float64(len(series))/tau, err, tiny)
	lag, err = statistics.DecorrelationTime(white)
	near(t, "decorrelation time of noise", float64(lag), 1, err, 0)
	tau, err = statistics.IntegratedTime(white)
	near(t, "integrated time of noise", tau, 1, err, 0.1)
}

package statistics_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sightline-dev/sightline/pkg/statistics"
)

func TestBins(t *testing.T) {
	edges, err := statistics.SturgesEdges([]float64{0, 1, 2, 3}, []float64{8, 4, 4, 4})
	if want := []float64{0, 2, 4, 6, 8}; err != nil || !slices.Equal(edges, want) { // log2(8)+1 bins
		t.Errorf("sturges %v, %v, want %v", edges, err, want)
	}
	if edges, err = statistics.SturgesEdges([]float64{7}, []float64{7, 7}); err != nil || !slices.Equal(edges, []float64{6.5, 7.5}) {
		t.Errorf("sturges of one value %v, %v", edges, err)
	}
	if edges, err = statistics.QuantileEdges([]float64{4, 1, 3, 2, 5}, 8); err != nil || !slices.Equal(edges, []float64{1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5}) {
		t.Errorf("quantiles %v, %v", edges, err)
	}
	counts, err := statistics.Bin([]float64{-9, 1, 1.5, 2, 3, 99}, []float64{1, 2, 3})
	if want := []float64{3, 3}; err != nil || !slices.Equal(counts, want) {
		t.Errorf("counts %v, %v, want %v: a value on an edge is above it, one beyond the edges in the last bin", counts, err, want)
	}
	counts, err = statistics.Bin([]float64{2, 2, 3}, []float64{math.Inf(-1), 2, 2, math.Inf(1)})
	if want := []float64{0, 0, 3}; err != nil || !slices.Equal(counts, want) {
		t.Errorf("counts between equal edges %v, %v, want %v", counts, err, want)
	}
}

func TestDivergences(t *testing.T) {
	ref, cur := []float64{10, 10}, []float64{5, 15}
	d, err := statistics.PSI(ref, cur, 1e-4)
	near(t, "psi", d, 0.25*math.Log(2)+0.25*math.Log(1.5), err, tiny)
	d, err = statistics.JensenShannon(ref, cur, math.E)
	near(t, "js", d*d, (0.5*math.Log(0.5/0.375)+0.5*math.Log(0.5/0.625)+0.25*math.Log(0.25/0.375)+0.75*math.Log(0.75/0.625))/2, err, tiny)
	d, err = statistics.Hellinger(ref, cur)
	near(t, "hellinger", d, math.Sqrt(1-math.Sqrt(0.125)-math.Sqrt(0.375)), err, tiny)
	d, err = statistics.TotalVariation(ref, cur)
	near(t, "total variation", d, 0.25, err, tiny)

	// Nothing counts as the floor, and so does less than the floor.
	none, err := statistics.PSI([]float64{1, 0}, []float64{1, 1}, 0.01)
	near(t, "psi with an empty bin", none, 0.5*math.Log(2)+0.49*math.Log(50), err, tiny)
	little, err := statistics.PSI([]float64{9999, 1}, []float64{5000, 5000}, 0.01)
	near(t, "psi with a bin of less than the floor", little, (0.5-0.9999)*math.Log(0.5/0.9999)+0.49*math.Log(50), err, tiny)

	near(t, "noise", statistics.PSINoise(10, 100, 100), 0.18, nil, tiny)
	if !math.IsInf(statistics.PSINoise(10, 0, 100), 1) || statistics.PSINoise(1, 0, 0) != 0 {
		t.Error("noise of nothing is not infinite, or of one bin not 0")
	}
}

// TestPSINoise holds the formula to samples of one distribution.
func TestPSINoise(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	const n, rounds = 500, 200
	sum := 0.0
	for range rounds {
		ref, cur := normal(r, n, 0), normal(r, n, 0)
		edges, err := statistics.QuantileEdges(ref, 10)
		if err != nil {
			t.Fatal(err)
		}
		p, _ := statistics.Bin(ref, edges)
		q, _ := statistics.Bin(cur, edges)
		psi, err := statistics.PSI(p, q, statistics.FloorEvidently)
		if err != nil {
			t.Fatal(err)
		}
		sum += psi
	}
	near(t, "mean psi of nothing", sum/rounds, statistics.PSINoise(10, n, n), nil, 0.006)
}

func TestDivergenceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 12).Draw(t, "size")
		draw := func(label string) []float64 {
			c := make([]float64, size)
			for i := range c {
				c[i] = float64(rapid.IntRange(0, 50).Draw(t, label))
			}
			c[rapid.IntRange(0, size-1).Draw(t, label)]++
			return c
		}
		p, q := draw("p"), draw("q")
		measures := map[string]func(a, b []float64) (float64, error){
			"psi":             func(a, b []float64) (float64, error) { return statistics.PSI(a, b, 1e-4) },
			"js":              func(a, b []float64) (float64, error) { return statistics.JensenShannon(a, b, 2) },
			"hellinger":       statistics.Hellinger,
			"total variation": statistics.TotalVariation,
			"cramer": func(a, b []float64) (float64, error) {
				v, err := statistics.CramersV(a, b)
				if v.Corrected > v.V+1e-9 && v.V < 1 {
					panic(v)
				}
				return v.V, err
			},
		}
		got := map[string]float64{}
		for name, f := range measures {
			there, err := f(p, q)
			back, err2 := f(q, p)
			if err != nil || err2 != nil || math.Abs(there-back) > 1e-9 || there < 0 || there > 1 && name != "psi" {
				t.Fatalf("%s is %v and %v, %v, %v", name, there, back, err, err2)
			}
			if same, _ := f(p, p); math.Abs(same) > 1e-7 {
				t.Fatalf("%s of a sample and itself is %v", name, same)
			}
			got[name] = there
		}
		if h, tv := got["hellinger"], got["total variation"]; h*h > tv+1e-9 || tv > math.Sqrt2*h+1e-9 {
			t.Fatalf("hellinger %v and total variation %v", h, tv)
		}
	})
}

func TestCategorical(t *testing.T) {
	ref, cur := []float64{10, 20, 0}, []float64{20, 10, 0}
	c, err := statistics.ChiSquareContingency(ref, cur, statistics.Uncorrected)
	near(t, "chi-square", c.Statistic, 20./3, err, tiny)
	near(t, "p", c.P, math.Erfc(math.Sqrt(10./3)), err, tiny)
	if c.Freedom != 1 {
		t.Errorf("%d degrees of freedom: a category that neither has was counted", c.Freedom)
	}
	c, err = statistics.ChiSquareContingency(ref, cur, statistics.Corrected)
	near(t, "chi-square with Yates' correction", c.Statistic, 5.4, err, tiny)
	c, err = statistics.ChiSquareContingency([]float64{9, 5, 1}, []float64{1, 5, 9}, statistics.Corrected)
	near(t, "chi-square of three, which has no correction", c.Statistic, 12.8, err, tiny)
	c, err = statistics.ChiSquareFit([]float64{1, 1}, []float64{12, 8})
	near(t, "chi-square of fit", c.Statistic, 0.8, err, tiny)
	c, err = statistics.ChiSquareContingency([]float64{7}, []float64{9}, statistics.Corrected)
	near(t, "p of one category", c.P, 1, err, tiny)

	v, err := statistics.CramersV([]float64{10, 0}, []float64{0, 10})
	near(t, "V of samples with nothing in common", v.V, 1, err, tiny)
	near(t, "the same, corrected", v.Corrected, 1, err, tiny)
	v, err = statistics.CramersV([]float64{5, 5}, []float64{5, 6})
	near(t, "V of chance, corrected", v.Corrected, 0, err, tiny)
}

func TestMMD2(t *testing.T) {
	x := [][]float64{{0}, {2}}
	d, err := statistics.MMD2(x, x, 2)
	near(t, "biased, of the same set twice", d.Biased, 0, err, tiny)
	near(t, "unbiased", d.Unbiased, math.Exp(-1)-1, err, tiny)
	// The six squared distances are 4, 4, 100, 144, 64, 100; the median is between 64 and 100.
	d, err = statistics.MMD2(x, [][]float64{{10}, {12}}, 0)
	near(t, "sigma2", d.Sigma2, (64.+100)/4, err, tiny)
	if d.Unbiased <= 0 || d.Biased < d.Unbiased {
		t.Errorf("%+v", d)
	}
}

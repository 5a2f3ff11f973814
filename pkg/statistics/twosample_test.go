package statistics_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sightline-dev/sightline/pkg/statistics"
)

const tiny = 1e-9

// near wants no error, and figures that agree within 1e-6 or as told.
func near(t *testing.T, what string, got, want float64, err error, within ...float64) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	tolerance := 1e-6
	if len(within) > 0 {
		tolerance = within[0]
	}
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestKolmogorovSmirnov(t *testing.T) {
	tests := []struct {
		name     string
		ref, cur []float64
		side     statistics.Alternative
		d, p     float64
	}{
		// 3 of 6 places can be chosen in 20 ways, and one puts all of one sample first.
		{"apart", []float64{3, 1, 2}, []float64{6, 4, 5}, statistics.TwoSided, 1, 2. / 20},
		{"apart, reference smaller", []float64{1, 2, 3}, []float64{4, 5, 6}, statistics.Greater, 1, 1. / 20},
		{"apart, reference larger", []float64{1, 2, 3}, []float64{4, 5, 6}, statistics.Less, 0, 1},
		{"apart, other sizes", []float64{1, 2}, []float64{3, 4, 5}, statistics.TwoSided, 1, 2. / 10},
		{"smallest difference that there is", []float64{1, 3, 5}, []float64{2, 4, 6}, statistics.TwoSided, 1. / 3, 1},
		{"one value throughout", []float64{7, 7}, []float64{7, 7, 7}, statistics.TwoSided, 0, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := statistics.KolmogorovSmirnov(test.ref, test.cur, test.side, statistics.Auto)
			near(t, "statistic", got.Statistic, test.d, err, tiny)
			near(t, "p", got.P, test.p, err, tiny)
		})
	}
}

// TestKolmogorovSmirnovExact counts all orderings of two small samples.
func TestKolmogorovSmirnovExact(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {2, 4}, {3, 5}, {4, 4}, {5, 2}} {
		n, m := size[0], size[1]
		for _, side := range []statistics.Alternative{statistics.TwoSided, statistics.Less, statistics.Greater} {
			var all []statistics.Test
			for mask := range 1 << (n + m) {
				var ref, cur []float64
				for i := range n + m {
					if mask>>i&1 == 1 {
						ref = append(ref, float64(i))
					} else {
						cur = append(cur, float64(i))
					}
				}
				if len(ref) != n {
					continue
				}
				got, err := statistics.KolmogorovSmirnov(ref, cur, side, statistics.Exact)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, got)
			}
			for _, one := range all {
				atLeast := 0
				for _, other := range all {
					if other.Statistic >= one.Statistic-tiny {
						atLeast++
					}
				}
				near(t, "p", one.P, float64(atLeast)/float64(len(all)), nil, tiny)
			}
		}
	}
}

// TestAsymptoticIsNearExact compares both p-values at sizes at which either will do.
func TestAsymptoticIsNearExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for shift := 0.0; shift < 0.5; shift += 0.1 {
		ref, cur := normal(r, 700, 0), normal(r, 500, shift)
		for _, side := range []statistics.Alternative{statistics.TwoSided, statistics.Less, statistics.Greater} {
			exact, err := statistics.KolmogorovSmirnov(ref, cur, side, statistics.Exact)
			near(t, "statistic", exact.Statistic, exact.Statistic, err)
			limit, err := statistics.KolmogorovSmirnov(ref, cur, side, statistics.Asymptotic)
			near(t, "p", limit.P, exact.P, err, 0.02)
		}
	}
}

func TestCramerVonMises(t *testing.T) {
	// Ranks 1, 2, 3 are 0 off and ranks 4, 5, 6 are 3 off: U = 3*0 + 3*27 = 81, T = 81/54 - 35/36.
	got, err := statistics.CramerVonMises([]float64{1, 2, 3}, []float64{4, 5, 6})
	near(t, "statistic", got.Statistic, 81./54-35./36, err, tiny)
	got, err = statistics.CramerVonMises([]float64{2, 2, 2}, []float64{2, 2})
	near(t, "p of one value throughout", got.P, 1, err, 0.02)
}

func TestLocation(t *testing.T) {
	u, err := statistics.MannWhitney([]float64{3, 1, 2}, []float64{4, 6, 5}, statistics.Corrected)
	near(t, "U", u.Statistic, 0, err, tiny)
	near(t, "p", u.P, math.Erfc(4/math.Sqrt(5.25)/math.Sqrt2), err, tiny)
	u, err = statistics.MannWhitney([]float64{1, 2, 3}, []float64{4, 5, 6}, statistics.Uncorrected)
	near(t, "p without correction", u.P, math.Erfc(4.5/math.Sqrt(5.25)/math.Sqrt2), err, tiny)
	// Six equal values of seven: U is 4*1 + 3*4/2 - 2 = 8; 12/12 * (8 - 210/42) = 3.
	u, err = statistics.MannWhitney([]float64{5, 5, 5, 9}, []float64{5, 5, 5}, statistics.Uncorrected)
	near(t, "U with ties", u.Statistic, 3*1+9./2, err, tiny)
	near(t, "p with ties", u.P, math.Erfc(1.5/math.Sqrt(3)/math.Sqrt2), err, tiny)
	u, err = statistics.MannWhitney([]float64{5, 5}, []float64{5, 5, 5}, statistics.Corrected)
	near(t, "p of one value throughout", u.P, 1, err, tiny)

	c, err := statistics.CommonLanguage([]float64{1, 2, 3}, []float64{3, 4})
	near(t, "common language", c, 5.5/6, err, tiny)

	// Means 2.5 and 5, squared errors 5/12 and 20/12; Student's p for 4.41 degrees of freedom from SciPy.
	w, err := statistics.Welch([]float64{1, 2, 3, 4}, []float64{2, 4, 6, 8})
	near(t, "t", w.Statistic, -math.Sqrt(3), err, tiny)
	near(t, "degrees of freedom", w.Freedom, 75./17, err, tiny)
	near(t, "p", w.P, 0.1515805048, err, tiny)
	w, err = statistics.Welch([]float64{0.1, 0.1, 0.1}, []float64{1, 2, 3})
	near(t, "degrees of freedom when one sample is constant", w.Freedom, 2, err, tiny)
}

func TestLocationShift(t *testing.T) {
	// The 25 differences are 6, 7, 7, 8, 8, 8, ... 14; sigma is sqrt(25*11/12), so the test rejects two on either side.
	got, err := statistics.LocationShift([]float64{1, 2, 3, 4, 5}, []float64{11, 12, 13, 14, 15}, 0.95)
	if want := (statistics.Interval{Low: 7, Estimate: 10, High: 13}); got != want || err != nil {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	got, err = statistics.LocationShift([]float64{2}, []float64{5}, 0.95)
	if want := (statistics.Interval{Low: 3, Estimate: 3, High: 3}); got != want || err != nil {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	got, err = statistics.LocationShift([]float64{2, 2}, []float64{2, 2, 2}, 0.95)
	if want := (statistics.Interval{}); got != want || err != nil {
		t.Errorf("of one value throughout %v, %v", got, err)
	}
}

func TestDistances(t *testing.T) {
	d, err := statistics.Wasserstein([]float64{0, 1, 3}, []float64{5, 6, 8})
	near(t, "wasserstein", d, 5, err, tiny)
	d, err = statistics.WassersteinNormed([]float64{0, 4}, []float64{1, 1})
	near(t, "normed", d, 2/2., err, tiny)
	d, err = statistics.WassersteinNormed([]float64{3, 3}, []float64{3.01, 3.01})
	near(t, "normed by a reference that does not vary", d, 10, err)
	d, err = statistics.Energy([]float64{0}, []float64{8})
	near(t, "energy", d, 4, err, tiny)
}

func normal(r *rand.Rand, n int, mean float64) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = mean + r.NormFloat64()
	}
	return x
}

// sample draws one with ties as well as without.
func sample(t *rapid.T, label string) []float64 {
	whole := rapid.Map(rapid.IntRange(-5, 5), func(i int) float64 { return float64(i) })
	value := rapid.OneOf(whole, rapid.Float64Range(-1000, 1000))
	return rapid.SliceOfN(value, 2, 30).Draw(t, label)
}

func TestTwoSampleProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := sample(t, "x"), sample(t, "y")
		before := slices.Clone(x)
		symmetric := map[string]func(a, b []float64) (float64, error){
			"wasserstein": statistics.Wasserstein,
			"energy":      statistics.Energy,
			"ks":          func(a, b []float64) (float64, error) { return ks(a, b, statistics.TwoSided) },
			"cvm": func(a, b []float64) (float64, error) {
				v, err := statistics.CramerVonMises(a, b)
				return v.Statistic, err
			},
		}
		for name, f := range symmetric {
			there, err := f(x, y)
			back, err2 := f(y, x)
			if err != nil || err2 != nil || math.Abs(there-back) > 1e-9 {
				t.Fatalf("%s is %v and %v, %v, %v", name, there, back, err, err2)
			}
			if same, _ := f(x, x); name != "cvm" && same != 0 {
				t.Fatalf("%s of a sample and itself is %v", name, same)
			}
		}
		if !slices.Equal(x, before) {
			t.Fatal("the sample was changed")
		}
		less, _ := ks(x, y, statistics.Less)
		if greater, _ := ks(y, x, statistics.Greater); less != greater {
			t.Fatalf("less %v is not greater the other way round, %v", less, greater)
		}
		a, _ := statistics.MannWhitney(x, y, statistics.Corrected)
		b, _ := statistics.MannWhitney(y, x, statistics.Corrected)
		if a.Statistic+b.Statistic != float64(len(x)*len(y)) || math.Abs(a.P-b.P) > 1e-9 || !(a.P >= 0 && a.P <= 1) {
			t.Fatalf("mann-whitney %v and %v", a, b)
		}
		shift := rapid.Float64Range(-10, 10).Draw(t, "shift")
		moved := make([]float64, len(x))
		for i := range x {
			moved[i] = x[i] + shift
		}
		if d, _ := statistics.Wasserstein(x, moved); math.Abs(d-math.Abs(shift)) > 1e-9 {
			t.Fatalf("a shift of %v is %v", shift, d)
		}
	})
}

func ks(a, b []float64, side statistics.Alternative) (float64, error) {
	v, err := statistics.KolmogorovSmirnov(a, b, side, statistics.Asymptotic)
	if !(v.P >= 0 && v.P <= 1) {
		panic(v)
	}
	return v.Statistic, err
}

// TestLocationShiftProperties compares with the differences themselves.
func TestLocationShiftProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := sample(t, "x"), sample(t, "y")
		confidence := rapid.Float64Range(0.01, 0.999).Draw(t, "confidence")
		got, err := statistics.LocationShift(x, y, confidence)
		if err != nil {
			t.Fatal(err)
		}
		var differences []float64
		for _, a := range x {
			for _, b := range y {
				differences = append(differences, b-a)
			}
		}
		slices.Sort(differences)
		k := len(differences)
		if want := differences[(k-1)/2]/2 + differences[k/2]/2; got.Estimate != want {
			t.Fatalf("estimate %v, want %v", got.Estimate, want)
		}
		low, found := slices.BinarySearch(differences, got.Low)
		if !found || !slices.Contains(differences, got.High) || low > k/2 || got.Low > got.Estimate || got.High < got.Estimate {
			t.Fatalf("%v of %v", got, differences)
		}
		back, _ := statistics.LocationShift(y, x, confidence)
		if back.Low != -got.High || back.High != -got.Low {
			t.Fatalf("%v, and the other way round %v", got, back)
		}
		wide, _ := statistics.LocationShift(x, y, 0.9999)
		if wide.Low > got.Low || wide.High < got.High {
			t.Fatalf("%v at more confidence than %v", wide, got)
		}
	})
}

package statistics

import (
	"math"
	"testing"
)

// TestOneSampleKolmogorov compares with published values and closed forms, one at least for each method.
func TestOneSampleKolmogorov(t *testing.T) {
	tests := []struct {
		name      string
		n, d      float64
		p, within float64
	}{
		{"one value", 1, 0.75, 0.5, 1e-12},
		{"two values, closed form 2(1-d)^2", 2, 0.8, 0.08, 1e-12},
		{"Marsaglia, Tsang and Wang 2003, section 2", 10, 0.274, 1 - 0.6284796154565043, 1e-13},
		{"less than any", 10, 0.05, 1, 0},
		{"Ruben and Gambino: 10!*(2d-1/10)^10", 10, 0.08, 1 - 3628800*math.Pow(0.06, 10), 1e-12},
		{"beyond any", 10, 1, 0, 0},
		{"table: 1% of 20 values", 20, 0.35241, 0.01, 1e-5},
		{"table: 5% of 100 values", 100, 0.13403, 0.05, 1e-4},
		{"Kolmogorov's limit", 1e10, 1.3580986 / 1e5, 0.05, 1e-6},
		{"Kolmogorov's limit, far out", 1e6, 2e-3, 2 * math.Exp(-8), 2e-6},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := oneSampleKolmogorov(test.n, test.d); !(math.Abs(got-test.p) <= test.within) {
				t.Errorf("%v, want %v", got, test.p)
			}
		})
	}
}

// TestMethodsMeet looks where one method takes over from another.
func TestMethodsMeet(t *testing.T) {
	for _, n := range []float64{20, 100, 140} {
		d := math.Sqrt(4 / n)
		if a, b := 1-durbin(int(n), d), 2*smirnov(n, d); math.Abs(a-b) > 1e-6 {
			t.Errorf("n=%v: %v and %v", n, a, b)
		}
	}
	for _, n := range []float64{141, 500, 5000} {
		if a, b, d := 1-pelzGood(n, math.Sqrt(2.2/n)), 2*smirnov(n, math.Sqrt(2.2/n)), math.Pow(1.4/n, 2./3); math.Abs(a-b) > 2e-5 {
			t.Errorf("n=%v: %v and %v", n, a, b)
		} else if a, b := durbin(int(n), d), pelzGood(n, d); math.Abs(a-b) > 2e-5 {
			t.Errorf("n=%v: %v and %v", n, a, b)
		}
	}
	last := 1.0
	for d := 0.001; d < 1; d += 0.001 {
		p := oneSampleKolmogorov(60, d)
		if p > last+1e-12 || p < 0 {
			t.Fatalf("p rises to %v at %v", p, d)
		}
		last = p
	}
}

// TestCramerVonMisesTail compares with the quantiles in Anderson and Darling 1952 and Csorgo and Faraway 1996.
func TestCramerVonMisesTail(t *testing.T) {
	for w, p := range map[float64]float64{0.02480: 0.99, 0.11888: 0.5, 0.34730: 0.1, 0.46136: 0.05, 0.74346: 0.01, 1.16786: 0.001} {
		if got := cramerVonMisesTail(w); math.Abs(got-p) > 2e-3*p {
			t.Errorf("at %v %v, want %v", w, got, p)
		}
	}
	if got := cramerVonMisesTail(0.003); math.Abs(got-1) > 1e-12 {
		t.Errorf("at the least %v", got)
	}
	// Far out each unit more is exp(-pi^2/2) less.
	if got, want := cramerVonMisesTail(31)/cramerVonMisesTail(30), math.Exp(-math.Pi*math.Pi/2)*math.Sqrt(30./31); math.Abs(got-want) > 1e-3*want {
		t.Errorf("from 30 to 31 it falls to %v of it, want %v", got, want)
	}
}

func TestFloatsAreInOrder(t *testing.T) {
	last := int64(math.MinInt64)
	for _, v := range []float64{-math.MaxFloat64, -1, -math.SmallestNonzeroFloat64, 0, math.SmallestNonzeroFloat64, 1, math.MaxFloat64} {
		if order := orderOf(v); order <= last || floatAt(order) != v {
			t.Errorf("%v has number %d, of which the float is %v", v, order, floatAt(order))
		} else {
			last = order
		}
	}
	if orderOf(math.Copysign(0, -1)) != orderOf(0) {
		t.Error("-0 is not 0")
	}
}

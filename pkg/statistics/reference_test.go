package statistics_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/pkg/statistics"
)

// shared decodes a file of reference figures that is not part of the repository.
func shared(t *testing.T, name string, into any) {
	t.Helper()
	dir := os.Getenv("SIGHTLINE_SHARED_DATA")
	if dir == "" {
		dir = "../../../shared/data"
	}
	raw, err := os.ReadFile(filepath.Join(dir, "expected", name))
	if err != nil {
		t.Skipf("NOT TESTED: the figures of SciPy, Frouros and R: %v; set SIGHTLINE_SHARED_DATA to the directory that has expected/", err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

type figures struct {
	TwoSample []struct {
		Name     string
		Ref, Cur []float64
		Expected map[string]json.RawMessage
	} `json:"two_sample"`
	Categorical []struct {
		Name     string
		Ref, Cur []float64
		Expected map[string]json.RawMessage
	}
	MMD []struct {
		Name     string
		X, Y     [][]float64
		Expected map[string]float64
	}
}

// expectation is one entry of a case: whoever asks for it ticks it off, so that none is overlooked.
type expectation struct {
	t    *testing.T
	left map[string]json.RawMessage
}

func (e *expectation) take(name string, into any) bool {
	e.t.Helper()
	raw, ok := e.left[name]
	if !ok {
		return false
	}
	delete(e.left, name)
	if err := json.Unmarshal(raw, into); err != nil {
		e.t.Fatalf("%s: %v", name, err)
	}
	return true
}

func (e *expectation) must(name string, into any) {
	e.t.Helper()
	if !e.take(name, into) {
		e.t.Errorf("no figure %q", name)
	}
}

func (e *expectation) number(name string, got float64, err error) {
	e.t.Helper()
	var want float64
	e.must(name, &want)
	e.near(name, got, want, err)
}

// near is 1e-9 of the figure, absolutely below 1.
func (e *expectation) near(name string, got, want float64, err error) {
	e.t.Helper()
	if err != nil {
		e.t.Errorf("%s: %v", name, err)
	}
	if !(math.Abs(got-want) <= 1e-9*max(1, math.Abs(want))) {
		e.t.Errorf("%s is %v, want %v", name, got, want)
	}
}

// probability is 1e-6 of the p-value itself, however small, unless it is below where SciPy's own is rounded off.
func (e *expectation) probability(name string, got, want, reliable float64) {
	e.t.Helper()
	if want < reliable && got < 2*reliable {
		return
	}
	if !(math.Abs(got-want) <= 1e-6*want) {
		e.t.Errorf("p of %s is %v, want %v", name, got, want)
	}
}

func (e *expectation) done() {
	e.t.Helper()
	for name := range e.left {
		e.t.Errorf("figure %q was not tested", name)
	}
}

func TestTwoSampleReference(t *testing.T) {
	var f figures
	shared(t, "stats_reference.json", &f)
	for _, c := range f.TwoSample {
		t.Run(c.Name, func(t *testing.T) {
			e := &expectation{t: t, left: c.Expected}
			kolmogorovReference(e, c.Ref, c.Cur)

			d, err := statistics.Wasserstein(c.Ref, c.Cur)
			e.number("wasserstein", d, err)
			d, err = statistics.WassersteinNormed(c.Ref, c.Cur)
			e.number("wasserstein_norm_by_ref_std(ddof=0)", d, err)
			d, err = statistics.Energy(c.Ref, c.Cur)
			e.number("energy_distance", d, err)

			var want struct{ U, T, Stat, P float64 }
			e.must("mannwhitney_asymptotic_cc", &want)
			mw, err := statistics.MannWhitney(c.Ref, c.Cur, statistics.Corrected)
			e.near("mann-whitney", mw.Statistic, want.U, err)
			e.probability("mann-whitney", mw.P, want.P, 0)
			e.must("welch_t", &want)
			w, err := statistics.Welch(c.Ref, c.Cur)
			e.near("welch", w.Statistic, want.T, err)
			e.probability("welch", w.P, want.P, 0)
			e.must("cvm_2samp_asymptotic", &want)
			cvm, err := statistics.CramerVonMises(c.Ref, c.Cur)
			e.near("cramer-von mises", cvm.Statistic, want.Stat, err)
			e.probability("cramer-von mises", cvm.P, want.P, 1e-7)

			binnedReference(e, c.Ref, c.Cur)
			e.done()
		})
	}
}

func kolmogorovReference(e *expectation, ref, cur []float64) {
	e.t.Helper()
	sides := map[string]statistics.Alternative{"two-sided": statistics.TwoSided, "less": statistics.Less, "greater": statistics.Greater}
	methods := map[string]statistics.Method{"exact": statistics.Exact, "asymp": statistics.Asymptotic}
	for side, alternative := range sides {
		for suffix, method := range methods {
			name := "ks_" + side + "_" + suffix
			var want struct{ Stat, P float64 }
			if !e.take(name, &want) && method == statistics.Asymptotic {
				e.t.Errorf("no figure %q", name)
			}
			if want.Stat == 0 && want.P == 0 {
				continue // exact was not computed for large samples
			}
			got, err := statistics.KolmogorovSmirnov(ref, cur, alternative, method)
			e.near(name, got.Statistic, want.Stat, err)
			e.probability(name, got.P, want.P, 0)
		}
	}
}

func binnedReference(e *expectation, ref, cur []float64) {
	e.t.Helper()
	edges := func(name string, got []float64, err error) (p, q []float64) {
		var want []float64
		e.must(name, &want)
		if len(got) != len(want) {
			e.t.Fatalf("%s: %d edges, want %d (%v)", name, len(got), len(want), err)
		}
		for i := range want {
			e.near(name, got[i], want[i], err)
		}
		if p, err = statistics.Bin(ref, got); err != nil {
			e.t.Error(err)
		}
		if q, err = statistics.Bin(cur, got); err != nil {
			e.t.Error(err)
		}
		return p, q
	}
	sturges, err := statistics.SturgesEdges(ref, cur)
	p, q := edges("edges_sturges_combined", sturges, err)
	d, err := statistics.PSI(p, q, statistics.FloorEvidently)
	e.number("psi_sturges_eps1e-4_on_zero(evidently)", d, err)
	d, err = statistics.JensenShannon(p, q, math.E)
	e.number("jensenshannon_distance_sturges_ln", d, err)
	d, err = statistics.JensenShannon(p, q, 2)
	e.number("jensenshannon_distance_sturges_base2", d, err)
	d, err = statistics.Hellinger(p, q)
	e.number("hellinger_sturges", d, err)
	d, err = statistics.TotalVariation(p, q)
	e.number("tvd_sturges", d, err)

	deciles, err := statistics.QuantileEdges(ref, 10)
	p, q = edges("edges_ref_deciles(type7, outer=+-Inf)", deciles, err)
	d, err = statistics.PSI(p, q, 1e-4)
	e.number("psi_ref_deciles_eps1e-4", d, err)
	d, err = statistics.PSI(p, q, statistics.FloorDeepchecks)
	e.number("psi_ref_deciles_cap0.01(deepchecks-style floor)", d, err)
}

func TestCategoricalReference(t *testing.T) {
	var f figures
	shared(t, "stats_reference.json", &f)
	for _, c := range f.Categorical {
		t.Run(c.Name, func(t *testing.T) {
			e := &expectation{t: t, left: c.Expected}
			var want struct {
				Stat, P float64
				DoF     int
			}
			e.must("chi2_contingency", &want)
			chi, err := statistics.ChiSquareContingency(c.Ref, c.Cur, statistics.Uncorrected)
			e.near("chi-square", chi.Statistic, want.Stat, err)
			e.probability("chi-square", chi.P, want.P, 0)
			if chi.Freedom != want.DoF {
				t.Errorf("%d degrees of freedom, want %d", chi.Freedom, want.DoF)
			}
			fit, err := statistics.ChiSquareFit(c.Ref, c.Cur)
			if e.take("chisquare_gof(obs=cur, exp=ref scaled)", &want) {
				e.near("chi-square of fit", fit.Statistic, want.Stat, err)
				e.probability("chi-square of fit", fit.P, want.P, 0)
			} else if err == nil || !strings.Contains(err.Error(), "is not in the reference") {
				t.Errorf("a new category gave %v, %v", fit, err)
			}
			v, err := statistics.CramersV(c.Ref, c.Cur)
			e.number("cramers_v", v.V, err)
			e.number("cramers_v_bias_corrected", v.Corrected, err)
			d, err := statistics.JensenShannon(c.Ref, c.Cur, math.E)
			e.number("jensenshannon_distance_ln", d, err)
			d, err = statistics.Hellinger(c.Ref, c.Cur)
			e.number("hellinger", d, err)
			d, err = statistics.PSI(c.Ref, c.Cur, 1e-4)
			e.number("psi_eps1e-4", d, err)
			e.done()
		})
	}
}

func TestMMDReference(t *testing.T) {
	var f figures
	shared(t, "stats_reference.json", &f)
	for _, c := range f.MMD {
		t.Run(c.Name, func(t *testing.T) {
			d, err := statistics.MMD2(c.X, c.Y, 0)
			e := &expectation{t: t}
			e.near("median", 2*d.Sigma2, c.Expected["median_sqdist"], err)
			e.near("sigma2", d.Sigma2, c.Expected["sigma2"], err)
			e.near("unbiased", d.Unbiased, c.Expected["mmd2_unbiased"], err)
			e.near("biased", d.Biased, c.Expected["mmd2_biased"], err)
			given, err := statistics.MMD2(c.X, c.Y, c.Expected["sigma2"])
			e.near("unbiased, width given", given.Unbiased, c.Expected["mmd2_unbiased"], err)
		})
	}
}

func TestLocationShiftReference(t *testing.T) {
	var f struct {
		Cases []struct {
			Name                    string
			Conf                    float64
			Experiment, Control, CI []float64
			Estimate, Tol           float64
		}
	}
	shared(t, "mannwhitney_ci.json", &f)
	if len(f.Cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range f.Cases {
		t.Run(c.Name, func(t *testing.T) {
			got, err := statistics.LocationShift(c.Control, c.Experiment, c.Conf)
			if err != nil {
				t.Fatal(err)
			}
			want := statistics.Interval{Low: c.CI[0], Estimate: c.Estimate, High: c.CI[1]}
			for _, off := range []float64{got.Low - want.Low, got.Estimate - want.Estimate, got.High - want.High} {
				if !(math.Abs(off) <= c.Tol) {
					t.Errorf("%v, want %v", got, want)
				}
			}
		})
	}
}

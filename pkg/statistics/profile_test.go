package statistics_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sightline-dev/sightline/pkg/statistics"
)

func capture(tb testing.TB, ref []float64, bins int) *statistics.Profile {
	tb.Helper()
	p, err := statistics.CaptureProfile(ref, bins)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// window is a profile of a sample with the edges of another.
func window(tb testing.TB, of *statistics.Profile, x []float64) *statistics.Profile {
	tb.Helper()
	p := of.Empty()
	for _, v := range x {
		if err := p.Add(v); err != nil {
			tb.Fatal(err)
		}
	}
	return p
}

func TestProfileOfFewValues(t *testing.T) {
	p := capture(t, []float64{0, 0, 0, 1, 3}, statistics.DefaultBins)
	if want := []float64{-0.5, 0.5, 2, 4}; !slices.Equal(p.Edges(), want) {
		t.Errorf("edges %v, want %v", p.Edges(), want)
	}
	if want := []uint64{0, 3, 1, 1, 0}; !slices.Equal(p.Counts(), want) {
		t.Errorf("counts %v, want %v", p.Counts(), want)
	}
	w := window(t, p, []float64{0, 0, 3, 3, 9})
	if below, over := w.Outside(); below != 0 || over != 0.2 {
		t.Errorf("outside %v and %v", below, over)
	}
	ks, err := p.KolmogorovSmirnov(w)
	near(t, "ks", ks.Statistic, 0.4, err, tiny)
	d, err := p.Wasserstein(w)
	near(t, "wasserstein", d, (15.-4.)/5, err, tiny) // all went up, so it is the distance of the means
	near(t, "mean", w.Mean(), 3, nil, tiny)
	near(t, "deviation", w.StdDev(), math.Sqrt((9.+9+0+0+36)/5), nil, tiny)
	if least, most, ok := w.Range(); least != 0 || most != 9 || !ok {
		t.Errorf("from %v to %v, %v", least, most, ok)
	}
}

func TestProfileOfOneValue(t *testing.T) {
	p := capture(t, []float64{640, 640, 640}, 10)
	w := window(t, p, []float64{640, 640, 1280})
	ref, cur, err := p.Grouped(w, 10)
	if want := []float64{0, 2, 1}; err != nil || !slices.Equal(cur, want) || !slices.Equal(ref, []float64{0, 3, 0}) {
		t.Errorf("groups %v and %v, %v: another value was not told apart", ref, cur, err)
	}
	ks, err := p.KolmogorovSmirnov(w)
	near(t, "ks", ks.Statistic, 1./3, err, tiny)
}

// TestProfileOfManyValues has deciles among its edges.
func TestProfileOfManyValues(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	ref, cur := normal(r, 1000, 100, 15), normal(r, 800, 108, 15)
	p := capture(t, ref, statistics.DefaultBins)
	w := window(t, p, cur)
	ofRef, ofCur, err := p.Grouped(w, 10)
	if err != nil || len(ofRef) != 12 || len(ofCur) != 12 {
		t.Fatalf("%v, %v, %v", ofRef, ofCur, err)
	}
	deciles, err := statistics.QuantileEdges(ref, 10)
	if err != nil {
		t.Fatal(err)
	}
	want, err := statistics.Bin(cur, deciles)
	if err != nil {
		t.Fatal(err)
	}
	ofCur[1] += ofCur[0] // deciles take what is outside into the outermost
	ofCur[10] += ofCur[11]
	if !slices.Equal(ofCur[1:11], want) || slices.Max(ofRef) != 100 || ofRef[0]+ofRef[11] != 0 {
		t.Errorf("groups %v and %v, by deciles %v", ofRef, ofCur, want)
	}
	all, _, err := p.Grouped(w, 0)
	if err != nil || len(all) != statistics.DefaultBins+2 || slices.Max(all) != 25 {
		t.Errorf("all bins %v, %v", all, err)
	}

	exact, err := statistics.KolmogorovSmirnov(ref, cur, statistics.TwoSided, statistics.Asymptotic)
	ks, err2 := p.KolmogorovSmirnov(w)
	near(t, "ks", ks.Statistic, exact.Statistic, errors.Join(err, err2), 0.0251)
	if ks.Statistic > exact.Statistic+tiny || ks.P < exact.P-tiny {
		t.Errorf("ks on bins %v, of all values %v", ks, exact)
	}
	far, err := statistics.WassersteinNormed(ref, cur)
	d, err2 := p.WassersteinNormed(w)
	near(t, "wasserstein", d, far, errors.Join(err, err2), 0.02)
	wide := window(t, p, normal(r, 800, 100, 30)) // its mean says nothing
	if d, err = p.WassersteinNormed(wide); err != nil || d < 0.6 || d > 1 {
		t.Errorf("of twice the deviation %v, %v", d, err)
	}
}

func TestProfileProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref, x, y := sample(t, "ref"), sample(t, "x"), sample(t, "y")
		bins := rapid.IntRange(1, 30).Draw(t, "bins")
		p, err := statistics.CaptureProfile(ref, bins)
		if err != nil {
			t.Fatal(err)
		}
		add := func(to *statistics.Profile, values ...float64) *statistics.Profile {
			for _, v := range values {
				if err := to.Add(v); err != nil {
					t.Fatal(err)
				}
			}
			return to
		}
		a, b, both := add(p.Empty(), x...), add(p.Empty(), y...), add(add(p.Empty(), x...), y...)
		merged := add(p.Empty(), x...)
		if err := merged.Merge(b); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(merged.Counts(), both.Counts()) || merged.Count() != both.Count() || math.Abs(merged.Mean()-both.Mean()) > 1e-9 || math.Abs(merged.StdDev()-both.StdDev()) > 1e-6 {
			t.Fatalf("merged %v, of both %v", merged, both)
		}
		least, most, _ := merged.Range()
		if low, high, _ := both.Range(); low != least || high != most {
			t.Fatalf("merged from %v to %v, of both from %v to %v", least, most, low, high)
		}

		if below, over := p.Outside(); below != 0 || over != 0 || p.Count() != uint64(len(ref)) {
			t.Fatalf("%d of the reference, %v and %v outside of its own edges", p.Count(), below, over)
		}
		exact, err := statistics.KolmogorovSmirnov(x, y, statistics.TwoSided, statistics.Asymptotic)
		if err != nil {
			t.Fatal(err)
		}
		ks, err := a.KolmogorovSmirnov(b)
		if err != nil || ks.Statistic > exact.Statistic+1e-9 {
			t.Fatalf("ks on bins %v, %v, of values %v", ks, err, exact)
		}
		there, err := a.Wasserstein(b)
		back, err2 := b.Wasserstein(a)
		same, err3 := a.Wasserstein(a)
		if err != nil || err2 != nil || err3 != nil || math.Abs(there-back) > 1e-9 || same != 0 || there < math.Abs(a.Mean()-b.Mean()) {
			t.Fatalf("wasserstein %v, %v and of itself %v: %v, %v, %v", there, back, same, err, err2, err3)
		}
		groups := rapid.IntRange(0, 12).Draw(t, "groups")
		inA, inB, err := a.Grouped(b, groups)
		if err != nil || len(inA) != len(inB) || groups > 0 && len(inA) > groups+2 {
			t.Fatalf("%d groups: %v, %v, %v", groups, inA, inB, err)
		}
		n, m := 0.0, 0.0
		for i := range inA {
			n, m = n+inA[i], m+inB[i]
		}
		if n != float64(len(x)) || m != float64(len(y)) {
			t.Fatalf("%d groups lost values: %v, %v", groups, inA, inB)
		}
		if psi, err := statistics.PSI(inA, inB, 1e-4); err != nil || psi < 0 {
			t.Fatalf("psi %v, %v", psi, err)
		}

		raw, err := json.Marshal(both)
		if err != nil {
			t.Fatal(err)
		}
		var restored statistics.Profile
		if err := json.Unmarshal(raw, &restored); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(&restored)
		if err != nil || string(again) != string(raw) || !restored.Comparable(p) {
			t.Fatalf("%s became %s, %v", raw, again, err)
		}
	})
}

func TestProfileErrors(t *testing.T) {
	p := capture(t, []float64{1, 2, 3}, 10)
	var none statistics.Profile
	drop := func(_ any, err error) error { return err }
	read := func(raw string) error { return json.Unmarshal([]byte(raw), new(statistics.Profile)) }
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"of nothing", drop(statistics.CaptureProfile(nil, 10)), "profile: the reference has 0 values, at least 1 are needed: too few values"},
		{"no bins", drop(statistics.CaptureProfile([]float64{1}, 0)), "profile: 0 bins are not 1 to 256"},
		{"equal edges", drop(statistics.NewProfile([]float64{1, 1})), "profile: edge 1 is 1, after 1"},
		{"too many edges", drop(statistics.NewProfile(make([]float64, 258))), "profile: 257 bins, at most 256"},
		{"not a number", p.Add(math.NaN()), "profile: value NaN"},
		{"without edges", none.Add(1), "profile: no edges"},
		{"other edges", p.Merge(capture(t, []float64{7}, 10)), "profile: edges differ"},
		{"compared with other edges", drop(p.Wasserstein(&none)), "profile: edges differ"},
		{"compared with nothing", drop(p.KolmogorovSmirnov(p.Empty())), "profile: 3 values of the reference, 0 of the current sample: too few values"},
		{"nothing compared with nothing", drop(none.Wasserstein(&none)), "profile: 0 values of the reference, 0 of the current sample: too few values"},
		{"negative groups", func() error { _, _, err := p.Grouped(p, -1); return err }(), "profile: -1 groups"},
		{"other JSON", read(`{"edges":[1,2],"shape":"round"}`), `profile: json: unknown field "shape"`},
		{"fewer counts", read(`{"edges":[1,2],"counts":[1,2]}`), "profile: 2 counts for 2 edges"},
		{"more than a float counts", read(`{"edges":[1,2],"counts":[9007199254740992,1,0]}`), "profile: counts are too large"},
		{"squares below 0", read(`{"edges":[1,2],"counts":[1,1,1],"m2":-1}`), "profile: 3 values from 0 to 0, squares of -1"},
		{"no edges in JSON", read(`{"counts":[1]}`), "profile: the list of edges has 0 values, at least 2 are needed: too few values"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.err == nil || test.err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", test.err, test.want)
			}
		})
	}
	if p.Count() != 3 {
		t.Errorf("%d values after errors", p.Count())
	}
	if below, over := none.Outside(); below+over+none.Mean()+none.StdDev() != 0 {
		t.Error("a profile of nothing is something")
	}
	if raw, err := json.Marshal(p.Empty()); err != nil || json.Unmarshal(raw, &none) != nil || !none.Comparable(p) || none.Count() != 0 {
		t.Errorf("a stored profile of nothing: %s, %v", raw, err)
	}
}

// bytesPerProfile measures the heap, with edges of each profile's own and with shared ones.
func bytesPerProfile(tb testing.TB) (own, shared float64) {
	tb.Helper()
	const n = 20_000
	first := capture(tb, normal(rand.New(rand.NewPCG(11, 12)), 1000, 0, 1), statistics.DefaultBins)
	measure := func(another func() *statistics.Profile) float64 {
		kept := make([]*statistics.Profile, n)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range kept {
			kept[i] = another()
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(kept)
		return float64(after.HeapAlloc-before.HeapAlloc) / n
	}
	edges := first.Edges()
	own = measure(func() *statistics.Profile {
		p, err := statistics.NewProfile(edges)
		if err != nil {
			tb.Fatal(err)
		}
		return p
	})
	return own, measure(first.Empty)
}

// TestProfileSize holds the promise of a fleet in a gibibyte.
func TestProfileSize(t *testing.T) {
	const cameras, features, profiles = 1000, 15, 24 + 2
	own, shared := bytesPerProfile(t)
	if total := own * cameras * features * profiles; total > 1<<30/2 {
		t.Errorf("%v bytes a profile come to %v MiB", own, total/(1<<20))
	}
	if shared > 500 {
		t.Errorf("%v bytes a profile with shared edges", shared)
	}
}

func BenchmarkProfileSize(b *testing.B) {
	var own, shared float64
	for b.Loop() {
		own, shared = bytesPerProfile(b)
	}
	b.ReportMetric(own, "B/profile")
	b.ReportMetric(shared, "B/profile-shared-edges")
	p := capture(b, normal(rand.New(rand.NewPCG(11, 12)), 1000, 0, 1), statistics.DefaultBins)
	raw, err := json.Marshal(p)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(raw)), "B/json")
}

func BenchmarkProfileAdd(b *testing.B) {
	x := normal(rand.New(rand.NewPCG(13, 14)), 1024, 0, 1)
	p := capture(b, x, statistics.DefaultBins)
	i := 0
	for b.Loop() {
		_ = p.Add(x[i%len(x)])
		i++
	}
}

package stream_test

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/pkg/statistics/stream"
)

// detector is what all of them have in common.
type detector interface {
	Add(x float64) bool
	Status() stream.Status
	Reset()
	json.Marshaler
	json.Unmarshaler
}

func must[T any](d T, err error) T {
	if err != nil {
		panic(err)
	}
	return d
}

// kinds are all detectors: how to make one, and how many alarms in 20 streams of 10,000 values of the same rate and how many
// values until the alarm on a rate that goes from .1 to .3 are still right.
var kinds = []struct {
	name        string
	make        func() detector
	falseAlarms int
	delay       int
}{
	{"adwin", func() detector { return must(stream.NewADWIN(stream.DefaultADWIN())) }, 1, 150},
	{"sparse adwin", func() detector {
		c := stream.DefaultADWIN()
		c.Sparse = true
		return must(stream.NewADWIN(c))
	}, 1, 400},
	{"ddm", func() detector { return must(stream.NewDDM(stream.DefaultDDM())) }, 30, 200},
	{"eddm", func() detector { return must(stream.NewEDDM(stream.DefaultEDDM())) }, 350, 100},
	{"hddm", func() detector { return must(stream.NewHDDM(stream.DefaultHDDM())) }, 6, 130},
	{"page-hinkley", func() detector { return must(stream.NewPageHinkley(stream.DefaultPageHinkley())) }, 1, 400},
	{"cusum", func() detector { return must(stream.NewCUSUM(stream.DefaultCUSUM())) }, 1, 300},
}

// errorsAt is a stream of errors that come at a rate, and from change on at another.
func errorsAt(seed uint64, n, change int, before, after float64) []float64 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float64, n)
	for i := range x {
		rate := before
		if i >= change {
			rate = after
		}
		if r.Float64() < rate {
			x[i] = 1
		}
	}
	return x
}

func TestFalseAlarms(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			alarms := 0
			for seed := range uint64(20) {
				d := kind.make()
				for _, x := range errorsAt(seed, 10_000, 10_000, 0.1, 0.1) {
					if d.Add(x) {
						alarms++
					}
				}
			}
			t.Logf("%d alarms in 200,000 values", alarms)
			if alarms > kind.falseAlarms {
				t.Errorf("%d false alarms, at most %d are right", alarms, kind.falseAlarms)
			}
		})
	}
}

func TestDelay(t *testing.T) {
	const change = 2000
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			var delays []int
			for seed := range uint64(20) {
				d := kind.make()
				for i, x := range errorsAt(seed, 6000, change, 0.1, 0.3) {
					if d.Add(x) && i >= change {
						delays = append(delays, i-change)
						break
					}
				}
			}
			slices.Sort(delays)
			if len(delays) < 20 {
				t.Fatalf("%d of 20 changes were noticed", len(delays))
			}
			t.Logf("noticed after %d values, at the latest after %d", delays[10], delays[19])
			if delays[10] > kind.delay {
				t.Errorf("noticed after %d values, at most %d are right", delays[10], kind.delay)
			}
		})
	}
}

// TestState stores and restores a detector after every value of a stream with a change and some alarms.
func TestState(t *testing.T) {
	stream := errorsAt(5, 1500, 700, 0.1, 0.5)
	stream[100] = math.NaN()
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			untouched, restored := kind.make(), kind.make()
			alarms := 0
			for i, x := range stream {
				want := untouched.Add(x)
				if got := restored.Add(x); got != want || restored.Status() != untouched.Status() || got != (got && restored.Status().Drift) {
					t.Fatalf("value %d: %v %+v, not restored %v %+v", i, got, restored.Status(), want, untouched.Status())
				}
				if want {
					alarms++
				}
				raw, err := json.Marshal(restored)
				if err != nil {
					t.Fatal(err)
				}
				restored = kind.make()
				if err := json.Unmarshal(raw, restored); err != nil {
					t.Fatal(err)
				}
			}
			if alarms == 0 || untouched.Status().Skipped != 1 {
				t.Errorf("%d alarms, %+v", alarms, untouched.Status())
			}
		})
	}
}

func TestEpisodes(t *testing.T) {
	values := errorsAt(6, 4000, 500, 0.05, 0.6)
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			d := kind.make()
			fresh, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e300} {
				if d.Add(x) {
					t.Errorf("%v is an alarm", x)
				}
			}
			if got := d.Status(); got != (stream.Status{Skipped: 4}) {
				t.Errorf("after values that are none %+v", got)
			}
			first := slices.IndexFunc(values, d.Add)
			if s := d.Status(); first < 0 || !s.Drift || s.Warning || s.Seen != first+1 {
				t.Fatalf("after the alarm at %d %+v", first, s)
			}
			d.Add(0)
			if s := d.Status(); s.Drift || s.Seen != 1 && !strings.Contains(kind.name, "adwin") {
				t.Errorf("after the value that follows an alarm %+v", s)
			}
			d.Reset()
			raw, err := json.Marshal(d)
			if want := bytes.Replace(fresh, []byte(`"skipped":0`), []byte(`"skipped":4`), 1); err != nil || !bytes.Equal(raw, want) {
				t.Errorf("after Reset %s, %v, want %s", raw, err, want)
			}
		})
	}
}

// TestForeignState gives every detector the state of every other, and broken ones of its own.
func TestForeignState(t *testing.T) {
	for _, kind := range kinds {
		d := kind.make()
		for _, x := range errorsAt(7, 500, 500, 0.1, 0.1) {
			d.Add(x)
		}
		before, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		broken := []string{
			`{}`, `[]`, `{"config":{}}`, string(before) + "1",
			strings.Replace(string(before), `"seen":`, `"seen":-`, 1),
			strings.Replace(string(before), `"config":`, `"settings":`, 1),
		}
		for _, other := range kinds {
			if a, b := strings.TrimPrefix(other.name, "sparse "), strings.TrimPrefix(kind.name, "sparse "); a != b && a != "cusum" {
				raw, err := json.Marshal(other.make())
				if err != nil {
					t.Fatal(err)
				}
				broken = append(broken, string(raw))
			}
		}
		for _, raw := range broken {
			if err := d.UnmarshalJSON([]byte(raw)); err == nil {
				t.Errorf("%s took %s", kind.name, raw)
			}
		}
		if after, err := json.Marshal(d); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s was %s, is %s, %v", kind.name, before, after, err)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	drop := func(_ any, err error) error { return err }
	adwin, ddm, eddm, hddm, ph, cusum := stream.DefaultADWIN(), stream.DefaultDDM(), stream.DefaultEDDM(), stream.DefaultHDDM(), stream.DefaultPageHinkley(), stream.DefaultCUSUM()
	adwin.Delta, ddm.DriftLevel, eddm.Beta, hddm.Warning, ph.Alpha, cusum.Lambda = math.NaN(), 1, 2, 0.0001, 0, -1
	tests := []struct {
		err  error
		want string
	}{
		{drop(stream.NewADWIN(adwin)), "adwin: delta NaN is not between 0 and 1, or clock 32, max_buckets 5 (up to 1000), min_window 5 or min_values 10 is not positive"},
		{drop(stream.NewDDM(ddm)), "ddm: warning_level 2, drift_level 1 and min_values 30 are not positive and in order"},
		{drop(stream.NewEDDM(eddm)), "eddm: beta 2 and alpha 0.95 are not in order between 0 and 1, or level 2 or min_errors 30 is not positive"},
		{drop(stream.NewHDDM(hddm)), "hddm: drift 0.001 and warning 0.0001 are not in order between 0 and 1, or min_values 30 is not positive"},
		{drop(stream.NewPageHinkley(ph)), "page-hinkley: alpha 0 is not more than 0 and up to 1"},
		{drop(stream.NewCUSUM(cusum)), "cusum: delta 0.005 is below 0, or lambda -1 or min_values 30 is not positive"},
	}
	for _, test := range tests {
		if test.err == nil || test.err.Error() != test.want {
			t.Errorf("got  %v\nwant %s", test.err, test.want)
		}
	}
}

// TestADWINWindow fills a window, moves the mean, and looks at what is left.
func TestADWINWindow(t *testing.T) {
	d := must(stream.NewADWIN(stream.DefaultADWIN()))
	if d.Width() != 0 || d.Mean() != 0 || d.Variance() != 0 {
		t.Error("an empty window has something")
	}
	r := rand.New(rand.NewPCG(8, 1))
	const n = 100_000
	for range n {
		d.Add(0.3 + 0.05*r.NormFloat64())
	}
	if d.Width() != n || math.Abs(d.Mean()-0.3) > 0.001 || math.Abs(d.Variance()-0.0025) > 0.0001 {
		t.Errorf("width %d, mean %v, variance %v", d.Width(), d.Mean(), d.Variance())
	}
	if raw, err := json.Marshal(d); err != nil || len(raw) > 6000 {
		t.Errorf("%d bytes after %d values, %v", len(raw), n, err)
	}
	for range 1000 {
		d.Add(0.6 + 0.05*r.NormFloat64())
	}
	if d.Width() > 1100 || math.Abs(d.Mean()-0.6) > 0.01 {
		t.Errorf("after the change width %d, mean %v", d.Width(), d.Mean())
	}
}

// TestByHand are streams short enough to follow.
func TestByHand(t *testing.T) {
	ph := must(stream.NewPageHinkley(stream.PageHinkleyConfig{Delta: 0, Lambda: 2, Alpha: 1, MinValues: 1}))
	cusum := must(stream.NewCUSUM(stream.CUSUMConfig{Delta: 0, Lambda: 2, MinValues: 1}))
	// 0, 0, then 3s: means 0, 0, 1, 1.5; sums 0, 0, 2, 3.5.
	for i, x := range []float64{0, 0, 3, 3} {
		if a, b := ph.Add(x), cusum.Add(x); a != (i == 3) || b != (i == 3) {
			t.Errorf("value %d: page-hinkley %v at %v, cusum %v at %v", i, a, ph.Sum(), b, cusum.Sum())
		}
	}
	if ph.Sum() != 3.5 || cusum.Sum() != 3.5 {
		t.Errorf("sums %v and %v, want 3.5", ph.Sum(), cusum.Sum())
	}
	ddm := must(stream.NewDDM(stream.DDMConfig{WarningLevel: 2, DriftLevel: 3, MinValues: 4}))
	// One error of four: rate .25, deviation .2165. Then errors: rates .4, .5, .571 and deviations .219, .204, .187 until
	// .571+.187 is above .25+2*.2165 = .683; .25+3*.2165 = .8995 takes more.
	for i, x := range []float64{1, 0, 0, 0, 1, 1, 1} {
		if ddm.Add(x) || ddm.Status().Warning != (i >= 5) {
			t.Errorf("value %d: %+v at %v", i, ddm.Status(), ddm.Rate())
		}
	}
	eddm := must(stream.NewEDDM(stream.EDDMConfig{Alpha: 0.95, Beta: 0.9, Level: 2, MinErrors: 2}))
	// Errors 5 and 5 values apart: mean 5, deviation 0. Then 1 apart: 3.67+2*1.89 = 7.44 is the largest, 3+2*2 = 7 below .95 of it,
	// 2.6+2*1.96 = 6.52 below .9 of it.
	for i, x := range []float64{0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 1} {
		if eddm.Add(x) != (i == 12) || eddm.Status().Warning != (i == 11) {
			t.Errorf("value %d: %+v at %v", i, eddm.Status(), eddm.Distance())
		}
	}
	hddm := must(stream.NewHDDM(stream.HDDMConfig{Drift: 0.05, Warning: 0.1, MinValues: 1}))
	for range 20 {
		hddm.Add(0)
	}
	// k ones after 20 zeros: the mean k/(20+k) against sqrt(k/(40(20+k))*ln 20) is .048 against .060, then .091 against .083.
	if hddm.Add(1) || hddm.Mean() != 1./21 {
		t.Errorf("one of 21: %+v, mean %v", hddm.Status(), hddm.Mean())
	}
	if !hddm.Add(1) {
		t.Errorf("two of 22: %+v, mean %v", hddm.Status(), hddm.Mean())
	}
}

func BenchmarkAdd(b *testing.B) {
	values := errorsAt(9, 1<<16, 1<<16, 0.1, 0.1)
	for _, kind := range kinds {
		b.Run(kind.name, func(b *testing.B) {
			d := kind.make()
			i := 0
			for b.Loop() {
				d.Add(values[i%len(values)])
				i++
			}
		})
	}
}

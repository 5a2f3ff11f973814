package stream_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sightline-dev/sightline/pkg/statistics/stream"
)

type recording struct {
	ErrBits  string    `json:"err_bits"`
	Values   []float64 `json:"values"`
	Expected map[string]json.RawMessage
}

// shared is a stream with the alarms of Frouros; it is not part of the repository.
func shared(t *testing.T) recording {
	t.Helper()
	dir := os.Getenv("SIGHTLINE_SHARED_DATA")
	if dir == "" {
		dir = "../../../../shared/data"
	}
	raw, err := os.ReadFile(filepath.Join(dir, "expected", "stats_reference.json"))
	if err != nil {
		t.Skipf("NOT TESTED: the alarms of Frouros: %v; set SIGHTLINE_SHARED_DATA to the directory that has expected/", err)
	}
	var f struct{ Stream recording }
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	return f.Stream
}

func TestReference(t *testing.T) {
	r := shared(t)
	errs := make([]float64, len(r.ErrBits))
	for i, b := range r.ErrBits {
		errs[i] = float64(b - '0')
	}
	sensitive := stream.DefaultPageHinkley()
	sensitive.Lambda = 10
	sparse := stream.DefaultADWIN()
	sparse.Sparse = true
	tests := []struct {
		name     string
		detector detector
		values   []float64
	}{
		{"ADWIN(clock=32,delta=0.002,m=5,min_window=5,min_instances=10) on values", must(stream.NewADWIN(sparse)), r.Values},
		{"ADWIN on err", must(stream.NewADWIN(sparse)), errs},
		{"DDM(warn 2, drift 3, min 30) on err", must(stream.NewDDM(stream.DefaultDDM())), errs},
		{"EDDM(alpha .95,beta .9,level 2,min 30) on err", must(stream.NewEDDM(stream.DefaultEDDM())), errs},
		{"HDDM_A(alpha_d .001,alpha_w .005) on err", must(stream.NewHDDM(stream.DefaultHDDM())), errs},
		{"PageHinkley(delta .005,lambda 50,alpha .9999,min 30) on err", must(stream.NewPageHinkley(stream.DefaultPageHinkley())), errs},
		{"PageHinkley(lambda 10) on err", must(stream.NewPageHinkley(sensitive)), errs},
		{"CUSUM(delta .005,lambda 50,min 30) on err", must(stream.NewCUSUM(stream.DefaultCUSUM())), errs},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var want []int
			if err := json.Unmarshal(r.Expected[test.name], &want); err != nil {
				t.Fatalf("%s: %v", r.Expected[test.name], err)
			}
			var got []int
			for i, x := range test.values {
				if test.detector.Add(x) {
					got = append(got, i)
					test.detector.Reset() // as the recording did; of ADWIN it makes a difference
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("alarms at %v, want %v", got, want)
			}
		})
		delete(r.Expected, test.name)
	}

	const warning = "DDM first warning on err"
	t.Run(warning, func(t *testing.T) {
		var want int
		if err := json.Unmarshal(r.Expected[warning], &want); err != nil {
			t.Fatal(err)
		}
		d := must(stream.NewDDM(stream.DefaultDDM()))
		if got := slices.IndexFunc(errs, func(x float64) bool { d.Add(x); return d.Status().Warning }); got != want {
			t.Errorf("first warning at %d, want %d", got, want)
		}
	})
	delete(r.Expected, warning)
	for name := range r.Expected {
		t.Errorf("%q was not tested", name)
	}
}

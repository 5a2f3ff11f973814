package feature

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/sightline-dev/sightline/pkg/statistics"
)

// A Histogram counts values on a feature's scale. The zero value is empty and holds no memory.
type Histogram []float32

// Add counts a value, shared between the two nearest bins. A value that is no number is not counted.
func (h *Histogram) Add(s Scale, v float64) {
	if math.IsNaN(v) {
		return
	}
	if *h == nil {
		*h = make(Histogram, s.Bins())
	}
	at := (min(max(v, s.Low), s.High) - s.Low) / s.width()
	i := min(int(at), len(*h)-2)
	part := float32(at - float64(i))
	(*h)[i] += 1 - part
	(*h)[i+1] += part
}

// Merge adds the counts of another.
func (h *Histogram) Merge(o Histogram) {
	if len(o) == 0 {
		return
	}
	if len(*h) == 0 {
		*h = make(Histogram, len(o))
	}
	for i := range min(len(o), len(*h)) {
		(*h)[i] += o[i]
	}
}

// Less returns the counts without those of another, which are part of them.
func (h Histogram) Less(o Histogram) Histogram {
	out := append(Histogram(nil), h...)
	for i := range min(len(o), len(out)) {
		out[i] = max(out[i]-o[i], 0)
	}
	return out
}

// Sum is how many values were counted.
func (h Histogram) Sum() float64 {
	sum := 0.0
	for _, n := range h {
		sum += float64(n)
	}
	return sum
}

// Mean is the mean of the values; NaN when there are none.
func (h Histogram) Mean(s Scale) float64 {
	sum, total := 0.0, 0.0
	for i, n := range h {
		sum += float64(n) * s.Center(i)
		total += float64(n)
	}
	return sum / total
}

// Deviation is the standard deviation of the values, that of the bins included; NaN when there are none.
func (h Histogram) Deviation(s Scale) float64 {
	mean, sum, total := h.Mean(s), 0.0, 0.0
	for i, n := range h {
		d := s.Center(i) - mean
		sum += float64(n) * d * d
		total += float64(n)
	}
	return math.Sqrt(sum / total)
}

// MarshalJSON writes the number of bins, the unit's inverse, the first bin that is not empty and then the counts up to the
// last one, in whole units: ones where all are whole, else hundredths.
func (h Histogram) MarshalJSON() ([]byte, error) {
	first, last, unit := len(h), 0, 1.0
	for i, n := range h {
		if n != 0 {
			first, last = min(first, i), i+1
		}
		if float64(n) != math.Trunc(float64(n)) {
			unit = 100
		}
	}
	if first >= last {
		return []byte("[]"), nil
	}
	out := append(make([]int64, 0, 3+last-first), int64(len(h)), int64(unit), int64(first))
	for _, n := range h[first:last] {
		out = append(out, int64(math.Round(float64(n)*unit)))
	}
	return json.Marshal(out)
}

const (
	maxBins  = 256
	maxCount = 1 << 40
)

// UnmarshalJSON reads what MarshalJSON wrote and refuses anything else.
func (h *Histogram) UnmarshalJSON(data []byte) error {
	var in []int64
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	*h = nil
	if len(in) == 0 {
		return nil
	}
	if len(in) < 4 {
		return errors.New("histogram: it has no counts")
	}
	bins, unit, first, counts := in[0], in[1], in[2], in[3:]
	if bins < 2 || bins > maxBins || first < 0 || first > bins || first+int64(len(counts)) > bins || unit != 1 && unit != 100 {
		return fmt.Errorf("histogram: %d counts in units of 1/%d from bin %d on, of %d bins", len(counts), unit, first, bins)
	}
	out := make(Histogram, bins)
	for i, n := range counts {
		if n < 0 || n > maxCount {
			return fmt.Errorf("histogram: a count of %d", n)
		}
		out[first+int64(i)] = float32(n) / float32(unit)
	}
	*h = out
	return nil
}

// A Test is a way to compare two histograms.
type Test uint8

// The tests. All are distances: 0 for equal shares.
const (
	Wasserstein   Test = iota // mean distance that values moved, in units of the scale
	KS                        // largest difference of the cumulated shares, 0 to 1
	PSI                       // population stability index, less its noise floor
	JensenShannon             // distance (root of the divergence, base 2), less its noise floor, 0 to 1
	Tests                     // how many there are
)

// MMD compares embeddings.
const MMD = "mmd"

// String is the test's name, as in metrics.
func (t Test) String() string {
	switch t {
	case Wasserstein:
		return "wasserstein"
	case KS:
		return "ks"
	case PSI:
		return "psi"
	case JensenShannon:
		return "jensen_shannon"
	case Tests:
	}
	return "test"
}

// Scores are what each test says.
type Scores [Tests]float64

// Compare holds a histogram against a reference of n effective values, itself of m. An empty one of the two gives zeros and
// false.
//
// The noise floor of PSI between samples of one distribution in B bins is about (B-1)(1/n+1/m) (statistics.PSINoise); the
// Jensen-Shannon divergence is an eighth of it for small differences (both are second-order in q-p; in bits, by 8 ln 2).
// Sharing values between bins leaves about two thirds of that noise, which errs on the quiet side.
func Compare(s Scale, ref, cur Histogram, n, m float64) (Scores, bool) {
	p, q := ref.Sum(), cur.Sum()
	if p == 0 || q == 0 || len(ref) != len(cur) {
		return Scores{}, false
	}
	a, b := make([]float64, 0, len(ref)), make([]float64, 0, len(ref))
	var out Scores
	at := 0.0
	for i := range ref {
		x, y := float64(ref[i])/p, float64(cur[i])/q
		at += y - x
		out[Wasserstein] += math.Abs(at) * s.width()
		out[KS] = max(out[KS], math.Abs(at))
		if x > 0 || y > 0 {
			a, b = append(a, x), append(b, y)
		}
	}
	noise := statistics.PSINoise(len(a), n, m)
	if psi, err := statistics.PSI(a, b, statistics.FloorDeepchecks); err == nil {
		out[PSI] = max(psi-noise, 0)
	}
	if js, err := statistics.JensenShannon(a, b, 2); err == nil {
		out[JensenShannon] = math.Sqrt(max(js*js-noise/(8*math.Ln2), 0))
	}
	return out, true
}

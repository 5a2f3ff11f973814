package feature

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func near(a, b, by float64) bool { return math.Abs(a-b) <= by }

func TestScales(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range All() {
		s := f.Scale()
		if seen[s.Name] || s.Name == "" || !(s.Low < s.High) || s.Bins() < 8 || s.Bins() > maxBins {
			t.Errorf("%d: %+v with %d bins", f, s, s.Bins())
		}
		seen[s.Name] = true
		if last := s.Center(s.Bins() - 1); last < s.High-1e-9 {
			t.Errorf("%s ends at %v, before %v", f, last, s.High)
		}
	}
	if !Scene.Input() || Detections.Input() || Detections.OfObjects() || !Score.OfObjects() || Count.String() != "feature(12)" {
		t.Error("features are not what they are")
	}
}

// TestHistogramMean: sharing a value between two bins keeps the mean, whatever the value.
func TestHistogramMean(t *testing.T) {
	s := Luma.Scale()
	random := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	sum := 0.0
	for range 1000 {
		v := 256 * random.Float64()
		sum += v
		h.Add(s, v)
	}
	h.Add(s, math.NaN())
	if !near(h.Mean(s), sum/1000, 1e-3) || !near(h.Sum(), 1000, 1e-2) {
		t.Errorf("mean %v of %v, want %v of 1000", h.Mean(s), h.Sum(), sum/1000)
	}
	var ends Histogram
	ends.Add(s, -1e9)
	ends.Add(s, math.Inf(1))
	if !near(ends.Mean(s), 128, 1e-6) {
		t.Errorf("values beyond the ends: mean %v, want 128", ends.Mean(s))
	}
}

// TestCompareByHand holds the tests to figures worked out by hand: 10 values at 100, against 10 of which 5 are at 108. Bins
// are 4 wide, both values are centres of one.
func TestCompareByHand(t *testing.T) {
	s := Luma.Scale()
	var a, b Histogram
	for i := range 10 {
		a.Add(s, 100)
		b.Add(s, 100+8*float64(i%2))
	}
	got, ok := Compare(s, a, b, math.Inf(1), math.Inf(1)) // no noise floor
	if !ok {
		t.Fatal("not compared")
	}
	// Half of the values move by 8. PSI with a floor of .01: (.5-1)ln(.5) + (.5-.01)ln(50). JS divergence in bits of (1,0) and
	// (.5,.5): the entropy of (.75,.25), less half of one bit.
	entropy := -.75*math.Log2(.75) - .25*math.Log2(.25)
	want := Scores{4, .5, .5*math.Ln2 + .49*math.Log(50), math.Sqrt(entropy - .5)}
	for test := range Tests {
		if !near(got[test], want[test], 1e-6) {
			t.Errorf("%s: %v, want %v", test, got[test], want[test])
		}
	}
	if got, _ := Compare(s, a, a, 10, 10); got != (Scores{}) {
		t.Errorf("equal histograms: %v", got)
	}
	if _, ok := Compare(s, a, nil, 1, 1); ok {
		t.Error("compared with nothing")
	}
}

// TestCompareNoise: samples of one distribution come to almost nothing, where without the floor PSI would be above .2.
func TestCompareNoise(t *testing.T) {
	s := Score.Scale()
	random := rand.New(rand.NewPCG(3, 4))
	over := 0
	for range 200 {
		var a, b Histogram
		for range 60 {
			a.Add(s, .5+.1*random.NormFloat64())
			b.Add(s, .5+.1*random.NormFloat64())
		}
		got, _ := Compare(s, a, b, 60, 60)
		if got[PSI] > .2 || got[JensenShannon] > .2 {
			over++
		}
	}
	if over > 10 {
		t.Errorf("%d of 200 pairs of one distribution look different", over)
	}
}

// TestSmallStep: a value that moves across an edge of bins by nothing is no change.
func TestSmallStep(t *testing.T) {
	s := Luma.Scale()
	for v := 100.0; v < 108; v += 0.5 {
		var a, b Histogram
		for range 50 {
			a.Add(s, v)
			b.Add(s, v+0.4)
		}
		if got, _ := Compare(s, a, b, 50, 50); got[KS] > 0.11 || !near(got[Wasserstein], .4, 1e-3) {
			t.Errorf("from %v: %v", v, got)
		}
	}
}

func TestView(t *testing.T) {
	var v View
	if v.Distance(7) != 0 {
		t.Error("a distance to nothing")
	}
	for range 3 {
		v.Add(0b1110)
	}
	v.Add(0b0110)
	if got := v.Distance(0b1110); !near(got, .25, 1e-6) {
		t.Errorf("distance %v, want a quarter bit", got)
	}
	if got := v.Distance(^uint64(0b1110)); !near(got, 63.75, 1e-4) {
		t.Errorf("distance of the opposite %v, want 63.75", got)
	}
	var w View
	w.Merge(&v)
	if w != v {
		t.Errorf("merged with nothing: %+v", w)
	}
}

func TestValues(t *testing.T) {
	o := Observation{
		At: time.Unix(0, 0), Width: 400, Height: 100, Luma: 10, Contrast: 8, Sharpness: 0, Saturation: 3, Motion: math.NaN(),
		Detections: []Detection{
			{Class: "a", Score: .5, Box: [4]float64{0, 0, 20, 40}},
			{Class: "a", Score: .5, Box: [4]float64{5, 5, 5, 9}}, // without width
		},
	}
	got := map[Feature]float64{}
	Values(&o, nil, func(f Feature, v float64) { got[f] = v })
	want := map[Feature]float64{
		Luma: 10, Contrast: 3, Sharpness: -6, Saturation: 3, Detections: math.Log2(3),
		Score: .5, Size: math.Log2(800.0/40000) / 2, Aspect: 1, CenterX: .025, CenterY: .2,
	}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for f, v := range want {
		if !near(got[f], v, 1e-9) {
			t.Errorf("%s is %v, want %v", f, got[f], v)
		}
	}
}

func TestBlock(t *testing.T) {
	var a, b Block
	for i := range 40 {
		o := Observation{Width: 10, Height: 10, Luma: 5, Embedding: []float32{1, 2}, Motion: 1}
		o.Detections = []Detection{{Class: string(rune('a' + i)), Score: .5, Box: [4]float64{0, 0, 1, 1}}}
		if i%2 == 0 {
			a.Add(&o, nil)
		} else {
			b.Add(&o, nil)
		}
	}
	var whole Block
	whole.Merge(&a)
	whole.Merge(&b)
	objects := 0.0
	for _, n := range whole.Classes {
		objects += n
	}
	if whole.Frames != 40 || whole.Rate() != 1 || objects != 40 || len(whole.Classes) > maxClasses+1 || len(whole.Embeddings) != 2 {
		t.Errorf("merged: %v frames, rate %v, %v of %d classes, %d embeddings",
			whole.Frames, whole.Rate(), objects, len(whole.Classes), len(whole.Embeddings))
	}
	rest := whole.Less(&b)
	if rest.Frames != 20 || !near(rest.Hist[Luma].Sum(), 20, 1e-4) {
		t.Errorf("less: %v frames, %v", rest.Frames, rest.Hist[Luma].Sum())
	}
	if err := whole.Validate(); err != nil {
		t.Error(err)
	}
	for range 300 {
		whole.Merge(&b)
	}
	if len(whole.Embeddings) > maxEmbeddings {
		t.Errorf("%d embeddings", len(whole.Embeddings))
	}
}

// TestProject: distances between embeddings stay about what they are.
func TestProject(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	sum := 0.0
	const pairs = 300
	for range pairs {
		a, b := make([]float32, 256), make([]float32, 256)
		d := 0.0
		for i := range a {
			a[i], b[i] = random.Float32(), random.Float32()
			d += float64(a[i]-b[i]) * float64(a[i]-b[i])
		}
		p, q := Project(a), Project(b)
		e := 0.0
		for i := range p {
			e += (p[i] - q[i]) * (p[i] - q[i])
		}
		sum += e / d
	}
	if !near(sum/pairs, 1, .1) {
		t.Errorf("squared distances are %v of what they were", sum/pairs)
	}
	if Project([]float32{float32(math.NaN())}) != nil {
		t.Error("projected what is no number")
	}
}

func TestHistogramJSON(t *testing.T) {
	for _, c := range []struct {
		name, in, err string
	}{
		{"empty", `[]`, ""},
		{"whole", `[65,1,3,7,0,2]`, ""},
		{"hundredths", `[65,100,3,750]`, ""},
		{"no counts", `[65,1,3]`, "histogram: it has no counts"},
		{"beyond", `[4,1,3,1,1]`, "histogram: 2 counts in units of 1/1 from bin 3 on, of 4 bins"},
		{"unit", `[4,7,0,1]`, "histogram: 1 counts in units of 1/7 from bin 0 on, of 4 bins"},
		{"negative", `[4,1,0,-1]`, "histogram: a count of -1"},
	} {
		var h Histogram
		err := json.Unmarshal([]byte(c.in), &h)
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: %v, want %s", c.name, err, c.err)
			}
			continue
		}
		out, err2 := json.Marshal(h)
		if err != nil || err2 != nil || string(out) != c.in {
			t.Errorf("%s: %v, %v, written again as %s", c.name, err, err2, out)
		}
	}
}

func FuzzHistogram(f *testing.F) {
	f.Add([]byte(`[65,1,3,7,0,2]`))
	f.Add([]byte(`[65,100,3,750]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var h Histogram
		if h.UnmarshalJSON(data) != nil {
			return
		}
		out, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		var again Histogram
		if err := again.UnmarshalJSON(out); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
	})
}

package quality

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

func near(a, b, by float64) bool { return math.Abs(a-b) <= by }

func at(n int) time.Time { return time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC) }

func square(x, y, side float64) Box { return Box{x, y, x + side, y + side} }

func TestIoU(t *testing.T) {
	for _, c := range []struct {
		a, b Box
		want float64
	}{
		{square(0, 0, 10), square(0, 0, 10), 1},
		{square(0, 0, 10), square(5, 0, 10), 50.0 / 150},
		{square(0, 0, 10), square(10, 0, 10), 0},
		{square(0, 0, 10), Box{5, 5, 5, 5}, 0},
		{square(0, 0, 10), square(2, 2, 5), .25},
	} {
		if got := IoU(c.a, c.b); !near(got, c.want, 1e-12) {
			t.Errorf("%v and %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

func TestMatch(t *testing.T) {
	person := func(b Box) Object { return Object{"person", b} }
	found := func(s float64, b Box) Answer { return Answer{"person", s, b} }
	for _, c := range []struct {
		name    string
		objects []Object
		answers []Answer
		right   []bool
		by      []int
	}{
		{"nothing", nil, nil, []bool{}, []int{}},
		{
			"two of one object: the higher score",
			[]Object{person(square(0, 0, 10))},
			[]Answer{found(.5, square(0, 0, 10)), found(.9, square(1, 0, 10))},
			[]bool{false, true},
			[]int{1},
		},
		{
			"equal scores: the earlier",
			[]Object{person(square(0, 0, 10))},
			[]Answer{found(.5, square(1, 0, 10)), found(.5, square(0, 0, 10))},
			[]bool{true, false},
			[]int{0},
		},
		{
			"the higher score takes what it overlaps most, and leaves the other",
			[]Object{person(square(0, 0, 10)), person(square(4, 0, 10))},
			[]Answer{found(.5, square(0, 0, 10)), found(.9, square(1, 0, 10))},
			[]bool{false, true},
			[]int{1, -1},
		},
		{"another class", []Object{{"dog", square(0, 0, 10)}}, []Answer{found(.9, square(0, 0, 10))}, []bool{false}, []int{-1}},
		{"exactly half", []Object{person(square(0, 0, 10))}, []Answer{found(.9, Box{0, 0, 10, 5})}, []bool{true}, []int{0}},
		{"less than half", []Object{person(square(0, 0, 10))}, []Answer{found(.9, Box{0, 0, 10, 4.99})}, []bool{false}, []int{-1}},
	} {
		m := Match(c.objects, c.answers)
		if !reflect.DeepEqual(m.Right, c.right) || !reflect.DeepEqual(m.By, c.by) {
			t.Errorf("%s: %v by %v, want %v by %v", c.name, m.Right, m.By, c.right, c.by)
		}
	}
	var many []Answer
	for i := range 150 {
		many = append(many, found(float64(i)/150, square(0, 0, 10)))
	}
	m := Match(nil, many)
	if m.Counted[49] || !m.Counted[50] {
		t.Error("of 150 answers not the best 100 count")
	}
}

// TestAveragePrecision holds it to cases worked out by hand from COCO's definition.
func TestAveragePrecision(t *testing.T) {
	right, wrong := func(s float64) Outcome { return Outcome{s, true} }, func(s float64) Outcome { return Outcome{s, false} }
	for _, c := range []struct {
		name     string
		outcomes []Outcome
		objects  int
		want     float64
	}{
		{"all found", []Outcome{right(.9), right(.8)}, 2, 1},
		{"nothing found", nil, 2, 0},
		{"no objects", []Outcome{wrong(.9)}, 0, 0},
		// Recall .5 at a precision of 1: the thresholds 0 to .5, 51 of 101.
		{"half", []Outcome{right(.9)}, 2, 51.0 / 101},
		// right, wrong, right of 2: recall .5 at 1, then 1 at 2/3: 51 + 50*2/3.
		{"one wrong between", []Outcome{right(.9), wrong(.8), right(.7)}, 2, (51 + 50*2.0/3) / 101},
		// The envelope: wrong, right, right of 2: precision 2/3 at every recall.
		{"wrong first", []Outcome{wrong(.9), right(.8), right(.7)}, 2, 2.0 / 3},
		{"order does not matter", []Outcome{right(.7), wrong(.9), right(.8)}, 2, 2.0 / 3},
		// Recall of 3/10 must count for the threshold 0.3 as numpy has it: 30*.01 is 0.3, 29*.01 is .29.
		{"thirty of a hundred", repeat(right(.5), 30), 100, 31.0 / 101},
		// 29 of 100: numpy's 29*.01 is 0.29 = 29/100: counted.
		{"twenty-nine of a hundred", repeat(right(.5), 29), 100, 30.0 / 101},
		// 35/100 is below numpy's 35*.01 = .35000000000000003: that threshold is missed.
		{"thirty-five of a hundred", repeat(right(.5), 35), 100, 35.0 / 101},
	} {
		if got := AveragePrecision(c.outcomes, c.objects); !near(got, c.want, 1e-12) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func repeat(o Outcome, n int) []Outcome {
	out := make([]Outcome, n)
	for i := range out {
		out[i] = o
	}
	return out
}

// TestAveragePrecisionPlain holds it to a second, plain reading of the definition on random cases.
func TestAveragePrecisionPlain(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		objects := 1 + random.IntN(40)
		var outcomes []Outcome
		left := objects
		for i := range random.IntN(60) {
			hit := left > 0 && random.IntN(2) == 0
			if hit {
				left--
			}
			outcomes = append(outcomes, Outcome{1 - float64(i)/100, hit})
		}
		sum := 0.0
		for i := range 101 {
			want, best, hits := float64(i)*.01, 0.0, 0
			if i == 100 {
				want = 1
			}
			for k, o := range outcomes {
				if o.Right {
					hits++
				}
				if float64(hits)/float64(objects) >= want {
					best = max(best, float64(hits)/float64(k+1))
				}
			}
			sum += best
		}
		if got := AveragePrecision(outcomes, objects); !near(got, sum/101, 1e-12) {
			t.Fatalf("%v of %d: %v, want %v", outcomes, objects, got, sum/101)
		}
	}
}

// label adds pictures of two objects, of which every model finds one, and every other time the second, and something that is
// not there every fourth time.
func label(w *Window, pictures int) {
	for i := range pictures {
		objects := []Object{{"person", square(0, 0, 10)}, {"person", square(50, 0, 10)}}
		answers := []Answer{{"person", .9, square(0, 0, 10)}}
		if i%2 == 0 {
			answers = append(answers, Answer{"person", .8, square(50, 0, 10)})
		}
		if i%4 == 0 {
			answers = append(answers, Answer{"person", .5, square(200, 0, 10)})
		}
		w.Label(at(i), objects, answers)
	}
}

func TestWindow(t *testing.T) {
	w := NewWindow(1000, time.Hour)
	label(w, 9)
	if e, ok := w.Precision(); ok {
		t.Errorf("precision of 9 pictures: %+v", e)
	}
	label(w, 100)
	w.Kept = w.Kept[9:]
	recall, ok := w.Recall()
	if !ok || recall.Value != .75 || recall.Count != 200 || !(recall.Low < .72 && recall.High > .78) {
		t.Errorf("recall %+v, %t, want .75 of 200", recall, ok)
	}
	precision, ok := w.Precision()
	if !ok || !near(precision.Value, 150.0/175, 1e-12) || precision.Count != 175 {
		t.Errorf("precision %+v, %t, want 150 of 175", precision, ok)
	}
	// Recall .75 at a precision of 1: 76 of 101 thresholds.
	ap, ok := w.AP50()
	if !ok || !near(ap.Value, 76.0/101, 1e-12) || !(ap.Low < ap.Value && ap.High > ap.Value) {
		t.Errorf("AP50 %+v, %t, want %v", ap, ok, 76.0/101)
	}
	// Scores of .9 are right always, those of .8 too, those of .5 never.
	ece, ok := w.CalibrationError(nil)
	if want := (100*.1 + 50*.2 + 25*.5) / 175; !ok || !near(ece.Value, want, 1e-9) {
		t.Errorf("calibration error %+v, %t, want %v", ece, ok, want)
	}
}

// TestDesign: pictures in which all is found or nothing are worth as many objects as there are pictures.
func TestDesign(t *testing.T) {
	var clustered, spread []part
	for i := range 100 {
		clustered = append(clustered, part{float64(10 * (i % 2)), 10})
		spread = append(spread, part{5, 10})
	}
	c, _ := share(clustered)
	s, _ := share(spread)
	if low, _ := wilson(.5, 100); !near(c.Low, low, .01) {
		t.Errorf("low is %v, want about %v: that of 100", c.Low, low)
	}
	if low, _ := wilson(.5, 1000); !near(s.Low, low, 1e-9) {
		t.Errorf("low is %v, want %v: that of 1000", s.Low, low)
	}
}

func TestWindowForgets(t *testing.T) {
	w := NewWindow(50, 30*time.Second)
	label(w, 40)
	if len(w.Kept) != 31 {
		t.Errorf("%d pictures of half a minute", len(w.Kept))
	}
	w.Judge(at(20), []Answer{{"person", .9, Box{}}, {"person", .4, Box{}}}, map[int]bool{1: true})
	late := w.Kept[12]
	if late.Complete || len(late.Outcomes["person"]) != 1 || !late.At.Equal(at(20)) {
		t.Errorf("a late verdict is at %+v", late)
	}
	if r, _ := w.Recall(); r.Count != 62 {
		t.Errorf("recall of %d objects: a verdict does not tell what was missed", r.Count)
	}
	w.Pictures = 10
	label(w, 40)
	if len(w.Kept) != 10 {
		t.Errorf("%d pictures, want 10", len(w.Kept))
	}
}

// TestCalibration: scores that are too high are brought down, and precision without labels comes near to the true one.
func TestCalibration(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	draw := func() Outcome {
		s := random.Float64()
		return Outcome{s, random.Float64() < s*s} // it believes more than is true
	}
	var fit []Outcome
	for range 3000 {
		fit = append(fit, draw())
	}
	c, err := Fit("m", "1", map[string][]Outcome{"person": fit, "dog": fit[:20]})
	if err != nil || len(c.Classes) != 1 {
		t.Fatal(c, err)
	}
	var s Scores
	right, all := 0, 0
	for range 200 {
		var answers []Answer
		for range 5 {
			o := draw()
			answers = append(answers, Answer{Class: "person", Score: o.Score})
			if all++; o.Right {
				right++
			}
		}
		s.Add(&c, answers)
	}
	e, ok := s.Precision()
	truth := float64(right) / float64(all)
	if !ok || truth < e.Low || truth > e.High || e.High-e.Low > .15 {
		t.Errorf("estimated %+v, %t; really %v", e, ok, truth)
	}
	for range 40 {
		s.Add(&c, repeatAnswer("cat", 5))
	}
	if _, ok := s.Precision(); ok {
		t.Error("an estimate although a sixth of the detections is not calibrated")
	}
	if _, err := Fit("m", "1", nil); err == nil {
		t.Error("calibrated with nothing")
	}
}

func repeatAnswer(class string, n int) []Answer {
	out := make([]Answer, n)
	for i := range out {
		out[i] = Answer{Class: class, Score: .5}
	}
	return out
}

func TestRateRatio(t *testing.T) {
	base := Rate{Mean: 4, Variance: 4, Pictures: 100}
	for _, c := range []struct {
		name            string
		baseline, now   Rate
		value, low, top float64
		ok              bool
	}{
		// exp(1.96*sqrt(4/1600 + 2/400)) = exp(.16974) = 1.18500
		{"half", base, Rate{2, 2, 100}, .5, .5 / 1.18500, .5 * 1.18500, true},
		{"nothing", base, Rate{0, 0, 30}, 0, 0, .025, true},
		{"too few", base, Rate{2, 2, 2}, 0, 0, 0, false},
		{"no baseline", Rate{}, Rate{2, 2, 100}, 0, 0, 0, false},
	} {
		e, ok := RateRatio(c.baseline, c.now)
		if ok != c.ok || !near(e.Value, c.value, 1e-9) || !near(e.Low, c.low, 1e-4) || !near(e.High, c.top, 1e-4) {
			t.Errorf("%s: %+v, %t", c.name, e, ok)
		}
	}
}

func TestDecodeWindow(t *testing.T) {
	w := NewWindow(100, time.Hour)
	label(w, 20)
	data, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeWindow(data)
	if err != nil {
		t.Fatal(err)
	}
	twice, err := json.Marshal(again)
	if err != nil || string(twice) != string(data) {
		t.Errorf("%v: %s", err, twice)
	}
	for name, in := range map[string]string{
		"quality: 0 pictures of at most 0, up to 0s old":         `{}`,
		`quality: picture 0: 1 of 1 right of 0 objects of "dog"`: `{"pictures":5,"kept":[{"at":"2026-01-01T00:00:00Z","c":true,"o":{"dog":[{"s":1,"r":true}]}}]}`,
		`quality: picture 0 has -1 objects of "dog"`:             `{"pictures":5,"kept":[{"at":"2026-01-01T00:00:00Z","n":{"dog":-1}}]}`,
		"quality: picture 1 is older than the one before":        `{"pictures":5,"kept":[{"at":"2026-01-02T00:00:00Z"},{"at":"2026-01-01T00:00:00Z"}]}`,
	} {
		if _, err := DecodeWindow([]byte(in)); err == nil || err.Error() != name {
			t.Errorf("got %v, want %s", err, name)
		}
	}
}

func FuzzDecodeWindow(f *testing.F) {
	w := NewWindow(100, time.Hour)
	label(w, 15)
	data, err := json.Marshal(w)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := DecodeWindow(data)
		if err != nil {
			return
		}
		for _, figure := range []func() (Estimate, bool){w.Precision, w.Recall, w.AP50} {
			if e, ok := figure(); ok && !(e.Low <= e.Value && e.Value <= e.High && e.Low >= 0 && e.High <= 1) {
				t.Fatalf("%+v", e)
			}
		}
	})
}

func FuzzDecodeCalibration(f *testing.F) {
	f.Add([]byte(`{"model":"m","version":"1","classes":{"person":{"scores":[0.1,0.9],"values":[0,1],"count":100}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := DecodeCalibration(data)
		if err != nil {
			return
		}
		for _, class := range c.Classes {
			if p := class.At(.5); !(p >= 0 && p <= 1) {
				t.Fatalf("%v", p)
			}
		}
	})
}

func BenchmarkWindowLabel(b *testing.B) {
	w := NewWindow(1000, 24*time.Hour)
	objects := []Object{{"person", square(0, 0, 10)}, {"person", square(50, 0, 10)}}
	answers := []Answer{{"person", .9, square(0, 0, 10)}, {"person", .8, square(50, 0, 10)}}
	n := 0
	for b.Loop() {
		w.Label(at(n), objects, answers)
		n++
	}
}

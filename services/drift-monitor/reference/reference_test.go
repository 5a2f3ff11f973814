package reference

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/services/drift-monitor/feature"
)

func start() time.Time { return time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC) }

func config() Config {
	c := Default()
	c.Span = 6 * time.Minute
	return c
}

// observe is one picture a second of a scene whose luma and number of objects go round once a minute.
func observe(l *Learner, from time.Time, seconds int, bright float64) {
	random := rand.New(rand.NewPCG(7, 8))
	for i := range seconds {
		phase := math.Sin(2 * math.Pi * float64(i) / 60)
		o := feature.Observation{
			At: from.Add(time.Duration(i) * time.Second), Width: 640, Height: 480, Luma: bright + 10*phase, Contrast: 40,
			Sharpness: 500, Saturation: 50, Motion: 2 + phase + .1*random.Float64(), Hash: 0xff0,
			Embedding: []float32{float32(phase), 1, random.Float32()},
		}
		for range int(3 + 2*phase) {
			o.Detections = append(o.Detections, feature.Detection{Class: "person", Score: .8, Box: [4]float64{10, 10, 50, 90}})
		}
		l.Observe(&o)
	}
}

func captured(tb testing.TB, version string, bright float64) *Reference {
	tb.Helper()
	r := New("cam", "person", version, start(), config())
	l := NewLearner(8, 5)
	observe(l, start(), 380, bright)
	if !l.Finish(r, config()) {
		tb.Fatalf("not finished after %v s", l.Covered)
	}
	return r
}

func TestCapture(t *testing.T) {
	r := New("cam", "person", "1", start(), config())
	l := NewLearner(8, 5)
	observe(l, start(), 200, 100)
	if l.Finish(r, config()) || len(r.Buckets) != 0 {
		t.Fatal("finished before its span")
	}
	r = captured(t, "1", 100)
	b := r.Buckets[8]
	if b == nil || !b.Settled || b.Frames < 350 || math.Abs(b.Rate-2.5) > .3 || b.MotionFollows < .8 {
		t.Fatalf("bucket %+v", b)
	}
	// A sine of a minute falls to 1/e of its correlation after 11.4 s.
	if tau := r.Decorrelation[feature.Luma]; math.Abs(tau-12) > 1 {
		t.Errorf("luma decorrelates in %v s, want about 12", tau)
	}
	// What never varies tells nothing new: its time is that of an observation.
	if tau := r.Decorrelation[feature.Sharpness]; math.Abs(tau-1) > .1 || math.Abs(r.ThinSeconds-1) > .1 {
		t.Errorf("sharpness in %v s, thinned to %v s, want 1", tau, r.ThinSeconds)
	}
	if n := r.Effective(feature.Luma, 60, 60); math.Abs(n-5) > .5 {
		t.Errorf("a minute is %v values of luma, want 5", n)
	}
	short, long := b.Windows[0], b.Windows[1]
	if short.Scores[feature.Luma][feature.Wasserstein] <= long.Scores[feature.Luma][feature.Wasserstein] {
		t.Errorf("a short window of a minute's cycle varies less than a long one: %v, %v", short.Scores[feature.Luma], long.Scores[feature.Luma])
	}
	if !(short.RateLow < 1 && short.RateHigh > 1 && short.RateLow < long.RateLow) {
		t.Errorf("rates %v to %v, long %v to %v", short.RateLow, short.RateHigh, long.RateLow, long.RateHigh)
	}
	if len(b.All.Embeddings) == 0 || short.MMD <= 0 {
		t.Errorf("%d embeddings, mmd %v", len(b.All.Embeddings), short.MMD)
	}
}

// TestUnsettled: a scene that goes on changing is given three times the span, and then taken as it is.
func TestUnsettled(t *testing.T) {
	r, l := New("cam", "person", "1", start(), config()), NewLearner(8, 5)
	finished := 0
	for i := range 1300 {
		o := feature.Observation{
			At: start().Add(time.Duration(i) * time.Second), Width: 640, Height: 480, Luma: float64(i) / 6,
			Contrast: 40, Sharpness: 500, Saturation: 50, Motion: 2,
		}
		if l.Observe(&o); l.Finish(r, config()) {
			finished = i
			break
		}
	}
	if finished < 1080 || finished > 1110 || r.Buckets[8].Settled {
		t.Errorf("finished after %d s, want 1080; %+v", finished, r.Buckets[8])
	}
}

// TestBounded: however long it takes, a learner keeps no more than so many blocks.
func TestBounded(t *testing.T) {
	l := NewLearner(8, 5)
	observe(l, start(), 5000, 100)
	if len(l.Blocks) > maxBlocks+1 || l.Seconds <= 5 || len(l.Series[feature.Luma]) > maxSeries {
		t.Errorf("%d blocks of %v s, %d values", len(l.Blocks), l.Seconds, len(l.Series[feature.Luma]))
	}
	if math.Abs(l.Covered-5000) > 3*l.Seconds {
		t.Errorf("%v s covered of 5000", l.Covered)
	}
}

func TestNearest(t *testing.T) {
	r := captured(t, "1", 100)
	if _, at := r.Nearest(8); at != 8 {
		t.Errorf("nearest to 8 is %d", at)
	}
	r.Buckets[22] = r.Buckets[8]
	for slot, want := range map[int]int{9: 8, 23: 22, 0: 22, 15: 8, 4: 8, 2: 22} {
		if _, at := r.Nearest(slot); at != want {
			t.Errorf("nearest to %d is %d, want %d", slot, at, want)
		}
	}
	if b, _ := New("c", "m", "1", start(), config()).Nearest(3); b != nil {
		t.Error("a bucket of nothing")
	}
	if r.SlotName(8) != "08-09" {
		t.Errorf("named %s", r.SlotName(8))
	}
}

func TestMerge(t *testing.T) {
	a, b := captured(t, "1", 100), captured(t, "1", 120)
	b.Buckets[9] = b.Buckets[8]
	if err := a.Merge(b); err != nil {
		t.Fatal(err)
	}
	if got := a.Buckets[8].All.Mean(feature.Luma); math.Abs(got-110) > 1 || len(a.Buckets) != 2 {
		t.Errorf("merged luma %v in %d buckets, want 110 in 2", got, len(a.Buckets))
	}
	if err := a.Validate(); err != nil {
		t.Error(err)
	}
	if err := a.Merge(captured(t, "2", 100)); err == nil || !strings.Contains(err.Error(), "person@1") {
		t.Errorf("merged with another version: %v", err)
	}
}

func TestEncode(t *testing.T) {
	r := captured(t, "1", 100)
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if twice, err := again.Encode(); err != nil || string(twice) != string(data) {
		t.Errorf("written again: %v\n%s\n%s", err, data, twice)
	}
	for name, broken := range map[string]string{
		"reference: format 2, this program reads 1":             strings.Replace(string(data), `"format":1`, `"format":2`, 1),
		"reference: without camera or model":                    strings.Replace(string(data), `"camera":"cam"`, `"camera":""`, 1),
		"reference: buckets of 7 hours":                         strings.Replace(string(data), `"hours":1`, `"hours":7`, 1),
		"reference: bucket 30 of 24":                            strings.Replace(string(data), `"buckets":{"8"`, `"buckets":{"30"`, 1),
		"reference: buckets without the length of their blocks": strings.Replace(string(data), `"block_seconds":10,`, `"block_seconds":0,`, 1),
	} {
		if _, err := Decode([]byte(broken)); err == nil || err.Error() != name {
			t.Errorf("got %v, want %s", err, name)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	bad := Config{Span: time.Second, Effective: 0, Hours: 5, Learn: 0, Block: time.Millisecond}
	const want = "block is 1ms: want 1s to 1h\neffective is 0: want 1 or more\nhours is 5: want a divisor of 24\nlearn is 0s: want at least the span, 1s"
	if err := bad.Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func FuzzDecode(f *testing.F) {
	data, err := captured(f, "1", 100).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			return
		}
		out, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(out); err != nil {
			t.Fatal(err)
		}
		for _, b := range r.Buckets {
			for _, f := range feature.All() {
				feature.Compare(f.Scale(), b.All.Hist[f], b.All.Hist[f], 10, 10)
			}
		}
	})
}

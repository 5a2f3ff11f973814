package detect

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/services/drift-monitor/feature"
	"github.com/sightline-dev/sightline/services/drift-monitor/reference"
)

func morning() time.Time { return time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC) }

// config captures for three minutes: the clip is 80 seconds long.
func config() Config {
	c := Default()
	c.Reference.Span = 3 * time.Minute
	return c
}

func newDetector(tb testing.TB, cfg Config) *Detector {
	tb.Helper()
	d, err := New(cfg, reference.New("cam", "person", "1", morning(), cfg.Reference))
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// A change is a state that a camera came into.
type change struct {
	state State
	cause string
	after float64 // seconds
}

// run captures a reference of calm, plays calm on until 10 minutes, then bad for three minutes and calm for three.
func run(tb testing.TB, cfg Config, shift int, calm, bad []*clip) (before, during, after []change, last Verdict) {
	tb.Helper()
	d := newDetector(tb, cfg)
	p := &player{d: d, at: morning(), frame: shift}
	var from time.Time
	note := func(to *[]change) func(Verdict) {
		from = p.at
		return func(v Verdict) {
			if v.Changed {
				*to = append(*to, change{v.State, v.Cause, v.At.Sub(from).Seconds()})
			}
			last = v
		}
	}
	p.see = note(&before)
	p.play(600, calm...)
	p.see = note(&during)
	p.play(180, bad...)
	said := last
	p.see = note(&after)
	p.play(180, calm...)
	return before, during, after, said
}

// A scenario is what a disturbed clip must lead to. recall and precision are what the disturbance did to the model, against
// its own answers to the clip undisturbed: see testdata/README.md.
type scenario struct {
	name              string
	state             State
	cause             string // "" is any
	recall, precision float64
	set               set
}

// A set is when a scenario was recorded, and how sure its state is.
type set int

const (
	golden     set = iota // its trace is in testdata; rules were made by these and by tuned
	tuned                 // its trace is too large for the repository, as are the following
	held                  // recorded after the first rules, which were then mended by it
	final                 // recorded after the mends; no rule was changed by it
	borderline            // of held and final, those that lost so little that DataDrift and SuspectedLoss are both accepted
)

// unknown is a figure that cannot be had this way: of nobody, or precision among people who were put into the picture.
const unknown = -1

// scenarios are those whose traces are there: the golden ones, and all where SIGHTLINE_DRIFT_TRACES names a folder with them.
// The others' traces are too large for the repository: services/sightline/drifttrace/record.sh makes them from the footage of
// the reference data. TestScenarios neither runs nor lists them without.
func scenarios() []scenario {
	all := everyScenario()
	if os.Getenv(tracesVariable) == "" {
		all = slices.DeleteFunc(all, func(s scenario) bool { return s.set != golden })
	}
	return all
}

func everyScenario() []scenario {
	return []scenario{
		{"dark", SuspectedLoss, "", .545, .990, golden},
		{"over", DataDrift, "luma", .983, .986, golden},
		{"low-contrast", SuspectedLoss, "", .760, .982, golden},
		{"fog", SuspectedLoss, "", .325, .939, golden},
		{"blur", DataDrift, "sharpness", .960, .993, golden},
		{"noise", DataDrift, "sharpness", .989, .976, golden},
		{"jpeg", DataDrift, "sharpness", .997, .979, golden},
		{"grey", DataDrift, "saturation", .976, .924, golden},
		{"rotated", SuspectedLoss, "scene", .770, .656, golden},
		{"shifted", DataDrift, "", .997, .965, golden},
		{"empty", DataDrift, "detections", unknown, unknown, golden},
		{"crowd", DataDrift, "detections", .963, unknown, golden},
		{"night", SuspectedLoss, "", .002, .001, tuned},
		{"dim", DataDrift, "luma", .998, .985, tuned},
		{"over-strong", SuspectedLoss, "", .894, .730, tuned},
		{"low-contrast-mild", DataDrift, "", .988, .990, tuned},
		{"blur-mild", DataDrift, "sharpness", .994, .991, tuned},
		{"noise-mild", DataDrift, "temporal_difference", .999, .982, tuned},
		{"jpeg-full", DataDrift, "sharpness", 1, .984, tuned},
		{"hue", SuspectedLoss, "detections", .755, .079, tuned},
		{"swapped", SuspectedLoss, "detections", .548, .036, tuned},
		{"flipped", DataDrift, "scene", .997, .985, tuned},
		{"held-blur-14", SuspectedLoss, "", .366, .955, held},
		{"held-blur-9", SuspectedLoss, "", .869, .989, borderline},
		{"held-contrast-20", SuspectedLoss, "", .245, .977, held},
		{"held-contrast-45", DataDrift, "", .961, .993, held},
		{"held-crowd-2", DataDrift, "detections", .981, unknown, held},
		{"held-dark-20", SuspectedLoss, "", .008, .043, held},
		{"held-dark-45", DataDrift, "", .974, .989, held},
		{"held-fog-50", SuspectedLoss, "", .850, .981, held},
		{"held-green", DataDrift, "", .907, .984, borderline},
		{"held-jpeg-160", DataDrift, "", .953, .952, borderline},
		{"held-noise-100", DataDrift, "", .984, .934, held},
		{"held-over-26", DataDrift, "", .940, .861, borderline},
		{"held-rotated-dim", SuspectedLoss, "", .779, .735, held},
		{"held-shift-left", DataDrift, "scene", .988, .902, held},
		{"final-blur-12", SuspectedLoss, "", .592, .970, final},
		{"final-blur-4", DataDrift, "sharpness", .985, .992, final},
		{"final-contrast-27", SuspectedLoss, "", .650, .972, final},
		{"final-contrast-70", DataDrift, "", .995, .988, final},
		{"final-crowd-3", DataDrift, "detections", .971, unknown, final},
		{"final-dark-25", SuspectedLoss, "", .189, .989, final},
		{"final-dark-noisy", SuspectedLoss, "", .649, .987, final},
		{"final-empty-dim", DataDrift, "detections", unknown, unknown, final},
		{"final-fog-60", SuspectedLoss, "", .645, .942, final},
		{"final-jpeg-120", SuspectedLoss, "", .903, .942, borderline},
		{"final-noise-45", DataDrift, "", .997, .985, final},
		{"final-over-16", DataDrift, "luma", .997, .982, final},
		{"final-over-40", SuspectedLoss, "", .786, .608, final},
		{"final-red", DataDrift, "", .987, .987, final},
		{"final-rotated-contrast", SuspectedLoss, "", .744, .686, final},
		{"final-shift-down", DataDrift, "scene", .987, .979, final},
		{"final-vflip", SuspectedLoss, "", .783, .635, final},
	}
}

// TestScenarios: every disturbance leads to its state within a minute, to no worse one on the way, and the camera comes back.
func TestScenarios(t *testing.T) {
	steady := loadClip(t, "steady")
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			bad := loadClip(t, sc.name)
			for _, shift := range []int{0, 60, 137, 200, 260, 333} {
				before, during, after, said := run(t, config(), shift, []*clip{steady}, []*clip{bad})
				if len(before) != 1 || before[0].state != OK {
					t.Errorf("shift %d: before: %v, want ok alone", shift, before)
				}
				at := -1.0
				for _, c := range during {
					right := c.state == sc.state || sc.set == borderline && rank(c.state) > 0
					if right && at < 0 {
						at = c.after
					}
					if rank(c.state) > rank(sc.state) && !right {
						t.Errorf("shift %d: %s after %.0f s: %v", shift, c.state, c.after, during)
					}
				}
				if at < 0 || at > 60 {
					t.Errorf("shift %d: after %.0f s: %v, want %s within 60 s", shift, at, during, sc.state)
				}
				if sc.set != borderline && (said.State != sc.state || sc.cause != "" && said.Cause != sc.cause) {
					t.Errorf("shift %d: %s by %s (%s), want %s by %q", shift, said.State, said.Cause, said.Detail, sc.state, sc.cause)
				}
				if len(after) == 0 || after[len(after)-1].state != OK {
					t.Errorf("shift %d: afterwards: %v, want ok at last", shift, after)
				}
				if len(said.Evidence) == 0 || !said.Evidence[0].Moved {
					t.Errorf("shift %d: a verdict without evidence: %+v", shift, said)
				}
				t.Logf("shift %3d: %s after %.0f s, back after %.0f s, recall %.3f, precision %.3f: %s", shift, sc.state, at, after[len(after)-1].after, sc.recall, sc.precision, said.Detail)
			}
		})
	}
}

// TestSteadyDay: a camera-day of the clip in a loop raises no alarm, wherever it starts.
func TestSteadyDay(t *testing.T) {
	steady := loadClip(t, "steady")
	shifts := []int{0, 91, 278}
	if testing.Short() {
		shifts = shifts[:1]
	}
	for _, shift := range shifts {
		d := newDetector(t, config())
		learnt, verdicts := 0, 0
		p := &player{d: d, at: morning(), frame: shift}
		p.see = func(v Verdict) {
			verdicts++
			if v.ReferenceChanged {
				learnt++
			}
			if v.State == OK && len(v.Evidence) == 0 {
				t.Fatalf("after %v: a verdict without evidence: %+v", v.At.Sub(morning()), v)
			}
			if v.State == DataDrift || v.State == SuspectedLoss {
				t.Fatalf("shift %d, after %v: %s: %s %s", shift, v.At.Sub(morning()), v.State, v.Cause, v.Detail)
			}
		}
		p.play(86400, steady)
		if data, err := d.Reference().Encode(); err != nil || len(data) > 48<<10 {
			t.Errorf("24 hours take %d bytes, %v", len(data), err)
		}
		if learnt != 24 || verdicts < 16000 {
			t.Errorf("shift %d: %d hours learnt, %d verdicts", shift, learnt, verdicts)
		}
	}
}

// TestDecodeContinues: a detector that was stored and read at any time says the same as one that was not.
func TestDecodeContinues(t *testing.T) {
	steady, bad := loadClip(t, "steady"), loadClip(t, "fog")
	say := func(restart float64) string {
		var log bytes.Buffer
		p := &player{d: newDetector(t, config()), at: morning()}
		p.see = func(v Verdict) { fmt.Fprintln(&log, v.At, v.State, v.Cause, v.Changed) }
		for at := 0.0; at < 400; at += restart {
			c := steady
			if at >= 240 {
				c = bad
			}
			p.play(restart, c)
			if restart == 400 {
				continue
			}
			data, err := p.d.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if p.d, err = Decode(config(), data); err != nil {
				t.Fatal(err)
			}
		}
		return log.String()
	}
	// Counts travel in hundredths: the words must be the same.
	if whole, parts := say(20), say(80); whole != parts {
		t.Errorf("restarts change what is said:\n%s\nand\n%s", whole, parts)
	}
}

func observation(at time.Time) feature.Observation {
	return feature.Observation{
		At: at, Width: 640, Height: 480, Luma: 120, Contrast: 50, Sharpness: 800, Saturation: 60, Motion: 2, Hash: 0xf0f0,
		Detections: []feature.Detection{{Class: "person", Score: .8, Box: [4]float64{100, 100, 140, 200}}},
	}
}

func TestNotEnough(t *testing.T) {
	d := newDetector(t, config())
	o := observation(morning())
	v, ok := d.Observe(&o)
	if ok {
		t.Errorf("a verdict of one picture: %+v", v)
	}
	if _, ok := d.Silence(morning().Add(time.Second)); ok {
		t.Error("silent after a second")
	}
	for i := range 100 {
		o := observation(morning().Add(time.Duration(i) * time.Second))
		if got, ok := d.Observe(&o); ok {
			v = got
		}
	}
	if v.State != NotEnoughData || v.Cause != NoReference || v.Changed {
		t.Errorf("without a reference: %+v", v)
	}
	for i := range 200 {
		o := observation(morning().Add(time.Duration(100+i) * time.Second))
		if got, ok := d.Observe(&o); ok {
			v = got
		}
	}
	if v.State != OK || v.Rate == nil || v.Rate.Value != 1 || v.Rate.Low >= 1 || v.Rate.High <= 1 {
		t.Errorf("with a reference: %+v", v)
	}
	v, ok = d.Silence(morning().Add(10 * time.Minute))
	if !ok || v.State != NotEnoughData || v.Cause != Silent || !v.Changed {
		t.Errorf("silent: %+v", v)
	}
	if v, ok = d.Silence(morning().Add(11 * time.Minute)); !ok || v.Changed {
		t.Errorf("still silent: %+v", v)
	}
}

// TestPictureAlone: with nobody in view a picture that is far worse is suspected, one that is a little worse is not.
func TestPictureAlone(t *testing.T) {
	for _, c := range []struct {
		name      string
		sharpness float64
		want      State
	}{{"half", 400, DataDrift}, {"a sixteenth", 50, SuspectedLoss}} {
		d := newDetector(t, config())
		var v Verdict
		for i := range 400 {
			o := observation(morning().Add(time.Duration(i) * time.Second))
			o.Detections = nil
			if i >= 300 {
				o.Sharpness = c.sharpness
			}
			if got, ok := d.Observe(&o); ok {
				v = got
			}
		}
		if v.State != c.want || v.Cause != "sharpness" {
			t.Errorf("%s: %s by %s (%s), want %s", c.name, v.State, v.Cause, v.Detail, c.want)
		}
	}
}

// TestOtherFeatures: classes and embeddings that change alone are drift, by their names.
func TestOtherFeatures(t *testing.T) {
	for _, c := range []struct {
		cause  string
		change func(*feature.Observation)
	}{
		{feature.Classes, func(o *feature.Observation) { o.Detections[0].Class = "dog" }},
		{feature.Embedding, func(o *feature.Observation) { o.Embedding[0] += 3 }},
	} {
		d := newDetector(t, config())
		var v Verdict
		for i := range 400 {
			o := observation(morning().Add(time.Duration(i) * time.Second))
			o.Embedding = []float32{float32(math.Sin(float64(i) * 2)), float32(math.Cos(float64(i) * 3)), float32(i*7919%100) / 100}
			if i == 300 && v.State != OK {
				t.Errorf("%s: before the change: %s by %s", c.cause, v.State, v.Cause)
			}
			if i >= 300 {
				c.change(&o)
			}
			if got, ok := d.Observe(&o); ok {
				v = got
			}
		}
		if v.State != DataDrift || v.Cause != c.cause {
			t.Errorf("%s by %s (%s), want %s by %s", v.State, v.Cause, v.Detail, DataDrift, c.cause)
		}
	}
}

// TestBlindModel: in a picture that stays as it is, with people who move in it, a model that finds nobody has lost them.
func TestBlindModel(t *testing.T) {
	steady := loadClip(t, "steady")
	blind := &clip{name: "blind"}
	for _, o := range steady.observations {
		o.Detections = nil
		blind.observations = append(blind.observations, o)
	}
	_, during, _, said := run(t, config(), 0, []*clip{steady}, []*clip{blind})
	if said.State != SuspectedLoss || said.Cause != "detections" {
		t.Errorf("%v, last %s by %s: %s", during, said.State, said.Cause, said.Detail)
	}
}

// TestNextHour: an hour that is not known is judged by its neighbour, for loss only, and learnt.
func TestNextHour(t *testing.T) {
	steady := loadClip(t, "steady")
	d := newDetector(t, config())
	p := &player{d: d, at: morning().Add(50 * time.Minute)}
	p.play(9.5*60, steady)
	var borrowed, own bool
	p.see = func(v Verdict) {
		borrowed = borrowed || v.Borrowed && v.Slot == "08-09"
		own = own || !v.Borrowed && v.Slot == "09-10"
	}
	p.play(8*60, steady)
	if !borrowed || !own {
		t.Errorf("borrowed %t, own %t", borrowed, own)
	}
}

func TestConfigValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	c := Default()
	c.Effective, c.Raise, c.Relax, c.Content.Luma = math.NaN(), 0, 2, 0
	const want = "effective is NaN: want 1 or more\n" +
		"raise is 0 and lower 6: want 1 or more\n" +
		"relax is 2: want above 0 and at most 1\n" +
		"costly and content: want every bound above 0"
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

package fairness

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/services/drift-monitor/quality"
)

func at(n int) time.Time { return time.Date(2026, 1, 1, 8, 0, n, 0, time.UTC) }

func newCounts(tb testing.TB, axes ...string) *Counts {
	tb.Helper()
	cfg := Default()
	cfg.Axes = axes
	c, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// show adds n pictures of a camera with one object of a side, of which found are found.
func show(c *Counts, camera string, luma, side float64, n, found int, labels map[string]string) {
	for i := range n {
		box := quality.Box{100, 100, 100 + side, 100 + side}
		p := Picture{
			At: at(10 * i), Camera: camera, Width: 300, Height: 300, Luma: luma, Hour: 8, Labels: labels,
			Objects: []quality.Object{{Class: "person", Box: box}}, Labelled: true,
		}
		if i < found {
			p.Answers = []quality.Answer{{Class: "person", Score: .9, Box: box}}
		}
		c.Add(&p)
	}
}

func TestSlices(t *testing.T) {
	for _, c := range []struct {
		box          quality.Box
		size, region string
	}{
		{quality.Box{0, 0, 31, 32}, "small", "top-left"},
		{quality.Box{140, 0, 172, 32}, "medium", "top-centre"},
		{quality.Box{200, 200, 296, 295}, "medium", "bottom-right"},
		{quality.Box{0, 100, 96, 196}, "large", "middle-left"},
		{quality.Box{400, -50, 420, -40}, "small", "top-right"},
	} {
		if s, r := SizeOf(c.box), RegionOf(c.box, 300, 300); s != c.size || r != c.region {
			t.Errorf("%v: %s %s, want %s %s", c.box, s, r, c.size, c.region)
		}
	}
	if RegionOf(quality.Box{0, 0, 1, 1}, 0, 0) != "" {
		t.Error("a region of a picture without a size")
	}
}

func TestReport(t *testing.T) {
	c := newCounts(t, "weather")
	show(c, "gate", 30, 20, 100, 50, map[string]string{"weather": "rain"})
	show(c, "hall", 120, 50, 100, 90, map[string]string{"weather": "dry"})
	show(c, "yard", 220, 120, 100, 95, nil)
	show(c, "shed", 220, 120, 29, 0, nil)
	r := c.Report()
	for _, want := range []struct {
		metric, axis, worst, best string
		gap, ratio                float64
		refused                   string
	}{
		{Recall, Camera, "gate", "yard", .45, .5 / .95, "[shed]"},
		{DetectionRate, Camera, "gate", "yard", .45, .5 / .95, "[shed]"},
		{Recall, Light, "dark", "medium", .4, .5 / .9, "[]"},
		{Recall, Size, "small", "medium", .4, .5 / .9, "[]"},
		{Recall, "weather", "rain", "dry", .4, .5 / .9, "[]"},
	} {
		g, ok := r.Find(want.metric, want.axis)
		if !ok || g.Worst.Name != want.worst || g.Best.Name != want.best || !equal(g.Gap.Value, want.gap) ||
			!equal(g.Ratio.Value, want.ratio) || fmt.Sprint(g.Refused) != want.refused {
			t.Errorf("%s by %s: %t %s, refused %v", want.metric, want.axis, ok, g, g.Refused)
		}
		if !(g.Gap.Low > 0 && g.Gap.Low < g.Gap.Value && g.Gap.High > g.Gap.Value && g.Ratio.Low < g.Ratio.Value && g.Ratio.High > g.Ratio.Value) {
			t.Errorf("%s by %s: intervals of %s", want.metric, want.axis, g)
		}
	}
	if _, ok := r.Find(Recall, Hour); ok {
		t.Error("one hour was compared with itself")
	}
	if _, ok := r.Refused[Recall+"/"+Hour]; !ok {
		t.Errorf("the hour is not said to be refused: %v", r.Refused)
	}
}

func equal(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }

// TestThin: pictures of one camera that follow each other closely are one.
func TestThin(t *testing.T) {
	c := newCounts(t)
	for i := range 100 {
		c.Add(&Picture{At: at(i), Camera: "gate", Hour: -1, Luma: -1})
	}
	if n := c.s.Now.Axes[Camera]["gate"].Pictures; n != 10 {
		t.Errorf("%d pictures in 100 s, want 10", n)
	}
}

func TestForget(t *testing.T) {
	c := newCounts(t)
	add := func(day int) {
		c.Add(&Picture{At: at(0).AddDate(0, 0, day), Camera: fmt.Sprint("day", day), Hour: -1, Luma: 10})
	}
	add(0)
	add(1)
	add(2)
	if c.s.Past.Axes[Camera]["day1"].Pictures != 1 || c.s.Now.Axes[Camera]["day2"].Pictures != 1 || len(c.s.Past.Axes[Camera]) != 1 {
		t.Errorf("past %v, now %v", c.s.Past.Axes, c.s.Now.Axes)
	}
	add(9)
	if len(c.s.Past.Axes) != 0 {
		t.Errorf("a week later: %v", c.s.Past.Axes)
	}
}

func TestGate(t *testing.T) {
	uneven := newCounts(t)
	show(uneven, "gate", -1, 50, 200, 100, nil)
	show(uneven, "hall", -1, 50, 200, 190, nil)
	even := newCounts(t)
	show(even, "gate", -1, 50, 200, 180, nil)
	show(even, "hall", -1, 50, 200, 186, nil)
	maybe := newCounts(t)
	show(maybe, "gate", -1, 50, 40, 30, nil)
	show(maybe, "hall", -1, 50, 40, 36, nil)
	bad, good, unsure, none := uneven.Report(), even.Report(), maybe.Report(), Report{}
	for _, c := range []struct {
		name   string
		report *Report
		a      Allowance
		want   Verdict
		reason string
	}{
		{"uneven", &bad, Allowance{Gap: .1}, Fail, "recall by camera: gate 0.500 (200) and hall 0.950 (200)"},
		{"uneven by ratio", &bad, Allowance{Ratio: .8}, Fail, "recall by camera: gate"},
		{"even", &good, Allowance{Gap: .1, Ratio: .8}, Pass, ""},
		{"may be chance", &unsure, Allowance{Gap: .1}, Unknown, "recall by camera may be chance: gate 0.750 (40)"},
		{"nothing", &none, Allowance{Gap: .1}, Unknown, "no axis has two slices of 30 to compare recall by"},
		{"an axis that is not there", &good, Allowance{Gap: .1, Axes: []string{Site}}, Unknown, "recall by site: fewer than two slices of 30"},
		{"as the present model", &bad, Allowance{Gap: .1, Present: &bad, Worse: .02}, Pass, ""},
		{"worse than the present model", &bad, Allowance{Gap: .1, Present: &good, Worse: .02}, Fail, "recall by camera: gate"},
	} {
		d := c.report.Gate(c.a)
		if d.Verdict != c.want || !strings.HasPrefix(strings.Join(d.Reasons, "; "), c.reason) || c.reason == "" && len(d.Reasons) > 0 {
			t.Errorf("%s: %s %v, want %s %s", c.name, d.Verdict, d.Reasons, c.want, c.reason)
		}
	}
}

func TestConfig(t *testing.T) {
	if _, err := New(Config{Period: time.Hour, Axes: []string{"size"}}); err == nil || err.Error() != `fairness: axis "size" cannot be declared` {
		t.Error(err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a period of nothing")
	}
}

func TestBounded(t *testing.T) {
	c := newCounts(t)
	for i := range 3 * maxSlices {
		c.Add(&Picture{At: at(0), Camera: fmt.Sprint("camera", i), Hour: -1, Luma: -1})
	}
	if n := len(c.s.Now.Axes[Camera]); n != maxSlices+1 || len(c.s.Last) > maxSlices {
		t.Errorf("%d slices, %d cameras", n, len(c.s.Last))
	}
}

func FuzzDecode(f *testing.F) {
	c := newCounts(f)
	show(c, "gate", 30, 20, 40, 20, nil)
	show(c, "hall", 130, 60, 40, 30, nil)
	data, err := c.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Decode(Default(), data)
		if err != nil {
			return
		}
		r := c.Report()
		for _, g := range r.Gaps {
			if !(g.Gap.Value >= 0 && g.Gap.Value <= 1 && g.Ratio.Value >= 0 && g.Ratio.Value <= 1) {
				t.Fatal(g)
			}
		}
		r.Gate(Allowance{Gap: .1})
		again, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(Default(), again); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	c := newCounts(b)
	box := quality.Box{0, 0, 10, 10}
	p := Picture{
		At: at(0), Camera: "gate", Width: 300, Height: 300, Luma: 50, Hour: 8, Labelled: true,
		Objects: []quality.Object{{Class: "person", Box: box}}, Answers: []quality.Answer{{Class: "person", Score: .9, Box: box}},
	}
	for b.Loop() {
		c.Add(&p)
	}
}

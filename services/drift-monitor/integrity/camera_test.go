package integrity

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/drift"
)

var began = time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)

// load reads what was measured of real footage.
func load(tb testing.TB, name string) []Observation {
	tb.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".csv"))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var out []Observation
	for s := bufio.NewScanner(f); s.Scan(); {
		var o Observation
		if _, err := fmt.Sscanf(strings.ReplaceAll(s.Text(), ",", " "), "%f %f %f %f %x %f", &o.Luma, &o.Contrast, &o.Sharpness, &o.Saturation, &o.Hash, &o.Difference); err != nil {
			tb.Fatalf("%s: %q: %v", name, s.Text(), err)
		}
		out = append(out, o)
	}
	if len(out) < 100 {
		tb.Fatalf("%s: %d pictures", name, len(out))
	}
	return out
}

// player shows a camera footage, picture by picture, in a loop.
type player struct {
	camera *Camera
	at     time.Time
	every  time.Duration
	epoch  uint64
	events []string // what was raised and cleared
	raised map[drift.Fault]time.Duration
	began  time.Time // of the last play
}

func newPlayer(fps float64) *player {
	return &player{camera: new(Camera), at: began, every: time.Duration(float64(time.Second) / fps), epoch: 1, raised: map[drift.Fault]time.Duration{}}
}

// play shows a clip of 10 pictures a second from a picture on, for a time.
func (p *player) play(clip []Observation, from int, length time.Duration) {
	p.began = p.at
	thin := max(int(p.every/(100*time.Millisecond)), 1)
	for i := from; p.at.Sub(p.began) < length; i += thin {
		o := clip[i%len(clip)]
		if o.Difference < 0 {
			o.Difference = 0.7 // the footage begins again
		}
		o.At, o.Epoch = p.at, p.epoch
		p.at = p.at.Add(p.every)
		before := p.camera.Faults()
		if p.camera.Observe(o) {
			p.note(before, o.At)
		}
	}
}

func (p *player) note(before []drift.Raised, at time.Time) {
	has := func(all []drift.Raised, f drift.Fault) bool {
		return slices.ContainsFunc(all, func(r drift.Raised) bool { return r.Fault == f })
	}
	for _, f := range drift.Faults() {
		switch was, is := has(before, f), has(p.camera.Faults(), f); {
		case is && !was:
			p.events = append(p.events, "+"+string(f))
			p.raised[f] = at.Sub(p.began)
		case was && !is:
			p.events = append(p.events, "-"+string(f))
		}
	}
}

// Real footage as it is shows no fault, wherever it begins and at whatever rate it is looked at.
func TestSteadyFootageShowsNothing(t *testing.T) {
	t.Parallel()
	clean := load(t, "clean")
	for _, fps := range []float64{10, 5, 2, 1, 0.2} {
		for start := 0; start < len(clean); start += 160 {
			p := newPlayer(fps)
			p.play(clean, start, 10*80*time.Second)
			if len(p.events) > 0 {
				t.Errorf("at %v fps from picture %d: %v", fps, start, p.events)
			}
			if p.camera.Suspicious() {
				t.Errorf("at %v fps from picture %d: there are signs", fps, start)
			}
		}
	}
}

func TestFaultsAreFoundAndNoOthers(t *testing.T) {
	t.Parallel()
	clean := load(t, "clean")
	for _, c := range []struct {
		clip   string
		want   drift.Fault
		within time.Duration
	}{
		{"frozen", drift.Frozen, 10 * time.Second},
		{"black", drift.Black, 10 * time.Second},
		{"covered", drift.Covered, 10 * time.Second},
		{"defocused", drift.Defocused, 60 * time.Second},
		{"blurred", drift.Defocused, 60 * time.Second},
		{"rotated", drift.Rotated, 60 * time.Second},
		{"flipped", drift.Flipped, 60 * time.Second},
		{"shifted", drift.Shifted, 60 * time.Second},
		{"darkened", "", 0},
		{"over_exposed", "", 0},
		{"low_contrast", "", 0},
		{"fogged", "", 0},
		{"noisy", "", 0},
		{"jpeg_crushed", "", 0},
		{"colour_shifted", "", 0},
		{"empty", "", 0},
		{"crowd", "", 0},
		{"still_noise", "", 0},
	} {
		clip := load(t, c.clip)
		for _, fps := range []float64{10, 5, 2, 1} {
			if c.clip == "still_noise" && fps < 10 { // its differences are those from one picture to the next
				continue
			}
			t.Run(fmt.Sprintf("%s at %v", c.clip, fps), func(t *testing.T) {
				p := newPlayer(fps)
				p.play(clean, 100, 60*time.Second)
				p.play(clip, 0, 60*time.Second)
				want := []string{"+" + string(c.want)}
				if c.want == "" {
					want = nil
				}
				if !slices.Equal(p.events, want) || p.raised[c.want] > c.within {
					t.Fatalf("%v after %v, want %v within %v", p.events, p.raised, want, c.within)
				}
				for _, f := range p.camera.Faults() {
					if len(f.Evidence) == 0 || f.Since.Before(p.began) || f.Since.After(p.began.Add(c.within)) {
						t.Errorf("%+v", f)
					}
					t.Logf("%s after %v: %v", f.Fault, p.raised[f.Fault], f.Evidence)
				}
				p.events = nil
				p.play(clean, 300, 60*time.Second)
				if want := []string{"-" + string(c.want)}; c.want != "" && !slices.Equal(p.events, want) || c.want == "" && len(p.events) > 0 {
					t.Errorf("afterwards %v, want %v", p.events, want)
				}
			})
		}
	}
}

// A picture that is sent again as it is changes by nothing at all. That is found without knowing the camera.
func TestFrozenFromTheFirstPictureOn(t *testing.T) {
	t.Parallel()
	for _, fps := range []float64{25, 10, 2, 1} {
		p := newPlayer(fps)
		p.play([]Observation{{Luma: 120, Contrast: 50, Sharpness: 1000, Saturation: 100, Hash: 0x58af331b7436ab08}}, 0, 20*time.Second)
		if !slices.Equal(p.events, []string{"+frozen"}) || p.raised[drift.Frozen] > 10*time.Second {
			t.Errorf("at %v fps: %v %v", fps, p.events, p.raised)
		}
	}
}

// A short dark moment, a person before the lens and a stutter are no faults; one that flickers is raised once.
func TestHysteresis(t *testing.T) {
	t.Parallel()
	clean, black := load(t, "clean"), load(t, "black")
	p := newPlayer(10)
	p.play(clean, 0, 40*time.Second)
	for range 20 {
		p.play(black, 0, 2*time.Second)
		p.play(clean, 0, 5*time.Second)
	}
	if len(p.events) > 0 {
		t.Errorf("short moments: %v", p.events)
	}
	p.play(black, 0, 10*time.Second)
	for range 10 {
		p.play(clean, 0, 2*time.Second)
		p.play(black, 0, time.Second)
	}
	if !slices.Equal(p.events, []string{"+black"}) {
		t.Errorf("a fault that flickers: %v", p.events)
	}
}

// What lasts for hours does not become the usual.
func TestAFaultIsNotLearnt(t *testing.T) {
	t.Parallel()
	clean := load(t, "clean")
	for _, name := range []string{"rotated", "defocused", "shifted"} {
		p := newPlayer(5)
		p.play(clean, 0, 60*time.Second)
		p.play(load(t, name), 0, 3*time.Hour)
		if len(p.events) != 1 {
			t.Errorf("%s: %v", name, p.events)
		}
	}
}

// Light that changes slowly, or an exposure that changes at once, moves no camera.
func TestLightChanges(t *testing.T) {
	t.Parallel()
	clean := load(t, "clean")
	p := newPlayer(2)
	p.play(clean, 0, 2*time.Minute)
	for i := range 60 { // an hour of dusk
		gain := 1 - 0.01*float64(i)
		dim := slices.Clone(clean)
		for j := range dim {
			dim[j].Luma *= gain
			dim[j].Contrast *= gain
			dim[j].Sharpness *= gain * gain
			dim[j].Difference *= gain
		}
		p.play(dim, 0, time.Minute)
	}
	if len(p.events) > 0 {
		t.Errorf("%v", p.events)
	}
}

func TestRelearn(t *testing.T) {
	t.Parallel()
	clean, shifted := load(t, "clean"), load(t, "shifted")
	p := newPlayer(10)
	p.play(clean, 0, 60*time.Second)
	p.play(shifted, 0, 30*time.Second)
	if !p.camera.Relearn() || len(p.camera.Faults()) > 0 {
		t.Fatalf("%v", p.camera.Faults())
	}
	p.events = nil
	p.play(shifted, 0, 60*time.Second)
	if len(p.events) > 0 {
		t.Errorf("the new view: %v", p.events)
	}
	p.play(clean, 0, 30*time.Second)
	if !slices.Equal(p.events, []string{"+shifted"}) {
		t.Errorf("the old view: %v", p.events)
	}
}

// What ingest tells lasts until it is taken back, or until another owner has had the camera for a while without saying it.
func TestWhatIngestTells(t *testing.T) {
	t.Parallel()
	clean := load(t, "clean")
	p := newPlayer(10)
	p.play(clean, 0, 20*time.Second)
	facts := map[string]float64{"announced": 10, "measured": 5}
	if !p.camera.Tell(drift.FPS, true, p.at, 1, facts) || p.camera.Tell(drift.FPS, true, p.at, 1, facts) {
		t.Error("raised is told once")
	}
	p.play(clean, 0, 10*time.Minute)
	if f := p.camera.Faults(); len(f) != 1 || f[0].Fault != drift.FPS || f[0].Evidence["measured"] != 5 {
		t.Fatalf("%v", f)
	}
	p.epoch = 2
	p.play(clean, 0, 60*time.Second)
	if len(p.events) > 0 {
		t.Errorf("cleared at once: %v", p.events)
	}
	p.play(clean, 0, 60*time.Second)
	if !slices.Equal(p.events, []string{"-fps"}) {
		t.Errorf("not confirmed: %v", p.events)
	}
	p.camera.Tell(drift.Clock, true, p.at, 2, nil)
	if p.camera.Tell(drift.FPS, false, p.at, 2, nil) || !p.camera.Tell(drift.Clock, false, p.at, 2, nil) || len(p.camera.Faults()) > 0 {
		t.Errorf("%v", p.camera.Faults())
	}
}

// Answers come in any order, twice, and from several models.
func TestOnlyNewerPicturesCount(t *testing.T) {
	t.Parallel()
	clean := load(t, "clean")
	var a, b Camera
	for i, o := range clean[1:400] {
		o.At, o.Epoch = began.Add(time.Duration(i)*100*time.Millisecond), 1
		a.Observe(o)
		b.Observe(o)
		b.Observe(o)
		late := clean[i]
		late.At = o.At.Add(-time.Second)
		b.Observe(late)
	}
	x, _ := a.Save()
	y, _ := b.Save()
	if string(x) != string(y) {
		t.Errorf("%s\n%s", x, y)
	}
}

func TestARestartLosesNothing(t *testing.T) {
	t.Parallel()
	clean, rotated := load(t, "clean"), load(t, "rotated")
	p := newPlayer(10)
	p.play(clean, 0, 60*time.Second)
	restart := func() {
		data, err := p.camera.Save()
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 4096 {
			t.Errorf("%d bytes", len(data))
		}
		before := p.camera.Faults()
		if p.camera, err = Load(data); err != nil {
			t.Fatal(err)
		}
		if after := p.camera.Faults(); len(after) != len(before) {
			t.Fatalf("%v became %v", before, after)
		}
	}
	restart()
	p.play(rotated, 0, 5*time.Second)
	restart() // in the middle of what is not raised yet
	p.play(rotated, 50, 8*time.Second)
	if !slices.Equal(p.events, []string{"+rotated"}) {
		t.Fatal(p.events)
	}
	restart()
	p.play(rotated, 0, 20*time.Second)
	p.play(clean, 0, 20*time.Second)
	if !slices.Equal(p.events, []string{"+rotated", "-rotated"}) {
		t.Error(p.events)
	}
	if _, err := Load([]byte("{")); err == nil {
		t.Error("half a snapshot is accepted")
	}
}

func BenchmarkObserve(b *testing.B) {
	clean := load(b, "clean")
	var c Camera
	b.ReportAllocs()
	for i := range b.N {
		o := clean[i%len(clean)]
		o.At = began.Add(time.Duration(i) * 100 * time.Millisecond)
		c.Observe(o)
	}
}

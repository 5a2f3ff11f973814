package top

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/services/sightline/watch"
)

var (
	update = flag.Bool("update", false, "write the golden files anew")
	start  = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
)

// past is a picture of two minutes in which a camera goes away and a worker dies.
func past(cameras int) Picture {
	h := newHistory()
	var p Picture
	for i := range 130 {
		at := start.Add(time.Duration(i) * time.Second)
		s := sample{at: at, booked: at, workers: map[string]fleet.Seen{}}
		for n := range cameras {
			c := watch.Camera{
				Camera: fmt.Sprintf("cam-%02d", n), Model: "person", State: "live", FPSIn: 10, FPSOut: 10 + 3*math.Sin(float64(i+9*n)/9), AgeP50: 30, AgeP99: 60 + float64(i),
				Books: ledger.Line{Superseded: uint64(i * n), InFlight: 2},
			}
			if n == 1 && i > 100 {
				c.State, c.Cause, c.FPSIn, c.FPSOut = "down", "refused", 0, 0
			}
			s.cameras = append(s.cameras, c)
		}
		infer := fleet.Seen{Worker: fleet.Worker{Service: "infer", Instance: "i1", State: fleet.Alive, Load: fleet.Load{Busy: float64(i) / 130}, Claims: []fleet.Claim{{Held: []fleet.Delivery{{1, 1}}}}}}
		s.workers["infer.i1"] = infer
		dead := infer
		dead.Instance, dead.State = "i2", fleet.Dead
		s.workers["infer.i2"] = dead
		s.drift = drift.Report{
			Statuses:    []drift.Status{{Camera: "cam-00", Model: "person", State: drift.OK}, {Camera: "cam-01", Model: "person", State: drift.DataDrift, Cause: "luma"}},
			Integrities: []drift.Integrity{{Camera: "cam-02", Faults: []drift.Raised{{Fault: drift.Frozen, Since: start}}}},
		}
		p = h.add(s)
	}
	p.Server = "n1"
	p.Notes = []string{"12:01:41  cam-01 is down: refused (\x1b[2Jx)"}
	return p
}

func TestDraw(t *testing.T) {
	t.Setenv("TZ", "UTC")
	for name, tt := range map[string]struct {
		cameras int
		on      Screen
	}{
		"wide":  {3, Screen{Width: 120, Height: 40}},
		"small": {30, Screen{Width: 80, Height: 24, ASCII: true, Scroll: 5}},
	} {
		p := past(tt.cameras)
		p.Drift = []string{"cam-02 looks frozen"} // its time is the local one
		got := p.Draw(tt.on)
		lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
		if len(lines) > tt.on.Height {
			t.Errorf("%s: %d lines", name, len(lines))
		}
		for _, l := range lines {
			if utf8.RuneCountInString(l) > tt.on.Width || strings.ContainsRune(l, '\x1b') {
				t.Errorf("%s: %q", name, l)
			}
		}
		path := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

// Whatever the size of the terminal, nothing is drawn beyond it (unless it is too small for anything).
func TestDrawFits(t *testing.T) {
	t.Parallel()
	for _, cameras := range []int{0, 1, 40} {
		p := past(cameras)
		for width := leastWidth; width < 200; width += 13 {
			for height := leastHeight; height < 80; height += 7 {
				lines := strings.Split(strings.TrimSuffix(p.Draw(Screen{Width: width, Height: height, Scroll: cameras / 2}), "\n"), "\n")
				if height >= 24 && len(lines) > height {
					t.Errorf("%d cameras on %dx%d: %d lines", cameras, width, height, len(lines))
				}
				for _, l := range lines {
					if utf8.RuneCountInString(l) > width {
						t.Errorf("%d cameras on %dx%d: %q", cameras, width, height, l)
					}
				}
			}
		}
	}
}

func TestSpark(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		series Series
		width  int
		high   float64
		want   string
	}{
		{nil, 3, 0, "   "},
		{Series{0, 0}, 3, 0, " ▁▁"},
		{Series{1, 2, 3, 4}, 3, 0, "▅▆█"},
		{Series{.5, 1}, 2, 1, "▅█"},
		{Series{.5}, 1, 1, "▅"},
		{Series{5}, 0, 1, ""},
		{Series{-1}, 1, 1, "▁"},
	} {
		if got := spark(tt.series, tt.width, tt.high, false); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.series, got, tt.want)
		}
	}
}

// Rates of fates come from the books, whenever those are read.
func TestRates(t *testing.T) {
	t.Parallel()
	h := newHistory()
	books := func(second int, superseded uint64) sample {
		at := start.Add(time.Duration(second) * time.Second)
		return sample{at: at, booked: at, cameras: []watch.Camera{{Camera: "a", Model: "m", Books: ledger.Line{Superseded: superseded}}}}
	}
	h.add(books(0, 100))
	h.add(books(4, 120))
	again := books(4, 120)
	again.at = start.Add(5 * time.Second)
	if p := h.add(again); p.Totals.Superseded.last() != 5 || !p.Booked {
		t.Errorf("%v", p.Totals.Superseded)
	}
	if p := h.add(books(6, 110)); p.Totals.Superseded.last() != 0 { // somebody made the books anew
		t.Errorf("%v", p.Totals.Superseded)
	}
	for range 2 * kept {
		h.add(again)
	}
	if p := h.add(again); len(p.Totals.In) != kept || len(p.Cameras[0].Out) != kept {
		t.Errorf("%d values", len(p.Totals.In))
	}
	if p := h.add(sample{at: start}); len(p.Cameras) != 0 || len(h.cameras) != 0 {
		t.Error("cameras that are gone stay")
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	asked := 0
	var m tea.Model = screen{show: past(3), picture: func(time.Time) Picture { asked++; return past(5) }}
	press := func(key tea.KeyMsg) tea.Cmd {
		var cmd tea.Cmd
		m, cmd = m.Update(key)
		return cmd
	}
	for range 9 {
		press(tea.KeyMsg{Type: tea.KeyDown})
	}
	if got := m.(screen).on.Scroll; got != 2 {
		t.Errorf("scrolled to %d", got)
	}
	press(tea.KeyMsg{Type: tea.KeyUp})
	m, _ = m.Update(tea.WindowSizeMsg{Width: 90, Height: 33})
	if s := m.(screen).on; s.Scroll != 1 || s.Width != 90 || s.Height != 33 {
		t.Errorf("%+v", s)
	}
	var cmd tea.Cmd
	if m, cmd = m.Update(tick(start)); asked != 1 || cmd == nil || !strings.Contains(m.View(), "cam-04") {
		t.Errorf("asked %d times\n%s", asked, m.View())
	}
	if cmd := press(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("q")}); cmd == nil {
		t.Error("q does not end it")
	}
}

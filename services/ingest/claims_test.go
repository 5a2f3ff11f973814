package ingest

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/drift"
)

// liar is a camera of which the test decides what it says and does.
type liar struct {
	claims
	told []string

	at     time.Time
	pts    time.Duration
	stats  Stats
	fps    float64
	rate   float64       // of its RTP clock
	offset time.Duration // of its time of day
}

func newLiar(fps, announced float64) *liar {
	l := &liar{at: time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC), fps: fps, rate: 1}
	l.stats.Source.AnnouncedFPS = announced
	l.tell = func(f drift.Fault, raised bool, facts map[string]string) {
		state := "-"
		if raised {
			state = "+"
		}
		var figures []string
		for _, k := range slices.Sorted(maps.Keys(facts)) {
			figures = append(figures, k+"="+facts[k])
		}
		l.told = append(l.told, fmt.Sprint(state, f, figures))
	}
	return l
}

// send sends pictures for a while.
func (l *liar) send(length time.Duration) {
	step := time.Duration(float64(time.Second) / l.fps)
	for end := l.at.Add(length); l.at.Before(end); l.at = l.at.Add(step) {
		l.stats.AccessUnits++
		l.stats.Source.Report = SenderReport{NTP: l.at.Add(l.offset), Received: l.at}
		l.picture(l.pts, l.at, func() Stats { return l.stats })
		l.pts += time.Duration(float64(step) * l.rate)
	}
}

func (l *liar) expect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(l.told, want) {
		t.Errorf("told %q, want %q", l.told, want)
	}
	l.told = nil
}

func TestAnHonestCameraIsBelieved(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ fps, announced float64 }{{10, 10}, {25, 25}, {24, 30}, {10, 0}, {0.5, 0}, {29.97, 30}} {
		l := newLiar(c.fps, c.announced)
		l.offset = 3 * time.Second
		l.send(10 * time.Minute)
		l.expect(t)
	}
}

func TestLies(t *testing.T) {
	t.Parallel()
	l := newLiar(10, 25)
	l.send(35 * time.Second)
	l.expect(t, "+fps[announced=25.000 measured=10.000]")
	l.fps = 25
	l.send(60 * time.Second)
	l.expect(t, "-fps[announced=25.000 measured=25.000]")

	l = newLiar(10, 10)
	l.rate = 1.5
	l.send(60 * time.Second)
	l.expect(t, "+clock[offset_s=0.000 rate=1.500]")

	l = newLiar(10, 10)
	l.offset = -time.Hour
	l.send(60 * time.Second)
	l.expect(t, "+clock[offset_s=-3600.000 rate=1.000]")
	l.offset = 0
	l.send(60 * time.Second)
	l.expect(t, "-clock[offset_s=0.000 rate=1.000]")
}

// One odd window, an outage and a stall convict nobody.
func TestMomentsAreForgiven(t *testing.T) {
	t.Parallel()
	l := newLiar(10, 10)
	for range 5 {
		l.send(35 * time.Second)
		l.at = l.at.Add(6 * time.Second) // a stall
		l.send(35 * time.Second)
		l.stats.Reconnects = map[Cause]uint64{CauseStalled: l.stats.Reconnects[CauseStalled] + 1}
		l.at, l.pts = l.at.Add(5*time.Second), 0
		l.send(35 * time.Second)
		l.at, l.pts = l.at.Add(time.Minute), l.pts+time.Hour
	}
	l.expect(t)
}

// A new epoch hears of what lasts; who no longer captures the camera takes it back.
func TestAgainAndEnd(t *testing.T) {
	t.Parallel()
	l := newLiar(5, 10)
	l.send(40 * time.Second)
	l.expect(t, "+fps[announced=10.000 measured=5.000]")
	l.again()
	l.send(15 * time.Second)
	l.expect(t, "+fps[announced=10.000 measured=5.000]")
	l.end()
	l.expect(t, "-fps[]")
	l.end()
	l.expect(t)
}

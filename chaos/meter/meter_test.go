package meter_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/chaos/meter"
)

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// feed answers a camera of 5 frames a second from ms on, every 200 ms, each 50 ms old.
func feed(m *meter.Meter, from, to int) {
	for ms := from; ms < to; ms += 200 {
		m.Add("door", meter.Arrival{Frame: strconv.Itoa(ms), At: at(ms), Captured: at(ms - 50)})
	}
}

func door() *meter.Meter { return meter.New([]meter.Camera{{Name: "door", FPS: 5}}) }

func TestSteady(t *testing.T) {
	for name, c := range map[string]struct {
		feed func(m *meter.Meter)
		want string
	}{
		"all is well": {func(m *meter.Meter) { feed(m, 0, 5000) }, "[]"},
		"nothing":     {func(*meter.Meter) {}, "[door: 0 answers in 2s, want 8]"},
		"it ended":    {func(m *meter.Meter) { feed(m, 0, 4500) }, "[door: no answer for 600ms]"},
		"half the rate": {func(m *meter.Meter) {
			for ms := 0; ms < 5000; ms += 400 {
				m.Add("door", meter.Arrival{Frame: strconv.Itoa(ms), At: at(ms), Captured: at(ms)})
			}
		}, "[door: 5 answers in 2s, want 8]"},
		"a pause that was made up for": {func(m *meter.Meter) {
			feed(m, 0, 4000)
			for i := range 5 {
				m.Add("door", meter.Arrival{Frame: fmt.Sprint("late", i), At: at(4700), Captured: at(4650)})
			}
			m.Add("door", meter.Arrival{Frame: "last", At: at(4900), Captured: at(4850)})
		}, "[door: no answer for 900ms]"},
		"old": {func(m *meter.Meter) {
			feed(m, 0, 5000)
			m.Add("door", meter.Arrival{Frame: "old", At: at(4100), Captured: at(3000)})
		}, "[door: age p99 is 1.1s]"},
		"copies are not answers": {func(m *meter.Meter) {
			for i := range 30 {
				m.Add("door", meter.Arrival{Frame: "one", At: at(3100 + 60*i), Captured: at(3000)})
			}
		}, "[door: 1 answers in 2s, want 8]"},
	} {
		t.Run(name, func(t *testing.T) {
			m := door()
			c.feed(m)
			if got := fmt.Sprint(m.Unsteady(at(5000), 2*time.Second)); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestDamage(t *testing.T) {
	for name, c := range map[string]struct {
		feed func(m *meter.Meter)
		want meter.Damage
	}{
		"none":  {func(m *meter.Meter) { feed(m, 0, 9000) }, meter.Damage{}},
		"pause": {func(m *meter.Meter) { feed(m, 0, 2000); feed(m, 2800, 9000) }, meter.Damage{Recovery: 800 * time.Millisecond, Fresh: 800 * time.Millisecond, Outage: 800 * time.Millisecond}},
		"a late answer between others": {func(m *meter.Meter) {
			feed(m, 0, 9000)
			m.Add("door", meter.Arrival{Frame: "held", At: at(3300), Captured: at(1900)})
		}, meter.Damage{Recovery: 1300 * time.Millisecond, Late: 1, Oldest: 1400 * time.Millisecond}},
		"what ended before the mark does not count": {func(m *meter.Meter) { feed(m, 0, 500); feed(m, 1400, 9000) }, meter.Damage{}},
		"it lasts": {func(m *meter.Meter) { feed(m, 0, 2200) }, meter.Damage{Recovery: 6 * time.Second, Fresh: 6 * time.Second, Outage: 5800 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			m := door()
			c.feed(m)
			c.want.Camera = "door"
			got := meter.Worst(m.Damages(at(2000), at(8000)))
			if name == "none" || name == "what ended before the mark does not count" {
				got.Outage = 0
			}
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestCoverage(t *testing.T) {
	m := door()
	feed(m, 100, 3000)
	feed(m, 7100, 10000)
	m.Add("door", meter.Arrival{Frame: "late", At: at(8000), Captured: at(3500)}) // answers second 3, which was not live
	gaps := []meter.Span{{From: at(4900), To: at(6200)}}                          // all of second 5, not all of 4 and 6
	c := m.Coverage("door", at(0), at(10000), gaps)
	if c.Covered != 8 || c.Live != 7 || c.Seconds != 10 || !slices.Equal(c.Missing, []time.Time{at(4000), at(6000)}) {
		t.Errorf("%+v; want 8 covered, 7 live of 10", c)
	}
}

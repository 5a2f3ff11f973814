package clock_test

import (
	"testing"
	"time"
	"unsafe"

	"github.com/sightline-dev/sightline/pkg/clock"
)

// slept is a time d ago, of which the machine slept all: its monotonic clock has not moved.
func slept(t *testing.T, now time.Time, d time.Duration) time.Time {
	t.Helper()
	from := now.Add(-d)
	type layout struct { // of time.Time
		wall uint64
		ext  int64
		loc  *time.Location
	}
	(*layout)(unsafe.Pointer(&from)).ext += int64(d)
	if now.Sub(from) != 0 || now.Round(0).Sub(from.Round(0)) != d {
		t.Fatal("time.Time is laid out in another way: the test must be, too")
	}
	return from
}

func TestTimeThatWasSleptThroughCounts(t *testing.T) {
	t.Parallel()
	now := time.Now()
	if got := clock.Between(slept(t, now, time.Hour), now); got != time.Hour {
		t.Errorf("after an hour's sleep %v have passed", got)
	}
	if got := clock.Between(now.Add(-time.Second), now); got != time.Second {
		t.Errorf("after a second %v have passed", got)
	}
	if got := clock.Between(slept(t, now, -time.Hour).Add(-time.Second), now); got != time.Second { // set back by an hour
		t.Errorf("after a second %v have passed", got)
	}
	if got := clock.Since(time.Now().Add(-time.Minute)); got < time.Minute || got > time.Minute+time.Second {
		t.Errorf("after a minute %v have passed", got)
	}
}

package repair

import (
	"testing"
	"time"
)

// What comes back with every sweep is mended ever less often; something else at once.
func TestRelapse(t *testing.T) {
	var l relapse
	now := time.Now()
	count := func(during time.Duration) (n int) {
		for end := now.Add(during); now.Before(end); now = now.Add(sweepEvery) {
			if l.due("altered", now) {
				n++
				l.mended(now)
			}
		}
		return n
	}
	if n := count(time.Hour); n < 2*relapsesFree || n > 4*relapsesFree {
		t.Errorf("%d times in an hour", n)
	}
	if n := count(24 * time.Hour); n < 24 || n > 24*6+1 {
		t.Errorf("%d times in a day", n)
	}
	if !l.due("something else", now) {
		t.Error("something else must wait")
	}
	if n := count(time.Minute); n < relapsesFree {
		t.Errorf("%d times in a minute: it was news", n)
	}
}

package fleet

import (
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
)

// A process that has run and been answered without a break may act although its beats are not stored: nobody else's are.
func TestUnbroken(t *testing.T) {
	t.Parallel()
	c := contact{nc: brokertest.JetStream(t).Conn()}
	start := time.Now()
	c.note(true, start)
	beat := start.Add(time.Millisecond)
	for _, step := range []struct {
		what     string
		answered bool
		after    time.Duration
		want     bool
	}{
		{"answered in time", true, touchEvery, true},
		{"and again", true, 2 * touchEvery, true},
		{"not answered", false, 3 * touchEvery, false},
		{"answered again: there was a break", true, 4 * touchEvery, false},
	} {
		c.note(step.answered, start.Add(step.after))
		if got := c.unbroken(beat); got != step.want {
			t.Errorf("%s: %v", step.what, got)
		}
	}
	later := start.Add(5 * touchEvery) // a beat was stored after the break
	c.note(true, later.Add(touchEvery))
	if !c.unbroken(later) {
		t.Error("what was before the last beat does not matter")
	}
	c.note(true, later.Add(touchEvery+touchWithin+2*touchEvery))
	if c.unbroken(later) {
		t.Error("the process stood still for a while")
	}
	if c.unbroken(time.Time{}) {
		t.Error("it never beat")
	}
}

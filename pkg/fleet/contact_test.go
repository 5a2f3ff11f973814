package fleet

import (
	"testing"
	"time"
)

// A process that has run without a stop, and that its server hears, may act although its beats are not stored.
func TestContact(t *testing.T) {
	t.Parallel()
	var c contact
	start := time.Now()
	c.note(start, true, start)
	beat, refused := start.Add(time.Millisecond), start.Add(2*time.Millisecond)
	if c.fine(beat, refused) {
		t.Error("nothing was heard since the beat that was refused")
	}
	c.note(start.Add(touchEvery), false, start.Add(touchEvery+touchWithin))
	if c.fine(beat, refused) {
		t.Error("the server did not answer")
	}
	c.note(start.Add(2*touchEvery+touchWithin), true, start.Add(2*touchEvery+touchWithin))
	if !c.fine(beat, refused) {
		t.Error("it ran all the time, and the server hears it")
	}
	if c.fine(time.Time{}, refused) {
		t.Error("it never beat")
	}
	resumed := start.Add(2*touchEvery + touchWithin + stillFor + time.Millisecond)
	c.note(resumed, true, resumed)
	if c.fine(beat, refused) {
		t.Error("it was stopped for a while")
	}
	if !c.fine(resumed.Add(time.Millisecond), refused) {
		t.Error("what was before the last beat does not matter")
	}
}

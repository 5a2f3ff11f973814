package audit_test

import (
	"fmt"
	"testing"

	"github.com/sightline-dev/sightline/chaos/audit"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

func name(seq uint64) frame.Name { return frame.Name{Camera: "door", Epoch: 7, Seq: seq} }

// answered are facts of ten frames that were all answered.
func answered() *audit.Facts {
	f := audit.NewFacts()
	for seq := range uint64(10) {
		f.Published(name(seq + 1))
		f.Answered(name(seq+1), "person")
	}
	return f
}

func line(l ledger.Line) []ledger.Line {
	l.Camera, l.Model, l.Delivery = "door", "person", streams.EveryFrame
	return []ledger.Line{l}
}

func lost(t *testing.T, f *audit.Facts, lines []ledger.Line) uint64 {
	t.Helper()
	found := f.Compare(f.Now(), lines)
	if len(found) != 1 {
		t.Fatalf("%d findings", len(found))
	}
	return found[0].Lost()
}

func TestAllIsWell(t *testing.T) {
	f := answered()
	if n := lost(t, f, line(ledger.Line{Captured: 10, Predicted: 10})); n != 0 || len(f.Doubled()) != 0 {
		t.Errorf("%d lost, doubled %v", n, f.Doubled())
	}
}

func TestAnInjectedDoubleIsFound(t *testing.T) {
	f := answered()
	f.Answered(name(4), "person")
	f.Buried(name(5))
	f.Answered(name(6), "faces") // another model's answer is none
	f.Buried(name(11))
	f.Answered(name(11), "person")
	want := "[door/7/4 answered twice by person door/7/5 answered by person, then quarantined door/7/11 quarantined, then answered by person]"
	if got := fmt.Sprint(f.Doubled()); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestAnInjectedLossIsFound(t *testing.T) {
	for what, c := range map[string]struct {
		last uint64 // published, never answered
		line ledger.Line
		want uint64
	}{
		"a hole that the books call predicted": {12, ledger.Line{Captured: 14, Predicted: 14}, 3},
		"a hole that the books explain":        {12, ledger.Line{Captured: 14, Predicted: 11, Expired: 3}, 0},
		"a hole that they explain in part":     {12, ledger.Line{Captured: 14, Predicted: 12, Superseded: 2}, 1},
		"a loss that only the books know":      {0, ledger.Line{Captured: 15, Predicted: 11, Lost: 4}, 4},
		"both know the same":                   {12, ledger.Line{Captured: 14, Predicted: 11, Lost: 3}, 3},
		"other frames' fates explain nothing":  {12, ledger.Line{Captured: 64, Predicted: 14, Superseded: 50}, 3},
	} {
		t.Run(what, func(t *testing.T) {
			f := answered()
			if c.last > 0 {
				f.Published(name(c.last))            // 11 was never seen at all: the numbers say that it was captured
				f.Answered(name(c.last+2), "person") // and so was the one in between
			}
			if got := lost(t, f, line(c.line)); got != c.want {
				t.Errorf("%d lost, want %d", got, c.want)
			}
		})
	}
}

func TestWhatIsUnderWayIsNotMissing(t *testing.T) {
	f := answered()
	mark := f.Now()
	f.Published(name(11))
	if frames, n := f.Missing(mark, "door", "person"); n != 0 {
		t.Errorf("missing %v", frames)
	}
	frames, n := f.Missing(f.Now(), "door", "person")
	if fmt.Sprint(frames) != "[door/7/11-11]" || n != 1 {
		t.Errorf("missing %v", frames)
	}
}

func TestBooksThatDoNotAddUp(t *testing.T) {
	f := answered()
	for _, d := range f.Compare(f.Now(), line(ledger.Line{Captured: 12, Predicted: 10})) {
		if !d.Unbalanced {
			t.Error("12 captured and 10 predicted is not balanced")
		}
	}
	for _, d := range f.Compare(f.Now(), line(ledger.Line{Captured: 12, Predicted: 8, Expired: 4})) {
		if d.Unbalanced || d.Denied != 2 {
			t.Errorf("two expired that were answered: %+v", d)
		}
	}
	if found := f.Compare(f.Now(), nil); len(found) != 1 || !found[0].Unknown {
		t.Errorf("a camera that is not in the books: %+v", found)
	}
}

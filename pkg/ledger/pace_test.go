package ledger

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sightline-dev/sightline/streams"
)

// report runs a Reporter of so many cameras for a while of made-up time, at 10 frames per second each.
func report(t *testing.T, cameras int, during time.Duration) *records {
	t.Helper()
	f := &records{before: func() { time.Sleep(5 * time.Millisecond) }} //nolint:forbidigo // in a bubble: a round trip
	synctest.Test(t, func(t *testing.T) {
		r := NewReporter(f, "preprocess", "p1")
		ctx, end := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := r.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		began := time.Now()
		for seq := uint64(1); time.Since(began) < during; seq++ {
			for c := range cameras {
				r.Add(name(fmt.Sprintf("cam-%d", c), seq), Taken, "", "")
			}
			<-tick.C
		}
		end()
		running.Wait()
	})
	return f
}

// With 1,000 cameras a Reporter publishes 200 records per second, evenly; with a few, one of each every half second.
func TestReporterOfManyCameras(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cameras int
		every   time.Duration
		most    int // records in any second
	}{{1, 500 * time.Millisecond, 2}, {30, 500 * time.Millisecond, 60}, {100, 500 * time.Millisecond, 200}, {1000, 5 * time.Second, 200}} {
		t.Run(strconv.Itoa(c.cameras), func(t *testing.T) {
			t.Parallel()
			const during = 60 * time.Second
			f := report(t, c.cameras, during)
			first, last := f.at[0], f.at[0].Add(during-2*time.Second) // less the last words
			perSecond, perTenth := map[time.Duration]int{}, map[time.Duration]int{}
			before := map[string]time.Time{}
			frames := map[string]Ranges{}
			for i, m := range f.told {
				all := frames[m.Record.Camera]
				for _, e := range m.Record.Entries {
					all.AddAll(e.Frames)
				}
				frames[m.Record.Camera] = all
				at := f.at[i]
				if at.Sub(first) < 11*time.Second || at.After(last) { // while it does not know yet how many there are
					before[m.Record.Camera] = at
					continue
				}
				perSecond[at.Sub(first)/time.Second]++
				perTenth[at.Sub(first)/(100*time.Millisecond)]++
				if gap := at.Sub(before[m.Record.Camera]); gap > c.every+100*time.Millisecond {
					t.Fatalf("%s: nothing for %v", m.Record.Camera, gap)
				}
				before[m.Record.Camera] = at
				told := FlushInterval
				if m.Record.Every != 0 {
					told = time.Duration(m.Record.Every) * time.Millisecond
				}
				if told != c.every {
					t.Fatalf("a record tells of an interval of %v", told)
				}
			}
			for s, n := range perSecond {
				if n > c.most+c.most/10+1 {
					t.Errorf("%d records in second %d", n, s)
				}
			}
			for s, n := range perTenth {
				if c.cameras == 1000 && n > 60 {
					t.Errorf("%d records in a tenth of a second (%d)", n, s)
				}
			}
			if len(frames) != c.cameras {
				t.Errorf("%d cameras", len(frames))
			}
			for camera, all := range frames {
				if len(all) != 1 || all.Count() < 599 {
					t.Fatalf("%s: %v", camera, all)
				}
			}
		})
	}
}

// Round trips happen side by side.
func TestReporterPublishesSeveralAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		f := &records{before: func() {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(10 * time.Millisecond) //nolint:forbidigo // in a bubble: a round trip
			mu.Lock()
			now--
			mu.Unlock()
		}}
		r := NewReporter(f, "infer", "i1")
		for c := range 1000 {
			r.Add(name(fmt.Sprintf("cam-%d", c), 1), Taken, "m", "")
		}
		began := time.Now()
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); most != outstanding || took > time.Second || len(f.told) != 1000 {
			t.Errorf("%d at a time, %v, %d records", most, took, len(f.told))
		}
	})
}

// Nothing is concluded before reporters that report rarely must have reported.
func TestBooksWaitForSlowReporters(t *testing.T) {
	t.Parallel()
	for _, d := range []streams.Delivery{streams.Freshest, streams.EveryFrame} {
		for _, every := range []time.Duration{FlushInterval, MaxFlushInterval} {
			var b Books
			slow := record(1, start, Taken, "", 1, 3)
			slow.Camera, slow.Every = "another", every.Milliseconds() // whoever it reports of
			b.Apply(slow)
			b.Apply(routed(record(1, start, Captured, "", 1, 3), d, "m"))
			b.Apply(record(1, start, Taken, "", 1, 3))
			// The fates are told two intervals after max_age at the latest, when one flush has failed.
			latest := start.Add(time.Second + 2*every)
			none := func(string, string) uint64 { return 0 }
			if l := b.Lines(latest, none)[0]; l.InFlight != 3 {
				t.Errorf("%s, %v: %s", d, every, figures(l))
			}
			b.Apply(record(1, latest, Predicted, "m", 1, 2))
			if l := b.Lines(latest.Add(time.Minute), none)[0]; l.Predicted != 2 || l.Lost != 1 {
				t.Errorf("%s, %v: %s", d, every, figures(l))
			}
		}
	}
}

// An interval that nobody reports at any more is forgotten.
func TestPaceRecovers(t *testing.T) {
	t.Parallel()
	var b Books
	if p := b.paces.pace(); p != pace(FlushInterval) || p.settle() != 3*time.Second || p.everySettle() != 15*time.Second {
		t.Errorf("at first %v", time.Duration(p))
	}
	for i := range 300 {
		r := record(1, start.Add(time.Duration(i)*time.Second), Captured, "", 1, 1)
		if i == 5 {
			r.Every = 1 << 60
		}
		b.Apply(r)
		switch got := time.Duration(b.paces.pace()); {
		case i < 5 || i > 2*int(paceWindow/time.Second)+1:
			if got != FlushInterval {
				t.Fatalf("after %d s: %v", i, got)
			}
		case i <= int(paceWindow/time.Second) && got != MaxFlushInterval:
			t.Fatalf("after %d s: %v", i, got)
		}
	}
}

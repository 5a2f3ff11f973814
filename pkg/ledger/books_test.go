package ledger

import (
	"fmt"
	"maps"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sightline-dev/sightline/streams"
)

var start = time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC)

func sameLines(t interface{ Fatalf(string, ...any) }, what string, got, want []Line) {
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// partition fails when a captured frame is in no column or in two.
func partition(t interface{ Fatalf(string, ...any) }, lines []Line) {
	for _, l := range lines {
		if l.Captured != l.Predicted+l.Superseded+l.Expired+l.Quarantined+l.InFlight+l.Lost {
			t.Fatalf("not a partition: %+v", l)
		}
	}
}

// Whatever the order and however often records come, the books tell the truth, and the same at any time.
func TestBooksInAnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := live(t, rapid.IntRange(1, 3).Draw(t, "epochs"), 20)
		told := w.messages(300 * time.Millisecond)
		shuffled := slices.Clone(told)
		for range rapid.IntRange(0, 10).Draw(t, "repeated") {
			shuffled = append(shuffled, rapid.SampledFrom(told).Draw(t, "again"))
		}
		r := rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed")))
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })

		for _, after := range []time.Duration{0, time.Second, 3 * time.Second, 5 * time.Second, 10 * time.Second, time.Hour} {
			var inOrder, anyOrder Books
			for _, m := range told {
				inOrder.Take(m)
			}
			for _, m := range shuffled {
				anyOrder.Take(m)
			}
			got := anyOrder.Lines(start.Add(after), nil)
			sameLines(t, "in any order", got, inOrder.Lines(start.Add(after), nil))
			partition(t, got)
			if after == time.Hour {
				sameLines(t, "the truth", got, w.lines())
			}
		}
	})
}

// Read while it grows, with lines made final on the way, the books end the same; what is said again later changes
// nothing.
func TestBooksWhileTheyGrow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := live(t, rapid.IntRange(1, 3).Draw(t, "epochs"), 120)
		told := w.messages(500 * time.Millisecond)
		var b Books
		for i, m := range told {
			b.Take(m)
			if i%3 == 0 {
				partition(t, b.Lines(m.told(), nil))
			}
		}
		end := start.Add(time.Hour)
		sameLines(t, "the truth", b.Lines(end, nil), w.lines())
		for range 20 { // late
			b.Take(rapid.SampledFrom(told).Draw(t, "late"))
		}
		sameLines(t, "after late records", b.Lines(end, nil), w.lines())
		for id, e := range b.cameras["cam"].epochs {
			if len(e.captured)+len(e.published)+len(e.work.taken)+len(e.fates)+len(e.clock)+len(e.work.hands)+len(e.reach) > 0 {
				t.Fatalf("epoch %d was not closed: %+v", id, e)
			}
		}
	})
}

// A purge explains what was in the stream that was purged, and nothing else.
func TestPurge(t *testing.T) {
	t.Parallel()
	none := func(string, string) uint64 { return 0 }
	rapid.Check(t, func(t *rapid.T) {
		w := every(t, 40)
		var b Books
		for i, m := range w.messages(500 * time.Millisecond) {
			b.Take(m)
			if i%3 == 0 {
				partition(t, b.Lines(m.told(), none))
			}
		}
		if len(w.said) == 0 {
			return
		}
		partition(t, b.Lines(start.Add(10*time.Second), func(string, string) uint64 { return 5 }))
		for range 2 { // the second time from what is closed
			sameLines(t, "the truth", b.Lines(start.Add(2*time.Hour), none), w.lines())
		}
	})
}

// record makes a record of one entry.
func record(epoch uint64, at time.Time, mark Mark, model string, lo, hi uint64) Record {
	return Record{Camera: "cam", Epoch: epoch, At: at, Entries: []Entry{{Mark: mark, Model: model, Frames: Ranges{{lo, hi}}}}}
}

func routed(r Record, d streams.Delivery, models ...string) Record {
	r.Route = &Route{Delivery: d, Models: models}
	if d == streams.Freshest {
		r.Route.MaxAge = time.Second
	}
	return r
}

// figures are the columns that are not zero.
func figures(l Line) string {
	out := []string{fmt.Sprintf("captured %d", l.Captured)}
	for _, c := range []struct {
		name string
		n    uint64
	}{{"predicted", l.Predicted}, {"superseded", l.Superseded}, {"expired", l.Expired}, {"quarantined", l.Quarantined}, {"in flight", l.InFlight}, {"lost", l.Lost}} {
		if c.n > 0 {
			out = append(out, fmt.Sprintf("%s %d", c.name, c.n))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(l.Reasons)) {
		out = append(out, fmt.Sprintf("%s %d", k, l.Reasons[k]))
	}
	return strings.Join(out, ", ")
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	hold := func(n uint64) Held { return func(string, string) uint64 { return n } }
	from := func(r Record, stage, instance string) Record {
		r.Stage, r.Instance, r.Run = stage, instance, start.Add(-time.Hour).UnixMilli()
		return r
	}
	follows := func(r Record) Record { // under its name
		r.Run = r.At.UnixMilli()
		return r
	}
	ended := func(stage, instance string) Incident {
		return Incident{Kind: WorkerEnded, Stage: stage, Instance: instance, At: start}
	}
	purged := func(stream, filter string) Incident {
		return Incident{Kind: StreamPurged, Stream: stream, Filter: filter, At: start}
	}
	ring := []Record{routed(record(1, start, Captured, "", 1, 3), streams.Freshest, "m"), record(1, start, Published, "", 1, 3), record(1, start, Taken, "", 1, 2), record(1, start, Predicted, "m", 1, 1)}
	with := func(more ...Record) []Record { return append(slices.Clone(ring), more...) }
	live := routed(record(1, start, Captured, "", 1, 3), streams.Freshest, "m")
	every := routed(record(1, start, Captured, "", 1, 10), streams.EveryFrame, "m")
	for _, c := range []struct {
		name    string
		records []Record
		after   time.Duration
		held    Held
		want    string

		incident Incident
	}{
		{"young frames are in flight", []Record{live}, 4*time.Second - 1, nil, "captured 3, in flight 3", Incident{}},
		{"nobody acknowledged them", []Record{live}, 4 * time.Second, nil, "captured 3, lost 3", Incident{}},
		{"the newest may still be in the ring", []Record{live, record(1, start, Published, "", 1, 3)}, 4 * time.Second, nil, "captured 3, superseded 2, in flight 1, superseded/frame_ring 2", Incident{}},
		{"until it is older than the ring", []Record{live, record(1, start, Published, "", 1, 3)}, 13 * time.Second, nil, "captured 3, superseded 2, expired 1, expired/frame_ring 1, superseded/frame_ring 2", Incident{}},
		{"a newer epoch took its place", []Record{live, record(1, start, Published, "", 1, 3), record(2, start, Captured, "", 1, 1), record(2, start, Predicted, "m", 1, 1)}, 4 * time.Second, nil, "captured 4, predicted 1, superseded 3, superseded/frame_ring 3", Incident{}},
		{"a newer epoch without a frame did not", []Record{live, record(1, start, Published, "", 1, 3), routed(Record{Camera: "cam", Epoch: 2, At: start}, streams.Freshest, "m")}, 4 * time.Second, nil, "captured 3, superseded 2, in flight 1, superseded/frame_ring 2", Incident{}},
		{"taken without a fate is lost", []Record{live, record(1, start, Published, "", 1, 3), record(1, start, Taken, "", 2, 2)}, 13 * time.Second, nil, "captured 3, superseded 1, expired 1, lost 1, expired/frame_ring 1, superseded/frame_ring 1", Incident{}},
		{"also when the camera was taken over", []Record{live, record(1, start, Published, "", 1, 3), record(1, start, Taken, "", 2, 2), record(2, start, Captured, "", 1, 1), record(2, start, Predicted, "m", 1, 1)}, 4 * time.Second, nil, "captured 4, predicted 1, superseded 2, lost 1, superseded/frame_ring 2", Incident{}},
		{"what ingest still had died with it", []Record{live, record(1, start, Published, "", 1, 1), record(1, start, Taken, "", 1, 1), record(1, start, Predicted, "m", 1, 1), record(2, start, Captured, "", 1, 1), record(2, start, Predicted, "m", 1, 1)}, 4 * time.Second, nil, "captured 4, predicted 2, superseded 2, superseded/restart 2", Incident{}},
		{"the newest tensor may still be in the ring", []Record{live, record(1, start, Published, "", 1, 3), record(1, start, Taken, "", 1, 3), record(1, start, Forwarded, "m", 1, 2), record(1, start, Expired, "", 3, 3)}, 4 * time.Second, nil, "captured 3, superseded 1, expired 1, in flight 1, superseded/tensor_ring 1", Incident{}},
		{"a frame that only infer saw was captured", []Record{live, record(1, start, Predicted, "m", 1, 7)}, 0, nil, "captured 7, predicted 7", Incident{}},
		{"an answer outweighs other fates", []Record{live, record(1, start, Predicted, "m", 1, 1), record(1, start, Expired, "", 1, 2), record(1, start, Quarantined, "", 2, 3)}, 0, nil, "captured 3, predicted 1, quarantined 2", Incident{}},
		{"a mark of a newer version is no fate", []Record{live, record(1, start, "admired", "m", 1, 3)}, 4 * time.Second, nil, "captured 3, lost 3", Incident{}},
		{"no route, no judgement", []Record{record(1, start, Captured, "", 1, 3), record(1, start, Predicted, "m", 1, 1)}, time.Hour, nil, "captured 3, predicted 1, in flight 2", Incident{}},
		{"the route of an earlier epoch will do", []Record{live, record(1, start, Predicted, "m", 1, 3), record(2, start, Captured, "", 1, 2)}, time.Hour, nil, "captured 5, predicted 3, lost 2", Incident{}},

		{"every frame waits", []Record{every}, 15*time.Second - 1, hold(0), "captured 10, in flight 10", Incident{}},
		{"unknown is not lost", []Record{every}, time.Hour, nil, "captured 10, in flight 10", Incident{}},
		{"held is in flight", []Record{every}, time.Hour, hold(10), "captured 10, in flight 10", Incident{}},
		{"held in part", []Record{every, record(1, start, Predicted, "m", 1, 3)}, 15 * time.Second, hold(5), "captured 10, predicted 3, in flight 5, lost 2", Incident{}},
		{"held no more", []Record{every, record(1, start, Predicted, "m", 1, 3)}, 15 * time.Second, hold(0), "captured 10, predicted 3, lost 7", Incident{}},
		{"more held than missing", []Record{every, record(1, start, Predicted, "m", 1, 9)}, 15 * time.Second, hold(50), "captured 10, predicted 9, in flight 1", Incident{}},
		{"over a restart", []Record{every, record(2, start, Captured, "", 1, 5)}, 15 * time.Second, hold(12), "captured 15, in flight 12, lost 3", Incident{}},

		{"taken and not given back is lost", with(), 4 * time.Second, nil, "captured 3, predicted 1, in flight 1, lost 1", Incident{}},
		{"given back and a newer one came", with(record(1, start, Returned, "", 2, 2)), 4 * time.Second, nil, "captured 3, predicted 1, superseded 1, in flight 1, superseded/returned 1", Incident{}},
		{"given back by another", with(from(record(1, start, Returned, "", 2, 2), "preprocess", "b")), 4 * time.Second, nil, "captured 3, predicted 1, in flight 1, lost 1", Incident{}},
		{"the newest, given back, may be in the ring", with(record(1, start, Taken, "", 3, 3), record(1, start, Returned, "", 2, 3)), 4 * time.Second, nil, "captured 3, predicted 1, superseded 1, in flight 1, superseded/returned 1", Incident{}},
		{"until it is older than the ring", with(record(1, start, Taken, "", 3, 3), record(1, start, Returned, "", 2, 3)), 13 * time.Second, nil, "captured 3, predicted 1, superseded 1, expired 1, expired/returned 1, superseded/returned 1", Incident{}},
		{"a tensor given back", with(record(1, start, Taken, "", 3, 3), record(1, start, Forwarded, "m", 2, 3), record(1, start, Taken, "m", 2, 2), record(1, start, Returned, "m", 2, 2)), 4 * time.Second, nil, "captured 3, predicted 1, superseded 1, in flight 1, superseded/returned 1", Incident{}},
		{"a frame given back whose tensor is in hand", with(record(1, start, Taken, "", 3, 3), record(1, start, Returned, "", 2, 2), record(1, start, Forwarded, "m", 2, 3), record(1, start, Taken, "m", 2, 2)), 4 * time.Second, nil, "captured 3, predicted 1, in flight 1, lost 1", Incident{}},
		{"an answer after it was given back", with(record(1, start, Returned, "", 2, 2), record(1, start, Predicted, "m", 2, 2)), 4 * time.Second, nil, "captured 3, predicted 2, in flight 1", Incident{}},
		{"every frame given back is the stream's", []Record{every, record(1, start, Taken, "", 1, 10), record(1, start, Returned, "", 1, 10)}, 15 * time.Second, hold(4), "captured 10, in flight 4, lost 6", Incident{}},

		{"who had it died", with(from(record(1, start, Taken, "", 3, 3), "preprocess", "b"), from(record(1, start, Taken, "", 2, 2), "preprocess", "b"), record(1, start, Returned, "", 2, 2)), 4 * time.Second, nil, "captured 3, predicted 1, superseded 1, in flight 1, superseded/worker_died 1", ended("preprocess", "b")},
		{"who had the newest died long ago", with(from(record(1, start, Taken, "", 3, 3), "preprocess", "b"), record(1, start, Returned, "", 2, 2)), 13 * time.Second, nil, "captured 3, predicted 1, superseded 1, expired 1, expired/worker_died 1, superseded/returned 1", ended("preprocess", "b")},
		{"another stage's instance of that name died", with(from(record(1, start, Taken, "", 3, 3), "preprocess", "b"), record(1, start, Returned, "", 2, 2)), 13 * time.Second, nil, "captured 3, predicted 1, superseded 1, lost 1, superseded/returned 1", ended("infer", "b")},
		{"the death of a worker explains nothing of every frame", []Record{every, from(record(1, start, Taken, "", 1, 10), "preprocess", "b")}, 15 * time.Second, hold(4), "captured 10, in flight 4, lost 6", ended("preprocess", "b")},
		{"frames captured later have nothing to do with it", []Record{live, from(record(1, start, Taken, "", 1, 3), "preprocess", "b"), from(record(1, start.Add(1001*time.Millisecond), Taken, "", 4, 5), "preprocess", "b")}, time.Minute, nil, "captured 5, superseded 3, lost 2, superseded/worker_died 3", ended("preprocess", "b")},

		{"who had it was started again, and nobody was there to say that it had died", with(from(record(1, start, Taken, "", 3, 3), "preprocess", "b"), record(1, start, Returned, "", 2, 2), follows(from(record(2, start.Add(time.Second), Taken, "", 1, 1), "preprocess", "b")), record(2, start.Add(time.Second), Predicted, "m", 1, 1)), 13 * time.Second, nil, "captured 4, predicted 2, superseded 2, superseded/returned 1, superseded/worker_died 1", Incident{}},
		{"who follows loses it again", with(from(record(1, start, Taken, "", 3, 3), "preprocess", "b"), record(1, start, Returned, "", 2, 2), follows(from(record(1, start.Add(time.Second), Taken, "", 3, 3), "preprocess", "b")), record(2, start.Add(time.Second), Predicted, "m", 1, 1)), 13 * time.Second, nil, "captured 4, predicted 2, superseded 1, lost 1, superseded/returned 1", Incident{}},

		{"the newest of a ring that was purged", []Record{live, record(1, start, Published, "", 1, 3)}, 4 * time.Second, nil, "captured 3, superseded 2, expired 1, expired/purged 1, superseded/frame_ring 2", purged(streams.FramesLive, "frames.live.cam")},
		{"another camera's ring was purged", []Record{live, record(1, start, Published, "", 1, 3)}, 4 * time.Second, nil, "captured 3, superseded 2, in flight 1, superseded/frame_ring 2", purged(streams.FramesLive, "frames.live.door")},
		{"a twin was purged", []Record{live, record(1, start, Published, "", 1, 3)}, 4 * time.Second, nil, "captured 3, superseded 2, expired 1, expired/purged 1, superseded/frame_ring 2", purged(streams.FramesTwin, "frames.twin.cam")},
		{"in hand while the ring was purged is lost", with(), 4 * time.Second, nil, "captured 3, predicted 1, expired 1, lost 1, expired/purged 1", purged(streams.FramesLive, "")},
		{"purged, as far as no stream holds it", []Record{every, record(1, start, Published, "", 1, 10), record(1, start, Predicted, "m", 1, 2)}, 15 * time.Second, hold(3), "captured 10, predicted 2, expired 5, in flight 3, expired/purged 5", purged(streams.Frames, "")},
		{"purged is what had been acknowledged", []Record{every, record(1, start, Published, "", 1, 4)}, 15 * time.Second, hold(0), "captured 10, expired 4, lost 6, expired/purged 4", purged(streams.Frames, "")},
		{"a purge of answers changes nothing", []Record{every, record(1, start, Published, "", 1, 10), record(1, start, Predicted, "m", 1, 2)}, 15 * time.Second, hold(0), "captured 10, predicted 2, lost 8", purged(streams.Predictions, "")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var b Books
			for _, r := range c.records {
				b.Apply(r)
			}
			if c.incident.Kind != "" {
				b.Befall(c.incident)
			}
			now := start.Add(c.after)
			for range 2 { // the second time from what is closed
				lines := b.Lines(now, c.held)
				if len(lines) != 1 || figures(lines[0]) != c.want {
					t.Fatalf("got  %s\nwant %s", figures(lines[0]), c.want)
				}
				if lines[0].Balanced() != (lines[0].Lost == 0) {
					t.Errorf("balanced: %v", lines[0].Balanced())
				}
			}
		})
	}
}

// What was lost stays on the books after they were closed, and so does what every_frame lost.
func TestLossIsFinal(t *testing.T) {
	t.Parallel()
	none := func(string, string) uint64 { return 0 }
	for _, d := range []streams.Delivery{streams.Freshest, streams.EveryFrame} {
		var b Books
		b.Apply(routed(record(1, start, Captured, "", 1, 3), d, "m"))
		b.Apply(record(1, start, Taken, "", 1, 3))
		b.Apply(record(1, start, Predicted, "m", 2, 2))
		b.Lines(start.Add(closeAfter+pace(FlushInterval).everySettle()), none)
		if e := b.cameras["cam"].epochs[1]; e.final != 3 {
			t.Errorf("%s: closed up to %d", d, e.final)
		}
		b.Apply(record(1, start.Add(time.Hour), Predicted, "m", 1, 3))
		if got := figures(b.Lines(start.Add(2*time.Hour), none)[0]); got != "captured 3, predicted 1, lost 2" {
			t.Errorf("%s: %s", d, got)
		}
	}
}

// A reporter that was cut off for a while corrects what the books had concluded.
func TestLateReporterIsHeard(t *testing.T) {
	t.Parallel()
	var b Books
	b.Apply(routed(record(1, start, Captured, "", 1, 3), streams.Freshest, "m"))
	b.Apply(record(1, start, Published, "", 1, 3))
	b.Apply(record(1, start, Predicted, "m", 3, 3))
	if got := figures(b.Lines(start.Add(time.Minute), nil)[0]); got != "captured 3, predicted 1, superseded 2, superseded/frame_ring 2" {
		t.Error(got)
	}
	b.Apply(record(1, start.Add(time.Minute), Taken, "", 1, 3))
	b.Apply(record(1, start.Add(time.Minute), Predicted, "m", 1, 2))
	if got := figures(b.Lines(start.Add(time.Minute), nil)[0]); got != "captured 3, predicted 3" {
		t.Error(got)
	}
}

// A camera's models change with a new epoch: each model answers for the frames it was meant to see.
func TestRouteChange(t *testing.T) {
	t.Parallel()
	var b Books
	b.Apply(routed(record(1, start, Captured, "", 1, 4), streams.Freshest, "old", "both"))
	b.Apply(record(1, start, Predicted, "old", 1, 4))
	b.Apply(record(1, start, Predicted, "both", 1, 4))
	b.Apply(routed(record(2, start, Captured, "", 1, 6), streams.EveryFrame, "new", "both"))
	b.Apply(record(2, start, Predicted, "new", 1, 6))
	b.Apply(record(2, start, Predicted, "both", 1, 5))
	b.Apply(record(2, start, Predicted, "old", 1, 1)) // was under way
	want := []string{"both captured 10, predicted 9, lost 1", "new captured 6, predicted 6", "old captured 5, predicted 5"}
	for range 2 {
		lines := b.Lines(start.Add(time.Hour), func(string, string) uint64 { return 0 })
		var got []string
		for _, l := range lines {
			got = append(got, l.Model+" "+figures(l))
			if l.Delivery != streams.EveryFrame {
				t.Errorf("delivery %s", l.Delivery)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %q", got)
		}
	}
}

// The newest of two routes for an epoch counts, in whatever order they come.
func TestNewestRouteCounts(t *testing.T) {
	t.Parallel()
	older := routed(record(1, start, Captured, "", 1, 1), streams.Freshest, "m")
	newer := routed(record(1, start.Add(time.Second), Captured, "", 2, 2), streams.EveryFrame, "m")
	for _, records := range [][]Record{{older, newer}, {newer, older}} {
		var b Books
		for _, r := range records {
			b.Apply(r)
		}
		if got := b.Lines(start, nil)[0].Delivery; got != streams.EveryFrame {
			t.Errorf("delivery %s", got)
		}
	}
}

// Healthy or not, the books stay small.
func TestBooksStaySmall(t *testing.T) {
	t.Parallel()
	const perRecord, fps = 15, 30
	for _, evict := range []bool{false, true} {
		frames := uint64(100_000)
		if evict {
			frames = 15_000
		}
		var b Books
		most, clockMost := 0, 0
		for seq := uint64(1); seq <= frames; seq += perRecord {
			at := start.Add(time.Duration(seq) * time.Second / fps)
			last := seq + perRecord - 1
			b.Apply(routed(record(1, at, Captured, "", seq, last), streams.Freshest, "m"))
			b.Apply(record(1, at, Published, "", seq, last))
			for s := seq; s <= last; s++ {
				if !evict || s%2 == 0 {
					b.Apply(record(1, at, Taken, "", s, s))
					b.Apply(record(1, at, Predicted, "m", s, s))
				}
			}
			if seq/perRecord%4 == 0 {
				b.Lines(at, nil)
			}
			e := b.cameras["cam"].epochs[1]
			n := len(e.captured) + len(e.published) + len(e.work.taken)
			for _, r := range e.models["m"].fates {
				n += len(*r)
			}
			most, clockMost = max(most, n), max(clockMost, len(e.clock))
		}
		l := b.Lines(start.Add(24*time.Hour), nil)[0]
		if evict {
			if want := 2 * (closeAfter + 5*time.Second) / time.Second * fps; most > int(want) {
				t.Errorf("evicting: %d ranges", most)
			}
		} else if most > 8 {
			t.Errorf("healthy: %d ranges", most)
		}
		if clockMost > 300 {
			t.Errorf("%d clock entries", clockMost)
		}
		if !l.Balanced() || l.InFlight != 0 || l.Captured < frames {
			t.Errorf("%+v", l)
		}
	}
}

// A frame that stays without a fate does not make the clock grow.
func TestClockOfAnUnknownFrame(t *testing.T) {
	t.Parallel()
	var b Books
	b.Apply(routed(record(1, start, Captured, "", 1, 1), streams.EveryFrame, "m"))
	for i := range 5000 {
		at, seq := start.Add(time.Duration(i)*time.Second), uint64(i+2)
		b.Apply(record(1, at, Captured, "", seq, seq))
		b.Apply(record(1, at, Predicted, "m", seq, seq))
		b.Lines(at, nil)
	}
	if n := len(b.cameras["cam"].epochs[1].clock); n > 200 {
		t.Errorf("%d clock entries", n)
	}
	if got := figures(b.Lines(start.Add(5000*time.Second), nil)[0]); got != "captured 5001, predicted 5000, in flight 1" {
		t.Error(got)
	}
}

// The clock's answers depend on what it was told, not on the order.
func TestClock(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type told struct{ seq, at uint64 }
		all := rapid.SliceOf(rapid.Custom(func(t *rapid.T) told {
			return told{rapid.Uint64Range(1, 20).Draw(t, "seq"), rapid.Uint64Range(0, 20).Draw(t, "at")}
		})).Draw(t, "told")
		var c clock
		for _, x := range all {
			c.add(x.seq, start.Add(time.Duration(x.at)))
		}
		for at := range uint64(21) {
			var want uint64
			for _, x := range all {
				if x.at <= at {
					want = max(want, x.seq)
				}
			}
			if got := c.by(start.Add(time.Duration(at))); got != want {
				t.Fatalf("by %d: %d, want %d (%v)", at, got, want, c)
			}
		}
	})
}

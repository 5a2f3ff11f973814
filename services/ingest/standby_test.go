package ingest_test

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/streams"
)

// A session that is held decodes nothing, and shows the present picture as soon as it is released: it has kept what is
// needed since the last key frame, which comes every ten units.
func TestAHeldSessionBeginsAtTheLastKeyFrame(t *testing.T) {
	for _, test := range []struct {
		name   string
		play   attempt
		after  time.Duration
		want   []uint32 // right after the release
		states []string
	}{
		{"in the middle", frames(0, 1000, hang), 990 * time.Millisecond, numbers(20, 25), []string{"connecting", "live"}},
		{"before the first unit", frames(0, 1000, hang), 0, numbers(0, 1), []string{"connecting", "live"}},
		{"after a loss", lossBefore(25, true), 1190 * time.Millisecond, nil, []string{"connecting", "live"}},
		{"after a key frame that followed a loss", lossBefore(13, true), 990 * time.Millisecond, numbers(20, 26), []string{"connecting", "live"}},
		{"while the camera is away", frames(0, 25, failWith(ingest.CauseClosed, "gone")), 1010 * time.Millisecond, nil, []string{"connecting", "live", "down closed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, &script{attempts: []attempt{test.play, hang}}, func(c *ingest.SessionConfig, _ *rig) { c.Held = true })
				r.run(test.after)
				if r.decoders != 0 || len(r.pictures) != 0 {
					t.Errorf("%d decoders and %d pictures while held", r.decoders, len(r.pictures))
				}
				r.session.Release()
				synctest.Wait()
				if !slices.Equal(r.pictures, test.want) {
					t.Errorf("pictures %v, want %v", r.pictures, test.want)
				}
				r.wantStates(t, test.states...)
			})
		})
	}
}

// What a held session keeps is bounded, and what it kept is more than its queue otherwise takes.
func TestAHeldSessionKeepsSoMuch(t *testing.T) {
	const size = 8
	once := func(n uint32) attempt { // one key frame, long ago
		return func(ctx context.Context, sink func(ingest.AccessUnit)) error {
			for i := range n {
				au := unit(i)
				au.Key = i == 0
				sink(au)
				time.Sleep(40 * time.Millisecond) //nolint:forbidigo // in a bubble
			}
			return hang(ctx, sink)
		}
	}
	for _, test := range []struct {
		name string
		n    uint32
		want int
	}{
		{"all", 300, 300},
		{"too much", 301, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, &script{attempts: []attempt{once(test.n)}}, func(c *ingest.SessionConfig, _ *rig) {
					c.Held, c.QueueSize, c.StallTimeout = true, size, time.Hour
				})
				r.run(time.Duration(test.n) * 40 * time.Millisecond)
				r.session.Release()
				synctest.Wait()
				if st := r.session.Stats(); len(r.pictures) != test.want || st.QueueDropped != 0 || st.Skipped+st.Decoded != uint64(test.n) {
					t.Errorf("%d pictures, want %d; %+v", len(r.pictures), test.want, st)
				}
			})
		})
	}
}

// TestAStandbyLooksOn: a camera with standby is seen on without a connection being made, and what nobody saw is told.
func TestAStandbyLooksOn(t *testing.T) { inTime(t, standbyLooksOn) }

func standbyLooksOn(t *testing.T) (missed string) {
	t.Helper()
	all := cameras(t, 4)
	for i := range all {
		all[i].Standby = i%2 == 0
	}
	r := newSite(t, all...)
	rec := r.watchLeases(t)
	l := newLobby(0)
	a := r.joinLooking(t, "a", 0, l.by("a", connectDelay))
	b := r.joinLooking(t, "b", 0, l.by("b", connectDelay))
	rec.await(t, "both are there", shared(map[string]int{"a": 2, "b": 2}))
	for _, c := range all {
		want := 1
		if c.Standby {
			want = 2
		}
		l.await(t, "camera "+c.Name, want)
	}
	lost := rec.of("a")
	before, _ := rec.view.All()
	for _, camera := range lost {
		r.awaitFrame(t, camera, before[camera].Epoch-1)
	}
	<-time.After(connectDelay) // until the standby sees something: it tells nobody
	a.wire.sever()
	r.declareDead(t, b.view, "a", lost)
	for _, camera := range lost {
		r.awaitFrame(t, camera, before[camera].Epoch)
		if told := r.lost(t, camera); told[0].Instance != "b" {
			t.Errorf("%s: gaps %+v", camera, told)
		}
	}
	b.stop()
	a.wire.heal()
	a.stop()
	_, _, dropped, _ := r.audit(t, rec)
	missed = none(dropped)
	stored := r.stored(t)
	for _, c := range all {
		if !slices.Contains(lost, c.Name) {
			continue
		}
		gap := handOver(t, stored, c.Name)
		t.Logf("%s (standby %v): %v between the last picture of a and the first of b", c.Name, c.Standby, gap)
		if c.Standby {
			missed = cmp.Or(missed, within(connectDelay/2, gap, c.Name+": gap of"))
		}
	}
	return missed
}

// lost are the events of a gap that a lost owner left: it is told once when it is over by then, else twice.
func (r *site) lost(t *testing.T, camera string) []events.Event {
	t.Helper()
	next, err := r.js.Conn().SubscribeSync(streams.EventSubject("camera", "gap", camera))
	if err != nil {
		t.Fatal(err)
	}
	for late := time.Now().Add(patience); ; {
		all := r.told(t, "gap", camera)
		told := slices.DeleteFunc(slices.Clone(all), func(e events.Event) bool { return e.Cause != "ingest_lost" })
		if n := len(told); n > 0 && told[n-1].State == "closed" {
			return told
		}
		if time.Now().After(late) {
			t.Fatalf("%s: gaps %+v", camera, all)
		}
		_, _ = next.NextMsg(time.Second)
	}
}

// TestASilentOwner: others connect to its cameras before it is known to be dead, and leave again when it is not.
func TestASilentOwner(t *testing.T) {
	r := newSite(t, cameras(t, 2)...)
	rec := r.watchLeases(t)
	l := newLobby(0)
	a := r.joinLooking(t, "a", 0, l.by("a", 0))
	r.joinLooking(t, "b", 0, l.by("b", 0))
	rec.await(t, "both are there", shared(map[string]int{"a": 1, "b": 1}))
	l.await(t, "a", 1)
	l.await(t, "b", 1)
	camera, held := rec.of("a")[0], rec.of("b")[0]
	before, _ := rec.view.Holder(camera)
	a.wire.block()
	l.await(t, "camera "+camera, 2)
	if now, ok := rec.view.Holder(camera); !ok || now != before {
		t.Errorf("lease %+v, before %+v", now, before)
	}
	a.wire.heal()
	l.await(t, "b", 1)
	if l.looking["camera "+held] != 1 {
		t.Errorf("%d look at %s", l.looking["camera "+held], held)
	}
	if now, ok := rec.view.Holder(camera); !ok || now != before {
		t.Errorf("lease %+v, before %+v", now, before)
	}
}

// TestAnOwnerThatLeftAlone: nobody saw it go and no lease tells of it. The gap begins with the newest answer, whatever else was
// told of the camera since.
func TestAnOwnerThatLeftAlone(t *testing.T) {
	all := cameras(t, 1)
	r := newSite(t, all...)
	rec := r.watchLeases(t)
	camera := all[0].Name
	a := r.join(t, "a", 0)
	rec.await(t, "a has it", shared(map[string]int{"a": 1}))
	first := r.awaitFrame(t, camera, 0)
	answer := predictions.Prediction{
		Schema: predictions.SchemaID, Kind: predictions.KindPrediction, Status: predictions.StatusOK, Camera: camera, Model: all[0].Models[0],
		Version: "1", Lane: streams.LaneStable, Frame: first.Name.String(), CapturedAt: first.Captured, PredictedAt: time.Now(),
		Image: &predictions.Image{Width: 640, Height: 480}, Detections: []predictions.Detection{},
	}
	if err := answer.Validate(); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.js.Publish(t.Context(), streams.PredictionSubject(answer.Model, camera), data); err != nil {
		t.Fatal(err)
	}
	a.wire.sever()
	rec.await(t, "its lease has expired", shared(map[string]int{}))
	b := r.join(t, "b", 0)
	rec.await(t, "b has it", shared(map[string]int{"b": 1}))
	r.awaitFrame(t, camera, first.Name.Epoch)
	told := r.lost(t, camera)
	b.stop()
	a.wire.heal()
	a.stop()
	if from, err := time.Parse(time.RFC3339Nano, told[0].Facts["from"]); err != nil || !from.Equal(first.Captured) {
		t.Errorf("the gap begins at %s, the last answered frame was captured at %s", told[0].Facts["from"], first.Captured)
	}
}

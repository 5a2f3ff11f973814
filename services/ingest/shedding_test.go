package ingest_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/pkg/sampling"
	"github.com/sightline-dev/sightline/streams"
)

// A freshest camera captures its share and says so; the change back reaches it without a new session or epoch.
func TestLoweredSampling(t *testing.T) {
	r := newSite(t, door(t, streams.Freshest)) // 10 fps, priority 5
	if err := sampling.Put(t.Context(), r.js, sampling.Shares{4: 0.9, 5: 0.2}, 1); err != nil {
		t.Fatal(err)
	}
	frames := r.consumer(t, streams.FramesLive)
	at := newScene()
	r.start(t, "a", map[string]*scene{"door": at})
	const shots = 50
	at.shoot(t, shots)
	first := r.decode(t, r.next(t, frames))
	if first.Status != string(predictions.StatusDegraded) || first.Deadline.IsZero() {
		t.Errorf("facts %+v", first)
	}
	if err := sampling.Put(t.Context(), r.js, nil, 1); err != nil {
		t.Fatal(err)
	}
	last, fired := first, shots // the last that is degraded, and how many pictures there were until then
	for last.Status != "" {
		if fired > 100*shots {
			t.Fatal("sampling is not raised")
		}
		at.shoot(t, 1)
		fired++
		for {
			m, err := frames.Next(jetstream.FetchMaxWait(5 * time.Millisecond))
			if err != nil {
				break
			}
			last = r.decode(t, m)
		}
	}
	if last.Name.Epoch != first.Name.Epoch {
		t.Errorf("frames %s and %s have different epochs", first.Name, last.Name)
	}
	// A fifth was captured, up to a few at the end.
	if n := int(last.Name.Seq); n < fired/5-2 || n > fired/5+8 {
		t.Errorf("captured %d of %d pictures, want a fifth", n, fired)
	}
}

// An every_frame camera promises every frame, whatever its priority.
func TestEveryFrameIsNotLowered(t *testing.T) {
	r := newSite(t, door(t, streams.EveryFrame))
	if err := sampling.Put(t.Context(), r.js, sampling.Shares{5: 0.2}, 1); err != nil {
		t.Fatal(err)
	}
	frames := r.consumer(t, streams.Frames)
	at := newScene()
	r.start(t, "a", map[string]*scene{"door": at})
	at.shoot(t, 10)
	for i := range 10 {
		if f := r.decode(t, r.next(t, frames)); f.Name.Seq != uint64(i+1) || f.Status != "" {
			t.Errorf("frame %s has status %q", f.Name, f.Status)
		}
	}
}

func (r *site) decode(t *testing.T, m jetstream.Msg) frame.Facts {
	t.Helper()
	f, err := frame.Decode(m.Headers())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

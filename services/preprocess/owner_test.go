package preprocess_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/preprocess/imagertest"
	"github.com/sightline-dev/sightline/streams"
)

// TestFramesOfAnEarlierOwner: what an instance captured after another one had taken the camera over is refused, and
// nothing else is.
func TestFramesOfAnEarlierOwner(t *testing.T) {
	js := brokertest.JetStream(t)
	kv, err := js.KeyValue(t.Context(), streams.LeasesBucket)
	if err != nil {
		t.Fatal(err)
	}
	owners := lease.Follow(t.Context(), js, slog.New(slog.DiscardHandler))
	imager := &preprocess.Fake{}
	h := preprocess.NewHandler(declared(), imager, owners)
	jpg := imagertest.JPEG(imagertest.Scene(320, 240, 0.4), 90)
	handle := func(epoch uint64, captured time.Time) string {
		t.Helper()
		f := facts()
		f.Name = frame.Name{Camera: "gate", Epoch: epoch, Seq: 42}
		f.Captured = captured
		outputs, err := h.Handle(t.Context(), message(f, streams.EveryFrame, jpg))
		h.Release(outputs)
		if err != nil {
			return verdict(err) + " " + err.Error()
		}
		return verdict(err)
	}
	if got := handle(1, time.Now()); got != "done" {
		t.Errorf("nobody has the camera: %s", got)
	}
	// The bucket was made anew: its revisions are lower than the epochs that the ledger knows.
	old, err := lease.Acquire(t.Context(), kv, "gate", "a", 1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := lease.Acquire(t.Context(), kv, "gate", "b", old.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	var now lease.Holder
	eventually(t, "the holder", func() bool {
		now, _ = owners.Holder("gate")
		return now.Instance == "b" && now.Epoch == l.Epoch
	})
	for _, c := range []struct {
		name  string
		epoch uint64
		after time.Duration // b began
		want  string
	}{
		{"evidence from before", old.Epoch, -time.Minute, "done"},
		{"at the same time, as far as clocks can tell", old.Epoch, 200 * time.Millisecond, "done"},
		{"when b had it", old.Epoch, 300 * time.Millisecond, "drop superseded: old_epoch"},
		{"b's own", l.Epoch, 300 * time.Millisecond, "done"},
		{"of an owner that is not known yet", l.Epoch + 1, 300 * time.Millisecond, "done"},
	} {
		before := imager.Decoded()
		if got := handle(c.epoch, now.Since.Add(c.after)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if c.want != "done" && imager.Decoded() != before {
			t.Errorf("%s: a frame that is refused was decoded", c.name)
		}
	}
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nobody", func() bool { _, held := owners.Holder("gate"); return !held })
	if got := handle(old.Epoch, time.Now()); got != "done" {
		t.Errorf("nobody has the camera any more: %s", got)
	}
}

package infer_test

import (
	"slices"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/conditions"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// Answers about a camera that something is wrong with say so, for as long as it is.
func TestConditions(t *testing.T) {
	s := newSite(t, person(1))
	s.ready(t)
	next := s.follow(t, streams.Predictions)
	seq := uint64(0)
	// await sends until an answer has these reasons: infer hears of conditions a moment later.
	await := func(want ...string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; {
			seq++
			s.send(t, seq, 255, nil)
			p, err := predictions.Decode(next().Data())
			if err != nil {
				t.Fatal(err)
			}
			degraded := p.Status == predictions.StatusDegraded
			if degraded != (len(p.Reasons) > 0) || p.Blind() != slices.Contains(p.Reasons, "frozen") {
				t.Fatalf("%s %v", p.Status, p.Reasons)
			}
			if slices.Equal(p.Reasons, want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("reasons %q, want %q", p.Reasons, want)
			}
		}
	}
	await()
	put := func(camera string, c conditions.Condition) {
		t.Helper()
		if err := conditions.Put(t.Context(), s.js, camera, c); err != nil {
			t.Fatal(err)
		}
	}
	put("gate", conditions.Condition{Reasons: []string{"black"}})
	put("door", conditions.Condition{Models: map[string][]string{"face": {"suspected_loss"}}})
	await()
	put("door", conditions.Condition{Reasons: []string{"frozen"}, Models: map[string][]string{"person": {"suspected_loss"}}})
	await("frozen", "suspected_loss")
	put("door", conditions.Condition{Models: map[string][]string{"person": {"suspected_loss"}}})
	await("suspected_loss")
	if err := conditions.Remove(t.Context(), s.js, "door", 0); err != nil {
		t.Fatal(err)
	}
	await()
}

package recovery

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/pkg/telemetry/telemetrytest"
	"github.com/sightline-dev/sightline/streams"
)

func measured(t *testing.T) (*measure, func() telemetrytest.Samples) {
	t.Helper()
	tel, err := telemetry.Start(t.Context(), telemetry.Config{Service: Name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	return newMeasure(tel), func() telemetrytest.Samples {
		w := httptest.NewRecorder()
		tel.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		all, err := telemetrytest.Parse(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := all.Check(nil); err != nil {
			t.Error(err)
		}
		return all
	}
}

// Only the leader tells of the system, and it tells no old news.
func TestTheLeaderTellsOfTheSystem(t *testing.T) {
	t.Parallel()
	m, samples := measured(t)
	if all := samples(); all.Sum(telemetry.Leader, nil) != 0 || !all.Has(telemetry.Leader) || all.Has(telemetry.FramesFate) {
		t.Error("a standby tells of the system")
	}
	over := m.lead(new(fleet.View))
	m.books([]ledger.Line{{Camera: "a", Model: "m", Captured: 10, Predicted: 5, Superseded: 3, InFlight: 2}, {Camera: "gone", Model: "m", Captured: 1, Predicted: 1}})
	m.books([]ledger.Line{{Camera: "a", Model: "m", Captured: 12, Predicted: 9, Superseded: 2, InFlight: 1}}) // one was found to be predicted
	groups := streams.Groups("m")
	infos := make([]*jetstream.ConsumerInfo, len(groups))
	infos[0] = &jetstream.ConsumerInfo{NumPending: 7, NumAckPending: 2, NumRedelivered: 1}
	m.groups(groups, infos)
	all := samples()
	of := func(fate string) float64 {
		return all.Sum(telemetry.FramesFate, map[string]string{"camera": "a", "model": "m", "fate": fate})
	}
	if of("captured") != 12 || of("predicted") != 9 || of("superseded") != 3 || of("lost") != 0 || all.Sum(telemetry.FramesInFlight, nil) != 1 {
		t.Errorf("books: %v", all)
	}
	if all.Sum(telemetry.FramesFate, map[string]string{"camera": "gone"}) != 0 {
		t.Error("a camera that is gone is told of")
	}
	queue := map[string]string{"stream": groups[0].Stream, "consumer": groups[0].Config.Durable}
	if all.Sum(telemetry.QueueDepth, queue) != 7 || all.Sum(telemetry.QueueInFlight, queue) != 2 || all.Sum(telemetry.QueueRedelivered, queue) != 1 || all.Sum(telemetry.Leader, nil) != 1 {
		t.Errorf("queues: %v", all)
	}
	over()
	if all := samples(); all.Has(telemetry.FramesFate) || all.Has(telemetry.QueueDepth) || all.Sum(telemetry.Leader, nil) != 0 {
		t.Error("who leads no more still tells of the system")
	}
}

func TestDeedsAreCounted(t *testing.T) {
	t.Parallel()
	m, samples := measured(t)
	fact := func(kv ...string) map[string]string {
		out := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i]] = kv[i+1]
		}
		return out
	}
	for _, e := range []events.Event{
		{Kind: "worker_dead", Facts: fact("outcome", "done", "duration_ms", "12")},
		{Kind: "worker_dead", Facts: fact("outcome", "in part: the broker is away", "duration_ms", "20")},
		{Kind: "repair", Facts: fact("action", "create", "outcome", "mended", "duration_ms", "3")},
		{Kind: "repair", Facts: fact("action", "update", "outcome", "cannot_be_mended", "duration_ms", "3")},
		{Kind: "sampling", Facts: fact("outcome", "refused: stale", "duration_ms", "1")},
		{Kind: "leader", State: "leading"},
		{Kind: "leader", State: "ended"},
		{Kind: "lost"},
		{Kind: "operator"},
		{Kind: "unserved"}, // not deeds
	} {
		m.deed(e)
	}
	all := samples()
	for _, c := range []struct {
		action, outcome string
		want            float64
	}{
		{"worker_dead", telemetry.OutcomeDone, 1},
		{"worker_dead", telemetry.OutcomePartial, 1},
		{"repair_create", telemetry.OutcomeDone, 1},
		{"repair_update", telemetry.OutcomeFailed, 1},
		{"sampling", telemetry.OutcomeFailed, 1},
		{"leader", telemetry.OutcomeDone, 1},
	} {
		if n := all.Sum(telemetry.RecoveryActions, map[string]string{"action": c.action, "outcome": c.outcome}); n != c.want {
			t.Errorf("%s %s: %g, want %g", c.action, c.outcome, n, c.want)
		}
	}
	if n := all.Sum(telemetry.RecoveryActions, nil); n != 6 {
		t.Errorf("%g deeds", n)
	}
	if n := all.Sum(telemetry.RecoveryDuration, map[string]string{"action": "worker_dead"}); n != 2 {
		t.Errorf("%g durations", n)
	}
}

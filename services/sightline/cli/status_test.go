package cli

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/services/sightline/status"
	"github.com/sightline-dev/sightline/streams"
)

func TestStatus(t *testing.T) {
	js := brokertest.JetStream(t)
	nats := js.Conn().ConnectedUrl()
	code, out, errs := run(t, t.Context(), "status", "--nats", nats)
	holds(t, ExitAttention, []string{"SIGHTLINE  needs attention: 4 problems", "nobody runs ingest", "docs/runbooks.md#service-down"}, []string{"4 problems need attention"}, code, out, errs)

	for _, service := range []string{"ingest", "preprocess", "infer", "recovery"} {
		enlist(t, js, fleet.Config{Service: service, Instance: service + "-1"}, nil)
	}
	url, err := config.ParseURL("rtsp://192.0.2.7/stream1")
	if err != nil {
		t.Fatal(err)
	}
	camera := config.DefaultCamera()
	camera.Name, camera.URL, camera.Models = "street", url, []string{"person"}
	if err := catalog.PutCameras(t.Context(), js, nil, []config.Camera{camera}); err != nil {
		t.Fatal(err)
	}
	publishEvent(t, js, events.Event{Area: "camera", Kind: "state", Name: "street", State: "live", At: time.Now()})
	owns(t, js, "recovery-1", "service.recovery") // they last for LeaseTTL
	owns(t, js, "ingest-1", "street")
	code, out, errs = run(t, t.Context(), "status", "--nats", nats)
	holds(t, 0, []string{"SIGHTLINE  healthy", "1 node, ", "ingest 1, preprocess 1, infer 1, recovery 1 (led by recovery-1)", "1 live", "DRIFT      nothing is known yet"}, nil, code, out, errs)

	kv, err := js.KeyValue(t.Context(), streams.DriftBucket)
	if err != nil {
		t.Fatal(err)
	}
	integrity := drift.Integrity{Camera: "street", At: time.Now(), Faults: []drift.Raised{{Fault: drift.Frozen, Since: time.Now()}}}
	if err := drift.Put(t.Context(), kv, drift.Record{Integrity: &integrity}); err != nil {
		t.Fatal(err)
	}
	enlist(t, js, fleet.Config{Service: "drift-monitor", Instance: "drift-1"}, nil)
	owns(t, js, "drift-1", "service.drift-monitor")
	code, out, errs = run(t, t.Context(), "status", "--json", "--nats", nats)
	var s status.System
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != ExitAttention {
		t.Fatalf("exit code %d: %v\n%s%s", code, err, out, errs)
	}
	found := false
	for _, p := range s.Problems {
		found = found || p.What == "street looks frozen" && p.Page == "integrity-fault"
	}
	if !found || s.Healthy || len(s.Services) != 5 {
		t.Errorf("%s", out)
	}
}

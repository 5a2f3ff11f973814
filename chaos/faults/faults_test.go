package faults_test

import (
	"slices"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/chaos/faults"
	"github.com/sightline-dev/sightline/chaos/world"
	"github.com/sightline-dev/sightline/streams"
)

// TestTheTable holds the table of faults to what flags, files and the random run rely on, and to the promised targets.
func TestTheTable(t *testing.T) {
	promised := map[string]time.Duration{
		"kill-infer": time.Second, "kill-preprocess": time.Second, "stop-infer": 2 * time.Second, "kill-ingest": 3 * time.Second,
		"kill-leader": 6 * time.Second, "kill-node": 10 * time.Second, "kill-node-leader": 10 * time.Second, "restart-nats": 5 * time.Second,
		"cut-5s": 2 * time.Second, "cut-60s": 2 * time.Second, "camera-refuse": 5 * time.Second, "camera-stall": 5 * time.Second,
		"camera-vanish": 5 * time.Second, "poison-error": time.Second, "poison-crash": 5 * time.Second, "poison-hang": 0,
		"delete-consumer": 10 * time.Second, "purge-stream": 10 * time.Second, "delete-stream": 10 * time.Second,
	}
	var names, never []string
	for _, f := range faults.All() {
		if err := streams.CheckToken(f.Name); err != nil {
			t.Error(err)
		}
		if slices.Contains(names, f.Name) {
			t.Errorf("%s comes twice", f.Name)
		}
		names = append(names, f.Name)
		if want, ok := promised[f.Name]; !ok || f.Target != want {
			t.Errorf("%s: target %s, promised %s", f.Name, f.Target, want)
		}
		if f.Title == "" || f.Rounds < 1 || f.Inject == nil || f.World != world.Single && f.World != world.Cluster {
			t.Errorf("%s is incomplete", f.Name)
		}
		if f.Weight == 0 {
			never = append(never, f.Name)
		}
	}
	if len(names) != len(promised) {
		t.Errorf("%d faults, %d promised", len(names), len(promised))
	}
	if want := []string{"poison-hang", "cut-60s"}; !slices.Equal(never, want) {
		t.Errorf("not in the random run: %v, want %v", never, want)
	}
}

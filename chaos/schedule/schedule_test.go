package schedule_test

import (
	"slices"
	"testing"

	"github.com/sightline-dev/sightline/chaos/schedule"
)

func faults() []schedule.Weighted {
	return []schedule.Weighted{{"a", 4}, {"b", 1}, {"c", 1}, {"never", 0}}
}

func TestTheSameSeedDrawsTheSame(t *testing.T) {
	one, two := schedule.Draw(7, "single", faults(), 200), schedule.Draw(7, "single", faults(), 200)
	if !slices.Equal(one, two) {
		t.Error("the same seed drew another schedule")
	}
	if slices.Equal(one, schedule.Draw(8, "single", faults(), 200)) || slices.Equal(one, schedule.Draw(7, "cluster", faults(), 200)) {
		t.Error("another seed or purpose drew the same schedule")
	}
	if !slices.Equal(one[:50], schedule.Draw(7, "single", faults(), 50)) {
		t.Error("a longer run begins otherwise")
	}
	if a, b := schedule.Rand(7, "kill", 1).Uint64(), schedule.Rand(7, "kill", 2).Uint64(); a == b {
		t.Error("two rounds draw the same")
	}
}

func TestEveryFaultComesAndWeightsCount(t *testing.T) {
	drawn := schedule.Draw(7, "single", faults(), 1000)
	count := map[string]int{}
	for i, e := range drawn {
		count[e.Name]++
		if e.After < schedule.MinPause || e.After >= schedule.MaxPause {
			t.Fatalf("entry %d comes after %s", i, e.After)
		}
	}
	first := []string{drawn[0].Name, drawn[1].Name, drawn[2].Name}
	slices.Sort(first)
	if !slices.Equal(first, []string{"a", "b", "c"}) {
		t.Errorf("the first are %v", first)
	}
	if count["never"] != 0 || count["a"] < 3*count["b"] || count["a"] < 3*count["c"] || count["b"] == 0 || count["c"] == 0 {
		t.Errorf("drawn %v", count)
	}
	if schedule.Draw(7, "single", nil, 10) != nil {
		t.Error("a schedule of nothing")
	}
}

package ingest

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return out
}

func counts(placed map[string]string) map[string]int {
	out := map[string]int{}
	for _, m := range placed {
		out[m]++
	}
	return out
}

func sum(members map[string]int) int {
	total := 0
	for _, c := range members {
		total += c
	}
	return total
}

// checkPlacement holds for every placement, whatever came before it.
func checkPlacement(t *rapid.T, cameras []string, owners map[string]string, members map[string]int, placed map[string]string) {
	t.Helper()
	n, total := min(len(cameras), sum(members)), sum(members)
	if len(placed) != n {
		t.Fatalf("%d of %d cameras placed with capacity %v", len(placed), len(cameras), members)
	}
	have := counts(placed)
	for m, capacity := range members {
		if share := n * capacity; total > 0 && (have[m]*total > share+total-1 || (have[m]+1)*total <= share) {
			t.Fatalf("%s of capacity %d has %d of %d cameras: %v", m, capacity, have[m], n, members)
		}
		if have[m] > capacity {
			t.Fatalf("%s has %d cameras, more than its capacity of %d", m, have[m], capacity)
		}
	}
	owned := map[string]int{}
	for _, c := range cameras {
		owned[owners[c]]++
	}
	for _, c := range cameras {
		if m, ok := placed[c]; ok && !slices.Contains(slices.Collect(maps.Keys(members)), m) {
			t.Fatalf("%s is placed with %q, who is no member", c, m)
		}
		// Whoever gives a camera away keeps a whole share, and nobody has cameras of others in the place of its own.
		if owner := owners[c]; members[owner] > 0 && placed[c] != owner {
			if have[owner]*total < n*members[owner]-total+1 {
				t.Fatalf("%s was taken from %s, who has only %d left", c, owner, have[owner])
			}
			for other, m := range placed {
				if m == owner && owners[other] != owner {
					t.Fatalf("%s lost %s and got %s", owner, c, other)
				}
			}
		}
	}
	if again := place(cameras, placed, members); !maps.Equal(again, placed) {
		t.Fatalf("placed %v, and once everybody has what is his %v", placed, again)
	}
}

func genMembers(t *rapid.T, equal bool) map[string]int {
	members := map[string]int{}
	one := rapid.IntRange(1, 20).Draw(t, "capacity")
	for _, m := range names("ingest-", rapid.IntRange(0, 6).Draw(t, "members")) {
		members[m] = one
		if !equal {
			members[m] = rapid.IntRange(0, 20).Draw(t, m)
		}
	}
	return members
}

func TestPlaceIsBalancedStickyAndTheSameForAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		equal := rapid.Bool().Draw(t, "equal")
		members := genMembers(t, equal)
		cameras := names("cam-", rapid.IntRange(0, 60).Draw(t, "cameras"))
		owners := map[string]string{}
		who := append(names("ingest-", 8), "") // some of them are no members, some cameras are nobody's
		for _, c := range cameras {
			if o := rapid.SampledFrom(who).Draw(t, c); o != "" {
				owners[c] = o
			}
		}
		placed := place(cameras, owners, members)
		checkPlacement(t, cameras, owners, members, placed)
		if shuffled := place(rapid.Permutation(cameras).Draw(t, "order"), maps.Clone(owners), maps.Clone(members)); !maps.Equal(placed, shuffled) {
			t.Fatalf("another order, another placement: %v, %v", placed, shuffled)
		}
		if equal && len(members) > 0 {
			have := counts(placed)
			least, most := len(cameras), 0
			for m := range members {
				least, most = min(least, have[m]), max(most, have[m])
			}
			if most-least > 1 {
				t.Fatalf("equal members have %v", have)
			}
		}
	})
}

// TestPlaceWhileOthersClaim: it makes no difference in which order cameras are claimed and handed over.
func TestPlaceWhileOthersClaim(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := genMembers(t, rapid.Bool().Draw(t, "equal"))
		cameras := names("cam-", rapid.IntRange(0, 40).Draw(t, "cameras"))
		owners := map[string]string{}
		for _, c := range cameras {
			if o := rapid.SampledFrom(append(names("ingest-", 8), "")).Draw(t, c); o != "" {
				owners[c] = o
			}
		}
		want := place(cameras, owners, members)
		for _, c := range rapid.Permutation(cameras).Draw(t, "order") {
			if want[c] == owners[c] || want[c] == "" {
				continue
			}
			delete(owners, c) // handed over, or its owner's lease is over
			if between := place(cameras, owners, members); between[c] != want[c] {
				t.Fatalf("%s was to go to %s, and once it is free to %s", c, want[c], between[c])
			}
			owners[c] = want[c]
		}
		if got := place(cameras, owners, members); !maps.Equal(got, want) {
			t.Fatalf("placed %v, in the end %v", want, got)
		}
	})
}

// TestPlaceThroughJoinsAndLeaves: each change of the membership moves only what it must.
func TestPlaceThroughJoinsAndLeaves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cameras := names("cam-", rapid.IntRange(1, 60).Draw(t, "cameras"))
		members := map[string]int{}
		owners := map[string]string{}
		for step := range rapid.IntRange(1, 12).Draw(t, "steps") {
			m := rapid.SampledFrom(names("ingest-", 6)).Draw(t, "who")
			_, leaves := members[m]
			if leaves {
				delete(members, m)
			} else {
				members[m] = 64
			}
			placed := place(cameras, owners, members)
			checkPlacement(t, cameras, owners, members, placed)
			moved := 0
			for c, owner := range owners {
				if placed[c] != owner {
					moved++
				}
			}
			must := counts(owners)[m] // those of the one that leaves
			if !leaves {
				must = counts(placed)[m] // those that the new one gets
			}
			if len(owners) == len(cameras) && moved > must {
				t.Fatalf("step %d: %d cameras moved where %d had to", step, moved, must)
			}
			owners = placed
		}
	})
}

func TestPlaceOfOneAlone(t *testing.T) {
	if got := place([]string{"a", "b"}, nil, map[string]int{"x": 1}); len(got) != 1 {
		t.Errorf("capacity 1: %v", got)
	}
	if got := place([]string{"a"}, map[string]string{"a": "x"}, nil); len(got) != 0 {
		t.Errorf("nobody: %v", got)
	}
}

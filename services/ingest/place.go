package ingest

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// place says which instance captures which camera. Every instance computes the same from the same inputs: the cameras to
// capture, who owns them now, and how many each living instance can take.
//
// Every member gets cameras in proportion to its capacity, to within one, and never more than it can take: a camera
// beyond the capacity of all is not in the result. An owner keeps what it has as long as that is within its share, so
// that a member that comes or goes moves no more cameras than it must.
func place(cameras []string, owners map[string]string, members map[string]int) map[string]string {
	cameras = slices.Compact(slices.Sorted(slices.Values(cameras)))
	have := map[string]int{}
	for _, c := range cameras {
		have[owners[c]]++
	}
	room := shares(len(cameras), have, members)
	placed := make(map[string]string, len(cameras))
	var free []string
	for _, c := range cameras {
		owner := owners[c]
		if room[owner] == 0 { // its owner is gone, or has its share
			free = append(free, c)
			continue
		}
		room[owner]--
		placed[c] = owner
	}
	for _, p := range preferences(free, room) {
		if _, done := placed[p.camera]; done || room[p.member] == 0 {
			continue
		}
		room[p.member]--
		placed[p.camera] = p.member
	}
	return placed
}

// shares is how many of n cameras each member gets. What division leaves over goes to those who have it already, then to
// those whom rounding took most from.
func shares(n int, have, members map[string]int) map[string]int {
	type member struct {
		name     string
		rest     int
		extra    bool // has more than the rounded share
		capacity int
	}
	total := 0
	for _, c := range members {
		total += max(c, 0)
	}
	n = min(n, total)
	out := map[string]int{}
	var all []member
	left := n
	for name, capacity := range members {
		if capacity <= 0 {
			continue
		}
		out[name] = n * capacity / total
		left -= out[name]
		all = append(all, member{name: name, rest: n * capacity % total, extra: have[name] > out[name], capacity: capacity})
	}
	slices.SortFunc(all, func(a, b member) int {
		if a.extra != b.extra {
			if a.extra {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.rest, a.rest), cmp.Compare(a.name, b.name))
	})
	for _, m := range all {
		if left == 0 {
			break
		}
		if m.rest > 0 { // else its share came out even
			out[m.name]++
			left--
		}
	}
	return out
}

// preference is how much a camera would like a member: the pairs of all cameras and members have one order, so who of
// two takes its cameras first makes no difference to what the other gets.
type preference struct {
	camera, member string
	weight         uint64
}

func preferences(cameras []string, room map[string]int) []preference {
	var out []preference
	for member, n := range room {
		if n == 0 {
			continue
		}
		for _, camera := range cameras {
			h := fnv.New64a()
			_, _ = h.Write([]byte(camera + "\x00" + member))
			out = append(out, preference{camera, member, mix(h.Sum64())})
		}
	}
	slices.SortFunc(out, func(a, b preference) int {
		return cmp.Or(cmp.Compare(a.weight, b.weight), cmp.Compare(a.camera, b.camera), cmp.Compare(a.member, b.member))
	})
	return out
}

// mix spreads what FNV leaves alike in names that differ in their last letters only.
func mix(x uint64) uint64 {
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

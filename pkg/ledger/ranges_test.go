package ledger

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// ranges draws a set from a small domain, at either end of the numbers, and the same set as a map.
func ranges(t *rapid.T, base uint64, label string) (Ranges, map[uint64]bool) {
	var r Ranges
	m := map[uint64]bool{}
	for _, p := range rapid.SliceOfN(rapid.Custom(func(t *rapid.T) [2]uint64 {
		return [2]uint64{rapid.Uint64Range(0, 40).Draw(t, "lo"), rapid.Uint64Range(0, 8).Draw(t, "n")}
	}), 0, 12).Draw(t, label) {
		lo, hi := base+p[0], min(p[0]+p[1], 40)+base
		r.Add(lo, hi)
		for v := p[0]; v <= p[0]+p[1] && v <= 40; v++ {
			m[base+v] = true
		}
	}
	return r, m
}

func checkRanges(t *rapid.T, op string, r Ranges, m map[uint64]bool) {
	var want Ranges
	keys := make([]uint64, 0, len(m))
	for v, in := range m {
		if in {
			keys = append(keys, v)
		}
	}
	slices.Sort(keys)
	for _, v := range keys {
		if n := len(want); n > 0 && want[n-1][1]+1 == v {
			want[n-1][1] = v
		} else {
			want = append(want, [2]uint64{v, v})
		}
	}
	if !slices.Equal(r, want) {
		t.Fatalf("%s: got %v, want %v", op, r, want)
	}
	if r.Count() != uint64(len(keys)) {
		t.Fatalf("%s: count %d, want %d", op, r.Count(), len(keys))
	}
	if last := r.Last(); len(keys) > 0 && last != keys[len(keys)-1] || len(keys) == 0 && last != 0 {
		t.Fatalf("%s: last %d of %v", op, last, r)
	}
}

func TestRangesAreSets(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.SampledFrom([]uint64{0, 1, 1000, math.MaxUint64 - 40}).Draw(t, "base")
		a, am := ranges(t, base, "a")
		b, bm := ranges(t, base, "b")
		before := slices.Clone(a)
		minus, and, or := map[uint64]bool{}, map[uint64]bool{}, map[uint64]bool{}
		for v := range am {
			minus[v], and[v], or[v] = !bm[v], bm[v], true
		}
		for v := range bm {
			or[v] = true
		}
		checkRanges(t, "add", a, am)
		checkRanges(t, "minus", a.Minus(b), minus)
		checkRanges(t, "and", a.And(b), and)
		union := slices.Clone(a)
		union.AddAll(b)
		checkRanges(t, "union", union, or)
		if !slices.Equal(a, before) {
			t.Fatalf("an operand was changed: %v to %v", before, a)
		}
		result := a.Minus(b)
		result.Add(base+5, base+9)
		if !slices.Equal(a, before) {
			t.Fatalf("a result shares memory with its operand: %v to %v", before, a)
		}
	})
}

func TestRangesRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, _ := ranges(t, 1, "a")
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var back Ranges
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if !reflect.DeepEqual(a, back) && len(a)+len(back) > 0 {
			t.Fatalf("%v became %v", a, back)
		}
	})
}

func TestRangesErrors(t *testing.T) {
	t.Parallel()
	const want = ": want sorted, disjoint [first,last] pairs from 1"
	for in, msg := range map[string]string{
		`[[0,1]]`:                    "ranges: [0 1] at 0" + want,
		`[[2,1]]`:                    "ranges: [2 1] at 0" + want,
		`[[1]]`:                      "ranges: [1 0] at 0" + want,
		`[[1,2],[3,4]]`:              "ranges: [3 4] at 1" + want,
		`[[5,6],[1,2]]`:              "ranges: [1 2] at 1" + want,
		`[[1,18446744073709551615]]`: "ranges: [1 18446744073709551615] at 0" + want,
		`[[-1,2]]`:                   "ranges: json: cannot unmarshal number -1 into Go value of type uint64",
		`{}`:                         "ranges: json: cannot unmarshal object into Go value of type [][2]uint64",
	} {
		var r Ranges
		if err := json.Unmarshal([]byte(in), &r); err == nil || err.Error() != msg {
			t.Errorf("%s: %v, want %s", in, err, msg)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	for in, msg := range map[string]string{
		`{"camera":"cam","epoch":0}`: "ledger record of cam: epoch 0",
		`{"camera":"a.b","epoch":1}`: `ledger record: camera: "a.b" is not a name: use 1 to 63 letters, digits, '-' or '_', starting with a letter or digit`,
		`{"camera":"cam","epoch":1,"entries":[{"mark":"captured","frames":[[2,1]]}]}`: "ledger record: ranges: [2 1] at 0: want sorted, disjoint [first,last] pairs from 1",
		`x`: "ledger record: invalid character 'x' looking for beginning of value",
	} {
		if _, err := Decode([]byte(in)); err == nil || err.Error() != msg {
			t.Errorf("%s: %v, want %s", in, err, msg)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"camera":"cam","epoch":3,"stage":"ingest","instance":"i","at":"2026-10-01T12:00:00Z","route":{"delivery":"freshest","models":["m"],"max_age_ns":1000},"entries":[{"mark":"captured","frames":[[1,4],[6,6]]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "ledger record") {
				t.Fatalf("error without its subject: %v", err)
			}
			return
		}
		var b Books
		b.Apply(r)
		once := fmt.Sprint(b.Lines(r.At, nil))
		b.Apply(r)
		if twice := fmt.Sprint(b.Lines(r.At, nil)); once != twice {
			t.Fatalf("said twice: %s, %s", once, twice)
		}
		for _, l := range b.Lines(r.At.Add(closeAfter), nil) {
			if l.Captured != l.Predicted+l.Superseded+l.Expired+l.Quarantined+l.InFlight+l.Lost {
				t.Fatalf("not a partition: %+v", l)
			}
		}
	})
}

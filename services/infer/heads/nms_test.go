package heads

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// detection draws boxes on a coarse grid, so that overlaps and equal scores are common.
var detection = rapid.Custom(func(t *rapid.T) Detection {
	at, size := rapid.IntRange(0, 20), rapid.IntRange(1, 10)
	x, y := float32(at.Draw(t, "x")), float32(at.Draw(t, "y"))
	return Detection{
		ClassID: rapid.IntRange(0, 2).Draw(t, "class"),
		Score:   float32(rapid.IntRange(1, 10).Draw(t, "score")) / 10,
		Box:     [4]float32{x, y, x + float32(size.Draw(t, "w")), y + float32(size.Draw(t, "h"))},
	}
})

func TestNMSProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(detection, 0, 40).Draw(t, "detections")
		threshold := float32(rapid.IntRange(0, 10).Draw(t, "threshold")) / 10
		out := NMS(slices.Clone(in), threshold)
		if out == nil {
			t.Fatal("nil")
		}
		if !slices.IsSortedFunc(out, func(a, b Detection) int { return int(10*b.Score) - int(10*a.Score) }) {
			t.Fatalf("not sorted by score: %v", out)
		}
		for i, a := range out {
			if !slices.Contains(in, a) {
				t.Fatalf("%v was not given", a)
			}
			for _, b := range out[:i] {
				if a.ClassID == b.ClassID && IoU(a.Box, b.Box) > threshold {
					t.Fatalf("%v and %v overlap by %v", a, b, IoU(a.Box, b.Box))
				}
			}
		}
		for _, a := range in {
			covered := slices.ContainsFunc(out, func(k Detection) bool {
				return k == a || k.ClassID == a.ClassID && k.Score >= a.Score && IoU(a.Box, k.Box) > threshold
			})
			if !covered {
				t.Fatalf("%v was dropped without a better one", a)
			}
		}
		if again := NMS(slices.Clone(out), threshold); !reflect.DeepEqual(again, out) {
			t.Fatalf("a second time: %v, first %v", again, out)
		}
		// Classes do not see each other.
		for class := range 3 {
			of := func(ds []Detection) []Detection {
				return slices.DeleteFunc(slices.Clone(ds), func(d Detection) bool { return d.ClassID != class })
			}
			if alone := NMS(of(in), threshold); !slices.Equal(alone, of(out)) {
				t.Fatalf("class %d alone: %v, among others %v", class, alone, of(out))
			}
		}
	})
}

func TestIoUProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := detection.Draw(t, "a").Box, detection.Draw(t, "b").Box
		iou := IoU(a, b)
		if iou != IoU(b, a) || iou < 0 || iou > 1 {
			t.Fatalf("%v and %v: %v, other way %v", a, b, iou, IoU(b, a))
		}
		if IoU(a, a) != 1 {
			t.Fatalf("%v with itself: %v", a, IoU(a, a))
		}
	})
	if got := IoU([4]float32{0, 0, 2, 2}, [4]float32{1, 1, 3, 3}); got != float32(1)/7 {
		t.Errorf("%v, want 1/7", got)
	}
	if got := IoU([4]float32{0, 0, 0, 0}, [4]float32{0, 0, 0, 0}); got != 0 {
		t.Errorf("empty boxes: %v", got)
	}
}

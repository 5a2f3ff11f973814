package heads

import (
	"cmp"
	"slices"
)

// IoU is the overlap of two boxes: the area of their intersection over that of their union, 0 to 1.
func IoU(a, b [4]float32) float32 {
	w := min(a[2], b[2]) - max(a[0], b[0])
	h := min(a[3], b[3]) - max(a[1], b[1])
	if w <= 0 || h <= 0 {
		return 0
	}
	inter := w * h
	union := (a[2]-a[0])*(a[3]-a[1]) + (b[2]-b[0])*(b[3]-b[1]) - inter
	if union <= 0 {
		return 0
	}
	return min(inter/union, 1)
}

// NMS sorts detections by falling score and drops each that overlaps a better one of its own class by more than
// threshold. Equal scores keep their order, so the result depends on nothing but its input. It works in place and
// returns a part of ds, never nil.
func NMS(ds []Detection, threshold float32) []Detection {
	slices.SortStableFunc(ds, func(a, b Detection) int { return cmp.Compare(b.Score, a.Score) })
	kept := ds[:0]
	for _, d := range ds {
		overlaps := slices.ContainsFunc(kept, func(k Detection) bool {
			return k.ClassID == d.ClassID && IoU(k.Box, d.Box) > threshold
		})
		if !overlaps {
			kept = append(kept, d)
		}
	}
	if kept == nil {
		kept = []Detection{}
	}
	return kept
}

// hasArea says whether a box is one: the decoders drop what has no inside.
func hasArea(b [4]float32) bool { return b[0] < b[2] && b[1] < b[3] }

package quality

import (
	"cmp"
	"slices"
)

// A Box is x1, y1, x2, y2.
type Box = [4]float64

// An Object is what is really there.
type Object struct {
	Class string
	Box   Box
}

// An Answer is one detection.
type Answer struct {
	Class string
	Score float64
	Box   Box
}

// IoU is the intersection over union of two boxes, 0 for empty ones.
func IoU(a, b Box) float64 {
	w, h := min(a[2], b[2])-max(a[0], b[0]), min(a[3], b[3])-max(a[1], b[1])
	if !(w > 0 && h > 0) {
		return 0
	}
	both := w * h
	return both / (area(a) + area(b) - both)
}

func area(b Box) float64 { return (b[2] - b[0]) * (b[3] - b[1]) }

// Overlap is the least IoU of a detection that is right.
const Overlap = 0.5

// maxAnswers is how many detections of a class in a picture count, those with the highest scores: COCO's maxDets.
const maxAnswers = 100

// A Matching says which of a picture's answers are right, and which of its objects were found.
type Matching struct {
	Right []bool // by answer
	Found []bool // by object
	// By is the answer that found each object, -1 for none.
	By []int
	// Counted says which answers count at all: of each class the best maxAnswers.
	Counted []bool
}

// Match pairs the answers about one picture with what is in it, as COCO does: in the order of scores each takes, of the
// objects of its class that are still free, the one it overlaps most, if by at least Overlap. Of equal overlaps the later
// object is taken, of equal scores the earlier answer goes first.
func Match(objects []Object, answers []Answer) Matching {
	m := Matching{
		Right: make([]bool, len(answers)), Counted: make([]bool, len(answers)),
		Found: make([]bool, len(objects)), By: make([]int, len(objects)),
	}
	for i := range m.By {
		m.By[i] = -1
	}
	order := make([]int, len(answers))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(answers[b].Score, answers[a].Score) })
	used := map[string]int{}
	for _, i := range order {
		a := &answers[i]
		if used[a.Class]++; used[a.Class] > maxAnswers {
			continue
		}
		m.Counted[i] = true
		best, at := Overlap, -1
		for k := range objects {
			if objects[k].Class != a.Class || m.Found[k] {
				continue
			}
			if v := IoU(objects[k].Box, a.Box); v >= best {
				best, at = v, k
			}
		}
		if at >= 0 {
			m.Right[i], m.Found[at], m.By[at] = true, true, i
		}
	}
	return m
}

package quality

import (
	"cmp"
	"slices"
)

// An Outcome is one answer and whether it was right.
type Outcome struct {
	Score float64 `json:"s"`
	Right bool    `json:"r,omitempty"`
}

// steps of recall at which precision is looked at.
const steps = 100

// AveragePrecision is the mean of the highest precision at a recall of at least 0, .01, ... 1, over outcomes in any order and
// the number of objects that there were: COCO's AP at one IoU (pycocotools, COCOeval.accumulate). It is 0 without objects.
func AveragePrecision(outcomes []Outcome, objects int) float64 {
	if objects == 0 || len(outcomes) == 0 {
		return 0
	}
	sorted := slices.Clone(outcomes)
	slices.SortStableFunc(sorted, func(a, b Outcome) int { return cmp.Compare(b.Score, a.Score) })
	recall, precision := make([]float64, len(sorted)), make([]float64, len(sorted))
	right := 0
	for i, o := range sorted {
		if o.Right {
			right++
		}
		recall[i], precision[i] = float64(right)/float64(objects), float64(right)/float64(i+1)
	}
	for i := len(precision) - 2; i >= 0; i-- {
		precision[i] = max(precision[i], precision[i+1])
	}
	sum, at := 0.0, 0
	for i := range steps + 1 {
		want := float64(i) * 0.01 // as numpy.linspace has it; .01*i, not i/100, decides where recall is exact
		if i == steps {
			want = 1
		}
		for at < len(recall) && recall[at] < want {
			at++
		}
		if at == len(recall) {
			break
		}
		sum += precision[at]
	}
	return sum / (steps + 1)
}

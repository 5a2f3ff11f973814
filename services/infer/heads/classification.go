package heads

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/sightline-dev/sightline/pkg/model"
)

// classification reads one score for each class, before or after softmax. All classes are answered, best first: which
// are good enough is for whoever reads the answer, except that those below score_threshold are left out.
func classification(d model.Declaration) family {
	classes := "C"
	if n := len(d.Classes); n > 0 {
		classes = strconv.Itoa(n)
	}
	shapes := []string{"N," + classes, "N," + classes + ",1,1", classes}
	name := func(i int) string {
		if i < len(d.Classes) {
			return d.Classes[i]
		}
		return strconv.Itoa(i)
	}
	return family{
		shapes: map[string][]string{
			model.RoleScores: shapes, model.RoleLogits: shapes, model.RoleProbabilities: shapes,
		},
		decode: func(it item) Answer {
			answer := Answer{Classes: []ClassScore{}}
			for i, p := range distribution(it.data) {
				if float64(p) >= d.ScoreThreshold {
					answer.Classes = append(answer.Classes, ClassScore{ClassID: i, Class: name(i), Score: p})
				}
			}
			slices.SortStableFunc(answer.Classes, func(a, b ClassScore) int { return cmp.Compare(b.Score, a.Score) })
			return answer
		},
	}
}

// distribution makes probabilities of whichever output the model has.
func distribution(data map[string][]float32) []float32 {
	if p, ok := data[model.RoleProbabilities]; ok {
		return p
	}
	if logits, ok := data[model.RoleLogits]; ok {
		return softmax(logits)
	}
	scores := data[model.RoleScores]
	if isDistribution(scores) {
		return scores
	}
	return softmax(scores)
}

func isDistribution(p []float32) bool {
	sum := 0.0
	for _, v := range p {
		if v < 0 || v > 1 {
			return false
		}
		sum += float64(v)
	}
	return math.Abs(sum-1) < 1e-3
}

func softmax(logits []float32) []float32 {
	top := float64(slices.Max(logits))
	p, sum := make([]float32, len(logits)), 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - top)
	}
	for i, v := range logits {
		p[i] = float32(math.Exp(float64(v)-top) / sum)
	}
	return p
}

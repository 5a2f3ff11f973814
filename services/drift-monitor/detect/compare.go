package detect

import (
	"math"
	"slices"

	"github.com/sightline-dev/sightline/pkg/statistics"
	"github.com/sightline-dev/sightline/services/drift-monitor/feature"
	"github.com/sightline-dev/sightline/services/drift-monitor/quality"
	"github.com/sightline-dev/sightline/services/drift-monitor/reference"
)

// A comparison is one window held against one bucket.
type comparison struct {
	bucket    *reference.Bucket
	evidence  []Evidence
	moved     [feature.Count]bool
	shift     [feature.Count]float64 // of the mean, on the feature's scale; NaN when not known
	effective float64                // independent pictures
	objects   float64                // independent pictures by the reference's rate: how many objects should have been seen
	ratio     float64                // detections per picture over the reference's; 1 when it has none
	low, high float64                // bounds of ratio that were learnt
	rate      *quality.Estimate
	// What follows is evidence of loss, or of content.
	upside bool // the picture is the view turned by half a circle
	fewer  bool // detections per picture are below low
	more   bool // and above high
	lower  bool // scores fell by more than those of a model that copes
}

// said is what is told of a comparison.
type said struct {
	Evidence  []Evidence        `json:"evidence,omitempty"`
	Effective float64           `json:"effective,omitempty"`
	Rate      *quality.Estimate `json:"rate,omitempty"`
}

// said puts first what moved.
func (c *comparison) said() said {
	slices.SortStableFunc(c.evidence, func(a, b Evidence) int {
		switch {
		case a.Moved == b.Moved:
			return 0
		case a.Moved:
			return -1
		}
		return 1
	})
	return said{Evidence: c.evidence, Effective: c.effective, Rate: c.rate}
}

// least are the smallest scores of the tests of shape that count for anything: a quarter of all values moved; PSI's usual
// bound of .2; the Jensen-Shannon distance of whylogs' "possible".
func least(t feature.Test, s feature.Scale) float64 {
	switch t {
	case feature.Wasserstein:
		return s.Least
	case feature.KS:
		return 0.25
	case feature.PSI:
		return 0.2
	case feature.JensenShannon:
		return 0.2
	case feature.Tests:
	}
	return math.Inf(1)
}

// windows are the lengths in blocks, as in reference.Bucket.Windows.
func windows() [2]int { return [2]int{reference.Short, reference.Long} }

// scales widen (above 1) or narrow thresholds: those of drift, and those of loss.
type scales struct{ drift, loss float64 }

// compare holds a window of blocks against a bucket.
func compare(r *reference.Reference, b *reference.Bucket, w *feature.Block, which int, seconds float64, by scales) comparison {
	c := comparison{bucket: b, ratio: 1, effective: w.Frames}
	if slowest := r.Slowest(); slowest > 0 {
		c.effective = min(w.Frames, seconds/slowest)
	}
	c.objects = c.effective * b.Rate
	learnt := &b.Windows[which]
	for _, f := range feature.All() {
		s := f.Scale()
		c.shift[f] = math.NaN()
		n := r.Effective(f, b.Seconds, b.Frames)
		m := r.Effective(f, seconds, w.Hist[f].Sum())
		got, ok := feature.Compare(s, b.All.Hist[f], w.Hist[f], n, m)
		if !ok || f.OfObjects() && m < 2 {
			continue
		}
		c.shift[f] = w.Mean(f) - b.All.Mean(f)
		c.judgeFeature(f, got, &learnt.Scores[f], m, by.drift)
	}
	c.judgeClasses(w, learnt, by.drift)
	c.judgeEmbedding(w, learnt, by.drift)
	c.judgeRate(w, learnt, by.loss)
	c.rate = rateRatio(r, b, w, c.effective)
	c.lower = c.moved[feature.Score] && -c.shift[feature.Score] > lowerScores()[which]*by.loss
	c.upside = w.Upside > w.Frames/2
	return c
}

func (c *comparison) judgeFeature(f feature.Feature, got feature.Scores, learnt *feature.Scores, m, scale float64) {
	var over [feature.Tests]bool
	first := len(c.evidence)
	for t, v := range got {
		test := feature.Test(t)
		threshold := max(least(test, f.Scale()), learnt[t]) * scale
		if test == feature.KS {
			threshold = min(threshold, 0.95) // it cannot be more than 1
		}
		over[t] = v > threshold
		c.evidence = append(c.evidence, Evidence{
			Feature: f.String(), Test: test.String(), Score: v, Threshold: threshold, Effective: m,
		})
	}
	c.moved[f] = over[feature.Wasserstein] && (over[feature.KS] || over[feature.PSI] || over[feature.JensenShannon])
	for t := range over {
		c.evidence[first+t].Moved = c.moved[f] && over[t]
	}
}

// leastClasses is how many detections must change class, and leastMMD Evidently's bound.
const (
	leastClasses = 0.15
	leastMMD     = 0.015
)

func (c *comparison) judgeClasses(w *feature.Block, learnt *reference.Learnt, scale float64) {
	if len(c.bucket.All.Classes)+len(w.Classes) < 2 {
		return
	}
	v, err := statistics.TotalVariation(feature.ClassCounts(&c.bucket.All, w))
	if err != nil || w.Objects < 2 {
		return
	}
	e := Evidence{
		Feature: feature.Classes, Test: "total_variation", Score: v,
		Threshold: max(leastClasses, learnt.Classes) * scale, Effective: c.effective,
	}
	e.Moved = v > e.Threshold
	c.evidence = append(c.evidence, e)
}

func (c *comparison) judgeEmbedding(w *feature.Block, learnt *reference.Learnt, scale float64) {
	v, ok := reference.Discrepancy(c.bucket.All.Embeddings, w.Embeddings)
	if !ok {
		return
	}
	e := Evidence{
		Feature: feature.Embedding, Test: feature.MMD, Score: v,
		Threshold: max(leastMMD, learnt.MMD) * scale, Effective: float64(len(w.Embeddings)),
	}
	e.Moved = v > e.Threshold
	c.evidence = append(c.evidence, e)
}

// lowerScores is by how much the mean score of a model falls that misses things, in short and in long windows: on the demo's
// footage, over whole clips, .08 to .39 where recall fell below .9, .06 at most where it stayed above .95 (testdata/README.md). Scores of a few
// people who stay at one place for a short window say less.
func lowerScores() [2]float64 { return [2]float64{0.12, 0.08} }

// fewest and most are the least changes of the detection rate that are worth telling.
const (
	fewest = 0.8
	most   = 1.25
)

func (c *comparison) judgeRate(w *feature.Block, learnt *reference.Learnt, scale float64) {
	c.low, c.high = min(fewest, learnt.RateLow), max(most, learnt.RateHigh)
	if c.bucket.Rate <= 0 || w.Frames == 0 {
		return
	}
	c.ratio = w.Rate() / c.bucket.Rate
	c.fewer = math.Log2(max(c.ratio, 1e-3)) < math.Log2(max(c.low, 1e-3))*scale
	c.more = math.Log2(max(c.ratio, 1e-3)) > math.Log2(c.high)*scale
	c.evidence = append(c.evidence, Evidence{
		Feature: feature.Detections.String(), Test: "rate_ratio", Score: c.ratio, Threshold: c.low,
		Effective: c.effective, Moved: c.fewer,
	})
}

// rateRatio is the ratio of detections per picture with its interval.
func rateRatio(r *reference.Reference, b *reference.Bucket, w *feature.Block, effective float64) *quality.Estimate {
	baseline := quality.Rate{
		Mean: b.Rate, Variance: countVariance(&b.All), Pictures: r.Effective(feature.Detections, b.Seconds, b.Frames),
	}
	e, ok := quality.RateRatio(baseline, quality.Rate{Mean: w.Rate(), Variance: countVariance(w), Pictures: effective})
	if !ok {
		return nil
	}
	return &e
}

// countVariance is the variance of the number of detections of single pictures, as far as bins tell.
func countVariance(b *feature.Block) float64 {
	s := feature.Detections.Scale()
	var sum, squares, total float64
	for i, n := range b.Hist[feature.Detections] {
		count := math.Exp2(s.Center(i)) - 1
		sum, squares, total = sum+float64(n)*count, squares+float64(n)*count*count, total+float64(n)
	}
	if total == 0 {
		return 0
	}
	return max(squares/total-sum/total*sum/total, 0)
}

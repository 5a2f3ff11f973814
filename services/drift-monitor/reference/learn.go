package reference

import (
	"math"

	"github.com/sightline-dev/sightline/pkg/statistics"
	"github.com/sightline-dev/sightline/services/drift-monitor/feature"
)

// kept is how much above the largest score of the reference a threshold is at least.
const kept = 1.25

// alike reports whether the two halves of a capture differ by nothing that is worth telling.
func alike(blocks []feature.Block) bool {
	var halves [2]feature.Block
	for i := range blocks {
		halves[2*i/len(blocks)].Merge(&blocks[i])
	}
	for _, f := range feature.All() {
		s := f.Scale()
		scores, ok := feature.Compare(s, halves[0].Hist[f], halves[1].Hist[f], 1, 1)
		if ok && scores[feature.Wasserstein] > s.Least {
			return false
		}
	}
	return true
}

// learn makes a bucket of blocks that follow each other, each as long as r says.
func learn(r *Reference, blocks []feature.Block, covered float64) *Bucket {
	var all feature.Block
	for i := range blocks {
		all.Merge(&blocks[i])
	}
	if all.Frames == 0 {
		return nil
	}
	b := &Bucket{Seconds: covered, Frames: all.Frames, Rate: round3(all.Rate()), MotionFollows: follows(blocks)}
	for i, n := range []int{Short, Long} {
		b.Windows[i] = learnWindow(r, &all, blocks, n)
	}
	b.All = compact(all)
	return b
}

// learnWindow compares every window of n blocks with the rest of the reference.
func learnWindow(r *Reference, all *feature.Block, blocks []feature.Block, n int) Learnt {
	var scores [feature.Count][feature.Tests]tally
	var classes, mmd, rate tally
	for end := n; end <= len(blocks); end++ {
		var w feature.Block
		for i := end - n; i < end; i++ {
			w.Merge(&blocks[i])
		}
		rest := all.Less(&w)
		if w.Frames == 0 || rest.Frames == 0 {
			continue
		}
		seconds, others := r.BlockSeconds*float64(n), r.BlockSeconds*float64(len(blocks)-n)
		for _, f := range feature.All() {
			m := r.Effective(f, seconds, w.Hist[f].Sum())
			got, ok := feature.Compare(f.Scale(), rest.Hist[f], w.Hist[f], r.Effective(f, others, rest.Hist[f].Sum()), m)
			for t, v := range got {
				if ok {
					scores[f][t].add(v)
				}
			}
		}
		if v, err := statistics.TotalVariation(feature.ClassCounts(&rest, &w)); err == nil {
			classes.add(v)
		}
		if d, ok := Discrepancy(outside(blocks, end-n, end), w.Embeddings); ok {
			mmd.add(d)
		}
		if whole := rest.Rate(); whole > 0 {
			rate.add(w.Rate() / whole)
		}
	}
	var out Learnt
	for f := range scores {
		for t := range scores[f] {
			out.Scores[f][t] = scores[f][t].threshold()
		}
	}
	out.Classes, out.MMD = classes.threshold(), mmd.threshold()
	out.RateLow, out.RateHigh = rate.bounds()
	return out
}

func outside(blocks []feature.Block, from, to int) [][]float64 {
	var out [][]float64
	for i := range blocks {
		if i < from || i >= to {
			out = append(out, blocks[i].Embeddings...)
		}
	}
	return spread(out, maxEmbeddings)
}

// spread picks n of many, evenly.
func spread(all [][]float64, n int) [][]float64 {
	if len(all) <= n {
		return all
	}
	out := make([][]float64, n)
	for i := range out {
		out[i] = all[i*len(all)/n]
	}
	return out
}

// Discrepancy is the unbiased MMD2 between two sets of embeddings, the kernel's width fixed by the first: Gretton and others
// 2012, with the median heuristic. It is false when either has fewer than four.
func Discrepancy(ref, cur [][]float64) (float64, bool) {
	const few = 4
	if len(ref) < few || len(cur) < few {
		return 0, false
	}
	own, err := statistics.MMD2(ref, ref, 0)
	if err != nil {
		return 0, false
	}
	d, err := statistics.MMD2(ref, cur, own.Sigma2)
	return max(d.Unbiased, 0), err == nil
}

// follows is the correlation of detections with motion over blocks, both in octaves.
func follows(blocks []feature.Block) float64 {
	var x, y []float64
	for i := range blocks {
		a, b := blocks[i].Mean(feature.Detections), blocks[i].Mean(feature.Motion)
		if !math.IsNaN(a) && !math.IsNaN(b) {
			x, y = append(x, a), append(y, b)
		}
	}
	var sx, sy, sxx, syy, sxy float64
	n := float64(len(x))
	for i := range x {
		sx, sy = sx+x[i], sy+y[i]
		sxx, syy, sxy = sxx+x[i]*x[i], syy+y[i]*y[i], sxy+x[i]*y[i]
	}
	vx, vy := n*sxx-sx*sx, n*syy-sy*sy
	if n < 3 || vx <= 1e-9 || vy <= 1e-9 {
		return 0
	}
	return round3(min(max((n*sxy-sx*sy)/math.Sqrt(vx*vy), -1), 1))
}

// tally is the mean and the spread of scores.
type tally struct{ n, sum, squares, low, high float64 }

func (t *tally) add(v float64) {
	if t.n == 0 {
		t.low, t.high = v, v
	}
	t.n++
	t.sum += v
	t.squares += v * v
	t.low, t.high = min(t.low, v), max(t.high, v)
}

func (t *tally) deviation() float64 {
	if t.n == 0 {
		return 0
	}
	mean := t.sum / t.n
	return math.Sqrt(max(t.squares/t.n-mean*mean, 0))
}

// threshold is mean + 3 sd, and above everything seen.
func (t *tally) threshold() float64 {
	if t.n == 0 {
		return 0
	}
	return round3(max(t.sum/t.n+3*t.deviation(), kept*t.high))
}

// bounds are mean -+ 3 sd of ratios, and a quarter further from 1 than everything seen; 0 and a large number when nothing was.
func (t *tally) bounds() (low, high float64) {
	if t.n == 0 {
		return 0, 1e6
	}
	mean, d := t.sum/t.n, 3*t.deviation()
	low, high = min(mean-d, 1-kept*(1-t.low)), max(mean+d, 1+kept*(t.high-1))
	return round3(min(max(low, 0), 1)), round3(max(min(high, 1e6), 1))
}

func round3(v float64) float64 { return math.Round(v*1000) / 1000 }

// compact scales every histogram to 1000 values of whole hundredths and keeps a bounded number of embeddings.
func compact(b feature.Block) feature.Block {
	out := feature.Block{Frames: b.Frames, Objects: b.Objects, Upside: b.Upside, Embeddings: spread(b.Embeddings, maxEmbeddings)}
	for f, h := range b.Hist {
		if sum := h.Sum(); sum > 0 {
			out.Hist[f].Merge(h)
			for i := range out.Hist[f] {
				out.Hist[f][i] = float32(math.Round(float64(h[i]) / sum * 1000))
			}
		}
	}
	if len(b.Classes) > 0 {
		out.Classes = make(map[string]float64, len(b.Classes))
	}
	for name, n := range b.Classes {
		out.Classes[name] = math.Round(n*100) / 100
	}
	return out
}

// merged averages two buckets of the same hour by their frames.
func merged(a, b *Bucket) *Bucket {
	out := *a
	if b.Made.After(a.Made) {
		out.Made, out.View = b.Made, b.View
	}
	out.Seconds, out.Frames = a.Seconds+b.Seconds, a.Frames+b.Frames
	out.Settled = a.Settled && b.Settled
	out.Rate = round3((a.Rate*a.Frames + b.Rate*b.Frames) / out.Frames)
	out.MotionFollows = min(a.MotionFollows, b.MotionFollows)
	var all feature.Block
	for _, x := range []*Bucket{a, b} {
		part := x.All
		for f, h := range x.All.Hist {
			part.Hist[f] = nil
			part.Hist[f].Merge(h)
			for i := range part.Hist[f] {
				part.Hist[f][i] *= float32(x.Frames)
			}
		}
		all.Merge(&part)
	}
	out.All = compact(all)
	for i := range out.Windows {
		x, y := &out.Windows[i], &b.Windows[i]
		for f := range x.Scores {
			for t := range x.Scores[f] {
				x.Scores[f][t] = max(x.Scores[f][t], y.Scores[f][t])
			}
		}
		x.Classes, x.MMD = max(x.Classes, y.Classes), max(x.MMD, y.MMD)
		x.RateLow, x.RateHigh = min(x.RateLow, y.RateLow), max(x.RateHigh, y.RateHigh)
	}
	return &out
}

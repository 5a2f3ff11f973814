package reference

import (
	"fmt"
	"math"
	"time"

	"github.com/sightline-dev/sightline/pkg/statistics"
	"github.com/sightline-dev/sightline/services/drift-monitor/feature"
)

const (
	maxSeries     = 900 // values of a series that decorrelation is computed of
	viewFrames    = 30  // hashes before distances to their common view are measured
	maxEmbeddings = 32
	// unknownThin is the distance of observations before anything is known of the scene, in seconds.
	unknownThin = 1.0
)

// A Learner captures one bucket. It is plain data: its JSON is its state.
type Learner struct {
	Slot  int       `json:"slot"`
	Start time.Time `json:"start"` // of the first observation
	Last  time.Time `json:"last"`
	// View is that of the first viewFrames pictures: Scene is measured against it.
	View   feature.View    `json:"view"`
	Blocks []feature.Block `json:"blocks"`
	// Seconds is how long a block is, Ends when the last one of them does.
	Seconds float64   `json:"seconds"`
	Ends    time.Time `json:"ends"`
	// Covered is how long blocks were captured: Last less Start, without gaps and what was left out.
	Covered float64 `json:"covered"`
	// Series are values of each feature, one each Tick seconds.
	Series [feature.Count][]float32 `json:"series,omitempty"`
	Ticks  int                      `json:"ticks"`
}

// NewLearner begins a bucket. seconds is the length of its blocks.
func NewLearner(slot int, seconds float64) *Learner { return &Learner{Slot: slot, Seconds: seconds} }

// Observe counts an observation; those of before the last one are ignored. Who calls it thins them.
func (l *Learner) Observe(o *feature.Observation) {
	switch {
	case l.Start.IsZero():
		l.Start = o.At
		l.Ends = o.At
	case o.At.Before(l.Last):
		return
	}
	l.Last = o.At
	length := time.Duration(l.Seconds * float64(time.Second))
	if len(l.Blocks) == 0 || !o.At.Before(l.Ends) {
		if len(l.Blocks) > 0 {
			l.Covered += l.Seconds
		}
		if late := o.At.Sub(l.Ends); late >= length { // a gap
			l.Ends = o.At
		}
		l.Ends = l.Ends.Add(length)
		l.Blocks = append(l.Blocks, feature.Block{})
		if len(l.Blocks) > maxBlocks {
			l.coarsen()
		}
	}
	var view *feature.View
	if !o.NoQuality {
		if l.View.Count < viewFrames {
			l.View.Add(o.Hash)
		} else {
			view = &l.View
		}
	}
	l.Blocks[len(l.Blocks)-1].Add(o, view)
	if len(l.Series[feature.Detections]) < maxSeries {
		l.sample(o, view)
	}
}

// sample notes the mean of each feature in one observation.
func (l *Learner) sample(o *feature.Observation, view *feature.View) {
	var sum, n [feature.Count]float64
	feature.Values(o, view, func(f feature.Feature, v float64) { sum[f] += v; n[f]++ })
	l.Ticks++
	for f := range sum {
		if n[f] > 0 {
			l.Series[f] = append(l.Series[f], float32(sum[f]/n[f]))
		}
	}
}

// coarsen makes one block of two: the newest stays, for it is not full.
func (l *Learner) coarsen() {
	last := l.Blocks[len(l.Blocks)-1]
	full := l.Blocks[:len(l.Blocks)-1]
	half := full[:0]
	for i := 0; i+1 < len(full); i += 2 {
		b := full[i]
		b.Merge(&full[i+1])
		half = append(half, b)
	}
	clear(full[len(half):])
	l.Seconds *= 2
	l.Ends = l.Ends.Add(time.Duration(l.Seconds / 2 * float64(time.Second)))
	half = append(half, last)
	l.Blocks = half
}

// Finish adds the bucket to r if it is enough, and reports whether it did.
func (l *Learner) Finish(r *Reference, c Config) bool {
	blocks := l.full()
	if len(blocks) < minBlocks || l.Covered < c.Span.Seconds() {
		return false
	}
	decorrelation := l.decorrelation()
	slowest := 0.0
	for f := range feature.Score {
		slowest = max(slowest, decorrelation[f])
	}
	if slowest > 0 && l.Covered/slowest < c.Effective && l.Covered < reluctant*c.Span.Seconds() {
		return false
	}
	settled := alike(blocks)
	if !settled && l.Covered < reluctant*c.Span.Seconds() {
		return false
	}
	seconds := l.Seconds
	if r.BlockSeconds == 0 {
		// A long window holds five independent pictures, if the bucket holds two such windows.
		for seconds*Long < 5*slowest && len(blocks) >= 2*minBlocks {
			blocks, seconds = pairs(blocks), 2*seconds
		}
		r.BlockSeconds = seconds
		r.Decorrelation = decorrelation
		r.ThinSeconds = thin(decorrelation)
	}
	b := learn(r, blocks, l.Covered)
	if b == nil {
		return false
	}
	b.Settled, b.Made = settled, l.Last
	for i, n := range l.View.Set {
		b.View[i] = uint8(math.Round(float64(n / max(l.View.Count, 1) * 100)))
	}
	r.Buckets[l.Slot] = b
	return true
}

// full are the blocks that are over.
func (l *Learner) full() []feature.Block {
	if len(l.Blocks) == 0 {
		return nil
	}
	return l.Blocks[:len(l.Blocks)-1]
}

func pairs(blocks []feature.Block) []feature.Block {
	out := make([]feature.Block, 0, len(blocks)/2)
	for i := 0; i+1 < len(blocks); i += 2 {
		var b feature.Block
		b.Merge(&blocks[i])
		b.Merge(&blocks[i+1])
		out = append(out, b)
	}
	return out
}

// decorrelation is the time after which each feature's autocorrelation is below 1/e, in seconds. A feature that never varies
// tells nothing new ever; its time is that of one observation. One that is correlated all along has half the series.
func (l *Learner) decorrelation() (out [feature.Count]float64) {
	if l.Ticks == 0 {
		return out
	}
	tick := l.Covered / float64(max(l.observations(), 1))
	for f, series := range l.Series {
		if len(series) < 16 {
			continue
		}
		x := make([]float64, len(series))
		for i, v := range series {
			x[i] = float64(v)
		}
		each := tick * float64(l.Ticks) / float64(len(series)) // pictures without objects have no values of objects
		switch lag, err := statistics.DecorrelationTime(x); {
		case err == nil:
			out[f] = round3(float64(lag) * each)
		case constant(x):
			out[f] = round3(each)
		default:
			out[f] = round3(float64(len(x)) / 2 * each)
		}
	}
	return out
}

func (l *Learner) observations() int {
	n := 0.0
	for i := range l.full() {
		n += l.Blocks[i].Frames
	}
	return int(n)
}

func constant(x []float64) bool {
	for _, v := range x {
		if v != x[0] {
			return false
		}
	}
	return true
}

// thin is the decorrelation time of the fastest feature of a picture; a feature that is new each time makes it one
// observation.
func thin(decorrelation [feature.Count]float64) float64 {
	fastest := math.Inf(1)
	for f := range feature.Score {
		if tau := decorrelation[f]; tau > 0 {
			fastest = min(fastest, tau)
		}
	}
	if math.IsInf(fastest, 0) {
		return unknownThin
	}
	return fastest
}

// Thin is the least distance in time of observations that count.
func (r *Reference) Thin() time.Duration {
	seconds := r.ThinSeconds
	if seconds == 0 {
		seconds = unknownThin
	}
	// A little less: pictures do not come to the millisecond.
	return time.Duration(min(seconds, max(r.BlockSeconds/4, unknownThin)) * 0.95 * float64(time.Second))
}

// Validate reports a learner that was not stored by us.
func (l *Learner) Validate() error {
	if l.Slot < 0 || l.Slot > 23 || !(l.Seconds >= 1 && l.Seconds <= 86400) || !(l.Covered >= 0 && l.Covered < 1e9) {
		return fmt.Errorf("learner: slot %d, blocks of %v s, %v s covered", l.Slot, l.Seconds, l.Covered)
	}
	if len(l.Blocks) > maxBlocks+1 || l.Ticks < 0 {
		return fmt.Errorf("learner: %d blocks, %d ticks", len(l.Blocks), l.Ticks)
	}
	for i := range l.Blocks {
		if err := l.Blocks[i].Validate(); err != nil {
			return fmt.Errorf("learner: %w", err)
		}
	}
	for f, s := range l.Series {
		if len(s) > maxSeries {
			return fmt.Errorf("learner: %d values of %s", len(s), feature.Feature(f))
		}
	}
	return nil
}

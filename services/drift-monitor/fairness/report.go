package fairness

import (
	"cmp"
	"maps"
	"slices"

	"github.com/sightline-dev/sightline/pkg/statistics"
)

// The figures that slices are compared by.
const (
	Recall        = "recall"
	Precision     = "precision"
	DetectionRate = "detection_rate"
)

// FewObjects is the least number of objects, answers or pictures of a slice that is judged.
const FewObjects = 30

// confidence of intervals, before what picking the best and the worst costs.
const confidence = 0.95

// An Interval is a figure with its interval.
type Interval struct{ Value, Low, High float64 }

// A Slice is one slice and its figure.
type Slice struct {
	Name string
	Interval
	Count int
}

// A Gap compares the best and the worst slice of an axis.
type Gap struct {
	Metric, SliceBy string
	Gap             Interval // best - worst
	Ratio           Interval // worst / best
	Best, Worst     Slice
	Slices          []Slice // all that were judged, the worst first
	// Refused are the names of slices with too few.
	Refused []string
}

// A Report is what was counted, compared.
type Report struct {
	// Gaps are by metric and axis, in a fixed order; those with fewer than two slices to compare are not among them.
	Gaps []Gap
	// Refused are axes without two slices that can be judged, as metric/axis, with what there was.
	Refused map[string][]string
}

// Report compares the slices of the present and the past period.
func (c *Counts) Report() Report {
	axes := map[string]map[string]tally{}
	for _, from := range []*counts{&c.s.Past, &c.s.Now} {
		for axis, of := range from.Axes {
			if axes[axis] == nil {
				axes[axis] = map[string]tally{}
			}
			for name, t := range of {
				have := axes[axis][name]
				have.merge(t)
				axes[axis][name] = have
			}
		}
	}
	r := Report{Refused: map[string][]string{}}
	for _, metric := range []string{Recall, Precision, DetectionRate} {
		axes[Light] = c.terciles(metric)
		for _, axis := range slices.Sorted(maps.Keys(axes)) {
			g, n := compareSlices(metric, axis, axes[axis])
			switch {
			case n >= 2:
				r.Gaps = append(r.Gaps, g)
			case n == 1 || len(g.Refused) > 0:
				r.Refused[metric+"/"+axis] = g.Refused
			}
		}
	}
	return r
}

// terciles makes three slices of light of about as many trials each.
func (c *Counts) terciles(metric string) map[string]tally {
	var all [lightSteps]tally
	total := 0
	for i := range all {
		all[i] = c.s.Past.Light[i]
		all[i].merge(c.s.Now.Light[i])
		_, n := all[i].of(metric)
		total += n
	}
	out := map[string]tally{}
	seen := 0
	for _, t := range all {
		_, n := t.of(metric)
		if n == 0 {
			continue
		}
		// The step belongs to the third that its middle is in.
		name := [...]string{"dark", "medium", "bright"}[min(3*(2*seen+n)/(2*total), 2)]
		have := out[name]
		have.merge(t)
		out[name] = have
		seen += n
	}
	return out
}

func (t tally) of(metric string) (hits, trials int) {
	switch metric {
	case Recall:
		return t.Found, t.Objects
	case Precision:
		return t.Right, t.Answers
	}
	return t.Seen, t.Pictures
}

// compareSlices makes a gap of an axis, and says how many slices could be judged.
func compareSlices(metric, axis string, of map[string]tally) (Gap, int) {
	g := Gap{Metric: metric, SliceBy: axis}
	proportions := map[string]statistics.Proportion{}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		hits, trials := of[name].of(metric)
		if trials == 0 {
			continue
		}
		if trials < FewObjects {
			g.Refused = append(g.Refused, name)
			continue
		}
		p := statistics.Proportion{Successes: hits, Trials: trials}
		i, err := statistics.Wilson(p, confidence)
		if err != nil {
			g.Refused = append(g.Refused, name)
			continue
		}
		proportions[name] = p
		g.Slices = append(g.Slices, Slice{Name: name, Interval: Interval{i.Estimate, i.Low, i.High}, Count: trials})
	}
	n := len(g.Slices)
	if n < 2 {
		return g, n
	}
	slices.SortStableFunc(g.Slices, func(a, b Slice) int { return cmp.Compare(a.Value, b.Value) })
	g.Worst, g.Best = g.Slices[0], g.Slices[n-1]
	// One of n(n-1)/2 pairs was picked.
	sure := 1 - (1-confidence)/(float64(n)*float64(n-1)/2)
	worst, best := proportions[g.Worst.Name], proportions[g.Best.Name]
	if d, err := statistics.DifferenceOfProportions(worst, best, sure); err == nil {
		g.Gap = Interval{d.Estimate, max(d.Low, 0), min(d.High, 1)}
	}
	g.Ratio = Interval{Value: 1, High: 1}
	if q, err := statistics.RatioOfProportions(best, worst, sure); err == nil && g.Best.Value > 0 {
		g.Ratio = Interval{q.Estimate, q.Low, min(q.High, 1)}
	}
	return g, n
}

// Find is the gap of a metric by an axis.
func (r *Report) Find(metric, axis string) (Gap, bool) {
	for _, g := range r.Gaps {
		if g.Metric == metric && g.SliceBy == axis {
			return g, true
		}
	}
	return Gap{}, false
}

package fairness

import "fmt"

// An Allowance is what a model may do.
type Allowance struct {
	// Metric is what is looked at; empty is Recall.
	Metric string
	// Gap is the largest best - worst, Ratio the least worst/best. 0 is no bound.
	Gap, Ratio float64
	// Axes are those that must be known; none are all that are in the report.
	Axes []string
	// Present is the report of the model in use. A gap that it has too is allowed, plus Worse: small objects are found less
	// often by every model.
	Present *Report
	Worse   float64
}

// Verdict of a gate.
type Verdict string

// The verdicts. Who must be sure does not go on with Unknown.
const (
	Pass    Verdict = "pass"
	Fail    Verdict = "fail"
	Unknown Verdict = "unknown" // too little to judge by, or beyond the allowance by no more than chance may make
)

// A Decision is what a gate says, with a reason for each axis that did not pass.
type Decision struct {
	Verdict Verdict
	Reasons []string
}

// Gate holds the report to an allowance. It fails when a gap is beyond what is allowed with its whole interval, passes when
// every axis is within it, and does not know otherwise.
func (r *Report) Gate(a Allowance) Decision {
	metric := a.Metric
	if metric == "" {
		metric = Recall
	}
	d := Decision{Verdict: Pass}
	say := func(v Verdict, format string, args ...any) {
		if v == Fail || d.Verdict == Pass {
			d.Verdict = v
		}
		d.Reasons = append(d.Reasons, fmt.Sprintf(format, args...))
	}
	axes := a.Axes
	if len(axes) == 0 {
		for _, g := range r.Gaps {
			if g.Metric == metric {
				axes = append(axes, g.SliceBy)
			}
		}
	}
	if len(axes) == 0 {
		say(Unknown, "no axis has two slices of %d to compare %s by", FewObjects, metric)
	}
	for _, axis := range axes {
		g, ok := r.Find(metric, axis)
		if !ok {
			say(Unknown, "%s by %s: fewer than two slices of %d", metric, axis, FewObjects)
			continue
		}
		gap, ratio := a.bounds(metric, axis)
		beyond := gap > 0 && g.Gap.Value > gap || ratio > 0 && g.Ratio.Value < ratio
		surely := gap > 0 && g.Gap.Low > gap || ratio > 0 && g.Ratio.High < ratio
		switch {
		case surely:
			say(Fail, "%s by %s: %s", metric, axis, g)
		case beyond:
			say(Unknown, "%s by %s may be chance: %s", metric, axis, g)
		}
	}
	return d
}

// bounds are what is allowed of an axis, what the model in use does included.
func (a *Allowance) bounds(metric, axis string) (gap, ratio float64) {
	gap, ratio = a.Gap, a.Ratio
	if a.Present == nil {
		return gap, ratio
	}
	if g, ok := a.Present.Find(metric, axis); ok {
		if gap > 0 {
			gap = max(gap, g.Gap.Value+a.Worse)
		}
		if ratio > 0 {
			ratio = min(ratio, g.Ratio.Value-a.Worse)
		}
	}
	return gap, ratio
}

// String names the two slices and how far apart they are.
func (g Gap) String() string {
	return fmt.Sprintf("%s %.3f (%d) and %s %.3f (%d), gap %.3f (%.3f to %.3f), ratio %.2f (%.2f to %.2f)",
		g.Worst.Name, g.Worst.Value, g.Worst.Count, g.Best.Name, g.Best.Value, g.Best.Count,
		g.Gap.Value, g.Gap.Low, g.Gap.High, g.Ratio.Value, g.Ratio.Low, g.Ratio.High)
}

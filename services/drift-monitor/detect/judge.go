package detect

import (
	"fmt"
	"math"

	"github.com/sightline-dev/sightline/services/drift-monitor/feature"
)

// An opinion is what one window says.
type opinion struct {
	state  State
	cause  string
	detail string
}

// leastObjects is how many objects a window should have shown before the output tells that nothing was lost.
const leastObjects = 8

// motionTells is the least correlation of motion with detections, and motionMoved the least change of motion in octaves, at
// which motion is evidence of how many objects there are.
const (
	motionTells = 0.3
	motionMoved = 0.3
)

// judge is the rules of the package's comment, by their numbers.
func judge(c *comparison, cfg *Config) opinion {
	worse, worseBy := c.worse(&cfg.Content)
	view := c.moved[feature.Scene] && c.shift[feature.Scene] > cfg.Content.Scene
	light := c.beyond(feature.Luma, cfg.Content.Luma) || c.beyond(feature.Contrast, cfg.Content.Contrast)
	say := func(s State, f, format string, args ...any) opinion {
		return opinion{state: s, cause: f, detail: fmt.Sprintf(format, args...)}
	}
	switch {
	case worse && c.lower && c.more: // 1
		return say(SuspectedLoss, feature.Score.String(), "%s changed, and there are %.3g times the detections, with lower scores", worseBy, c.ratio)
	case worse && c.lower:
		return say(SuspectedLoss, feature.Score.String(), "%s changed, and scores fell by %.2f", worseBy, -c.shift[feature.Score])
	case worse && c.fewer && (light || !view):
		return say(SuspectedLoss, feature.Detections.String(), "%s changed, and detections are %.2f of what they were", worseBy, c.ratio)
	case view && c.upside: // 2
		return say(SuspectedLoss, feature.Scene.String(), "the picture is upside down, detections are %.2f of what they were", c.ratio)
	case view && c.lower:
		return say(SuspectedLoss, feature.Score.String(), "the view changed, and scores fell by %.2f", -c.shift[feature.Score])
	}
	if !worse && !view { // 3
		if o, ok := c.content(); ok {
			return o
		}
		if c.lower { // 4
			return say(SuspectedLoss, feature.Score.String(), "scores fell by %.2f, the picture is as before", -c.shift[feature.Score])
		}
	}
	if o, ok := c.costly(&cfg.Costly); ok { // 5
		return o
	}
	if f, ok := c.strongest(); ok { // 6
		switch {
		case view && !light:
			return say(DataDrift, feature.Scene.String(), "the view changed, detections are %.2f of what they were", c.ratio)
		case worse:
			return say(DataDrift, worseBy, "%s changed, answers did not get worse (detections %.2f of what they were)", worseBy, c.ratio)
		}
		return say(DataDrift, f, "%s moved", f)
	}
	return opinion{state: OK}
}

// worse reports whether the picture itself has changed by more than what is in it can make, and the feature that says so.
func (c *comparison) worse(limit *Content) (bool, string) {
	worst, name := 1.0, ""
	for _, x := range []struct {
		f     feature.Feature
		bound float64
	}{
		{feature.Luma, limit.Luma},
		{feature.Contrast, limit.Contrast},
		{feature.Sharpness, limit.Sharpness},
		{feature.Saturation, limit.Saturation},
	} {
		if by := math.Abs(c.shift[x.f]) / x.bound; c.moved[x.f] && by > worst {
			worst, name = by, x.f.String()
		}
	}
	return name != "", name
}

// beyond reports whether a feature has moved by more than what is in the picture can make.
func (c *comparison) beyond(f feature.Feature, bound float64) bool {
	return c.moved[f] && math.Abs(c.shift[f]) > bound
}

// content judges a change of the number of detections in a picture that is as it was.
func (c *comparison) content() (opinion, bool) {
	if !c.fewer && !c.more {
		return opinion{}, false
	}
	f := feature.Detections.String()
	motion := c.shift[feature.Motion]
	tells := c.bucket.MotionFollows >= motionTells && !math.IsNaN(motion)
	switch {
	case c.fewer && tells && motion > -motionMoved:
		return opinion{SuspectedLoss, f, fmt.Sprintf("detections are %.2f of what they were, while there is as much motion in the same picture", c.ratio)}, true
	case c.more && c.lower && tells && motion < motionMoved:
		return opinion{SuspectedLoss, f, fmt.Sprintf("%.3g times the detections with lower scores, while there is no more motion in the same picture", c.ratio)}, true
	case c.fewer:
		return opinion{DataDrift, f, fmt.Sprintf("fewer objects: detections are %.2f of what they were, the picture is as before", c.ratio)}, true
	}
	return opinion{DataDrift, f, fmt.Sprintf("more objects: %.3g times the detections, the picture is as before", c.ratio)}, true
}

// costly suspects loss by the picture alone, where there is too little in view to tell by.
func (c *comparison) costly(limit *Costly) (opinion, bool) {
	if c.objects >= leastObjects {
		return opinion{}, false
	}
	for _, x := range []struct {
		f  feature.Feature
		by float64
	}{
		{feature.Sharpness, -c.shift[feature.Sharpness] / limit.Sharpness},
		{feature.Contrast, -c.shift[feature.Contrast] / limit.Contrast},
		{feature.Scene, c.shift[feature.Scene] / limit.Scene},
	} {
		if c.moved[x.f] && x.by > 1 {
			return opinion{SuspectedLoss, x.f.String(), fmt.Sprintf("%s changed as it does when objects are missed; too few are in view to tell", x.f)}, true
		}
	}
	return opinion{}, false
}

// strongest is what moved furthest, by its mean distance over its threshold.
func (c *comparison) strongest() (string, bool) {
	best, name := 0.0, ""
	for _, e := range c.evidence {
		if by := e.Score / max(e.Threshold, 1e-9); e.Moved && e.Test != "rate_ratio" && by > best {
			best, name = by, e.Feature
		}
	}
	return name, name != ""
}

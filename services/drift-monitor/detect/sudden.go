package detect

import (
	"fmt"

	"github.com/sightline-dev/sightline/pkg/statistics/stream"
	"github.com/sightline-dev/sightline/services/drift-monitor/feature"
	"github.com/sightline-dev/sightline/services/drift-monitor/reference"
)

// watched are the features whose sudden changes are looked for: those of the picture that do not depend on what moves in it.
func watched() [5]feature.Feature {
	return [...]feature.Feature{feature.Luma, feature.Contrast, feature.Sharpness, feature.Saturation, feature.Scene}
}

// sudden finds sudden changes by Page-Hinkley on each feature, once for rises and once for falls. Values are distances to the
// reference's mean in smallest changes worth telling; an alarm comes when they add up to four of those beyond a half each.
type sudden struct {
	Up   [5]*stream.PageHinkley `json:"up"`
	Down [5]*stream.PageHinkley `json:"down"`
}

// pageHinkley is the parameters; they are valid.
func pageHinkley() stream.PageHinkleyConfig {
	return stream.PageHinkleyConfig{Delta: 0.5, Lambda: 4, Alpha: 0.99, MinValues: 8}
}

func newSudden() *sudden {
	var s sudden
	for i := range s.Up {
		s.Up[i], _ = stream.NewPageHinkley(pageHinkley())
		s.Down[i], _ = stream.NewPageHinkley(pageHinkley())
	}
	return &s
}

// add takes an observation and reports a sudden change.
func (s *sudden) add(o *feature.Observation, b *reference.Bucket, view *feature.View) (changed bool) {
	var value [feature.Count]float64
	var known [feature.Count]bool
	feature.Values(o, view, func(f feature.Feature, v float64) { value[f], known[f] = v, true })
	for i, f := range watched() {
		if !known[f] || len(b.All.Hist[f]) == 0 {
			continue
		}
		z := (value[f] - b.All.Mean(f)) / f.Scale().Least
		up, down := s.Up[i].Add(z), s.Down[i].Add(-z)
		changed = changed || up || down
	}
	if changed { // one change, not one for each feature
		*s = *newSudden()
	}
	return changed
}

func (s *sudden) validate() error {
	for i := range s.Up {
		if s.Up[i] == nil || s.Down[i] == nil {
			return fmt.Errorf("detect: the detector of sudden changes of %s is missing", watched()[i])
		}
	}
	return nil
}

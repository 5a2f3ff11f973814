package driftmonitor

import (
	"maps"
	"slices"
	"sync"

	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/telemetry"
)

// measure is what the leader says in numbers: what it says in DRIFT.
type measure struct {
	t *telemetry.Telemetry

	mu       sync.Mutex
	statuses map[string]*drift.Status // by their keys in DRIFT, as are the following; what is in there does not change
	faults   map[string]*drift.Integrity
	fairness map[string]*drift.Fairness
}

func newMeasure(t *telemetry.Telemetry) *measure {
	m := &measure{t: t}
	m.reset()
	return m
}

func (m *measure) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.statuses, m.faults, m.fairness = map[string]*drift.Status{}, map[string]*drift.Integrity{}, map[string]*drift.Fairness{}
}

// lead tells what is said from now on, until the function that it returns is called.
func (m *measure) lead() (stop func()) {
	m.reset()
	return m.t.Collect(m.tell)
}

// say takes over what is said.
func (m *measure) say(r drift.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case r.Status != nil:
		m.statuses[r.Key()] = r.Status
	case r.Integrity != nil:
		m.faults[r.Key()] = r.Integrity
	case r.Fairness != nil:
		m.fairness[r.Key()] = r.Fairness
	}
}

// forget leaves nothing of a camera.
func (m *measure) forget(camera string, models ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.faults, drift.IntegrityKey(camera))
	for _, model := range models {
		delete(m.statuses, drift.StatusKey(camera, model))
	}
}

// retire leaves nothing of a model.
func (m *measure) retire(model string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.fairness, drift.FairnessKey(model))
}

// tell is what is said at this moment. The monitor does not wait for it.
func (m *measure) tell(g *telemetry.Reading) {
	m.mu.Lock()
	statuses, faults, fairness := slices.Collect(maps.Values(m.statuses)), slices.Collect(maps.Values(m.faults)), slices.Collect(maps.Values(m.fairness))
	m.mu.Unlock()
	for _, s := range statuses {
		tellStatus(g, s)
	}
	for _, i := range faults {
		for _, f := range drift.Faults() {
			v := 0.0
			if i.Has(f) {
				v = 1
			}
			g.Set(telemetry.IntegrityFault, v, i.Camera, string(f))
		}
	}
	for _, f := range fairness {
		for _, gap := range f.Gaps {
			g.Set(telemetry.FairnessGap, gap.Gap, f.Model, gap.Metric, gap.SliceBy)
			g.Set(telemetry.FairnessRatio, gap.Ratio, f.Model, gap.Metric, gap.SliceBy)
		}
	}
}

func tellStatus(g *telemetry.Reading, s *drift.Status) {
	g.Set(telemetry.DriftState, float64(s.State.Number()), s.Camera, s.Model)
	g.Set(telemetry.DriftEffectiveSamples, s.EffectiveSamples, s.Camera, s.Model)
	for _, f := range s.Features {
		g.Set(telemetry.DriftScore, f.Score, s.Camera, s.Model, f.Name, f.Test)
		g.Set(telemetry.DriftThreshold, f.Threshold, s.Camera, s.Model, f.Name, f.Test)
	}
	q := s.Quality
	if q == nil {
		return
	}
	for _, e := range q.Precision {
		g.Set(telemetry.QualityPrecision, e.Value, s.Camera, s.Model, e.Source)
	}
	for n, e := range map[telemetry.Name]*drift.Estimate{
		telemetry.QualityRecall: q.Recall, telemetry.QualityAP50: q.AP50, telemetry.QualityDetectionRateRatio: q.DetectionRateRatio,
	} {
		if e != nil {
			g.Set(n, e.Value, s.Camera, s.Model)
		}
	}
}

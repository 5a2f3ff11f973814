package infer

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/streams"
)

// measure is what one version of a model says of itself. A nil one says nothing.
type measure struct {
	set            *telemetry.Set
	model, version string

	outcomes                         map[string]*telemetry.Counter
	duration, batch, perFrame, score *telemetry.Histogram
	cameras                          *telemetry.Cache[cameraMeasure]

	mu      sync.Mutex
	classes map[string]*telemetry.Counter // a model has as many as its file says
}

type cameraMeasure struct {
	predicted *telemetry.Counter
	last      *telemetry.Gauge
}

func newMeasure(t *telemetry.Telemetry, model, version string, lane streams.Lane) *measure {
	if t == nil {
		return nil
	}
	s := t.Set()
	m := &measure{
		set: s, model: model, version: version, outcomes: map[string]*telemetry.Counter{},
		duration: s.Histogram(telemetry.InferenceDuration, model, version, string(lane)),
		batch:    s.Histogram(telemetry.InferenceBatchSize, model, version, string(lane)),
		perFrame: s.Histogram(telemetry.DetectionsPerFrame, model, version),
		score:    s.Histogram(telemetry.DetectionScore, model, version),
		classes:  map[string]*telemetry.Counter{},
		cameras: telemetry.NewCache(t, func(s *telemetry.Set, camera string) cameraMeasure {
			return cameraMeasure{s.Counter(telemetry.FramesPredicted, camera, model), s.Gauge(telemetry.LastPrediction, camera, model)}
		}),
	}
	for _, o := range []string{telemetry.OutcomeOK, telemetry.OutcomeError, telemetry.OutcomeTimeout, telemetry.OutcomeExpired, telemetry.OutcomeMisfit} {
		m.outcomes[o] = s.Counter(telemetry.InferenceRequests, model, version, string(lane), o)
	}
	s.Gauge(telemetry.ModelLoaded, model, version, string(lane)).Set(1)
	return m
}

// close says that the version is not served here any more.
func (m *measure) close() {
	if m != nil {
		m.cameras.Close()
		m.set.Close()
	}
}

// refused notes a tensor that is not run.
func (m *measure) refused(err error) {
	if m == nil {
		return
	}
	switch {
	case errors.Is(err, errMisfit):
		m.outcomes[telemetry.OutcomeMisfit].Inc()
	case stage.IsDrop(err):
		m.outcomes[telemetry.OutcomeExpired].Inc()
	default:
		m.outcomes[telemetry.OutcomeError].Inc()
	}
}

// ran notes a run of the model.
func (m *measure) ran(took time.Duration, tensors int) {
	if m != nil {
		m.duration.Took(took)
		m.batch.Observe(float64(tensors))
	}
}

// failed notes tensors that were run and have no answer.
func (m *measure) failed(err error, tensors int) {
	if m == nil {
		return
	}
	outcome := telemetry.OutcomeError
	if errors.Is(err, context.DeadlineExceeded) {
		outcome = telemetry.OutcomeTimeout
	}
	m.outcomes[outcome].Add(uint64(tensors)) //nolint:gosec // a count
}

// answered notes an answer.
func (m *measure) answered(found []predictions.Detection) {
	if m == nil {
		return
	}
	m.outcomes[telemetry.OutcomeOK].Inc()
	m.perFrame.Observe(float64(len(found)))
	if len(found) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range found {
		m.score.Observe(d.Score)
		c := m.classes[d.Class]
		if c == nil {
			c = m.set.Counter(telemetry.Detections, m.model, m.version, d.Class)
			m.classes[d.Class] = c
		}
		c.Inc()
	}
}

// predicted notes an answer that is stored.
func (m *measure) predicted(camera string) {
	if m != nil {
		c := m.cameras.Get(camera)
		c.predicted.Inc()
		c.last.SetTime(time.Now())
	}
}

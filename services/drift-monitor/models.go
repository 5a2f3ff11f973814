package driftmonitor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/services/drift-monitor/detect"
	"github.com/sightline-dev/sightline/services/drift-monitor/feature"
	"github.com/sightline-dev/sightline/services/drift-monitor/quality"
	"github.com/sightline-dev/sightline/services/drift-monitor/reference"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// sayEvery is how often a status is said anew that has not changed: its scores have.
	sayEvery = 30 * time.Second
	// referenceWait bounds how long a reference is looked for that another reign captured.
	referenceWait = 2 * time.Second
	// shown is how many features a status shows at most, those furthest beyond their threshold first.
	shown = 16
)

// watched is what is known of one camera and model.
type watched struct {
	version  string
	detector *detect.Detector
	status   *drift.Status // that was said last
	said     time.Time     // and when, by our clock
	borrowed bool          // it learns another part of the day

	labels *quality.Window // nil until somebody labels
	scores scored
}

// learning reports whether pictures become part of a reference now.
func (w *watched) learning() bool { return w.borrowed || len(w.detector.Reference().Buckets) == 0 }

// observe takes an answer into account.
func (m *monitor) observe(ctx context.Context, c *camera, p *predictions.Prediction) {
	w := c.models[p.Model]
	if w == nil || w.version != p.Version {
		var err error
		if w, err = m.begin(ctx, p.Camera, p.Model, p.Version, p.CapturedAt); err != nil {
			m.deps.Log.ErrorContext(ctx, "a model cannot be watched", slog.String("model", p.Model), slog.Any("error", err))
			return
		}
		c.models[p.Model] = w
	}
	// Pictures of a camera that is blind say nothing of the world, and those of one that has been turned are no reference.
	if c.integrity.Blind() || w.learning() && c.integrity.Suspicious() {
		return
	}
	m.count(w, m.declared[p.Camera], p)
	v, ok := w.detector.Observe(observation(p))
	if !ok {
		return
	}
	m.judged(p.Camera, p.Model, w, &v)
}

// fresh watches a model's version against a new reference.
func (m *monitor) fresh(camera, model, version string, since time.Time) (*watched, error) {
	d, err := detect.New(m.cfg.Detect, reference.New(camera, model, version, since, m.cfg.Detect.Reference))
	if err != nil {
		return nil, err
	}
	return &watched{version: version, detector: d}, nil
}

// begin watches a model's version: against the reference that was captured of it, if there is one, or a new one.
func (m *monitor) begin(ctx context.Context, camera, model, version string, since time.Time) (*watched, error) {
	old := m.stored(ctx, referenceKey(model, version, camera))
	if old == nil || old.Hours != m.cfg.Detect.Reference.Hours {
		return m.fresh(camera, model, version, since)
	}
	d, err := detect.New(m.cfg.Detect, old)
	if err != nil {
		return nil, err
	}
	return &watched{version: version, detector: d}, nil
}

// referenceKey is where a reference is in REFERENCES.
func referenceKey(model, version, camera string) string { return model + "." + version + "." + camera }

// stored is a reference that was captured before; nil if there is none.
func (m *monitor) stored(ctx context.Context, key string) *reference.Reference {
	ctx, cancel := context.WithTimeout(ctx, referenceWait)
	defer cancel()
	kv, err := m.deps.JS.KeyValue(ctx, streams.ReferencesBucket)
	if err != nil {
		return nil
	}
	e, err := kv.Get(ctx, key)
	if err != nil {
		return nil
	}
	r, err := reference.Decode(e.Value())
	if err != nil {
		m.deps.Log.WarnContext(ctx, "a reference is not readable: capturing it anew", slog.String("key", key), slog.Any("error", err))
		return nil
	}
	return r
}

func observation(p *predictions.Prediction) *feature.Observation {
	o := &feature.Observation{At: p.CapturedAt, Motion: -1, NoQuality: p.Quality == nil, Detections: make([]feature.Detection, len(p.Detections))}
	if p.Image != nil {
		o.Width, o.Height = float64(p.Image.Width), float64(p.Image.Height)
	}
	if q := p.Quality; q != nil {
		o.Luma, o.Contrast, o.Sharpness, o.Saturation = q.Luma, q.Contrast, q.Sharpness, q.Saturation
		o.Hash, _ = strconv.ParseUint(q.PerceptualHash, 16, 64) // validated
		if q.TemporalDifference != nil {
			o.Motion = *q.TemporalDifference
		}
	}
	for i, d := range p.Detections {
		o.Detections[i] = feature.Detection{Class: d.Class, Score: d.Score, Box: d.Box}
	}
	return o
}

// judged says what a detector found, and tells what has changed.
func (m *monitor) judged(camera, model string, w *watched, v *detect.Verdict) {
	w.borrowed = v.Borrowed
	if v.ReferenceChanged {
		m.keepReference(camera, model, w)
	}
	now := time.Now()
	if w.status != nil && !v.Changed && now.Sub(w.said) < sayEvery {
		return
	}
	before := drift.NotEnoughData
	if w.status != nil {
		before = w.status.State
	}
	s := &drift.Status{
		Camera: camera, Model: model, Version: w.version, State: drift.State(v.State), Since: v.Since, At: v.At, Cause: v.Cause, Detail: v.Detail,
		Features: features(v.Evidence), EffectiveSamples: v.EffectiveSamples, Token: m.lead.Token(), Reference: named(w.detector.Reference(), v.Slot),
	}
	s.Quality = m.quality(model, w, v.Rate, s.State)
	w.status, w.said = s, now
	m.put(drift.Record{Status: s})
	if before != s.State {
		e := events.Event{Area: "drift", Kind: "state", Name: camera, State: string(s.State), Cause: s.Cause, Detail: s.Detail, Facts: m.facts()}
		e.Facts["model"], e.Facts["version"], e.Facts["before"] = model, w.version, string(before)
		for _, f := range s.Features[:min(len(s.Features), 3)] {
			e.Facts[f.Name+"."+f.Test] = strconv.FormatFloat(f.Score, 'g', 4, 64) + " of " + strconv.FormatFloat(f.Threshold, 'g', 4, 64)
		}
		m.events.Tell(e)
	}
}

func estimate(e *quality.Estimate, source string) *drift.Estimate {
	return &drift.Estimate{Value: e.Value, Low: e.Low, High: e.High, Count: e.Count, Source: source}
}

func features(evidence []detect.Evidence) []drift.Feature {
	out := make([]drift.Feature, 0, shown)
	for _, e := range evidence[:min(len(evidence), shown)] {
		out = append(out, drift.Feature{Name: e.Feature, Test: e.Test, Score: e.Score, Threshold: e.Threshold})
	}
	return out
}

func named(r *reference.Reference, slot string) *drift.Reference {
	if len(r.Buckets) == 0 {
		return nil
	}
	out := &drift.Reference{Version: r.Version, Hour: slot}
	for _, b := range r.Buckets {
		out.Frames += int(b.Frames)
		if b.Made.After(out.Made) {
			out.Made = b.Made
		}
	}
	return out
}

func (m *monitor) keepReference(camera, model string, w *watched) {
	data, err := w.detector.Reference().Encode()
	if err != nil {
		m.deps.Log.Error("a reference cannot be written", slog.String("camera", camera), slog.String("model", model), slog.Any("error", err))
		return
	}
	m.out.keep(referenceKey(model, w.version, camera), data)
}

// silence says that nothing comes any more, where nothing does.
func (m *monitor) silence(now time.Time) {
	for name, c := range m.cameras {
		for model, w := range c.models {
			if v, ok := w.detector.Silence(now); ok && v.Changed {
				c.changed = true
				m.judged(name, model, w, &v)
			}
		}
	}
}

// renew makes what is seen from now on the reference of a camera and model.
func (m *monitor) renew(ctx context.Context, name string, c *camera, model string) {
	w := c.models[model]
	if w == nil {
		return
	}
	fresh, err := m.fresh(name, model, w.version, time.Now())
	if err != nil {
		m.deps.Log.ErrorContext(ctx, "a model cannot be watched", slog.String("model", model), slog.Any("error", err))
		return
	}
	c.models[model] = fresh
	m.out.done(referenceKey(model, w.version, name)) // the old one
}

// modelState is what a restart needs to know of a model, beside its reference.
type modelState struct {
	Version  string          `json:"version"`
	Detector json.RawMessage `json:"detector"`
	Status   *drift.Status   `json:"status,omitempty"`
	Borrowed bool            `json:"borrowed,omitempty"`
	Labels   json.RawMessage `json:"labels,omitempty"`
	Scores   scored          `json:"scores"`
}

func (w *watched) encode() (modelState, error) {
	data, err := w.detector.EncodeApart()
	if err != nil {
		return modelState{}, fmt.Errorf("detector: %w", err)
	}
	s := modelState{Version: w.version, Detector: data, Status: w.status, Borrowed: w.borrowed, Scores: w.scores}
	if w.labels != nil {
		if s.Labels, err = json.Marshal(w.labels); err != nil {
			return modelState{}, fmt.Errorf("labels: %w", err)
		}
	}
	return s, nil
}

// resume goes on with a model as it was written down.
func (m *monitor) resume(ctx context.Context, camera, model string, s modelState) (*watched, error) {
	w, err := m.begin(ctx, camera, model, s.Version, time.Now())
	if err != nil {
		return nil, err
	}
	d, err := detect.DecodeApart(m.cfg.Detect, w.detector.Reference(), s.Detector)
	if err != nil {
		return nil, err
	}
	w.detector, w.status, w.borrowed, w.scores = d, s.Status, s.Borrowed, s.Scores
	if s.Labels != nil {
		if w.labels, err = quality.DecodeWindow(s.Labels); err != nil {
			return nil, err
		}
	}
	return w, nil
}

package driftmonitor

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/services/drift-monitor/fairness"
	"github.com/sightline-dev/sightline/services/drift-monitor/quality"
)

const (
	// labelPictures and labelAge bound what is remembered of labelled pictures, by camera and model.
	labelPictures = 1000
	labelAge      = 7 * 24 * time.Hour
	// scorePeriod is how long unlabelled scores are added up before older ones are left out.
	scorePeriod = 30 * time.Minute
	// compareEvery is how often models are calibrated anew and their slices compared.
	compareEvery = time.Minute
	// maxDeclared bounds the labels of cameras by which fairness is looked at.
	maxDeclared = 16
	// siteLabel is the label that names a camera's site.
	siteLabel = "site"

	fairnessPrefix = "_fairness."
)

// product is what is known of one version of a model over all cameras.
type product struct {
	version     string
	calibration *quality.Calibration
	counts      *fairness.Counts
	labelled    bool // since it was calibrated
	changed     bool // since its slices were compared
}

// scored are the calibrated scores of the present period and of the one before.
type scored struct {
	Now   quality.Scores `json:"now"`
	Past  quality.Scores `json:"past"`
	Since time.Time      `json:"since"`
}

func (s *scored) add(at time.Time, c *quality.Calibration, answers []quality.Answer) {
	if at.Sub(s.Since) >= scorePeriod {
		s.Past, s.Now, s.Since = s.Now, quality.Scores{}, at
	}
	s.Now.Add(c, answers)
}

func (s *scored) precision() (quality.Estimate, bool) {
	if e, ok := s.Now.Precision(); ok {
		return e, true
	}
	return s.Past.Precision()
}

// product is what is known of a model's version; another version begins anew.
func (m *monitor) product(model, version string) *product {
	p := m.products[model]
	if p == nil || p.version != version {
		c, err := fairness.New(m.fairness())
		if err != nil { // its settings are constants and checked labels
			m.deps.Log.Error("fairness", slog.Any("error", err))
			return nil
		}
		p = &product{version: version, counts: c}
		m.products[model] = p
	}
	return p
}

// fairness is by the labels that cameras have.
func (m *monitor) fairness() fairness.Config {
	cfg := fairness.Default()
	axes := map[string]bool{}
	for _, c := range m.declared {
		for label := range c.Labels {
			axes[label] = true
		}
	}
	for _, reserved := range []string{fairness.Camera, fairness.Site, fairness.Hour, fairness.Light, fairness.Size, fairness.Region} {
		delete(axes, reserved)
	}
	cfg.Axes = slices.Sorted(maps.Keys(axes))
	cfg.Axes = cfg.Axes[:min(len(cfg.Axes), maxDeclared)]
	return cfg
}

func answersOf(p *predictions.Prediction) []quality.Answer {
	out := make([]quality.Answer, len(p.Detections))
	for i, d := range p.Detections {
		out[i] = quality.Answer{Class: d.Class, Score: d.Score, Box: d.Box}
	}
	return out
}

// count takes an answer without labels into account.
func (m *monitor) count(w *watched, c config.Camera, p *predictions.Prediction) {
	pr := m.product(p.Model, p.Version)
	if pr == nil {
		return
	}
	answers := answersOf(p)
	if pr.calibration != nil {
		w.scores.add(p.CapturedAt, pr.calibration, answers)
	}
	pr.counts.Add(m.slices(c, p, answers))
	pr.changed = true
}

// slices is a picture as fairness looks at it.
func (m *monitor) slices(c config.Camera, p *predictions.Prediction, answers []quality.Answer) *fairness.Picture {
	at := p.CapturedAt.UTC()
	if l := m.cfg.Detect.Reference.Location; l != nil {
		at = at.In(l)
	}
	out := &fairness.Picture{
		At: p.CapturedAt, Camera: p.Camera, Site: c.Labels[siteLabel], Luma: -1, Hour: at.Hour(), Labels: c.Labels, Answers: answers,
	}
	if p.Image != nil {
		out.Width, out.Height = float64(p.Image.Width), float64(p.Image.Height)
	}
	if p.Quality != nil {
		out.Luma = p.Quality.Luma
	}
	return out
}

// label takes feedback into account.
func (m *monitor) label(ctx context.Context, x *labelled) {
	p := &x.answer
	c := m.camera(p.Camera)
	if c == nil {
		return
	}
	w := c.models[p.Model]
	if w == nil || w.version != p.Version { // of a version that is not watched any more
		return
	}
	pr := m.product(p.Model, p.Version)
	if pr == nil {
		return
	}
	if w.labels == nil {
		w.labels = quality.NewWindow(labelPictures, labelAge)
	}
	answers := answersOf(p)
	c.changed, pr.labelled, pr.changed = true, true, true
	w.said = time.Time{} // there is more to say
	if x.said.Labels != nil {
		objects := make([]quality.Object, len(x.said.Labels))
		picture := m.slices(m.declared[p.Camera], p, answers)
		picture.Labelled, picture.ObjectLabels = true, make([]map[string]string, len(objects))
		for i, l := range x.said.Labels {
			objects[i] = quality.Object{Class: l.Class, Box: l.Box}
			picture.ObjectLabels[i] = l.Slices
		}
		picture.Objects = objects
		if len(x.said.Slices) > 0 {
			picture.Labels = maps.Clone(picture.Labels)
			if picture.Labels == nil {
				picture.Labels = map[string]string{}
			}
			maps.Copy(picture.Labels, x.said.Slices)
		}
		w.labels.Label(p.CapturedAt, objects, answers)
		pr.counts.Add(picture)
	} else {
		right := make(map[int]bool, len(x.said.Verdicts))
		for _, v := range x.said.Verdicts {
			right[v.Detection] = v.Correct
		}
		w.labels.Judge(p.CapturedAt, answers, right)
	}
	m.deps.Log.DebugContext(ctx, "labelled", slog.String("frame", p.Frame))
}

// compare calibrates models anew, and says how evenly they serve, where something has changed.
func (m *monitor) compare(now time.Time) {
	for model, pr := range m.products {
		if pr.labelled {
			pr.labelled = false
			m.calibrate(model, pr)
		}
		if !pr.changed {
			continue
		}
		pr.changed = false
		m.put(drift.Record{Fairness: m.unfair(model, pr, now)})
		if data, err := pr.encode(); err == nil {
			m.out.keep(fairnessPrefix+model, data)
		}
	}
}

func (m *monitor) calibrate(model string, pr *product) {
	outcomes := map[string][]quality.Outcome{}
	for _, c := range m.cameras {
		if w := c.models[model]; w != nil && w.version == pr.version && w.labels != nil {
			for class, of := range w.labels.Outcomes() {
				outcomes[class] = append(outcomes[class], of...)
			}
		}
	}
	if cal, err := quality.Fit(model, pr.version, outcomes); err == nil { // else there are too few labels
		pr.calibration = &cal
	}
}

func (m *monitor) unfair(model string, pr *product, now time.Time) *drift.Fairness {
	r := pr.counts.Report()
	f := &drift.Fairness{Model: model, At: now.UTC(), Token: m.lead.Token(), Gaps: make([]drift.Gap, 0, len(r.Gaps))}
	for _, g := range r.Gaps {
		f.Gaps = append(f.Gaps, drift.Gap{
			Metric: g.Metric, SliceBy: g.SliceBy, Gap: g.Gap.Value, GapLow: g.Gap.Low, GapHigh: g.Gap.High, Ratio: g.Ratio.Value,
			Best: sliceOf(g.Best), Worst: sliceOf(g.Worst), Refused: g.Refused,
		})
	}
	return f
}

func sliceOf(s fairness.Slice) drift.Slice {
	return drift.Slice{Name: s.Name, Value: s.Value, Low: s.Low, High: s.High, Count: s.Count}
}

// quality is how good answers are, as far as that is known.
func (m *monitor) quality(model string, w *watched, rate *quality.Estimate, state drift.State) *drift.Quality {
	q := &drift.Quality{}
	known := false
	set := func(to **drift.Estimate, e quality.Estimate, ok bool) {
		if ok {
			*to, known = estimate(&e, drift.FromLabels), true
		}
	}
	if rate != nil {
		q.DetectionRateRatio, known = estimate(rate, drift.FromScores), true
	}
	if w.labels != nil {
		if e, ok := w.labels.Precision(); ok {
			q.Precision, known = append(q.Precision, *estimate(&e, drift.FromLabels)), true
		}
		e, ok := w.labels.Recall()
		set(&q.Recall, e, ok)
		e, ok = w.labels.AP50()
		set(&q.AP50, e, ok)
		if pr := m.products[model]; pr != nil && pr.calibration != nil {
			e, ok = w.labels.CalibrationError(pr.calibration)
			set(&q.CalibrationError, e, ok)
		}
	}
	// Under suspected loss scores do not mean what they meant.
	if e, ok := w.scores.precision(); ok && state != drift.SuspectedLoss {
		q.Precision, known = append(q.Precision, *estimate(&e, drift.FromScores)), true
	}
	if !known {
		return nil
	}
	return q
}

// productState is what a restart needs to know of a model.
type productState struct {
	Version     string               `json:"version"`
	Counts      json.RawMessage      `json:"counts"`
	Calibration *quality.Calibration `json:"calibration,omitempty"`
}

func (p *product) encode() ([]byte, error) {
	counts, err := p.counts.Encode()
	if err != nil {
		return nil, err
	}
	return json.Marshal(productState{Version: p.version, Counts: counts, Calibration: p.calibration})
}

func (m *monitor) resumeProduct(model string, data []byte) error {
	var s productState
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	c, err := fairness.Decode(m.fairness(), s.Counts)
	if err != nil {
		return err
	}
	m.products[model] = &product{version: s.Version, counts: c, calibration: s.Calibration, labelled: true}
	return nil
}

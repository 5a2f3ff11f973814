package infer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

// misfitDelay is how long a tensor waits for a worker of its version.
const misfitDelay = 500 * time.Millisecond

// worker answers the tensors of one model. It is a stage's handler: it never sees an acknowledgement.
type worker struct {
	model   *Model
	now     func() time.Time
	measure *measure // nil: nobody wants it
	// reasons say why this model's answers about a camera cannot be trusted as usual; nil is never.
	reasons func(camera string) []string
}

// handle answers a batch. What is too late leaves before the batch is run; what cannot be read is quarantined; a failed run
// is an error, never an empty answer.
func (w *worker) handle(ctx context.Context, batch []stage.Message) ([]stage.Result, error) {
	results := make([]stage.Result, len(batch))
	headers := make([]frame.Tensor, len(batch))
	var tensors []Tensor
	var which []int
	for i, m := range batch {
		t, err := w.accept(m)
		if err != nil {
			w.measure.refused(err)
			results[i].Err = err
			continue
		}
		headers[i] = t
		which = append(which, i)
		tensors = append(tensors, Tensor{
			Data: m.Data, Transform: model.FromAffine(t.Transform), SourceW: t.SourceW, SourceH: t.SourceH,
		})
	}
	if len(tensors) == 0 {
		return results, nil
	}
	start := w.now()
	answers, err := w.model.Infer(ctx, tensors)
	took := w.now().Sub(start)
	w.measure.ran(took, len(tensors))
	items, partial := errors.AsType[*ItemErrors](err)
	if err != nil && !partial {
		w.measure.failed(err, len(tensors))
		return nil, err
	}
	for k, i := range which {
		if partial && items.Errs[k] != nil {
			w.measure.failed(items.Errs[k], 1)
			results[i].Err = items.Errs[k]
			continue
		}
		out, err := w.answer(batch[i], headers[i], answers[k], took, len(tensors))
		results[i] = stage.Result{Outputs: []stage.Output{out}, Err: err}
	}
	return results, nil
}

// accept reads a tensor's envelope and says why it will not be run.
func (w *worker) accept(m stage.Message) (frame.Tensor, error) {
	t, err := frame.DecodeTensor(m.Header, m.Data)
	if err != nil {
		return t, stage.Poison(err)
	}
	if !t.Deadline.IsZero() && w.now().After(t.Deadline) {
		return t, stage.Drop(ledger.Expired, "max_age")
	}
	in := w.model.Artifact().Declaration.Input
	if t.Width != in.Width || t.Height != in.Height || t.Channels != in.Color.Channels() || t.Color != string(in.Color) {
		return t, w.misfit(t, in)
	}
	return t, nil
}

// errMisfit says that a tensor was made for another version of the model.
var errMisfit = errors.New("misfit")

// misfit is the verdict on a tensor that was made for another version of the model, while one replaces the other. A live one
// makes way for the next; one of an every_frame camera comes back, and is kept in DLQ when no worker fits it.
func (w *worker) misfit(t frame.Tensor, in model.Input) error {
	if !t.Deadline.IsZero() {
		return fmt.Errorf("%w: %w", errMisfit, stage.Drop(ledger.Superseded, "model_changed"))
	}
	return stage.RetryIn(misfitDelay, fmt.Errorf("%w: tensor is %dx%dx%d %s, %s wants %dx%dx%d %s", errMisfit, t.Height, t.Width, t.Channels, t.Color,
		w.model.Artifact().Name, in.Height, in.Width, in.Color.Channels(), in.Color))
}

func (w *worker) answer(m stage.Message, t frame.Tensor, r Result, took time.Duration, batch int) (stage.Output, error) {
	a := w.model.Artifact()
	version := strconv.Itoa(a.Version)
	now := w.now()
	p := predictions.Prediction{
		Schema: predictions.SchemaID, Kind: predictions.KindPrediction, Status: predictions.StatusOK,
		Camera: t.Name.Camera, Model: a.Name, Version: version, Lane: t.Lane,
		Frame: t.Name.String(), CapturedAt: t.Captured.UTC(), PredictedAt: now.UTC(),
		Image:      &predictions.Image{Width: t.SourceW, Height: t.SourceH},
		Detections: make([]predictions.Detection, len(r.Detections)),
		Quality:    quality(t), TimingsMS: timings(t, m.Queued, took, now), BatchSize: batch, Attempt: m.Attempt,
	}
	if t.Status != "" {
		p.Status = predictions.Status(t.Status)
	}
	if w.reasons != nil {
		if p.Reasons = w.reasons(t.Name.Camera); len(p.Reasons) > 0 {
			p.Status = predictions.StatusDegraded
		}
	}
	for i, d := range r.Detections {
		p.Detections[i] = predictions.Detection{Class: d.Class, ClassID: d.ClassID, Score: round(float64(d.Score), 1e4)}
		for j, v := range d.Box {
			p.Detections[i].Box[j] = round(float64(v), 1e2)
		}
	}
	for _, c := range r.Classes {
		p.Classes = append(p.Classes, predictions.Class{Class: c.Class, ClassID: c.ClassID, Score: round(float64(c.Score), 1e4)})
	}
	data, err := json.Marshal(p)
	if err = errors.Join(err, p.Validate()); err != nil { // what an application would refuse is not an answer
		return stage.Output{}, stage.Poison(fmt.Errorf("answer to %s: %w", p.Frame, err))
	}
	h := nats.Header{frame.HeaderName: []string{p.Frame}}
	if t.Trace != "" {
		h[frame.HeaderTrace] = []string{t.Trace}
	}
	w.measure.answered(p.Detections)
	return stage.Output{
		Subject: streams.PredictionSubject(a.Name, t.Name.Camera),
		ID:      p.ID(), Header: h, Data: data,
	}, nil
}

// round keeps what is measured: 4 digits of a score, hundredths of a pixel.
func round(v, unit float64) float64 { return math.Round(v*unit) / unit }

func quality(t frame.Tensor) *predictions.Quality {
	q := t.Quality
	return &predictions.Quality{
		Luma: q.Luma, Contrast: q.Contrast, Sharpness: q.Sharpness, Saturation: q.Saturation,
		PerceptualHash: fmt.Sprintf("%016x", q.Hash), TemporalDifference: t.TemporalDifference,
	}
}

// timings are milliseconds by stage; "total" is from capture to this answer.
func timings(t frame.Tensor, queued, took time.Duration, now time.Time) map[string]float64 {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	out := make(map[string]float64, len(t.Timings)+3)
	for _, x := range t.Timings {
		out[x.Stage] = ms(x.Took)
	}
	out["infer.queue"], out["infer"], out["total"] = ms(queued), ms(took), ms(now.Sub(t.Captured))
	return out
}

// books tells the ledger what a model's stage sees.
type books struct {
	reporter *ledger.Reporter
	model    string
	measure  *measure
}

func (b books) mark(m stage.Message, mark ledger.Mark, reason string) {
	if v := m.Header[frame.HeaderName]; len(v) > 0 {
		if name, err := frame.ParseName(v[0]); err == nil {
			b.reporter.Add(name, mark, b.model, reason)
		}
	}
}

func (b books) Taken(m stage.Message) { b.mark(m, ledger.Taken, "") }
func (b books) Done(m stage.Message, _ []stage.Output) {
	b.mark(m, ledger.Predicted, "")
	b.measure.predicted(streams.LastToken(m.Subject))
}

func (b books) Dropped(m stage.Message, fate ledger.Mark, reason string) {
	b.mark(m, fate, reason)
}
func (b books) Returned(m stage.Message) { b.mark(m, ledger.Returned, "") }

package preprocess

import (
	"context"
	"fmt"
	"image"
	"math"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// undeclaredDelay is when a frame comes back whose model is not declared: declarations follow within that time.
	undeclaredDelay = 500 * time.Millisecond
	// reasonMaxAge is the ledger's reason for a frame that was older than its camera's max_age.
	reasonMaxAge = "max_age"
	// reasonOldEpoch is the ledger's reason for a frame that was captured when its camera had a later owner already.
	reasonOldEpoch = "old_epoch"
	// ownerSlack allows for clocks of two machines that do not agree.
	ownerSlack = 250 * time.Millisecond
	// headers is about how many headers a tensor has.
	headers = 16
)

// A Handler does the work on a frame, without the runtime around it.
type Handler struct {
	models  Models
	imager  Imager
	owners  Owners // nil: nobody is asked
	buffers buffers
}

// NewHandler makes a Handler. Without owners every frame is taken for its camera's owner's.
func NewHandler(models Models, imager Imager, owners Owners) *Handler {
	return &Handler{models: models, imager: imager, owners: owners}
}

// Release says that nobody looks at the outputs' data any more, so that it can be used again. Calling it is optional.
func (h *Handler) Release(outputs []stage.Output) {
	for _, o := range outputs {
		h.buffers.put(o.Data)
	}
}

// Handle turns one frame into one tensor for each of its models.
func (h *Handler) Handle(_ context.Context, m stage.Message) ([]stage.Output, error) {
	start := time.Now()
	facts, err := frame.Decode(m.Header)
	if err != nil {
		return nil, stage.Poison(err)
	}
	if camera := streams.LastToken(m.Subject); facts.Name.Camera != camera {
		return nil, stage.Poison(fmt.Errorf("%s: %s on the subject of camera %q", frame.HeaderName, facts.Name, camera))
	}
	if !facts.Deadline.IsZero() && start.After(facts.Deadline) {
		return nil, stage.Drop(ledger.Expired, reasonMaxAge)
	}
	if h.outdated(&facts) {
		return nil, stage.Drop(ledger.Superseded, reasonOldEpoch)
	}
	inputs, err := h.inputs(facts.Models)
	if err != nil {
		return nil, stage.RetryIn(undeclaredDelay, err)
	}
	img, err := h.imager.Decode(m.Data)
	if err != nil {
		return nil, stage.Poison(fmt.Errorf("decode: %w", err))
	}
	defer img.Close()

	width, height := img.Size()
	roi := region(facts.ROI, width, height)
	quality := img.Quality(roi)
	facts.Timings = facts.Timings.With("preprocess.queue", m.Queued)
	toSource := model.Scaling(width, height, facts.SourceW, facts.SourceH)
	outputs := make([]stage.Output, 0, len(inputs))
	for i, input := range inputs {
		// The camera's own picture says which proportions a letterbox keeps: ingest may have scaled each axis by itself.
		plan, err := input.Plan(facts.SourceW, facts.SourceH, region(facts.ROI, facts.SourceW, facts.SourceH))
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", facts.Models[i], err)
		}
		plan = plan.On(whole(roi, width, height))
		data := h.buffers.get(input.Bytes())
		if err := img.Tensor(data, plan, input); err != nil {
			return nil, fmt.Errorf("model %s: %w", facts.Models[i], err)
		}
		t := frame.Tensor{
			Facts: facts, Model: facts.Models[i], Lane: lane(facts.Name.Camera, facts.Models[i]),
			Width: input.Width, Height: input.Height, Channels: input.Color.Channels(), Color: string(input.Color),
			Transform: plan.Transform.Then(toSource).Affine(), Quality: quality,
		}
		t.Timings = facts.Timings.With(Name, time.Since(start))
		outputs = append(outputs, output(streams.DeliveryOf(m.Subject), &t, data))
	}
	return outputs, nil
}

// outdated reports whether another instance had the camera already when a frame was captured.
func (h *Handler) outdated(f *frame.Facts) bool {
	if h.owners == nil {
		return false
	}
	owner, ok := h.owners.Holder(f.Name.Camera)
	return ok && f.Name.Epoch < owner.Epoch && f.Captured.After(owner.Since.Add(ownerSlack))
}

// inputs are the inputs of all models, or an error when one of them cannot be served yet.
func (h *Handler) inputs(models []string) ([]model.Input, error) {
	inputs := make([]model.Input, len(models))
	for i, name := range models {
		d, ok := h.models.Model(name)
		if !ok {
			return nil, fmt.Errorf("model %s is not declared", name)
		}
		if !d.Input.Resolved() {
			return nil, fmt.Errorf("model %s: its input's size and colour order are not known yet", name)
		}
		inputs[i] = d.Input
	}
	return inputs, nil
}

func output(d streams.Delivery, t *frame.Tensor, data []byte) stage.Output {
	header := make(nats.Header, headers)
	t.Encode(header)
	return stage.Output{
		Subject: streams.TensorSubject(d, t.Model, t.Lane, t.Name.Camera),
		ID:      t.Name.String() + "/" + t.Model + "/" + string(t.Lane),
		Header:  header,
		Data:    data,
	}
}

// region is a region of interest in the pixels of a width x height picture, at least one of them.
func region(roi frame.ROI, width, height int) model.Region {
	if roi.Whole() {
		return model.Region{}
	}
	left, right := span(roi[0], roi[2], width)
	top, bottom := span(roi[1], roi[3], height)
	return image.Rect(left, top, right, bottom)
}

// whole is the region, or the picture when the region is empty.
func whole(roi model.Region, width, height int) model.Region {
	if roi.Empty() {
		return image.Rect(0, 0, width, height)
	}
	return roi
}

func span(from, to float64, n int) (first, last int) {
	first = min(int(math.Round(from*float64(n))), n-1)
	return first, max(int(math.Round(to*float64(n))), first+1)
}

package preprocess

import (
	"errors"
	"fmt"
	"image"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/model"
)

// An Imager decodes pictures. It is safe for concurrent use. Implementations pass imagertest.Run.
type Imager interface {
	// Decode decodes a whole JPEG or PNG to 8-bit colour, in the orientation in which its pixels are stored. It refuses
	// what picture.Check refuses.
	Decode(data []byte) (Image, error)
}

// An Image is one decoded picture. It is for one goroutine at a time, until Close.
type Image interface {
	// Size is the picture's size in pixels.
	Size() (width, height int)
	// Quality measures a region of the picture as if there were nothing around it, by the definitions of package
	// quality. An empty region is the whole picture; one that sticks out is cut.
	Quality(region model.Region) frame.Quality
	// Tensor writes the picture as plan and input say: uint8, rows from the top, in input's colour order, bars of
	// input's pad value. dst must be input.Bytes() long; it is not kept.
	Tensor(dst []byte, plan model.Plan, input model.Input) error
	// Close releases the pixels.
	Close()
}

// ErrPlan means that a plan does not fit the picture or the buffer.
var ErrPlan = errors.New("plan does not fit")

// CheckPlan is what every Image asks before it writes a tensor.
func CheckPlan(dst []byte, plan model.Plan, input model.Input, width, height int) error {
	whole, tensor := image.Rect(0, 0, width, height), image.Rect(0, 0, plan.Width, plan.Height)
	switch {
	case plan.Source.Empty() || !plan.Source.In(whole):
		return fmt.Errorf("%w: source %v of a %dx%d picture", ErrPlan, plan.Source, width, height)
	case plan.Content.Empty() || !plan.Content.In(tensor):
		return fmt.Errorf("%w: content %v of a %dx%d tensor", ErrPlan, plan.Content, plan.Width, plan.Height)
	case plan.Width != input.Width || plan.Height != input.Height:
		return fmt.Errorf("%w: planned for %dx%d, the input is %dx%d", ErrPlan, plan.Width, plan.Height, input.Width, input.Height)
	case input.Color != model.RGB && input.Color != model.BGR && input.Color != model.Gray:
		return fmt.Errorf("%w: colour order %q", ErrPlan, input.Color)
	case len(dst) != input.Bytes():
		return fmt.Errorf("%w: %d bytes for a tensor of %d", ErrPlan, len(dst), input.Bytes())
	}
	return nil
}

// A Step is one scaling of a picture.
type Step struct {
	To image.Point
	// Area averages all pixels that fall into one; otherwise the nearest four are interpolated.
	Area bool
}

// Scale says how a picture of one size becomes one of another; no step means that it already is.
//
// A stretch interpolates in one step, exactly as cv2.resize does by default: the models that ask for it were made and
// judged so. A letterbox that shrinks by 2 or more would lose small things between the four nearest pixels: it is
// interpolated only to the next power of 2 of its size, which sees every pixel, and then halved, which is cheap.
// Averaging areas in one step gives about the same picture for several times the cost; it is kept for pictures of odd
// proportions.
func Scale(from, to image.Point, mode model.Resize) []Step {
	if from == to {
		return nil
	}
	if mode != model.Letterbox {
		return []Step{{To: to}}
	}
	at := to
	for from.X >= 2*at.X && from.Y >= 2*at.Y {
		at = at.Mul(2)
	}
	if from.X >= 3*at.X || from.Y >= 3*at.Y {
		return []Step{{To: to, Area: true}}
	}
	var steps []Step
	if at != from {
		steps = append(steps, Step{To: at})
	}
	for at != to {
		at = at.Div(2)
		steps = append(steps, Step{To: at, Area: true})
	}
	return steps
}

// FillBars writes pad around a plan's content; content itself may be overwritten too.
func FillBars(dst []byte, plan model.Plan, pad uint8) {
	if plan.Content == image.Rect(0, 0, plan.Width, plan.Height) || len(dst) == 0 {
		return
	}
	dst[0] = pad
	for n := 1; n < len(dst); n *= 2 {
		copy(dst[n:], dst[:n])
	}
}

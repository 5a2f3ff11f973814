package model

import (
	"fmt"
	"image"
	"math"
)

// A Region is a part of a picture in its pixels. The empty region means the whole picture.
type Region = image.Rectangle

// A Transform maps the pixels of a tensor to the pixels of the picture that it was made from:
//
//	source x = (x - PadX) * ScaleX + OriginX        and the same for y
//
// Coordinates are those of pixel edges: 0 is the left edge of the first pixel and the width is the right edge of the
// last, so no half pixel is added anywhere.
type Transform struct {
	PadX    float64 `json:"pad_x"`
	PadY    float64 `json:"pad_y"`
	ScaleX  float64 `json:"scale_x"`
	ScaleY  float64 `json:"scale_y"`
	OriginX float64 `json:"origin_x"`
	OriginY float64 `json:"origin_y"`
}

// Identity maps every pixel to itself.
func Identity() Transform { return Transform{ScaleX: 1, ScaleY: 1} }

// Scaling maps a picture of one size to the same picture of another size.
func Scaling(fromWidth, fromHeight, toWidth, toHeight int) Transform {
	return Transform{
		ScaleX: float64(toWidth) / float64(fromWidth),
		ScaleY: float64(toHeight) / float64(fromHeight),
	}
}

// Point maps one point of the tensor to the source.
func (t Transform) Point(x, y float64) (float64, float64) {
	return (x-t.PadX)*t.ScaleX + t.OriginX, (y-t.PadY)*t.ScaleY + t.OriginY
}

// Inverse maps one point of the source to the tensor.
func (t Transform) Inverse(x, y float64) (float64, float64) {
	return (x-t.OriginX)/t.ScaleX + t.PadX, (y-t.OriginY)/t.ScaleY + t.PadY
}

// Box maps a box x1, y1, x2, y2 of the tensor to the source.
func (t Transform) Box(b [4]float32) [4]float32 {
	x1, y1 := t.Point(float64(b[0]), float64(b[1]))
	x2, y2 := t.Point(float64(b[2]), float64(b[3]))
	return [4]float32{float32(x1), float32(y1), float32(x2), float32(y2)}
}

// Then is t followed by outer. Where the tensor was made from a scaled frame, t maps to the frame, outer from the frame
// to the camera's own picture, and t.Then(outer) does both.
func (t Transform) Then(outer Transform) Transform {
	return Transform{
		PadX: t.PadX, PadY: t.PadY,
		ScaleX: t.ScaleX * outer.ScaleX, ScaleY: t.ScaleY * outer.ScaleY,
		OriginX: (t.OriginX-outer.PadX)*outer.ScaleX + outer.OriginX,
		OriginY: (t.OriginY-outer.PadY)*outer.ScaleY + outer.OriginY,
	}
}

// Affine is the transform as the scales and offsets of x*scale + offset: scale x, scale y, offset x, offset y. That is
// how it travels in a tensor's headers (see pkg/frame).
func (t Transform) Affine() [4]float64 {
	return [4]float64{t.ScaleX, t.ScaleY, t.OriginX - t.PadX*t.ScaleX, t.OriginY - t.PadY*t.ScaleY}
}

// FromAffine is the transform of what [Transform.Affine] returned; it maps the same points.
func FromAffine(a [4]float64) Transform {
	return Transform{ScaleX: a[0], ScaleY: a[1], OriginX: a[2], OriginY: a[3]}
}

// Validate refuses a transform that cannot map boxes: one that is not finite or has a scale of zero or less.
func (t Transform) Validate() error {
	for _, v := range t.values() {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("transform %+v is not finite", t)
		}
	}
	if t.ScaleX <= 0 || t.ScaleY <= 0 {
		return fmt.Errorf("transform %+v has a scale that is not above 0", t)
	}
	return nil
}

func (t Transform) values() [6]float64 {
	return [6]float64{t.PadX, t.PadY, t.ScaleX, t.ScaleY, t.OriginX, t.OriginY}
}

// A Plan says how a picture becomes a tensor: read Source of the picture, scale it to the size of Content, put it there
// and fill the rest of the Width x Height tensor with the pad value.
type Plan struct {
	// Source is the part of the picture that is used, in its pixels.
	Source Region
	// Content is where it lands in the tensor.
	Content Region
	// Width and Height are the tensor's size.
	Width, Height int
	// Transform maps the tensor's pixels to the picture's, exactly: the corners of Content to those of Source.
	Transform Transform
}

// PlanResize plans how the region roi of a sourceWidth x sourceHeight picture becomes a width x height tensor. An empty
// roi is the whole picture; one that sticks out is cut. A letterbox centres the content; of an odd bar the extra line is
// at the right or the bottom.
func PlanResize(sourceWidth, sourceHeight int, roi Region, width, height int, mode Resize) (Plan, error) {
	if sourceWidth <= 0 || sourceHeight <= 0 {
		return Plan{}, fmt.Errorf("plan: the picture is %dx%d", sourceWidth, sourceHeight)
	}
	if width <= 0 || height <= 0 {
		return Plan{}, fmt.Errorf("plan: the model's input is %dx%d", width, height)
	}
	source := image.Rect(0, 0, sourceWidth, sourceHeight)
	if !roi.Empty() {
		source = source.Intersect(roi)
		if source.Empty() {
			return Plan{}, fmt.Errorf("plan: region %v lies outside the %dx%d picture", roi, sourceWidth, sourceHeight)
		}
	}
	w, h := ContentSize(source.Dx(), source.Dy(), width, height, mode)
	at := image.Pt((width-w)/2, (height-h)/2)
	return Plan{
		Source:  source,
		Content: image.Rectangle{Min: at, Max: at.Add(image.Pt(w, h))},
		Width:   width, Height: height,
		Transform: Transform{
			PadX: float64(at.X), PadY: float64(at.Y),
			ScaleX: float64(source.Dx()) / float64(w), ScaleY: float64(source.Dy()) / float64(h),
			OriginX: float64(source.Min.X), OriginY: float64(source.Min.Y),
		},
	}, nil
}

// On is the same tensor made from another picture: one that was scaled, by a factor of its own on each axis, after the plan
// was made. source is the planned region in that picture's pixels.
func (p Plan) On(source Region) Plan {
	p.Source = source
	p.Transform = Transform{
		PadX: float64(p.Content.Min.X), PadY: float64(p.Content.Min.Y),
		ScaleX: float64(source.Dx()) / float64(p.Content.Dx()), ScaleY: float64(source.Dy()) / float64(p.Content.Dy()),
		OriginX: float64(source.Min.X), OriginY: float64(source.Min.Y),
	}
	return p
}

// ContentSize is the size to which a sourceWidth x sourceHeight picture is scaled for a width x height input: all of the
// input when stretched, the largest size of the same proportions that fits when letterboxed. All sizes must be positive.
func ContentSize(sourceWidth, sourceHeight, width, height int, mode Resize) (int, int) {
	if mode == Stretch {
		return width, height
	}
	scale := min(float64(width)/float64(sourceWidth), float64(height)/float64(sourceHeight))
	fit := func(source, limit int) int {
		return min(max(int(math.Round(float64(source)*scale)), 1), limit)
	}
	return fit(sourceWidth, width), fit(sourceHeight, height)
}

// ClipBox cuts a box to a width x height picture and says whether anything of it is left.
func ClipBox(b [4]float32, width, height int) ([4]float32, bool) {
	w, h := float32(width), float32(height)
	b = [4]float32{
		min(max(b[0], 0), w), min(max(b[1], 0), h),
		min(max(b[2], 0), w), min(max(b[3], 0), h),
	}
	return b, b[0] < b[2] && b[1] < b[3]
}

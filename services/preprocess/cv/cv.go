// Package cv is the Imager of preprocess on OpenCV, through gocv. It is the only package that knows OpenCV.
//
// # Guarantees
//
// Bytes that are not a whole JPEG or PNG of a sane size never reach OpenCV (see package picture), and what OpenCV
// throws comes back as an error. OpenCV starts no threads: parallelism comes from frames. Scaling by interpolation is
// cv2.resize with INTER_LINEAR. EXIF orientation is ignored: pixels stay where the size in the header says.
//
// An Image holds memory outside of Go's heap until Close.
package cv

/*
#cgo CFLAGS: -O3
#cgo LDFLAGS: -lm -Wl,--as-needed
#include "quality.h"
*/
import "C"

import (
	"fmt"
	"image"
	"runtime"
	"sync"
	"unsafe"

	"gocv.io/x/gocv"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/preprocess/picture"
	"github.com/sightline-dev/sightline/services/preprocess/quality"
)

// An Imager decodes with OpenCV. The zero value is ready to use.
type Imager struct{}

var (
	_ preprocess.Imager = Imager{}
	_ preprocess.Image  = (*Image)(nil)
)

// Decode implements preprocess.Imager.
func (Imager) Decode(data []byte) (preprocess.Image, error) {
	img, err := Decode(data)
	if err != nil { // not a nil *Image in an interface
		return nil, err
	}
	return img, nil
}

// oneThread keeps OpenCV from starting threads of its own.
var oneThread = sync.OnceFunc(func() { gocv.SetNumThreads(1) })

// An Image is a decoded picture: 8-bit B, G, R.
type Image struct {
	bgr           gocv.Mat
	width, height int
}

// Decode decodes a whole JPEG or PNG.
func Decode(data []byte) (*Image, error) {
	width, height, err := picture.Check(data)
	if err != nil {
		return nil, err
	}
	oneThread()
	bgr := gocv.NewMat()
	err = gocv.IMDecodeIntoMat(data, gocv.IMReadColor|gocv.IMReadIgnoreOrientation, &bgr)
	if err == nil && (bgr.Cols() != width || bgr.Rows() != height || bgr.Type() != gocv.MatTypeCV8UC3) {
		err = fmt.Errorf("decoded to %dx%d instead of %dx%d", bgr.Cols(), bgr.Rows(), width, height)
	}
	if err != nil {
		_ = bgr.Close()
		return nil, fmt.Errorf("picture of %d bytes: %w: %w", len(data), picture.ErrDamaged, err)
	}
	return &Image{bgr: bgr, width: width, height: height}, nil
}

// Size implements preprocess.Image.
func (m *Image) Size() (width, height int) { return m.width, m.height }

// Close implements preprocess.Image.
func (m *Image) Close() { _ = m.bgr.Close() }

// Quality implements preprocess.Image.
func (m *Image) Quality(region model.Region) frame.Quality {
	whole := image.Rect(0, 0, m.width, m.height)
	if region.Empty() {
		region = whole
	}
	if region = region.Intersect(whole); region.Empty() {
		return frame.Quality{}
	}
	pixels, err := m.bgr.DataPtrUint8() // what imdecode returns has no gaps between rows
	if err != nil {
		return frame.Quality{}
	}
	width, height := region.Dx(), region.Dy()
	grey := gocv.NewMatWithSize(height, width, gocv.MatTypeCV8UC1)
	defer func() { _ = grey.Close() }()
	room, err := grey.DataPtrUint8()
	if err != nil || len(room) < width*height {
		return frame.Quality{}
	}
	var sums C.sightline_sums
	first := 3 * (region.Min.Y*m.width + region.Min.X)
	C.sightline_measure((*C.uint8_t)(unsafe.Pointer(&pixels[first])), C.size_t(3*m.width), C.int(width), C.int(height),
		(*C.uint8_t)(unsafe.Pointer(&room[0])), &sums)
	return figures(&sums, width, height)
}

func figures(c *C.sightline_sums, width, height int) frame.Quality {
	s := quality.Sums{
		Pixels: width * height, Luma: int(c.luma), LumaSq: int(c.luma_sq),
		Edge: int(c.edge), EdgeSq: int(c.edge_sq), Saturation: int(c.saturation),
	}
	var across, down [quality.Cells]int
	for i := range quality.Cells {
		from, to := quality.CellSpan(i, width)
		across[i] = to - from
		from, to = quality.CellSpan(i, height)
		down[i] = to - from
	}
	for i := range s.Cells {
		s.Cells[i] = float64(c.cells[i]) / float64(across[i%quality.Cells]*down[i/quality.Cells])
	}
	return s.Quality()
}

// Tensor implements preprocess.Image. It scales straight into dst, without a copy in between where the colour order
// allows.
func (m *Image) Tensor(dst []byte, plan model.Plan, input model.Input) error {
	if err := preprocess.CheckPlan(dst, plan, input, m.width, m.height); err != nil {
		return err
	}
	preprocess.FillBars(dst, plan, input.Pad)

	var pin runtime.Pinner // OpenCV keeps dst's address from call to call
	pin.Pin(&dst[0])
	defer pin.Unpin()
	kind := gocv.MatTypeCV8UC3
	if input.Color == model.Gray {
		kind = gocv.MatTypeCV8UC1
	}
	tensor, err := gocv.NewMatFromBytes(plan.Height, plan.Width, kind, dst)
	if err != nil {
		return fmt.Errorf("tensor: %w", err)
	}
	var mats mats
	defer mats.close()
	mats.add(tensor)
	content := mats.add(tensor.Region(plan.Content))
	scaled := mats.add(m.bgr.Region(plan.Source))
	steps := preprocess.Scale(plan.Source.Size(), plan.Content.Size(), input.Resize)
	for i, s := range steps {
		if i == len(steps)-1 && input.Color == model.BGR {
			return resize(scaled, &content, s)
		}
		to := mats.add(gocv.NewMat())
		if err := resize(scaled, &to, s); err != nil {
			return err
		}
		scaled = to
	}
	return recolor(scaled, &content, input.Color)
}

func resize(from gocv.Mat, to *gocv.Mat, s preprocess.Step) error {
	how := gocv.InterpolationLinear
	if s.Area {
		how = gocv.InterpolationArea
	}
	if err := gocv.Resize(from, to, s.To, 0, 0, how); err != nil {
		return fmt.Errorf("resize to %v: %w", s.To, err)
	}
	return nil
}

func recolor(from gocv.Mat, to *gocv.Mat, color model.Color) error {
	var err error
	switch color {
	case model.BGR:
		err = from.CopyTo(to)
	case model.Gray:
		err = gocv.CvtColor(from, to, gocv.ColorBGRToGray)
	default:
		err = gocv.CvtColor(from, to, gocv.ColorBGRToRGB)
	}
	if err != nil {
		return fmt.Errorf("colour order %s: %w", color, err)
	}
	return nil
}

// mats are closed together. A gocv.Mat is a handle: copies of it share one matrix.
type mats []gocv.Mat

func (m *mats) add(x gocv.Mat) gocv.Mat {
	*m = append(*m, x)
	return x
}

func (m *mats) close() {
	for i := range *m {
		_ = (*m)[i].Close()
	}
}

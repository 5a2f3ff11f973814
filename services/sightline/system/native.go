//go:build cgo

package system

import (
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/infer/ort"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/preprocess/cv"
)

// NewBackend is ONNX Runtime. path is that of its shared library; "" searches for it.
func NewBackend(path string) (infer.Backend, error) { return ort.New(path) }

// NewImager is OpenCV.
func NewImager() preprocess.Imager { return cv.Imager{} }

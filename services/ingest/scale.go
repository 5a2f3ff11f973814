package ingest

import (
	"fmt"
	"math"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/model"
)

// frameSize is the size at which a picture is sent: as small as its models allow, because every pixel is coded,
// stored, moved and decoded again. The picture is scaled on each axis by itself, so that a model that stretches
// finds its input size, and never enlarged.
func frameSize(width, height int, roi frame.ROI, models []model.Declaration) (w, h int, err error) {
	if len(models) == 0 {
		return 0, 0, fmt.Errorf("no model looks at this %dx%d picture", width, height)
	}
	left, top, right, bottom := 0.0, 0.0, 1.0, 1.0
	if !roi.Whole() {
		left, top, right, bottom = roi[0], roi[1], roi[2], roi[3]
	}
	roiW, roiH := (right-left)*float64(width), (bottom-top)*float64(height)
	for _, m := range models {
		plan, err := m.Input.Plan(max(int(math.Round(roiW)), 1), max(int(math.Round(roiH)), 1), model.Region{})
		if err != nil {
			return 0, 0, fmt.Errorf("size a %dx%d picture for its model: %w", width, height, err)
		}
		w = max(w, int(math.Ceil(float64(plan.Content.Dx())/(right-left))))
		h = max(h, int(math.Ceil(float64(plan.Content.Dy())/(bottom-top))))
	}
	return min(w, width), min(h, height), nil
}

package ingest

import (
	"testing"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/model"
)

func declaration(w, h int, mode model.Resize) model.Declaration {
	return model.Declaration{Input: model.Input{Width: w, Height: h, Resize: mode}}
}

func TestFrameSize(t *testing.T) {
	stretch, letterbox := declaration(320, 240, model.Stretch), declaration(416, 416, model.Letterbox)
	for _, tt := range []struct {
		name         string
		w, h         int
		roi          frame.ROI
		models       []model.Declaration
		wantW, wantH int
	}{
		{name: "a stretched input is sent at its own size", w: 768, h: 576, models: []model.Declaration{stretch}, wantW: 320, wantH: 240},
		{name: "a letterboxed one at its content's", w: 1280, h: 720, models: []model.Declaration{letterbox}, wantW: 416, wantH: 234},
		{name: "two models get enough for both", w: 1280, h: 720, models: []model.Declaration{stretch, letterbox}, wantW: 416, wantH: 240},
		{name: "a region needs more of the whole", w: 1280, h: 720, roi: frame.ROI{0.5, 0.5, 1, 1}, models: []model.Declaration{stretch}, wantW: 640, wantH: 480},
		{name: "never enlarged", w: 160, h: 120, models: []model.Declaration{stretch}, wantW: 160, wantH: 120},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, h, err := frameSize(tt.w, tt.h, tt.roi, tt.models)
			if err != nil || w != tt.wantW || h != tt.wantH {
				t.Errorf("got %dx%d, %v, want %dx%d", w, h, err, tt.wantW, tt.wantH)
			}
		})
	}
	if _, _, err := frameSize(640, 480, frame.ROI{}, nil); err == nil {
		t.Error("a camera without a model has no size")
	}
}

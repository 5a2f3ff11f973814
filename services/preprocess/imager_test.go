package preprocess_test

import (
	"bytes"
	"image"
	"slices"
	"testing"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/preprocess"
)

func TestScale(t *testing.T) {
	pt := image.Pt
	for _, c := range []struct {
		name     string
		from, to image.Point
		mode     model.Resize
		want     []preprocess.Step
	}{
		{"same size", pt(320, 240), pt(320, 240), model.Letterbox, nil},
		{"stretch is one step, however far", pt(4000, 3000), pt(100, 80), model.Stretch, []preprocess.Step{{To: pt(100, 80)}}},
		{"letterbox up", pt(100, 80), pt(320, 240), model.Letterbox, []preprocess.Step{{To: pt(320, 240)}}},
		{"letterbox down a little", pt(320, 240), pt(170, 128), model.Letterbox, []preprocess.Step{{To: pt(170, 128)}}},
		{"letterbox to half", pt(640, 480), pt(320, 240), model.Letterbox, []preprocess.Step{{To: pt(320, 240), Area: true}}},
		{
			"letterbox down a lot", pt(1279, 719), pt(320, 180), model.Letterbox,
			[]preprocess.Step{{To: pt(640, 360)}, {To: pt(320, 180), Area: true}},
		},
		{"a line", pt(1000, 2), pt(100, 1), model.Letterbox, []preprocess.Step{{To: pt(100, 1), Area: true}}},
	} {
		if got := preprocess.Scale(c.from, c.to, c.mode); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestFillBars(t *testing.T) {
	plan := model.Plan{Width: 3, Height: 3, Content: image.Rect(0, 1, 3, 2)}
	dst := make([]byte, 27)
	preprocess.FillBars(dst, plan, 7)
	if !bytes.Equal(dst, bytes.Repeat([]byte{7}, 27)) {
		t.Errorf("%v", dst)
	}
	plan.Content = image.Rect(0, 0, 3, 3)
	preprocess.FillBars(dst, plan, 9)
	if dst[0] != 7 {
		t.Error("a tensor without bars was filled")
	}
	preprocess.FillBars(nil, model.Plan{}, 1)
}

package preprocess_test

import (
	"bytes"
	"image"
	"image/jpeg"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/services/preprocess"
)

// TestLetterboxKeepsTheCamerasProportions: beside a model that stretches, ingest sends a picture whose axes were scaled by
// different factors. A letterbox must undo that.
func TestLetterboxKeepsTheCamerasProportions(t *testing.T) {
	var picture bytes.Buffer
	if err := jpeg.Encode(&picture, image.NewRGBA(image.Rect(0, 0, 320, 320)), nil); err != nil {
		t.Fatal(err)
	}
	d, _ := model.Preset(model.Person)
	d.Input.Width, d.Input.Height, d.Input.Layout, d.Input.Resize = 320, 320, model.NCHW, model.Letterbox
	h := preprocess.NewHandler(preprocess.StaticModels{"m": d}, &preprocess.Fake{}, nil)
	f := frame.Facts{
		Name: frame.Name{Camera: "door", Epoch: 1, Seq: 1}, Captured: time.Now(), SourceW: 1920, SourceH: 1080, Models: []string{"m"},
	}
	header := nats.Header{}
	f.Encode(header)
	outputs, err := h.Handle(t.Context(), stage.Message{Subject: "frames.every.door", Header: header, Data: picture.Bytes()})
	if err != nil || len(outputs) != 1 {
		t.Fatal(outputs, err)
	}
	x, err := frame.DecodeTensor(outputs[0].Header, outputs[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	// The content is 320x180 with bars of 70 above and below: 6 source pixels a tensor pixel on both axes.
	if want := [4]float64{6, 6, 0, -420}; x.Transform != want {
		t.Errorf("transform %v, want %v", x.Transform, want)
	}
	if bar := x.Width * 70 * 3; outputs[0].Data[bar-1] != d.Input.Pad || outputs[0].Data[bar] == d.Input.Pad {
		t.Errorf("the content does not begin at row 70")
	}
}

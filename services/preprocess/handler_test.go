package preprocess_test

import (
	"bytes"
	"errors"
	"image"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/preprocess/imagertest"
	"github.com/sightline-dev/sightline/streams"
)

const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func declared() preprocess.StaticModels {
	box := model.Declaration{Input: model.Input{Width: 64, Height: 64, Layout: model.NCHW, Color: model.RGB, Resize: model.Letterbox, Pad: 114}}
	gray := model.Declaration{Input: model.Input{Width: 40, Height: 30, Layout: model.NHWC, Color: model.Gray, Resize: model.Stretch}}
	unknown := model.Declaration{Input: model.Input{Resize: model.Stretch}}
	return preprocess.StaticModels{"box": box, "gray": gray, "unresolved": unknown}
}

func facts() frame.Facts {
	return frame.Facts{
		Name: frame.Name{Camera: "gate", Epoch: 7, Seq: 42}, Captured: time.Now().Add(-20 * time.Millisecond),
		Deadline: time.Now().Add(time.Minute), SourceW: 640, SourceH: 480, Models: []string{"box"}, Status: "ok",
		Timings: frame.Timings{{Stage: "ingest", Took: 3 * time.Millisecond}}, Trace: trace,
	}
}

func message(f frame.Facts, d streams.Delivery, data []byte) stage.Message {
	m := stage.Message{Subject: streams.FrameSubject(d, f.Name.Camera), Header: nats.Header{}, Data: data, Attempt: 1, Queued: 2 * time.Millisecond}
	f.Encode(m.Header)
	return m
}

// verdict is what the runtime will make of an error; its types are the runtime's own.
func verdict(err error) string {
	if err == nil {
		return "done"
	}
	for _, v := range []struct {
		name string
		like error
	}{{"drop", stage.Drop(ledger.Expired, "")}, {"poison", stage.Poison(errors.New(""))}, {"retry", stage.RetryIn(0, errors.New(""))}} {
		if reflect.TypeOf(err) == reflect.TypeOf(v.like) {
			return v.name
		}
	}
	return "error"
}

func TestHandlerVerdicts(t *testing.T) {
	jpg := imagertest.JPEG(imagertest.Scene(320, 240, 0.4), 90)
	with := func(change func(*frame.Facts)) frame.Facts {
		f := facts()
		change(&f)
		return f
	}
	for _, c := range []struct {
		name    string
		message stage.Message
		verdict string
		err     string // a part of it
		outputs []string
		decoded int // a frame that will not be answered must not cost a decoding
	}{
		{
			name: "fresh", message: message(facts(), streams.Freshest, jpg), verdict: "done", decoded: 1,
			outputs: []string{"tensors.live.box.stable.gate gate/7/42/box/stable"},
		},
		{
			name: "two models, every frame", verdict: "done", decoded: 1,
			message: message(with(func(f *frame.Facts) { f.Models = []string{"gray", "box"} }), streams.EveryFrame, jpg),
			outputs: []string{"tensors.every.gray.stable.gate gate/7/42/gray/stable", "tensors.every.box.stable.gate gate/7/42/box/stable"},
		},
		{
			name: "no deadline", verdict: "done", decoded: 1,
			message: message(with(func(f *frame.Facts) { f.Deadline = time.Time{}; f.Captured = time.Unix(1, 0) }), streams.EveryFrame, jpg),
			outputs: []string{"tensors.every.box.stable.gate gate/7/42/box/stable"},
		},
		{
			name: "stale", verdict: "drop", err: "expired: max_age",
			message: message(with(func(f *frame.Facts) { f.Deadline = time.Now().Add(-time.Millisecond) }), streams.Freshest, jpg),
		},
		{
			name: "stale garbage is stale", verdict: "drop", err: "expired: max_age",
			message: message(with(func(f *frame.Facts) { f.Deadline = time.Now().Add(-time.Hour) }), streams.Freshest, nil),
		},
		{name: "no headers", message: stage.Message{Subject: "frames.live.gate", Data: jpg}, verdict: "poison", err: `frame name ""`},
		{
			name: "another camera's subject", verdict: "poison", err: `Sightline-Frame: gate/7/42 on the subject of camera "door"`,
			message: func() stage.Message {
				m := message(facts(), streams.Freshest, jpg)
				m.Subject = "frames.live.door"
				return m
			}(),
		},
		{
			name: "undeclared model", verdict: "retry", err: "model nobody is not declared",
			message: message(with(func(f *frame.Facts) { f.Models = []string{"box", "nobody"} }), streams.Freshest, jpg),
		},
		{
			name: "input not known yet", verdict: "retry", err: "model unresolved: its input's size and colour order are not known yet",
			message: message(with(func(f *frame.Facts) { f.Models = []string{"unresolved"} }), streams.Freshest, jpg),
		},
		{name: "empty picture", message: message(facts(), streams.Freshest, nil), verdict: "poison", err: "decode: picture of 0 bytes", decoded: 1},
		{name: "truncated picture", message: message(facts(), streams.Freshest, jpg[:len(jpg)/2]), verdict: "poison", err: "truncated", decoded: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			imager := &preprocess.Fake{}
			outputs, err := preprocess.NewHandler(declared(), imager, nil).Handle(t.Context(), c.message)
			if got := verdict(err); got != c.verdict || (err != nil) != (c.err != "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%s: %v; want %s: %s", got, err, c.verdict, c.err)
			}
			got := make([]string, 0, len(outputs))
			for _, o := range outputs {
				got = append(got, o.Subject+" "+o.ID)
			}
			if !slices.Equal(got, c.outputs) {
				t.Errorf("outputs %q, want %q", got, c.outputs)
			}
			if imager.Decoded() != c.decoded {
				t.Errorf("decoded %d times, want %d", imager.Decoded(), c.decoded)
			}
		})
	}
}

func TestHandlerTensor(t *testing.T) {
	f := facts()
	f.Models = []string{"box", "gray"}
	src := imagertest.Quadrants(320, 240)
	outputs, err := preprocess.NewHandler(declared(), &preprocess.Fake{}, nil).Handle(t.Context(), message(f, streams.Freshest, imagertest.PNG(src)))
	if err != nil {
		t.Fatal(err)
	}
	box := decodeTensor(t, outputs[0])
	if box.Name != f.Name || !box.Captured.Equal(f.Captured) || !box.Deadline.Equal(f.Deadline) || box.Status != "ok" || box.Trace != trace || box.SourceW != 640 {
		t.Errorf("facts %+v, want %+v", box.Facts, f)
	}
	if box.Width != 64 || box.Height != 64 || box.Channels != 3 || box.Color != "rgb" || box.Lane != streams.LaneStable {
		t.Errorf("tensor %+v", box)
	}
	// 320x240 goes to 64x48 between bars of 8 lines; the camera's own picture is twice as large as the frame.
	if want := [4]float64{10, 10, 0, -80}; box.Transform != want {
		t.Errorf("transform %v, want %v", box.Transform, want)
	}
	data := outputs[0].Data
	if !bytes.Equal(data[:64*8*3], bytes.Repeat([]byte{114}, 64*8*3)) || !bytes.Equal(data[64*56*3:], bytes.Repeat([]byte{114}, 64*8*3)) {
		t.Error("the bars are not grey")
	}
	if want := src.NRGBAAt(10, 10); data[64*9*3] != want.R || data[64*9*3+2] != want.B {
		t.Errorf("top left is %v, want %v", data[64*9*3:64*9*3+3], want)
	}
	gray := decodeTensor(t, outputs[1])
	if want := [4]float64{16, 16, 0, 0}; gray.Transform != want || gray.Channels != 1 || len(outputs[1].Data) != 40*30 {
		t.Errorf("gray: %+v of %d bytes", gray, len(outputs[1].Data))
	}
	if box.Quality != gray.Quality || box.Quality.Luma < 50 || box.Quality.Hash == 0 {
		t.Errorf("quality %+v and %+v", box.Quality, gray.Quality)
	}
	stages := make([]string, 0, 3)
	for _, timing := range box.Timings {
		stages = append(stages, timing.Stage)
	}
	if want := []string{"ingest", "preprocess.queue", "preprocess"}; !slices.Equal(stages, want) || box.Timings[1].Took != 2*time.Millisecond || box.Timings[2].Took <= 0 {
		t.Errorf("timings %v, want %v", box.Timings, want)
	}
}

func TestHandlerRegion(t *testing.T) {
	f := facts()
	f.ROI = frame.ROI{0.5, 0.5, 1, 1} // the last quadrant, all one colour
	outputs, err := preprocess.NewHandler(declared(), &preprocess.Fake{}, nil).Handle(t.Context(), message(f, streams.Freshest, imagertest.PNG(imagertest.Quadrants(322, 242))))
	if err != nil {
		t.Fatal(err)
	}
	tensor := decodeTensor(t, outputs[0])
	if q := tensor.Quality; q.Contrast > 10 {
		t.Errorf("the quality is not that of the region: %+v", q)
	}
	left, top := tensor.Transform[2], 8*tensor.Transform[1]+tensor.Transform[3]
	if math.Abs(left-320) > 2.5 || math.Abs(top-240) > 2.5 {
		t.Errorf("the content's corner maps to %.2f, %.2f of the camera's picture, want about 320, 240", left, top)
	}
	right, bottom := 64*tensor.Transform[0]+left, 56*tensor.Transform[1]+tensor.Transform[3]
	if math.Abs(right-640) > 1e-6 || math.Abs(bottom-480) > 1e-6 {
		t.Errorf("the opposite corner maps to %.2f, %.2f, want 640, 480", right, bottom)
	}
	tiny := facts()
	tiny.ROI = frame.ROI{0.985, 0.985, 0.995, 0.995}
	if _, err := preprocess.NewHandler(declared(), &preprocess.Fake{}, nil).Handle(t.Context(), message(tiny, streams.Freshest, imagertest.PNG(imagertest.Noise(8, 8, 1)))); err != nil {
		t.Errorf("a region of less than a pixel: %v", err)
	}
}

func TestReleasedBuffersAreCleanAgain(t *testing.T) {
	h := preprocess.NewHandler(declared(), &preprocess.Fake{}, nil)
	white, black := image.NewGray(image.Rect(0, 0, 32, 24)), image.NewGray(image.Rect(0, 0, 32, 24))
	for i := range white.Pix {
		white.Pix[i] = 255
	}
	want, err := h.Handle(t.Context(), message(facts(), streams.Freshest, imagertest.PNG(black)))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		for _, img := range []image.Image{white, black} {
			got, err := h.Handle(t.Context(), message(facts(), streams.Freshest, imagertest.PNG(img)))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(got[0].Data, want[0].Data) != (img == black) {
				t.Fatal("a used buffer shows")
			}
			h.Release(got)
		}
	}
}

func decodeTensor(t *testing.T, o stage.Output) frame.Tensor {
	t.Helper()
	tensor, err := frame.DecodeTensor(o.Header, o.Data)
	if err != nil {
		t.Fatal(err)
	}
	return tensor
}

package cv_test

import (
	"fmt"
	"image"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/preprocess/cv"
	"github.com/sightline-dev/sightline/services/preprocess/imagertest"
	"github.com/sightline-dev/sightline/streams"
)

var sizes = []image.Point{{320, 240}, {1280, 720}}

// measure reports CPU time beside the wall's: other people's work on the machine is not in it.
func measure(b *testing.B, f func()) {
	b.Helper()
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/1e3/float64(b.N), "cpu-ms")
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkDecode(b *testing.B) {
	for _, size := range sizes {
		data := imagertest.JPEG(imagertest.Scene(size.X, size.Y, 0.3), 85)
		b.Run(fmt.Sprintf("%dx%d", size.X, size.Y), func(b *testing.B) {
			measure(b, func() {
				img, err := cv.Decode(data)
				if err != nil {
					b.Fatal(err)
				}
				img.Close()
			})
		})
	}
}

func BenchmarkQuality(b *testing.B) {
	for _, size := range sizes {
		img := decode(b, imagertest.JPEG(imagertest.Scene(size.X, size.Y, 0.3), 85))
		b.Run(fmt.Sprintf("%dx%d", size.X, size.Y), func(b *testing.B) {
			measure(b, func() {
				img.Quality(model.Region{})
			})
		})
	}
}

func BenchmarkTensor(b *testing.B) {
	for _, c := range []struct {
		name  string
		from  image.Point
		input model.Input
	}{
		{"320x240 rgb as it is", sizes[0], model.Input{Width: 320, Height: 240, Color: model.RGB, Resize: model.Letterbox, Pad: 114}},
		{"320x240 bgr as it is", sizes[0], model.Input{Width: 320, Height: 240, Color: model.BGR, Resize: model.Letterbox, Pad: 114}},
		{"720p stretched to 352x352 bgr", sizes[1], model.Input{Width: 352, Height: 352, Color: model.BGR, Resize: model.Stretch}},
		{"720p letterboxed to 320x240 rgb", sizes[1], model.Input{Width: 320, Height: 240, Color: model.RGB, Resize: model.Letterbox, Pad: 114}},
		{"1279x719 letterboxed to 320x240 rgb", image.Pt(1279, 719), model.Input{Width: 320, Height: 240, Color: model.RGB, Resize: model.Letterbox, Pad: 114}},
	} {
		img := decode(b, imagertest.JPEG(imagertest.Scene(c.from.X, c.from.Y, 0.3), 85))
		plan, err := c.input.Plan(c.from.X, c.from.Y, model.Region{})
		if err != nil {
			b.Fatal(err)
		}
		dst := make([]byte, c.input.Bytes())
		b.Run(c.name, func(b *testing.B) {
			measure(b, func() {
				if err := img.Tensor(dst, plan, c.input); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkHandler is everything that preprocess does for one frame of an ingest that scales: 320x240 to 320x240.
func BenchmarkHandler(b *testing.B) {
	d, _ := model.Preset(model.Person)
	d.Input.Width, d.Input.Height = 320, 240
	h := preprocess.NewHandler(preprocess.StaticModels{"person": d}, cv.Imager{}, nil)
	facts := frame.Facts{
		Name: frame.Name{Camera: "gate", Epoch: 7, Seq: 1}, Captured: time.Now(), Deadline: time.Now().Add(time.Hour),
		SourceW: 1280, SourceH: 960, Models: []string{"person"}, Status: "ok", Timings: frame.Timings{{Stage: "ingest", Took: time.Millisecond}},
	}
	m := stage.Message{
		Subject: streams.FrameSubject(streams.Freshest, "gate"), Header: nats.Header{},
		Data: imagertest.JPEG(imagertest.Scene(320, 240, 0.3), 85), Queued: time.Millisecond,
	}
	facts.Encode(m.Header)
	measure(b, func() {
		outputs, err := h.Handle(b.Context(), m)
		if err != nil || len(outputs) != 1 || len(outputs[0].Data) != 320*240*3 {
			b.Fatal(len(outputs), err)
		}
		h.Release(outputs)
	})
}

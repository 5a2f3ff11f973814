package driftmonitor

import (
	"context"
	"log/slog"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/services/drift-monitor/detect"
	"github.com/sightline-dev/sightline/streams"
)

// leader leads without a lease.
type leader struct{}

func (leader) Confirm(context.Context) error { return nil }
func (leader) Token() uint64                 { return 1 }

// BenchmarkThousandCameras is what a thousand cameras take, each with a day's references, hour by hour: memory, and time for each
// answer. One whose references are not stored (there is no broker here) is the most that a monitor has to remember.
func BenchmarkThousandCameras(b *testing.B) {
	const cameras = 1000
	clean := footage(b, "clean")
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		judge := detect.Default()
		judge.Reference.Span = 3 * time.Minute // and three times that for a scene that does not settle
		m := newMonitor(Config{Detect: judge}, Deps{Log: slog.New(slog.DiscardHandler)}, events.NewPublisher(nil, "bench"), leader{}, newMeasure(nil))
		m.declared = map[string]config.Camera{}
		answers, began := 0, time.Now()
		for i := range cameras {
			name := "camera-" + strconv.Itoa(i)
			m.declared[name] = config.Camera{Name: name}
			c := m.camera(name)
			answers += m.day(b, c, name, clean)
		}
		took := time.Since(began)
		runtime.GC()
		runtime.ReadMemStats(&after)
		size := 0
		for _, c := range m.cameras {
			data, err := c.encode()
			if err != nil {
				b.Fatal(err)
			}
			size += len(data)
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/cameras/1024, "kB/camera")
		b.ReportMetric(float64(size)/cameras/1024, "kB-saved/camera")
		b.ReportMetric(float64(took.Nanoseconds())/float64(answers), "ns/answer")
		if got := after.HeapAlloc - before.HeapAlloc; got > 1<<30 {
			b.Errorf("%d MiB", got>>20)
		}
		runtime.KeepAlive(m)
	}
}

// day shows a camera ten minutes and more of every hour, one picture every two seconds.
func (m *monitor) day(b *testing.B, c *camera, name string, clean []predictions.Quality) (answers int) {
	b.Helper()
	w, err := m.fresh(name, "person", "1", time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
	if err != nil {
		b.Fatal(err)
	}
	c.models["person"] = w
	detections := []predictions.Detection{{Class: "person", Score: 0.9, Box: predictions.Box{10, 20, 60, 180}}, {Class: "person", Score: 0.6, Box: predictions.Box{300, 200, 340, 290}}}
	for hour := range 24 {
		at := time.Date(2026, 1, 31, hour, 0, 0, 0, time.UTC)
		for i := range 330 {
			q := clean[(7*i+hour)%len(clean)]
			p := predictions.Prediction{
				Kind: predictions.KindPrediction, Camera: name, Model: "person", Version: "1", Lane: streams.LaneStable,
				Frame: frame.Name{Camera: name, Epoch: 1, Seq: uint64(hour*1000 + i + 1)}.String(), CapturedAt: at.Add(time.Duration(2*i) * time.Second),
				Image: &predictions.Image{Width: 768, Height: 576}, Quality: &q, Detections: detections[:i%3%2+1],
			}
			m.predicted(b.Context(), &p)
			answers++
		}
	}
	if n := len(w.detector.Reference().Buckets); n < 20 {
		b.Fatalf("%d hours have a reference", n)
	}
	return answers
}

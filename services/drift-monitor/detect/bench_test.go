package detect

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/services/drift-monitor/feature"
	"github.com/sightline-dev/sightline/services/drift-monitor/reference"
)

// busy is an observation as large as they come: 100 detections of 20 classes and an embedding of 512 numbers.
func busy(at time.Time, random *rand.Rand) feature.Observation {
	o := feature.Observation{
		At: at, Width: 1920, Height: 1080, Luma: 255 * random.Float64(), Contrast: 80 * random.Float64(),
		Sharpness: 4000 * random.Float64(), Saturation: 255 * random.Float64(), Motion: 60 * random.Float64(), Hash: random.Uint64(),
		Embedding: make([]float32, 512),
	}
	for i := range o.Embedding {
		o.Embedding[i] = random.Float32()
	}
	for range 100 {
		x, y := random.Float64()*1800, random.Float64()*1000
		o.Detections = append(o.Detections, feature.Detection{
			Class: fmt.Sprint("class", random.IntN(20)), Score: random.Float64(),
			Box: [4]float64{x, y, x + 1 + 100*random.Float64(), y + 1 + 100*random.Float64()},
		})
	}
	return o
}

// BenchmarkCamera measures what a camera's whole state takes: 24 hours of reference, full windows, and a reference that is
// being captured; of the clip, and of pictures as busy as they come.
func BenchmarkCamera(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	full := &clip{name: "busy"}
	for range 64 {
		full.observations = append(full.observations, busy(morning(), random))
	}
	for _, c := range []*clip{loadClip(b, "steady"), full} {
		b.Run(c.name, func(b *testing.B) { benchmarkCamera(b, c.observations) })
	}
}

func benchmarkCamera(b *testing.B, observations []feature.Observation) {
	b.Helper()
	const cameras = 4
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		var all []*Detector
		for range cameras {
			d := newDetector(b, config())
			at := morning()
			for h := range 24 { // 10 minutes of each hour
				at = morning().Add(time.Duration(h) * time.Hour)
				for i := range 600 {
					o := observations[5*i%len(observations)] // the clip has five a second
					o.At = at.Add(time.Duration(i) * time.Second)
					d.Observe(&o)
				}
			}
			d.s.Learner = fullLearner(observations, at)
			all = append(all, d)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		stored, err := all[0].Reference().Encode()
		if err != nil {
			b.Fatal(err)
		}
		state, err := all[0].Encode()
		if err != nil {
			b.Fatal(err)
		}
		each := float64(after.HeapAlloc-before.HeapAlloc) / cameras
		b.ReportMetric(each/1024, "KiB/camera")
		b.ReportMetric(each*1000/(1<<30), "GiB/1000-cameras")
		b.ReportMetric(float64(len(stored))/1024, "KiB/reference-json")
		b.ReportMetric(float64(len(state))/1024, "KiB/state-json")
		if each*1000 > 1<<30 {
			b.Errorf("1000 cameras take %.2f GiB", each*1000/(1<<30))
		}
		if buckets := len(all[0].Reference().Buckets); buckets != 24 {
			b.Errorf("%d hours", buckets)
		}
		runtime.KeepAlive(all)
	}
}

// fullLearner is as large as one gets.
func fullLearner(observations []feature.Observation, at time.Time) *reference.Learner {
	l := reference.NewLearner(0, 5)
	for i := range 640 {
		o := observations[i%len(observations)]
		o.At = at.Add(time.Duration(i) * time.Second)
		l.Observe(&o)
	}
	return l
}

// BenchmarkObserve is the cost of one picture: of the clip, and of pictures as busy as they come, each at 5 a second.
func BenchmarkObserve(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	full := &clip{name: "busy"}
	for range 400 {
		full.observations = append(full.observations, busy(morning(), random))
	}
	for _, c := range []*clip{loadClip(b, "steady"), full} {
		b.Run(c.name, func(b *testing.B) {
			cfg := config()
			cfg.Reference.Hours = 24 // one bucket, that is known after three minutes
			p := &player{d: newDetector(b, cfg), at: morning()}
			p.play(600, c)
			if len(p.d.Reference().Buckets) != 1 {
				b.Fatal("no reference after ten minutes")
			}
			verdicts, observed := 0, 0
			b.ReportAllocs()
			for b.Loop() {
				o := c.observations[p.frame%len(c.observations)]
				o.At = p.at
				if _, ok := p.d.Observe(&o); ok {
					verdicts++
				}
				p.frame++
				observed++
				p.at = p.at.Add(interval)
			}
			if observed > 1000 && verdicts < observed/50 { // one in 25 ends a block
				b.Fatalf("%d verdicts of %d observations: it measures nothing", verdicts, observed)
			}
		})
	}
}

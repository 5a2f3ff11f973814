package ledger

import (
	"flag"
	"fmt"
	"math/rand"
	"runtime"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/streams"
)

// A system of 1,000 cameras with 2 models at 10 frames per second, where the rings evict every tenth frame and every
// camera is taken over every ten minutes. Reporters of so many cameras report every 5 s.
const (
	benchCameras = 1000
	benchFPS     = 10
	benchRound   = MaxFlushInterval
	benchEpoch   = 10 * time.Minute
)

var benchFor = flag.Duration("ledger.for", time.Hour, "made-up time that BenchmarkBooks keeps books for")

// benchRecords are the records of one camera's round: of ingest, two preprocess workers that share the frames, and an infer
// worker for each model.
func benchRecords(r *rand.Rand, camera int, round int) []Record {
	at := start.Add(time.Duration(round)*benchRound + time.Duration(camera)*benchRound/benchCameras)
	perEpoch := int(benchEpoch / benchRound)
	shifted := round + camera%perEpoch // not all at once
	record := func(stage, instance string, entries ...Entry) Record {
		return Record{Camera: fmt.Sprintf("cam-%04d", camera), Epoch: uint64(shifted/perEpoch + 1), Stage: stage, Instance: instance, Run: 1, Every: benchRound.Milliseconds(), At: at, Entries: entries}
	}
	const frames = benchFPS * uint64(benchRound/time.Second)
	first := uint64(shifted%perEpoch)*frames + 1
	last := first + frames - 1
	taken := [2]Ranges{}
	var all Ranges
	for seq := first; seq <= last; seq++ {
		if r.Intn(10) > 0 || seq == last {
			taken[r.Intn(2)].Add(seq, seq)
			all.Add(seq, seq)
		}
	}
	ingest := record("ingest", "ingest-0", Entry{Mark: Captured, Frames: Ranges{{first, last}}}, Entry{Mark: Published, Frames: Ranges{{first, last}}})
	ingest.Route = &Route{Delivery: streams.Freshest, Models: []string{"people", "vehicles"}, MaxAge: time.Second}
	out := []Record{ingest}
	for i, t := range taken {
		out = append(out, record("preprocess", fmt.Sprintf("preprocess-%d", i),
			Entry{Mark: Taken, Frames: t}, Entry{Mark: Forwarded, Model: "people", Frames: t}, Entry{Mark: Forwarded, Model: "vehicles", Frames: t}))
	}
	for i, model := range ingest.Route.Models {
		out = append(out, record("infer", fmt.Sprintf("infer-%d", i), Entry{Mark: Taken, Model: model, Frames: all}, Entry{Mark: Predicted, Model: model, Frames: all}))
	}
	return out
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkBooks keeps the books of a made-up hour, and looks at them every 5 s as an Auditor does.
func BenchmarkBooks(b *testing.B) {
	for b.Loop() {
		empty := heap()
		random := rand.New(rand.NewSource(1))
		books := &Books{audited: true}
		var applying, looking time.Duration
		records, most, bytes := 0, uint64(0), 0
		rounds := int(*benchFor / benchRound)
		for round := range rounds {
			for camera := range benchCameras {
				told := benchRecords(random, camera, round)
				began := time.Now()
				for _, r := range told {
					books.Apply(r)
				}
				applying += time.Since(began)
				records += len(told)
			}
			now := start.Add(time.Duration(round+1) * benchRound)
			began := time.Now()
			q := books.questions(books.at(now, nil))
			books.learn(q, nil, now)
			lines := books.Lines(now, nil)
			looking += time.Since(began)
			for _, l := range lines {
				if !l.Balanced() {
					b.Fatalf("%v: %+v", now, l)
				}
			}
			if round == rounds/2 || round == rounds-1 {
				most = max(most, heap()-empty)
			}
		}
		began := time.Now()
		for _, c := range books.cameras {
			data, err := encodeCamera(c)
			if err != nil {
				b.Fatal(err)
			}
			if data, err = compressed(data); err != nil {
				b.Fatal(err)
			}
			bytes += len(data)
		}
		encoding := time.Since(began)
		b.ReportMetric(float64(most)/benchCameras, "heap-B/camera")
		b.ReportMetric(float64(bytes)/benchCameras, "checkpoint-B/camera")
		b.ReportMetric(float64(encoding.Milliseconds()), "checkpoint-ms")
		b.ReportMetric(float64(applying.Nanoseconds())/float64(records), "ns/record")
		b.ReportMetric(float64(looking.Milliseconds())/float64(rounds), "look-ms")
		b.ReportMetric(float64(records), "records")
		runtime.KeepAlive(books)
	}
}

// BenchmarkReporter is the Reporter of one infer worker that answers for all of these cameras.
func BenchmarkReporter(b *testing.B) {
	f := &records{}
	r := NewReporter(f, "infer", "infer-0")
	plan := planOf(benchCameras)
	r.every = plan.every
	random := rand.New(rand.NewSource(1))
	frames := int(plan.every/time.Second) * benchFPS
	var adding time.Duration
	rounds, seq, adds := 0, uint64(0), 0
	for b.Loop() {
		for range frames {
			seq++
			for camera := range benchCameras {
				if random.Intn(10) == 0 {
					continue
				}
				n := name(fmt.Sprintf("cam-%04d", camera), seq)
				began := time.Now()
				for _, model := range []string{"people", "vehicles"} {
					r.Add(n, Taken, model, "")
					r.Add(n, Predicted, model, "")
				}
				adding += time.Since(began)
				adds += 4
			}
		}
		for slot := range plan.slots {
			if _, err := r.flush(b.Context(), func(k epochKey) bool { return plan.slotOf(k.camera) == slot }); err != nil {
				b.Fatal(err)
			}
		}
		rounds++
	}
	seconds := float64(rounds) * plan.every.Seconds()
	b.ReportMetric(float64(len(f.told))/seconds, "records/s")
	b.ReportMetric(float64(f.bytes)/seconds, "B/s")
	b.ReportMetric(float64(f.bytes)/float64(len(f.told)), "B/record")
	b.ReportMetric(float64(adding.Nanoseconds())/float64(adds), "ns/Add")
}

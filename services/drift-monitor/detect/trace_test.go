package detect

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/services/drift-monitor/feature"
)

// A clip is a trace as services/sightline/drifttrace writes it: one observation each fifth of a second.
type clip struct {
	name         string
	observations []feature.Observation
}

// tracesVariable names a folder with all traces of record.sh. Without it there are those of testdata: see scenarios.
const tracesVariable = "SIGHTLINE_DRIFT_TRACES"

const interval = 200 * time.Millisecond

func loadClip(tb testing.TB, name string) *clip {
	tb.Helper()
	dir := "testdata"
	if d := os.Getenv(tracesVariable); d != "" {
		dir = d
	}
	f, err := os.Open(filepath.Join(dir, name+".jsonl.gz"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	c := &clip{name: name}
	lines := bufio.NewScanner(z)
	var width, height float64
	for n := 0; lines.Scan(); n++ {
		var v []any
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			tb.Fatalf("%s:%d: %v", name, n+1, err)
		}
		number := func(i int) float64 { x, _ := v[i].(float64); return x }
		if n == 0 {
			width, height = number(0), number(1)
			continue
		}
		hash, err := strconv.ParseUint(v[6].(string), 16, 64)
		if err != nil {
			tb.Fatal(err)
		}
		o := feature.Observation{
			Width: width, Height: height, Luma: number(1), Contrast: number(2), Sharpness: number(3),
			Saturation: number(4), Motion: number(5), Hash: hash,
		}
		if n == 1 {
			o.Motion = math.NaN()
		}
		for i := 7; i+4 < len(v); i += 5 {
			o.Detections = append(o.Detections, feature.Detection{
				Class: "person", Score: number(i) / 1000, Box: [4]float64{number(i + 1), number(i + 2), number(i + 3), number(i + 4)},
			})
		}
		c.observations = append(c.observations, o)
	}
	if lines.Err() != nil || len(c.observations) < 100 {
		tb.Fatalf("%s: %d observations, %v", name, len(c.observations), lines.Err())
	}
	return c
}

// A player plays clips one after the other on one clock.
type player struct {
	d     *Detector
	at    time.Time
	frame int
	see   func(Verdict)
}

func (p *player) play(seconds float64, clips ...*clip) {
	for n := int(seconds * float64(time.Second) / float64(interval)); n > 0; n-- {
		c := clips[p.frame/len(clips[0].observations)%len(clips)]
		o := c.observations[p.frame%len(c.observations)]
		o.At = p.at
		if v, ok := p.d.Observe(&o); ok && p.see != nil {
			p.see(v)
		}
		p.at = p.at.Add(interval)
		p.frame++
	}
}

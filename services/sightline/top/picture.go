// Package top is the system as a terminal shows it while it runs: rates, ages, fates, the load of workers and drift, with what
// they were over the last minutes. It knows no more than NATS tells: PREDICTIONS, EVENTS, the books, WORKERS and DRIFT.
//
// [Gather] listens; [Picture.Draw] draws what was gathered into so many columns and lines, and nothing else decides how it looks.
package top

import (
	"cmp"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/services/sightline/watch"
)

// kept is how many values of a series are kept: two minutes, one a second.
const kept = 120

// Series are the last values of something, oldest first.
type Series []float64

// add appends a value and forgets what is too old.
func (s *Series) add(v float64) {
	*s = append(*s, v)
	if n := len(*s) - kept; n > 0 {
		*s = slices.Delete(*s, 0, n)
	}
}

// last is the newest value.
func (s Series) last() float64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1]
}

// Picture is what is shown.
type Picture struct {
	At      time.Time
	Server  string
	Totals  Totals
	Cameras []CameraRow
	Workers []WorkerRow
	Drift   []string // what is drifting, and faults of cameras
	Notes   []string // what happened last
	Booked  bool     // whether the books were read at least once
	Problem string   // what keeps it from being up to date
}

// Totals are figures of the whole system.
type Totals struct {
	In, Out, P50, P99                          Series
	Superseded, Expired, Quarantined, InFlight Series // per second, the last one frames
	Lost                                       uint64
	Live, All                                  int
}

// CameraRow is a camera as seen by one model.
type CameraRow struct {
	watch.Camera
	Out, P99 Series
	Drift    string
}

// WorkerRow is a process at work.
type WorkerRow struct {
	Service, Instance, State string
	Held                     int
	Busy                     Series // 0 to 1
}

// history is what pictures remember of those before.
type history struct {
	totals  Totals
	cameras map[[2]string]*[2]Series
	workers map[string]*Series
	fates   [3]uint64 // superseded, expired, quarantined at the last books
	booked  time.Time
	rates   [3]float64
}

func newHistory() *history {
	return &history{cameras: map[[2]string]*[2]Series{}, workers: map[string]*Series{}}
}

// sample is what is heard at one moment.
type sample struct {
	at      time.Time
	cameras []watch.Camera
	booked  time.Time // when the books were last read; zero: never
	workers map[string]fleet.Seen
	drift   drift.Report
}

// add makes a picture of a sample and of what came before.
func (h *history) add(s sample) Picture {
	p := Picture{At: s.at, Booked: !s.booked.IsZero()}
	h.cameraRows(s, &p)
	h.workerRows(s, &p)
	p.Totals = h.totals
	p.Totals.In, p.Totals.Out, p.Totals.P50, p.Totals.P99 = slices.Clone(h.totals.In), slices.Clone(h.totals.Out), slices.Clone(h.totals.P50), slices.Clone(h.totals.P99)
	p.Totals.Superseded, p.Totals.Expired = slices.Clone(h.totals.Superseded), slices.Clone(h.totals.Expired)
	p.Totals.Quarantined, p.Totals.InFlight = slices.Clone(h.totals.Quarantined), slices.Clone(h.totals.InFlight)
	p.Drift = drifting(s.drift)
	return p
}

func (h *history) cameraRows(s sample, p *Picture) {
	var in, out, p99, flight float64
	var ages []float64
	var fates [3]uint64
	states, faults := driftStates(s.drift)
	live, all := map[string]bool{}, map[string]bool{}
	captured := map[string]float64{} // a camera's frames are the same for all its models
	h.totals.Lost = 0
	seen := map[[2]string]bool{}
	for _, c := range s.cameras {
		k := [2]string{c.Camera, c.Model}
		seen[k] = true
		all[c.Camera] = true
		if c.State == "live" {
			live[c.Camera] = true
		}
		captured[c.Camera] = max(captured[c.Camera], c.FPSIn)
		out += c.FPSOut
		p99, flight = max(p99, c.AgeP99), flight+float64(c.Books.InFlight)
		if c.AgeP50 > 0 {
			ages = append(ages, c.AgeP50)
		}
		fates[0], fates[1], fates[2] = fates[0]+c.Books.Superseded, fates[1]+c.Books.Expired, fates[2]+c.Books.Quarantined
		h.totals.Lost += c.Books.Lost
		mine := h.cameras[k]
		if mine == nil {
			mine = &[2]Series{}
			h.cameras[k] = mine
		}
		mine[0].add(c.FPSOut)
		mine[1].add(c.AgeP99)
		p.Cameras = append(p.Cameras, CameraRow{Camera: c, Out: slices.Clone(mine[0]), P99: slices.Clone(mine[1]), Drift: cmp.Or(faults[c.Camera], states[k])})
	}
	for k := range h.cameras {
		if !seen[k] {
			delete(h.cameras, k)
		}
	}
	for _, v := range captured {
		in += v
	}
	if s.booked.After(h.booked) {
		if took := s.booked.Sub(h.booked).Seconds(); !h.booked.IsZero() && took > 0 {
			for i := range fates {
				h.rates[i] = float64(fates[i]-min(fates[i], h.fates[i])) / took
			}
		}
		h.booked, h.fates = s.booked, fates
	}
	t := &h.totals
	t.Live, t.All = len(live), len(all)
	slices.Sort(ages)
	p50 := 0.0
	if len(ages) > 0 {
		p50 = ages[len(ages)/2]
	}
	t.In.add(in)
	t.Out.add(out)
	t.P50.add(p50)
	t.P99.add(p99)
	t.Superseded.add(h.rates[0])
	t.Expired.add(h.rates[1])
	t.Quarantined.add(h.rates[2])
	t.InFlight.add(flight)
}

func (h *history) workerRows(s sample, p *Picture) {
	for key, w := range s.workers {
		busy := h.workers[key]
		if busy == nil {
			busy = &Series{}
			h.workers[key] = busy
		}
		row := WorkerRow{Service: w.Service, Instance: w.Instance, State: string(w.State)}
		load := w.Load.Busy
		if w.State != fleet.Alive {
			load = 0
		}
		busy.add(load)
		for _, c := range w.Claims {
			row.Held += len(c.Held)
		}
		row.Busy = slices.Clone(*busy)
		p.Workers = append(p.Workers, row)
	}
	for key := range h.workers {
		if _, known := s.workers[key]; !known {
			delete(h.workers, key)
		}
	}
	slices.SortFunc(p.Workers, func(a, b WorkerRow) int {
		return cmp.Or(cmp.Compare(a.State, b.State), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Instance, b.Instance))
	})
}

// driftStates are a word for every camera and model, and the first fault of every camera that has one.
func driftStates(r drift.Report) (out map[[2]string]string, faults map[string]string) {
	out, faults = map[[2]string]string{}, map[string]string{}
	for _, i := range r.Integrities {
		if len(i.Faults) > 0 {
			faults[i.Camera] = string(i.Faults[0].Fault)
		}
	}
	for _, s := range r.Statuses {
		out[[2]string{s.Camera, s.Model}] = string(s.State)
	}
	return out, faults
}

// drifting are lines about what is not ok.
func drifting(r drift.Report) []string {
	var out []string
	for _, i := range r.Integrities {
		for _, f := range i.Faults {
			out = append(out, i.Camera+" looks "+string(f.Fault)+" since "+f.Since.Local().Format(time.TimeOnly))
		}
	}
	for _, s := range r.Statuses {
		if s.State == drift.DataDrift || s.State == drift.SuspectedLoss {
			out = append(out, s.Camera+" "+s.Model+": "+string(s.State)+", "+s.Cause)
		}
	}
	return out
}

package run

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/chaos/faults"
	"github.com/sightline-dev/sightline/chaos/meter"
	"github.com/sightline-dev/sightline/chaos/report"
	"github.com/sightline-dev/sightline/chaos/schedule"
	"github.com/sightline-dev/sightline/chaos/world"
)

// gapGrace is how long after a camera is back a gap record may still cover it.
const gapGrace = 5 * time.Second

// suits says whether a fault can come in a world's random run: a cluster bears what a single node bears, and what is meant
// for it, but its nodes are not "the only one".
func suits(f faults.Fault, kind world.Kind) bool {
	return f.Weight > 0 && (f.World == kind || kind == world.Cluster && f.Name != "restart-nats")
}

// atRandom injects faults in the order of a seeded schedule, without waiting for the system to recover in between.
func (r *runner) atRandom(ctx context.Context, kind world.Kind, d time.Duration) *report.Row {
	row := &report.Row{
		Name: randomName + "-" + string(kind), Title: fmt.Sprintf("all of the above at random for %s, %s broker", d, kind),
		Availability: &report.Availability{},
	}
	byName := map[string]faults.Fault{}
	var deck []schedule.Weighted
	for _, f := range faults.All() {
		if suits(f, kind) {
			byName[f.Name] = f
			deck = append(deck, schedule.Weighted{Name: f.Name, Weight: f.Weight})
		}
	}
	before, cancel := context.WithTimeout(ctx, steadyWithin)
	defer cancel()
	if err := r.steady(before); err != nil {
		row.Failures = append(row.Failures, "before the random run: "+err.Error())
		return row
	}
	began := time.Now()
	var tried []*faults.Round
	for i, e := range schedule.Draw(r.seed, string(kind), deck, int(d/schedule.MinPause)+1) {
		if time.Since(began)+e.After > d || !sleep(ctx, e.After) {
			break
		}
		in := faults.NewRound(r.w, schedule.Rand(r.seed, randomName+"/"+string(kind), i), i+1)
		in.Random = true
		x := &report.Round{Number: i + 1, Began: time.Now().UTC(), Figures: map[string]time.Duration{}, Notes: []string{e.Name}}
		injecting, cancel := context.WithTimeout(ctx, injectWithin)
		if err := byName[e.Name].Inject(injecting, in); err != nil {
			x.Notes = append(x.Notes, "not carried out: "+err.Error()) // another fault was in the way
		}
		cancel()
		x.Phases, x.Notes = in.Phases, append(x.Notes, in.Notes...)
		r.say("random: %v", x.Notes)
		tried = append(tried, in)
		row.Rounds = append(row.Rounds, x)
	}
	ended := time.Now()
	after, cancel := context.WithTimeout(ctx, recoverWithin)
	defer cancel()
	sleep(after, calm)
	if err := r.steady(after); err != nil {
		row.Failures = append(row.Failures, "after the random run: "+err.Error())
	}
	for i, in := range tried {
		if err := r.met(ctx, in, row.Rounds[i], true); err != nil {
			row.Rounds[i].Failures = append(row.Rounds[i].Failures, err.Error())
		}
	}
	if _, err := r.w.Reader.Settle(ctx, r.w.Facts.Now(), r.w.EveryFrame(), world.Model, r.missing, patience); err != nil {
		row.Failures = append(row.Failures, err.Error())
	}
	for _, c := range r.w.Cameras {
		v := r.w.Meter.Coverage(c.Name, began, ended, r.excused(tried, c.Name, ended))
		row.Availability.Covered += v.Covered
		row.Availability.Live += v.Live
		row.Availability.Seconds += v.Seconds
		if len(v.Missing) > 0 {
			row.Details = append(row.Details, fmt.Sprintf("%s: %d of %d seconds covered, %d live; missing: %s", c.Name, v.Covered, v.Seconds, v.Live, blame(row.Rounds, v.Missing)))
		}
	}
	r.judge(ctx, row)
	return row
}

// blame says how long after which fault seconds are missing.
func blame(rounds []*report.Round, missing []time.Time) string {
	out := make([]string, 0, len(missing))
	for _, second := range missing {
		after := "no fault"
		for _, x := range rounds {
			for _, p := range x.Phases {
				if p.At.Before(second.Add(time.Second)) {
					after = fmt.Sprintf("%s, %.1f s after %q", x.Notes[0], second.Sub(p.At).Seconds(), p.Name)
				}
			}
		}
		out = append(out, after)
	}
	return strings.Join(out, "; ")
}

// excused are the gap records of a camera that concern a time at which the schedule itself had taken it away.
func (r *runner) excused(tried []*faults.Round, camera string, until time.Time) []meter.Span {
	var out []meter.Span
	for _, span := range r.w.Seen.Spans(camera, until) {
		for _, in := range tried {
			for _, a := range in.Away {
				if a.Camera == camera && span.From.Before(a.To) && span.To.After(a.From) {
					if end := a.To.Add(gapGrace); span.To.After(end) {
						span.To = end
					}
					out = append(out, span)
				}
			}
		}
	}
	return out
}

// Package report is what a run of chaos came to: every round, the medians, and whether each target was met.
package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sightline-dev/sightline/chaos/meter"
)

// Report is a whole run.
type Report struct {
	// Of is what a row is, for people: "" is a fault.
	Of string `json:"-"`

	Seed     uint64        `json:"seed"`
	Began    time.Time     `json:"began"`
	Took     time.Duration `json:"took_ns"`
	Machine  Machine       `json:"machine"`
	Rows     []*Row        `json:"rows"`
	Problems []string      `json:"problems"` // of the run as a whole: a world that did not start
}

// Machine is where it ran, and what.
type Machine struct {
	CPUs     int               `json:"cpus"`
	OS       string            `json:"os"`
	Kernel   string            `json:"kernel"`
	Versions map[string]string `json:"versions"`
}

// Row is one fault.
type Row struct {
	Name   string                   `json:"name"`
	Title  string                   `json:"title"`
	From   string                   `json:"from"` // what recovery is counted from
	Target time.Duration            `json:"target_ns"`
	Limits map[string]time.Duration `json:"limits_ns,omitempty"`
	Rounds []*Round                 `json:"rounds"`
	// Lost and Doubled are of the whole row. LostBy says which cameras, by whose count.
	Lost    uint64   `json:"lost"`
	Doubled uint64   `json:"doubled"`
	Details []string `json:"details,omitempty"`
	// Availability is of the random run only: covered camera-seconds of all.
	Availability *Availability `json:"availability,omitempty"`
	// Failures are what went wrong besides losses, doubles and recovery times.
	Failures []string `json:"failures,omitempty"`
}

// Availability counts camera-seconds.
type Availability struct {
	Covered int `json:"covered"`
	Live    int `json:"live"` // as they happened, not afterwards
	Seconds int `json:"seconds"`
}

// MinAvailability is the share of camera-seconds that must be covered.
const MinAvailability = 0.99

// Share is what part of all was covered.
func (a Availability) Share() float64 { return float64(a.Covered) / float64(max(a.Seconds, 1)) }

// Round is one injection.
type Round struct {
	Number   int                      `json:"number"`
	Began    time.Time                `json:"began"`
	Phases   []Phase                  `json:"phases"`
	Recovery time.Duration            `json:"recovery_ns"`
	Fresh    time.Duration            `json:"fresh_ns"` // without late answers
	Figures  map[string]time.Duration `json:"figures_ns"`
	Damage   []meter.Damage           `json:"damage"`
	Steps    []Step                   `json:"steps"`
	Notes    []string                 `json:"notes,omitempty"`
	Failures []string                 `json:"failures,omitempty"`
}

// Phase is a part of a round.
type Phase struct {
	Name   string    `json:"name"`
	At     time.Time `json:"at"`
	Counts bool      `json:"counts"` // towards the recovery
}

// Step is something that the system told it did, and when, counted from the first phase that counts.
type Step struct {
	What string        `json:"what"`
	At   time.Duration `json:"at_ns"`
	Took time.Duration `json:"took_ns,omitempty"`
}

// Slowest is the longest stretch between one step and the next up to the recovery.
func (r *Round) Slowest() string {
	if r.Recovery == 0 {
		return ""
	}
	last, what, longest := time.Duration(0), "", time.Duration(-1)
	for _, s := range append(slices.Clone(r.Steps), Step{What: "steady", At: r.Recovery}) {
		if s.At > r.Recovery || s.At < last {
			continue
		}
		if d := s.At - last; d > longest {
			longest, what = d, s.What
		}
		last = s.At
	}
	return fmt.Sprintf("%s (%s)", what, short(longest))
}

// Recoveries are those of rounds that were carried out.
func (r *Row) Recoveries() []time.Duration {
	out := make([]time.Duration, len(r.Rounds))
	for i, x := range r.Rounds {
		out[i] = x.Recovery
	}
	return out
}

func (r *Row) figure(name string) []time.Duration {
	var out []time.Duration
	for _, x := range r.Rounds {
		if v, ok := x.Figures[name]; ok {
			out = append(out, v)
		}
	}
	return out
}

// Median of several; the mean of the middle two if they are even.
func Median(in []time.Duration) time.Duration {
	if len(in) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(in))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// Misses are the reasons why the row is not what it must be; none means that every target was met.
func (r *Row) Misses() []string {
	var out []string
	if r.Lost > 0 {
		out = append(out, fmt.Sprintf("%d lost", r.Lost))
	}
	if r.Doubled > 0 {
		out = append(out, fmt.Sprintf("%d doubled", r.Doubled))
	}
	if len(r.Rounds) == 0 {
		out = append(out, "no round")
	}
	out = append(out, r.Slow()...)
	if a := r.Availability; a != nil && a.Share() < MinAvailability {
		out = append(out, fmt.Sprintf("availability %.2f %% < %.0f %%", 100*a.Share(), 100*MinAvailability))
	}
	failures := len(r.Failures)
	for _, x := range r.Rounds {
		failures += len(x.Failures)
	}
	if failures > 0 {
		out = append(out, fmt.Sprintf("%d failures", failures))
	}
	return out
}

// Slow are the medians that are over their limits.
func (r *Row) Slow() []string {
	var out []string
	if m := Median(r.Recoveries()); r.Target > 0 && m > r.Target {
		out = append(out, fmt.Sprintf("median %s > %s", short(m), short(r.Target)))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Limits)) {
		if m := Median(r.figure(name)); m > r.Limits[name] {
			out = append(out, fmt.Sprintf("%s %s > %s", name, short(m), short(r.Limits[name])))
		}
	}
	return out
}

// OK reports whether every target of every row was met.
func (r *Report) OK() bool {
	return len(r.Problems) == 0 && len(r.Rows) > 0 && !slices.ContainsFunc(r.Rows, func(x *Row) bool { return len(x.Misses()) > 0 })
}

// short prints a duration to the hundredth of a second.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}

// Table writes what people read.
func (r *Report) Table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, cmp.Or(r.Of, "fault")+"\trounds\tlost\tdoubled\tmedian\tworst\ttarget\tslowest step (of the worst round)\tverdict")
	for _, row := range r.Rows {
		target, from := "", ""
		if row.From != "" {
			from = " after " + row.From
		}
		if row.Target > 0 {
			target = "<= " + short(row.Target) + from
		}
		median, worst, slowest := "-", "-", ""
		if len(row.Rounds) > 0 && row.Availability == nil {
			last := slices.MaxFunc(row.Rounds, func(a, b *Round) int { return int(a.Recovery - b.Recovery) })
			median, worst, slowest = short(Median(row.Recoveries())), short(last.Recovery), last.Slowest()
		}
		if a := row.Availability; a != nil {
			median, target = fmt.Sprintf("%.2f %%", 100*a.Share()), fmt.Sprintf(">= %.0f %%", 100*MinAvailability)
		}
		verdict := "ok"
		if misses := row.Misses(); len(misses) > 0 {
			verdict = "MISSED: " + strings.Join(misses, "; ")
		}
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", row.Title, len(row.Rounds), row.Lost, row.Doubled, median, worst, target, slowest, verdict)
		for _, name := range slices.Sorted(maps.Keys(row.Limits)) {
			f := row.figure(name)
			if len(f) > 0 {
				_, _ = fmt.Fprintf(w, "  %s\t\t\t\t%s\t%s\t<= %s\t\t\n", name, short(Median(f)), short(slices.Max(f)), short(row.Limits[name]))
			}
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	for _, row := range r.Rows {
		for _, f := range row.Failures {
			_, _ = fmt.Fprintf(out, "%s: %s\n", row.Name, f)
		}
		for _, x := range row.Rounds {
			for _, f := range x.Failures {
				_, _ = fmt.Fprintf(out, "%s round %d: %s\n", row.Name, x.Number, f)
			}
		}
		for _, d := range row.Details {
			_, _ = fmt.Fprintf(out, "%s: %s\n", row.Name, d)
		}
	}
	for _, p := range r.Problems {
		_, _ = fmt.Fprintln(out, p)
	}
	return nil
}

// JSON writes what machines read.
func (r *Report) JSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	if err := e.Encode(struct {
		*Report
		OK bool `json:"ok"`
	}{r, r.OK()}); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

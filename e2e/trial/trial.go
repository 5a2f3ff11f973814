// Package trial tries scenarios on a running installation and judges them: from steady state to steady state, with what was
// lost and doubled by two counts, and with recovery times as package meter has them.
package trial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/chaos/report"
	"github.com/sightline-dev/sightline/e2e/watch"
	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// calm is how long the system must have been steady before and after.
	calm = 1500 * time.Millisecond
	// steadyWithin bounds the wait for the steady state before, recoverWithin after a scenario.
	steadyWithin  = 60 * time.Second
	recoverWithin = 60 * time.Second
	// runWithin bounds the scenario itself.
	runWithin = 3 * time.Minute
	// patience is how long a frame may be unanswered while nothing else is answered late: longer than the broker's own
	// redelivery, which is the backstop. dropPatience is the same where frames may be dropped.
	patience     = 13 * time.Second
	dropPatience = 3 * time.Second
	lookAgain    = 20 * time.Millisecond

	// mostRounds is how many rounds there are when the median of fewer misses its target: one alone says little of it.
	mostRounds = 5

	// LiveGap is the longest time without an answer for a camera that wants the freshest, beyond its frame interval.
	LiveGap = "live gap"
)

// Scenario is one row of the table.
type Scenario struct {
	// Name is for flags and folders, Title for people.
	Name, Title string
	// Target is what the median recovery may be, counted from what From says; 0 means that only losses and doubles are judged.
	Target time.Duration
	From   string
	Limits map[string]time.Duration
	Rounds int // 0 is one; there are more when their median is too slow
	// Drops says that it may cost frames, which the books must then explain.
	Drops bool
	// Run does it, ends it, and returns.
	Run func(ctx context.Context, r *Round) error
}

// Round is one execution. It is used by one goroutine.
type Round struct {
	Number  int
	Phases  []report.Phase
	Figures map[string]time.Duration
	Notes   []string
}

// Mark begins a phase that counts towards the recovery.
func (r *Round) Mark(name string) { r.MarkAt(name, time.Now()) }

// MarkAt is Mark for a phase that has begun already.
func (r *Round) MarkAt(name string, at time.Time) {
	r.Phases = append(r.Phases, report.Phase{Name: name, At: at, Counts: true})
}

// Aside begins a phase that does not count.
func (r *Round) Aside(name string) {
	r.Phases = append(r.Phases, report.Phase{Name: name, At: time.Now()})
}

// Note keeps something that a reader may want to know.
func (r *Round) Note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Runner tries scenarios on one installation, one after the other.
type Runner struct {
	Watch *watch.Watch
	// Unsteady says why the system is not in its steady state over the window that ends now.
	Unsteady func(window time.Duration) []string
	Report   *Table

	known   *watch.Count
	missing uint64
}

// Table is the report of all installations, and where progress is told.
type Table struct {
	report.Report
	Out io.Writer
}

// NewTable begins a report.
func NewTable(out io.Writer) *Table {
	t := &Table{Out: out}
	t.Of, t.Began = "scenario", time.Now().UTC()
	t.Machine = report.Machine{CPUs: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Versions: map[string]string{"go": runtime.Version()}}
	return t
}

// Say tells of progress.
func (t *Table) Say(format string, args ...any) {
	_, _ = fmt.Fprintf(t.Out, "e2e    %6.1f s  %s\n", time.Since(t.Began).Seconds(), fmt.Sprintf(format, args...))
}

// Add adds a row and tells of it.
func (t *Table) Add(row *report.Row) {
	t.Rows = append(t.Rows, row)
	t.Took = time.Since(t.Began)
	verdict := "ok"
	if misses := row.Misses(); len(misses) > 0 {
		verdict = "MISSED: " + strings.Join(misses, "; ")
	}
	t.Say("%-20s lost %d, doubled %d, %s", row.Name, row.Lost, row.Doubled, verdict)
}

// Steady waits for the steady state.
func (r *Runner) Steady(ctx context.Context, within time.Duration) error {
	return watch.Until(ctx, "steady state", within, func() []string { return r.Unsteady(calm) })
}

// Begin takes what is known so far as no scenario's doing.
func (r *Runner) Begin(ctx context.Context) error {
	var err error
	r.known, err = r.Watch.Count(ctx, nil, dropPatience)
	return err
}

// Try tries a scenario and adds its row. It reports whether everything was as it must be.
func (r *Runner) Try(ctx context.Context, s Scenario) *report.Row {
	row := &report.Row{Name: s.Name, Title: s.Title, From: s.From, Target: s.Target, Limits: s.Limits}
	for i, rounds := 1, max(1, s.Rounds); i <= rounds && ctx.Err() == nil; i++ {
		x, steady := r.round(ctx, s, i)
		row.Rounds = append(row.Rounds, x)
		r.Report.Say("%-20s %d/%d  recovery %d ms, live gap %d ms; %s", s.Name, i, rounds, x.Recovery.Milliseconds(), x.Figures[LiveGap].Milliseconds(),
			strings.Join(append(x.Notes, x.Failures...), "; "))
		if !steady {
			break
		}
		if i == rounds && rounds < mostRounds && len(row.Slow()) > 0 {
			rounds += 2
		}
	}
	r.judge(ctx, row, s.Drops)
	r.Report.Add(row)
	return row
}

// round is one execution, from steady state to steady state.
func (r *Runner) round(ctx context.Context, s Scenario, number int) (x *report.Round, steady bool) {
	x = &report.Round{Number: number, Began: time.Now().UTC(), Figures: map[string]time.Duration{}}
	fail := func(what string, err error) bool {
		if err != nil {
			x.Failures = append(x.Failures, fmt.Sprintf("%s: %v", what, err))
		}
		return err == nil
	}
	if !fail("before", r.Steady(ctx, steadyWithin)) {
		return x, false
	}
	in := &Round{Number: number, Figures: x.Figures}
	running, cancel := context.WithTimeout(ctx, runWithin)
	defer cancel()
	fail("run", s.Run(running, in))
	done := time.Now()
	clock.Pause(ctx, calm)
	steady = fail("after", r.Steady(ctx, recoverWithin))
	wait := patience
	if s.Drops {
		wait = dropPatience
	}
	fail("settle", r.settle(ctx, wait))
	r.measure(in, x, done)
	return x, steady
}

// settle lets everything that is under way end.
func (r *Runner) settle(ctx context.Context, wait time.Duration) error {
	missing, err := r.Watch.Reader.Settle(ctx, r.Watch.Facts.Now(), r.Watch.EveryFrame(), r.Watch.Model, r.missing, wait)
	if err != nil {
		return err
	}
	r.missing = missing
	return nil
}

func (r *Runner) measure(in *Round, x *report.Round, done time.Time) {
	x.Phases, x.Notes = in.Phases, in.Notes
	end := time.Now()
	var first time.Time
	for i, p := range in.Phases {
		until := end
		if i+1 < len(in.Phases) {
			until = in.Phases[i+1].At
		}
		if !p.Counts {
			continue
		}
		if first.IsZero() {
			first = p.At
		}
		for _, d := range r.Watch.Meter.Damages(p.At, until) {
			x.Damage = append(x.Damage, d)
			x.Recovery, x.Fresh = max(x.Recovery, d.Recovery), max(x.Fresh, d.Fresh)
			if r.freshest(d.Camera) {
				x.Figures[LiveGap] = max(x.Figures[LiveGap], d.Outage)
			}
		}
	}
	if first.IsZero() {
		first = done
	}
	for _, e := range r.Watch.Events(first) {
		if e.Area == "recovery" || e.Area == "camera" && e.Kind == "lease" {
			what := strings.Join([]string{e.Kind, e.Name, e.State, e.Facts["action"]}, " ")
			x.Steps = append(x.Steps, report.Step{What: strings.TrimSpace(what), At: e.Arrived.Sub(first)})
		}
	}
}

func (r *Runner) freshest(camera string) bool {
	for _, c := range r.Watch.Cameras {
		if c.Name == camera {
			return c.Delivery == streams.Freshest
		}
	}
	return false
}

// judge adds what was lost and doubled since the row before.
func (r *Runner) judge(ctx context.Context, row *report.Row, drops bool) {
	wait := patience
	if drops {
		wait = dropPatience
	}
	c, err := r.Watch.Count(ctx, r.known, wait)
	if err != nil {
		row.Failures = append(row.Failures, err.Error())
		return
	}
	before := r.known
	if before == nil {
		before = &watch.Count{}
	}
	lost := before.Lost()
	denied := map[string]uint64{}
	for _, f := range before.Findings {
		denied[f.Camera+" "+f.Model] = f.Denied
	}
	for _, f := range c.Findings {
		key := f.Camera + " " + f.Model
		if more := f.Lost() - min(f.Lost(), lost[key]); more > 0 {
			row.Lost += more
			row.Details = append(row.Details, fmt.Sprintf("%s: missing %d of which the books explain %d, lost by the books %d; %v; books: %+v",
				key, f.Missing, f.Explained, f.BooksLost, f.Frames[max(0, len(f.Frames)-6):], f.Books))
		}
		if f.Denied > denied[key] {
			row.Failures = append(row.Failures, fmt.Sprintf("books of %s know nothing of %d answers that are stored; %+v", key, f.Denied-denied[key], f.Books))
		}
		if f.Unbalanced {
			row.Failures = append(row.Failures, fmt.Sprintf("books of %s do not balance: %+v", key, f.Books))
		}
		if f.Unknown {
			row.Failures = append(row.Failures, "the books know nothing of "+key)
		}
	}
	row.Doubled += uint64(len(c.Doubled) - len(before.Doubled)) //nolint:gosec // it only grows
	row.Details = append(row.Details, c.Doubled[len(before.Doubled):]...)
	r.known, r.missing = c, c.Missing
}

// End waits until nothing is in flight any more, after capturing has ended, and holds the books against PREDICTIONS.
func (r *Runner) End(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var open []string
	for {
		c, err := r.Watch.Count(ctx, r.known, dropPatience)
		if err == nil {
			if open = r.Watch.Agree(c); len(open) == 0 {
				return nil
			}
		} else if len(open) == 0 {
			open = []string{err.Error()}
		}
		if !clock.Pause(ctx, time.Second) {
			return errors.New("after the cameras stopped: " + strings.Join(open, "; "))
		}
	}
}

// Borne waits until the others have been steady for a while without somebody, so that a recovery is not cut short by the
// return, for most at most.
func (r *Runner) Borne(ctx context.Context, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if !clock.Pause(ctx, calm+time.Second) {
		return
	}
	for len(r.Watch.Meter.Unsteady(time.Now(), calm)) > 0 && clock.Pause(ctx, lookAgain) {
		continue
	}
}

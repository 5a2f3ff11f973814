package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/chaos/audit"
	"github.com/sightline-dev/sightline/chaos/faults"
	"github.com/sightline-dev/sightline/chaos/report"
	"github.com/sightline-dev/sightline/chaos/schedule"
	"github.com/sightline-dev/sightline/chaos/world"
	"github.com/sightline-dev/sightline/pkg/ledger"
)

const (
	// calm is how long the system must have been steady before and after a fault.
	calm = 1500 * time.Millisecond
	// startWithin bounds the start of a world, until its first steady state.
	startWithin = 60 * time.Second
	// steadyWithin bounds the wait for the steady state before a round.
	steadyWithin = 30 * time.Second
	// injectWithin bounds the injection itself, the time that the fault lasts included.
	injectWithin = 2 * time.Minute
	// recoverWithin bounds the wait for it afterwards.
	recoverWithin = 45 * time.Second
	// patience is how long a frame may be unanswered while nothing else is answered late: longer than the broker's own
	// redelivery, which is the backstop.
	patience = 13 * time.Second
	// dropPatience is the same where a fault may cost frames.
	dropPatience = 3 * time.Second
	// maxWorlds bounds how many worlds of a kind are used up.
	maxWorlds = 4
	// lookAgain is how often something is looked at that is waited for.
	lookAgain = 20 * time.Millisecond
)

type runner struct {
	options
	dir    string
	out    io.Writer
	report report.Report

	w       *world.World
	missing uint64           // frames that are known to be missing
	lost    map[string]tally // by camera and model: what was counted in earlier rows
	doubled uint64
	ruined  string // the fault after which the world was not steady in time
}

type tally struct{ lost, denied uint64 }

func newRunner(o options, dir string, out io.Writer) *runner {
	return &runner{options: o, dir: dir, out: out, report: report.Report{Seed: o.seed, Began: time.Now().UTC(), Machine: machine(o.programs)}}
}

func machine(programs string) report.Machine {
	m := report.Machine{CPUs: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Versions: map[string]string{"go": runtime.Version()}}
	if b, err := exec.Command("uname", "-r").Output(); err == nil { //nolint:noctx // at once
		m.Kernel = strings.TrimSpace(string(b))
	}
	if b, err := exec.Command(filepath.Join(programs, "nats-server"), "--version").Output(); err == nil { //nolint:noctx,gosec // at once; our own
		m.Versions["nats-server"] = strings.TrimSpace(string(b))
	}
	return m
}

// all tries everything that is wanted, one world after the other.
func (r *runner) all(ctx context.Context) {
	for _, kind := range []world.Kind{world.Single, world.Cluster} {
		var wanted []faults.Fault
		for _, f := range faults.All() {
			if f.World == kind && r.wants(f.Name) {
				wanted = append(wanted, f)
			}
		}
		random := r.wants(randomName) && r.random > 0
		if (len(wanted) == 0 && !random) || ctx.Err() != nil {
			continue
		}
		if err := r.onWorld(ctx, kind, wanted, random); err != nil {
			r.problem("%s broker: %v", kind, err)
		}
	}
	r.report.Took = time.Since(r.report.Began)
}

func (r *runner) problem(format string, args ...any) {
	p := fmt.Sprintf(format, args...)
	r.report.Problems = append(r.report.Problems, p)
	_, _ = fmt.Fprintln(r.out, "PROBLEM: "+p)
}

func (r *runner) say(format string, args ...any) {
	_, _ = fmt.Fprintf(r.out, "%6.1f s  %s\n", time.Since(r.report.Began).Seconds(), fmt.Sprintf(format, args...))
}

// onWorld tries faults on a world, and goes on with another one when a fault has ruined it for good.
func (r *runner) onWorld(ctx context.Context, kind world.Kind, wanted []faults.Fault, random bool) error {
	for worlds := 1; worlds <= maxWorlds; worlds++ {
		rest, err := r.once(ctx, kind, worlds, wanted, random)
		if err != nil || r.ruined == "" || ctx.Err() != nil {
			return err
		}
		r.problem("%s broker: no steady state after %s; going on with a new world", kind, r.ruined)
		random = random && r.ruined != randomName
		if len(rest) == 0 && !random {
			return nil
		}
		wanted = rest
	}
	return fmt.Errorf("%d worlds were ruined", maxWorlds)
}

// once tries faults on one world, and returns those that were left when one ruined it.
func (r *runner) once(ctx context.Context, kind world.Kind, number int, wanted []faults.Fault, random bool) ([]faults.Fault, error) {
	starting, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	cfg := r.worldOf(kind, r.dir)
	cfg.Dir = filepath.Join(cfg.Dir, strconv.Itoa(number))
	w, err := world.Start(starting, cfg)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	r.w, r.missing, r.lost, r.doubled, r.ruined = w, 0, map[string]tally{}, 0, ""
	if err := r.steady(starting); err != nil {
		return nil, err
	}
	r.say("%s broker: steady", kind)
	before := "its start"
	for i, f := range wanted {
		row := r.row(ctx, f)
		if r.ruined == f.Name && len(row.Rounds) == 0 { // it was ruined before
			r.ruined = before
			return wanted[i:], nil
		}
		r.report.Rows = append(r.report.Rows, row)
		if ctx.Err() != nil {
			return nil, nil
		}
		if r.ruined != "" {
			return wanted[i+1:], nil
		}
		before = f.Name
	}
	if random {
		r.report.Rows = append(r.report.Rows, r.atRandom(ctx, kind, r.random/2))
	}
	r.close(ctx)
	return nil, nil
}

// steady waits for the steady state.
func (r *runner) steady(ctx context.Context) error {
	began := time.Now()
	for {
		why := r.w.Unsteady(calm)
		if len(why) == 0 {
			return nil
		}
		if !sleep(ctx, lookAgain) {
			return fmt.Errorf("no steady state within %s: %s", time.Since(began).Round(time.Second), strings.Join(why, "; "))
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *runner) row(ctx context.Context, f faults.Fault) *report.Row {
	row := &report.Row{Name: f.Name, Title: f.Title, From: f.From, Target: f.Target, Limits: f.Limits}
	n := f.Rounds
	if r.rounds > 0 {
		n = r.rounds
	}
	for i := 1; i <= n && ctx.Err() == nil && r.ruined == ""; i++ {
		x := r.round(ctx, f, i)
		if x == nil {
			break
		}
		row.Rounds = append(row.Rounds, x)
		r.say("%-16s %d/%d  recovery %-8s live gap %-8s %s %s", f.Name, i, n, ms(x.Recovery), ms(x.Figures[faults.LiveGap]), x.Slowest(), strings.Join(append(x.Notes, x.Failures...), "; "))
	}
	if len(row.Rounds) > 0 {
		r.judge(ctx, row)
	}
	return row
}

func ms(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

// round is one injection, from steady state to steady state. It is nil when there is no steady state to begin with.
func (r *runner) round(ctx context.Context, f faults.Fault, number int) *report.Round {
	x := &report.Round{Number: number, Began: time.Now().UTC(), Figures: map[string]time.Duration{}}
	fail := func(err error) {
		if err != nil {
			x.Failures = append(x.Failures, err.Error())
		}
	}
	before, cancel := context.WithTimeout(ctx, steadyWithin)
	defer cancel()
	if err := r.steady(before); err != nil {
		r.say("%s: %v", f.Name, err)
		r.ruined = f.Name
		return nil
	}
	in := faults.NewRound(r.w, schedule.Rand(r.seed, f.Name, number), number)
	injecting, cancel := context.WithTimeout(ctx, injectWithin)
	defer cancel()
	if err := f.Inject(injecting, in); err != nil {
		fail(fmt.Errorf("inject: %w", err))
	}
	injected := time.Now()
	after, cancel := context.WithTimeout(ctx, recoverWithin)
	defer cancel()
	sleep(after, calm)
	if err := r.steady(after); err != nil {
		fail(err)
		r.ruined = f.Name
	}
	fail(r.met(ctx, in, x, false))
	wait := patience
	if f.Drops {
		wait = dropPatience
	}
	var err error
	r.missing, err = r.w.Reader.Settle(ctx, r.w.Facts.Now(), r.w.EveryFrame(), world.Model, r.missing, wait)
	fail(err)
	r.measure(in, x, injected)
	return x
}

// met waits for the expectations of a round. In the random run only those are checked that other faults cannot spoil.
func (r *runner) met(ctx context.Context, in *faults.Round, x *report.Round, random bool) error {
	var missed []error
	for _, e := range in.Expects {
		if random && !e.Always {
			continue
		}
		for {
			at, ok := e.Met()
			if ok {
				took := at.Sub(e.Since)
				if e.Figure != "" {
					x.Figures[e.Figure] = took
				}
				if e.Extends {
					x.Recovery = max(x.Recovery, took)
				}
				break
			}
			if time.Since(e.Since) > e.Within || !sleep(ctx, lookAgain) {
				missed = append(missed, fmt.Errorf("not within %s: %s", e.Within, e.What))
				break
			}
		}
	}
	return errors.Join(missed...)
}

// measure fills in what the round came to.
func (r *runner) measure(in *faults.Round, x *report.Round, injected time.Time) {
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
		for _, d := range r.w.Meter.Damages(p.At, until) {
			x.Damage = append(x.Damage, d)
			x.Recovery, x.Fresh = max(x.Recovery, d.Recovery), max(x.Fresh, d.Fresh)
			for _, c := range r.w.Cameras {
				if c.Name == d.Camera && !every(r.w, c.Name) {
					x.Figures[faults.LiveGap] = max(x.Figures[faults.LiveGap], d.Outage)
				}
			}
		}
	}
	if first.IsZero() {
		first = injected
	}
	for _, e := range r.w.Seen.Events(first) {
		if e.Area != "recovery" && (e.Area != "camera" || e.Kind != "lease") {
			continue
		}
		s := report.Step{What: strings.TrimSpace(strings.Join([]string{e.Kind, e.Name, e.State, e.Facts["action"]}, " ")), At: e.Arrived.Sub(first)}
		if v, err := time.ParseDuration(e.Facts["duration_ms"] + "ms"); err == nil {
			s.Took = v
		}
		x.Steps = append(x.Steps, s)
	}
}

func every(w *world.World, camera string) bool {
	return slices.Contains(w.EveryFrame(), camera)
}

// judge compares the audit with the books and adds what is new to the row.
func (r *runner) judge(ctx context.Context, row *report.Row) {
	found, err := r.explained(ctx)
	if err != nil {
		row.Failures = append(row.Failures, err.Error())
		return
	}
	for _, d := range found {
		key := d.Camera + " " + d.Model
		before := r.lost[key]
		now := tally{lost: d.Lost(), denied: d.Denied}
		r.lost[key] = now
		if now.lost > before.lost {
			row.Lost += now.lost - before.lost
			row.Details = append(row.Details, fmt.Sprintf("%s: missing %d of which the books explain %d, lost by the books %d; %v; books: %+v", key, d.Missing, d.Explained, d.BooksLost, last(d.Frames, 6), d.Books))
		}
		if now.denied > before.denied {
			row.Failures = append(row.Failures, fmt.Sprintf("books of %s know nothing of %d answers that are stored; %+v", key, now.denied-before.denied, d.Books))
		}
		if d.Unbalanced {
			row.Failures = append(row.Failures, fmt.Sprintf("books of %s do not balance: %+v", key, d.Books))
		}
		if d.Unknown {
			row.Failures = append(row.Failures, "the books know nothing of "+key)
		}
	}
	doubled := r.w.Facts.Doubled()
	for _, d := range doubled[r.doubled:] {
		row.Doubled++
		row.Details = append(row.Details, d)
	}
	r.doubled = uint64(len(doubled))
}

// explainWithin is how long the books may take to say what became of frames that a fault took: they wait until they are
// sure.
const explainWithin = 30 * time.Second

// explained compares until the books have a fate for every frame that the audit misses, or do not come to one in time.
func (r *runner) explained(ctx context.Context) ([]audit.Finding, error) {
	for began := time.Now(); ; {
		found, err := r.compare(ctx)
		if err != nil || time.Since(began) > explainWithin {
			return found, err
		}
		open := uint64(0)
		for _, d := range found {
			open += d.Lost() - min(d.Lost(), r.lost[d.Camera+" "+d.Model].lost)
		}
		if open == 0 || !sleep(ctx, time.Second) {
			return found, nil
		}
	}
}

func last(in []string, n int) []string { return in[max(0, len(in)-n):] }

// compare takes a mark, lets everything up to it end, and reads both.
func (r *runner) compare(ctx context.Context) ([]audit.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	mark := r.w.Facts.Now()
	missing, err := r.w.Reader.Settle(ctx, mark, r.w.EveryFrame(), world.Model, r.missing, dropPatience)
	for err != nil && sleep(ctx, time.Second) { // a broker that elects a leader answers nobody
		missing, err = r.w.Reader.Settle(ctx, mark, r.w.EveryFrame(), world.Model, r.missing, dropPatience)
	}
	if err != nil {
		return nil, err
	}
	r.missing = missing
	lines, unreadable, err := ledger.Balance(ctx, r.w.JS)
	for err != nil && sleep(ctx, time.Second) {
		lines, unreadable, err = ledger.Balance(ctx, r.w.JS)
	}
	if err != nil {
		return nil, err
	}
	for err = r.w.Reader.Read(ctx); err != nil && sleep(ctx, time.Second); {
		err = r.w.Reader.Read(ctx)
	}
	if err != nil {
		return nil, err
	}
	if unreadable > 0 {
		return nil, fmt.Errorf("%d records of the ledger cannot be read", unreadable)
	}
	return r.w.Facts.Compare(mark, lines), nil
}

// settleWithin is how long everything may take to get its fate once nothing is captured any more.
const settleWithin = 40 * time.Second

// close stops capturing, waits until nothing is in flight, and compares the books with the audit for the last time.
func (r *runner) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	for _, x := range r.w.Of(world.Ingest) {
		x.Stop(settleWithin / 4)
	}
	var open []string // as of the last time that both could be read
	for {
		found, err := r.compare(ctx)
		if err == nil {
			open = nil
		} else if len(open) == 0 {
			open = []string{err.Error()}
		}
		for _, d := range found {
			answers := r.w.Facts.Answers(d.Camera, d.Model)
			if d.Books.InFlight > 0 || d.Books.Predicted != answers || d.Unbalanced {
				open = append(open, fmt.Sprintf("%s %s: %d stored in PREDICTIONS, books %+v", d.Camera, d.Model, answers, d.Books))
			}
		}
		if err == nil && len(open) == 0 {
			r.say("nothing in flight, books and PREDICTIONS agree")
			return
		}
		if !sleep(ctx, time.Second) {
			r.problem("%s broker: after the cameras stopped: %s", r.w.Kind, strings.Join(open, "; "))
			return
		}
	}
}

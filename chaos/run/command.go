// Package run is the chaos program: it starts worlds, tries faults on them, judges what comes of it, and reports.
//
// # A round
//
// A round begins in the steady state ([meter]) with every process in its place, or it has failed. Then the fault is
// injected. The round ends when the system is steady again for a second, the fault's expectations have come true, and
// every frame that was captured up to then is answered, or it is clear that it will not be.
//
// # A row
//
// After the last round of a fault the audit is compared with the system's own books. What was lost before does not count
// again.
//
// # Replay
//
// Everything random is drawn from the seed, the fault's name and the number of the round, so --seed and --only repeat a
// round's choices. What the operating system makes of them is its own.
package run

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/chaos/faults"
	"github.com/sightline-dev/sightline/chaos/world"
)

// ErrMissed means that a target was missed.
var ErrMissed = errors.New("a target was missed")

// randomName is that of the random run, which is a row like the faults.
const randomName = "random"

type options struct {
	seed     uint64
	only     []string
	rounds   int
	random   time.Duration
	keep     bool
	json     string
	programs string
	models   string
	footage  string
	ort      string
}

// Command runs chaos with these arguments and reports to out. It returns ErrMissed when a target was missed.
func Command(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	var o options
	var only string
	var list bool
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Uint64Var(&o.seed, "seed", 0, "seed of everything random; 0 draws one")
	flags.StringVar(&only, "only", "", "`names` of faults, with commas between them; \""+randomName+"\" is the random run")
	flags.IntVar(&o.rounds, "rounds", 0, "rounds of each fault; 0 is the fault's own number")
	flags.DurationVar(&o.random, "for", 5*time.Minute, "how long the random run lasts, half of it on each kind of broker")
	flags.BoolVar(&o.keep, "keep", false, "keep logs and files")
	flags.StringVar(&o.json, "json", "", "`file` for the report in JSON")
	flags.BoolVar(&list, "list", false, "list the faults")
	flags.StringVar(&o.programs, "programs", "bin/chaos", "`folder` of the executables")
	flags.StringVar(&o.models, "models", "models", "model repository")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if list {
		return listFaults(out)
	}
	if only != "" {
		o.only = strings.Split(only, ",")
		if err := known(o.only); err != nil {
			return err
		}
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano()) % 1_000_000 // short, so that people can type it
	}
	o.footage, o.ort = getenv("SIGHTLINE_FOOTAGE"), getenv("SIGHTLINE_ORT_LIBRARY")
	var err error
	for _, path := range []*string{&o.programs, &o.models} {
		if *path, err = filepath.Abs(*path); err != nil {
			return fmt.Errorf("chaos: %w", err)
		}
	}
	return o.run(ctx, out)
}

func listFaults(out io.Writer) error {
	for _, f := range faults.All() {
		if _, err := fmt.Fprintf(out, "%-18s %-8s %s\n", f.Name, f.World, f.Title); err != nil {
			return fmt.Errorf("list: %w", err)
		}
	}
	_, err := fmt.Fprintf(out, "%-18s %-8s all of the above at random\n", randomName, "both")
	return err //nolint:wrapcheck // as above
}

func known(names []string) error {
	all := faults.All()
	for _, n := range names {
		if n != randomName && !slices.ContainsFunc(all, func(f faults.Fault) bool { return f.Name == n }) {
			return fmt.Errorf("chaos: no fault named %q; --list names them", n)
		}
	}
	return nil
}

func (o options) wants(name string) bool { return len(o.only) == 0 || slices.Contains(o.only, name) }

// worldOf is where the world of a kind keeps its files.
func (o options) worldOf(kind world.Kind, dir string) world.Config {
	return world.Config{
		Kind: kind, Dir: filepath.Join(dir, string(kind)), Programs: o.programs, Models: o.models, Footage: o.footage,
		ORTLibrary: o.ort, Log: slog.New(slog.DiscardHandler),
	}
}

func (o options) run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "sightline-chaos-")
	if err != nil {
		return fmt.Errorf("chaos: %w", err)
	}
	if o.keep {
		_, _ = fmt.Fprintf(out, "logs and files stay in %s\n", dir)
	} else {
		defer func() { _ = os.RemoveAll(dir) }()
	}
	_, _ = fmt.Fprintf(out, "seed %d: repeat with --seed %d\n", o.seed, o.seed)
	r := newRunner(o, dir, out)
	r.all(ctx)
	_, _ = fmt.Fprintln(out)
	if err := r.report.Table(out); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nseed %d, %s in all\n", o.seed, r.report.Took.Round(time.Second))
	if o.json != "" {
		if err := writeJSON(o.json, r.report.JSON); err != nil {
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("chaos: %w", context.Cause(ctx))
	case !r.report.OK():
		return ErrMissed
	}
	return nil
}

func writeJSON(path string, write func(io.Writer) error) (err error) {
	f, err := os.Create(path) //nolint:gosec // the caller names it
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return write(f)
}

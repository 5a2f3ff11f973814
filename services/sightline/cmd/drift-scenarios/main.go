//go:build cgo

// Command drift-scenarios shows what the drift-monitor finds on the demo's footage, and how soon; see package scenarios. It exits with 1
// when something is missed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sightline-dev/sightline/services/sightline/scenarios"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "drift-scenarios:", err)
		os.Exit(1)
	}
}

var errMissed = errors.New("something was missed, or found that is not there")

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("drift-scenarios", flag.ContinueOnError)
	flags.SetOutput(progress)
	o := scenarios.Options{Out: progress}
	flags.StringVar(&o.Footage, "footage", os.Getenv("SIGHTLINE_FOOTAGE"), "H.264 MPEG-TS `file` (SIGHTLINE_FOOTAGE)")
	flags.StringVar(&o.Models, "models", "models", "model repository")
	flags.StringVar(&o.Model, "model", "person", "name of the model")
	flags.StringVar(&o.ORTLibrary, "ort-library", os.Getenv("SIGHTLINE_ORT_LIBRARY"), "ONNX Runtime's shared library")
	flags.StringVar(&o.Cache, "cache", "", "`folder` of filtered footage (default: beside the footage)")
	only := flags.String("only", "", "comma-separated names of scenarios: "+strings.Join(scenarios.Names(), ","))
	flags.Float64Var(&o.FPS, "fps", 2, "pictures that each camera captures in a second")
	flags.DurationVar(&o.Learn, "learn", 160*time.Second, "how long the reference takes: two rounds of the footage")
	flags.DurationVar(&o.Settle, "settle", 0, "how long references may take at most; 0 is three times --learn and a minute")
	flags.DurationVar(&o.Calm, "calm", 20*time.Second, "how long is watched before anything is switched on")
	flags.DurationVar(&o.Fault, "fault", 125*time.Second, "how long everything is switched on")
	flags.DurationVar(&o.After, "after", 45*time.Second, "how long is watched when it is off again")
	asJSON := flags.Bool("json", false, "write the report as JSON")
	file := flags.String("o", "", "`file` for the report as JSON, beside the table")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.Footage == "" {
		return errors.New("--footage is missing")
	}
	if o.Cache == "" {
		o.Cache = filepath.Join(filepath.Dir(o.Footage), "looks")
	}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	report, err := scenarios.Run(ctx, o)
	if err != nil {
		return err
	}
	if *file != "" {
		if err := write(*file, report); err != nil {
			return err
		}
	}
	if *asJSON {
		err = json.NewEncoder(out).Encode(report)
	} else {
		err = report.Write(out)
	}
	if err == nil && !report.Passed {
		err = errMissed
	}
	return err
}

func write(path string, report scenarios.Report) error {
	data, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644) //nolint:gosec // a report for everybody
}

//go:build cgo

package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/services/sightline/bench"
	"github.com/sightline-dev/sightline/streams"
)

func (a *app) bench() *cobra.Command {
	cfg := bench.Config{}
	var models []string
	var every, noAge bool
	var family string
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine: the pipeline against a plain loop, and the age of predictions",
		Long: `Measure, on the same footage, model and cores and alternating in one run:

  loop      decode, scale and infer in one goroutine per core: no messages, nothing durable
  pipeline  ingest, preprocess and infer over JetStream, cameras delivering as fast as they are answered
  ratio     pipeline / loop, round by round

and then the age of predictions, from capture until a subscriber has them, of two cameras over RTSP at 10 frames/s.
Medians with the smallest and largest round. Close other programs first.`,
		Example: `  sightline bench --footage street.ts
  sightline bench --model person --model FastestDet.onnx --rounds 7 --json`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Footage == "" {
				return exit(ExitUsage, errors.New("--footage is missing: an H.264 MPEG-TS file (`make demo` prepares one and prints where)"))
			}
			if cfg.Rounds < 1 || cfg.Cameras < 1 || cfg.Round < time.Second {
				return exit(ExitUsage, errors.New("--rounds and --cameras are at least 1, --round at least 1s"))
			}
			cfg.Log, cfg.Delivery, cfg.Family = a.log(), streams.Freshest, family
			if every {
				cfg.Delivery = streams.EveryFrame
			}
			cfg.Progress = func(s string) { _, _ = fmt.Fprintln(a.std.Err, s) }
			for _, m := range models {
				cfg.Model = m
				r, err := bench.Run(cmd.Context(), cfg)
				if err != nil {
					return err
				}
				if err := a.printBench(r); err != nil {
					return err
				}
			}
			if noAge {
				return nil
			}
			cfg.Model = models[0]
			age, err := bench.MeasureAge(cmd.Context(), cfg, 2)
			if err != nil {
				return err
			}
			return a.printAge(age)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Footage, "footage", a.getenv("SIGHTLINE_FOOTAGE", ""), "H.264 or H.265 MPEG-TS file (SIGHTLINE_FOOTAGE)")
	flags.StringVar(&cfg.Repository, "models", "models", "model repository")
	flags.StringArrayVarP(&models, "model", "m", []string{"person"}, "model name, or path of an .onnx file; may be given several times, the first is used for the age")
	flags.StringVar(&family, "family", "", "how to read bare .onnx files")
	flags.IntVar(&cfg.Rounds, "rounds", 5, "rounds that count")
	flags.DurationVar(&cfg.Round, "round", 5*time.Second, "length of a round")
	flags.IntVar(&cfg.Cameras, "cameras", 4, "cameras of the pipeline")
	flags.BoolVar(&every, "every-frame", false, "delivery every_frame (streams on disk) instead of freshest")
	flags.BoolVar(&noAge, "no-age", false, "leave the age of predictions out")
	flags.StringVar(&cfg.ORTLibrary, "ort-library", a.process.OrtLibrary, "ONNX Runtime's shared library (SIGHTLINE_ORT_LIBRARY; default: search)")
	return cmd
}

func (a *app) printBench(r bench.Result) error {
	if a.json {
		return a.writeJSON(r)
	}
	row := func(name, unit string, f bench.Figures) error {
		return a.printf("%-10s median %8.3f %s   min %8.3f   max %8.3f   (%d rounds)\n", name, f.Median, unit, f.Min, f.Max, len(f.Rounds))
	}
	return errors.Join(
		a.printf("\n%s, %d cameras, %s\n", r.Model, r.Cameras, r.Delivery),
		row("loop", "frames/s", r.Loop), row("pipeline", "frames/s", r.Pipeline), row("ratio", "        ", r.Ratio),
		row("loop", "ms CPU/f", r.LoopCPU), row("pipeline", "ms CPU/f", r.PipelineCPU),
	)
}

func (a *app) printAge(r bench.Age) error {
	if a.json {
		return a.writeJSON(r)
	}
	return a.printf("\nage of predictions, %s, %d cameras at %.0f frames/s over RTSP: p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms (%d predictions)\n",
		r.Model, r.Cameras, r.FPS, r.P50, r.P90, r.P99, r.Max, r.Predictions)
}

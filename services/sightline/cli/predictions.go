package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/pkg/predictions"
)

type predictionFlags struct {
	follow bool
	filter predictions.Filter
	since  string
	from   time.Time // what since means
	count  int
}

func (a *app) predictions() *cobra.Command {
	var f predictionFlags
	cmd := &cobra.Command{
		Use:   "predictions",
		Short: "Show predictions: the latest of every camera, from a time, or as they come",
		Long: `Show the latest prediction of every camera, or with --since those from a time on, or with --follow those that come.

A prediction without detections means that nothing was in view. "gap" means that nobody could look, and why.`,
		Example: `  sightline predictions
  sightline predictions --follow --camera street
  sightline predictions --since 10m --json | jq 'select(.detections | length > 3)'`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.since != "" {
				since, err := parseSince(f.since, time.Now())
				if err != nil {
					return exit(ExitUsage, err)
				}
				f.from = since
			}
			nc, _, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer nc.Close()
			return a.runPredictions(cmd.Context(), nc, f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.follow, "follow", "f", false, "keep showing predictions as they come")
	flags.StringVar(&f.filter.Camera, "camera", "", "only of this camera")
	flags.StringVar(&f.filter.Model, "model", "", "only of this model")
	flags.StringVar(&f.since, "since", "", "from this time on: 10m ago, or 2026-05-01T12:00:00Z")
	flags.IntVarP(&f.count, "count", "n", 0, "stop after this many; 0 is no limit")
	return cmd
}

func (a *app) runPredictions(ctx context.Context, nc *nats.Conn, f predictionFlags) error {
	client, err := predictions.Open(nc)
	if err != nil {
		return err
	}
	shown := 0
	for m, err := range choose(ctx, client, f) {
		_, malformed := errors.AsType[*predictions.MalformedError](err)
		_, missed := errors.AsType[*predictions.MissedError](err)
		switch {
		case malformed || missed:
			if _, err := fmt.Fprintln(a.std.Err, "warning: "+err.Error()); err != nil {
				return err
			}
			continue
		case err != nil && ctx.Err() != nil: // Ctrl-C is how --follow ends
			return nil
		case err != nil:
			return err
		}
		if err := a.printPrediction(m); err != nil {
			return err
		}
		if shown++; shown == f.count {
			return nil
		}
	}
	return nil
}

func choose(ctx context.Context, c *predictions.Client, f predictionFlags) iter.Seq2[predictions.Message, error] {
	switch {
	case !f.from.IsZero() && f.follow:
		return c.SubscribeSince(ctx, f.from, f.filter)
	case !f.from.IsZero():
		return c.Replay(ctx, f.from, f.filter)
	case f.follow:
		return c.Subscribe(ctx, f.filter)
	default:
		return c.Latest(ctx, f.filter)
	}
}

func parseSince(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(strings.TrimSpace(strings.TrimSuffix(s, "ago"))); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("--since %q is neither a duration such as 10m nor a time such as 2026-05-01T12:00:00Z", s)
	}
	return t, nil
}

func (a *app) printPrediction(m predictions.Message) error {
	if a.json {
		return a.writeJSON(m.Prediction)
	}
	p := m.Prediction
	if p.Kind == predictions.KindGap {
		until := "still"
		if !p.Gap.To.IsZero() {
			until = "until " + p.Gap.To.Local().Format(time.TimeOnly)
		}
		return a.printf("%s  %-16s %-12s gap: %s since %s, %s\n", m.Time.Local().Format("15:04:05.000"), p.Camera, p.Model, p.Gap.Reason, p.Gap.From.Local().Format(time.TimeOnly), until)
	}
	var what []string
	for _, d := range p.Detections {
		what = append(what, fmt.Sprintf("%s %.2f [%.0f %.0f %.0f %.0f]", d.Class, d.Score, d.Box[0], d.Box[1], d.Box[2], d.Box[3]))
	}
	for _, c := range p.Classes[:min(len(p.Classes), 3)] {
		what = append(what, fmt.Sprintf("%s %.2f", c.Class, c.Score))
	}
	if len(what) == 0 {
		what = []string{"nothing in view"}
	}
	return a.printf("%s  %-16s %-12s %s\n", p.CapturedAt.Local().Format("15:04:05.000"), p.Camera, p.Model+"@"+p.Version, strings.Join(what, ", "))
}

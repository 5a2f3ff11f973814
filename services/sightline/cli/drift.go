package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/services/sightline/watch"
)

// captureWait is how long the drift-monitor may take to answer: longer than a standby takes to lead.
const captureWait = 10 * time.Second

func (a *app) drift() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drift",
		Short: "Show what the drift-monitor knows of cameras and models, or give it a new reference",
		Args:  usage(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.driftStatus(), a.driftCapture())
	return cmd
}

func (a *app) driftStatus() *cobra.Command {
	var camera string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show states, faults, quality and fairness as they are now",
		Example: `  sightline drift status --camera street
  sightline drift status --json | jq '.statuses[] | select(.state != "ok")'`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			nc, js, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer nc.Close()
			return a.runDriftStatus(cmd.Context(), js, camera)
		},
	}
	cmd.Flags().StringVar(&camera, "camera", "", "only of this camera")
	return cmd
}

func (a *app) runDriftStatus(ctx context.Context, js jetstream.JetStream, camera string) error {
	r, unreadable, err := drift.Read(ctx, js)
	if err != nil {
		return err
	}
	if camera != "" {
		r.Statuses = slices.DeleteFunc(r.Statuses, func(s drift.Status) bool { return s.Camera != camera })
		r.Integrities = slices.DeleteFunc(r.Integrities, func(i drift.Integrity) bool { return i.Camera != camera })
	}
	if unreadable > 0 {
		_, _ = fmt.Fprintf(a.std.Err, "%d entries cannot be read: a newer version may have written them\n", unreadable)
	}
	if a.json {
		return a.writeJSON(r)
	}
	lines := [][]string{{"CAMERA", "MODEL", "STATE", "SINCE", "CAUSE", "DETAIL"}}
	for _, i := range r.Integrities {
		for _, f := range i.Faults {
			lines = append(lines, []string{i.Camera, "", string(f.Fault), f.Since.Local().Format(time.DateTime), "fault", evidenceText(f.Evidence)})
		}
	}
	for _, s := range r.Statuses {
		lines = append(lines, []string{s.Camera, s.Model + "@" + s.Version, string(s.State), s.Since.Local().Format(time.DateTime), s.Cause, cmp.Or(s.Detail, featureText(s))})
	}
	if len(lines) == 1 {
		return a.printf("nothing is said: no fault is known, and no camera was compared with a reference yet\n")
	}
	for _, l := range lines {
		for i := range l {
			l[i] = watch.Printable(l[i])
		}
	}
	return watch.WriteColumns(a.std.Out, 6, lines)
}

func evidenceText(evidence map[string]float64) string {
	out := make([]string, 0, len(evidence))
	for k, v := range evidence {
		out = append(out, k+" "+strconv.FormatFloat(v, 'g', 4, 64))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// featureText is the feature that is furthest beyond its threshold.
func featureText(s drift.Status) string {
	over := slices.DeleteFunc(slices.Clone(s.Features), func(f drift.Feature) bool { return !f.Over() })
	if len(over) == 0 {
		return ""
	}
	f := slices.MaxFunc(over, func(a, b drift.Feature) int { return cmp.Compare(a.Score-a.Threshold, b.Score-b.Threshold) })
	return fmt.Sprintf("%s by %s: %.3g, limit %.3g", f.Name, f.Test, f.Score, f.Threshold)
}

func (a *app) driftCapture() *cobra.Command {
	var camera string
	cmd := &cobra.Command{
		Use:   "capture MODEL",
		Short: "Take what cameras show from now on for the reference of a model",
		Long: `Take what cameras show from now on for the reference of a model: somebody moved a camera and meant to, or what has changed is
there to stay. Until enough was seen nothing is held against the new reference.`,
		Example: `  sightline drift capture person --camera street
  sightline drift capture person`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			nc, js, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer nc.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), captureWait)
			defer cancel()
			err = drift.Ask(ctx, js, drift.Request{Model: args[0], Camera: camera})
			if errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("no drift-monitor took the request within %s: does one run? (sightline workers)", captureWait)
			}
			if err != nil {
				return err
			}
			return a.printf("the reference is captured anew\n")
		},
	}
	cmd.Flags().StringVar(&camera, "camera", "", "only of this camera; default: of all")
	return cmd
}

package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/services/sightline/watch"
)

func (a *app) ledger() *cobra.Command {
	var camera string
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Show the books: the fate of every captured frame, per camera and model",
		Long: `Show, per camera and model, what became of every frame that was captured since the recovery service first kept the
books, or, where none does, within the ledger's 24 hours:

  captured = predicted + superseded + expired + quarantined + in flight + lost

superseded: a newer frame took its place. expired: older than the camera's max_age. quarantined: in DLQ with its payload.
lost is what nothing explains: it is a defect, and the exit code is 4.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			nc, js, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer nc.Close()
			lines, unreadable, err := ledger.Balance(ctx, js)
			if err != nil {
				return err
			}
			if unreadable > 0 {
				_, _ = fmt.Fprintf(a.std.Err, "warning: %d ledger records could not be read\n", unreadable)
			}
			return a.printBooks(lines, camera)
		},
	}
	cmd.Flags().StringVar(&camera, "camera", "", "only of this camera")
	return cmd
}

func (a *app) printBooks(lines []ledger.Line, camera string) error {
	table := [][]string{{"CAMERA", "MODEL", "DELIVERY", "CAPTURED", "PREDICTED", "SUPERSEDED", "EXPIRED", "QUARANTINED", "IN FLIGHT", "LOST"}}
	var lost uint64
	balanced, known := true, camera == ""
	for _, l := range lines {
		if camera != "" && l.Camera != camera {
			continue
		}
		known = true
		lost += l.Lost
		balanced = balanced && l.Balanced()
		if a.json {
			if err := a.writeJSON(l); err != nil {
				return err
			}
			continue
		}
		row := []string{l.Camera, l.Model, string(l.Delivery)}
		for _, n := range []uint64{l.Captured, l.Predicted, l.Superseded, l.Expired, l.Quarantined, l.InFlight, l.Lost} {
			row = append(row, strconv.FormatUint(n, 10))
		}
		table = append(table, row)
	}
	if !a.json {
		if err := watch.WriteColumns(a.std.Out, 3, table); err != nil {
			return err
		}
	}
	if !known {
		return fmt.Errorf("the ledger knows no camera %q", camera)
	}
	if !balanced {
		return exit(ExitUnbalanced, fmt.Errorf("the books do not balance: lost %d", lost))
	}
	return nil
}

package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/services/sightline/life"
)

func (a *app) trace() *cobra.Command {
	return &cobra.Command{
		Use:   "trace CAMERA/EPOCH/SEQ",
		Short: "Tell the whole life of one frame: where, when, who, which attempt, and what became of it",
		Long: `Tell what the streams remember of one frame, in the order in which it happened: who captured it, whose hands it went through
and how often, what was answered or why it was not, what befell its camera and its workers meanwhile, and where it is now if it
has no fate yet. What is not known is said, with the reason.

The ledger tells in intervals: OR UP TO EARLIER says by how much. Times of an answer are by the clock of the host that gave it.
Exit codes: 0 told, 1 nobody knows of this frame, 4 it is lost.`,
		Example: `  sightline trace street/17/4711
  sightline trace street/17/4711 --json | jq .fates
  sightline predictions --follow -n 1 --json | jq -r .frame | xargs sightline trace`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := frame.ParseName(args[0])
			if err != nil {
				return exit(ExitUsage, err)
			}
			nc, js, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer nc.Close()
			l, err := life.Tell(cmd.Context(), js, name)
			if err != nil {
				return err
			}
			if a.json {
				err = a.writeJSON(l)
			} else {
				err = l.Write(a.std.Out, time.Local)
			}
			switch {
			case err != nil:
				return err
			case !l.Known:
				return errors.New("nobody knows of frame " + l.Frame)
			case l.Lost():
				return exit(ExitUnbalanced, fmt.Errorf("frame %s is lost: it was captured, and nothing explains what became of it", l.Frame))
			}
			return nil
		},
	}
}

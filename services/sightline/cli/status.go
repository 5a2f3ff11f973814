package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/services/sightline/status"
)

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the whole system at a glance, and what needs attention",
		Long: `Show the broker, the services, models, cameras, the books, what was quarantined, queues, sampling and drift; then what needs
attention, since when, and what to do about it. docs/runbooks.md says more about each.
Exit codes: 0 healthy, 1 the system cannot be asked, 4 something needs attention.`,
		Example: `  sightline status
  sightline status --json | jq -r '.problems[] | .what + ": " + .do'`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			nc, js, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer nc.Close()
			s := status.Take(cmd.Context(), nc, js, a.log())
			if a.json {
				err = a.writeJSON(s)
			} else {
				err = s.Write(a.std.Out, time.Local)
			}
			if err != nil {
				return err
			}
			switch n := len(s.Problems); n {
			case 0:
				return nil
			case 1:
				return exit(ExitAttention, fmt.Errorf("1 problem needs attention: %s", s.Problems[0].What))
			default:
				return exit(ExitAttention, fmt.Errorf("%d problems need attention, first of all: %s", n, s.Problems[0].What))
			}
		},
	}
}

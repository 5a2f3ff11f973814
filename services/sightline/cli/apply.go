package cli

import (
	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/services/sightline/system"
	"github.com/sightline-dev/sightline/streams"
)

func (a *app) apply() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make a running system what a configuration file says",
		Long: `Write the cameras and models of a configuration file to a running system; services follow within moments. Cameras and
models that the file does not name are removed. Applying the same file again changes nothing.`,
		Example: `  sightline apply --config cameras.yaml --dry-run
  sightline apply --config cameras.yaml --nats nats://nats.example:4222`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := a.loadFile()
			if err != nil {
				return err
			}
			nc, js, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer nc.Close()
			if dryRun {
				changes, err := system.Plan(cmd.Context(), js, f)
				if err != nil {
					return err
				}
				return a.printChanges("would be ", changes)
			}
			if err := streams.Ensure(cmd.Context(), js, streams.Options{Replicas: a.process.Replicas}); err != nil {
				return err
			}
			changes, err := system.Apply(cmd.Context(), js, f)
			if err != nil {
				return err
			}
			return a.printChanges("", changes)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change, and change nothing")
	return cmd
}

func (a *app) printChanges(would string, c system.Changes) error {
	if a.json {
		return a.writeJSON(c)
	}
	for _, m := range c.Models {
		if err := a.printf("model %s %sdeclared\n", m, would); err != nil {
			return err
		}
	}
	for _, m := range c.Removed {
		if err := a.printf("model %s %sremoved\n", m, would); err != nil {
			return err
		}
	}
	for _, x := range c.Cameras {
		if err := a.printf("%s%s\n", would, x); err != nil {
			return err
		}
	}
	if len(c.Models)+len(c.Removed)+len(c.Cameras) == 0 {
		return a.printf("nothing to change\n")
	}
	return nil
}

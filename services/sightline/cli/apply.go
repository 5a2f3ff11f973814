package cli

import (
	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/services/sightline/system"
	"github.com/sightline-dev/sightline/streams"
)

func (a *app) apply() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make a running system what a configuration file says",
		Long: `Write the cameras and models of a configuration file to a running system; services follow within moments. Cameras that
the file does not name are removed. Applying the same file again changes nothing.`,
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
				have, _, err := catalog.Cameras(cmd.Context(), js)
				if err != nil {
					return err
				}
				return a.printChanges("would be ", system.Applied{Changes: config.Diff(have, f.Cameras)})
			}
			if err := streams.Ensure(cmd.Context(), js, streams.Options{Replicas: a.process.Replicas}); err != nil {
				return err
			}
			done, err := system.Apply(cmd.Context(), js, f)
			if err != nil {
				return err
			}
			return a.printChanges("", done)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change, and change nothing")
	return cmd
}

func (a *app) printChanges(would string, done system.Applied) error {
	if a.json {
		return a.writeJSON(done)
	}
	for _, m := range done.Models {
		if err := a.printf("model %s %sdeclared\n", m, would); err != nil {
			return err
		}
	}
	for _, c := range done.Changes {
		if err := a.printf("%s%s\n", would, c); err != nil {
			return err
		}
	}
	if len(done.Models)+len(done.Changes) == 0 {
		return a.printf("nothing to change\n")
	}
	return nil
}

package cli

import (
	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/services/sightline/system"
)

func (a *app) lint() *cobra.Command {
	return &cobra.Command{
		Use:   "lint",
		Short: "Check a configuration file and its models, and report every problem at once",
		Long: `Check a configuration file and the models it names. Every problem is reported, each with its line and what to write
instead; nothing is started and nothing is written. Exit code 2 when there is a problem.`,
		Example: `  sightline lint
  sightline lint --config cameras.yaml && sightline apply --config cameras.yaml`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, err := a.loadFile()
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(map[string]any{"file": a.file, "cameras": f.Cameras, "models": system.UsedModels(f)})
			}
			return a.printf("%s: %d cameras, %d models: ok\n", a.file, len(f.Cameras), len(system.UsedModels(f)))
		},
	}
}

package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/pkg/config"
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
		Args: usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			f, err := a.loadFile()
			if problems, ok := errors.AsType[config.Problems](err); ok && a.json {
				return a.printProblems(problems)
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(map[string]any{"file": a.process.Config, "cameras": f.Cameras, "models": system.UsedModels(f)})
			}
			return a.printf("%s: %d cameras, %d models: ok\n", a.process.Config, len(f.Cameras), len(system.UsedModels(f)))
		},
	}
}

// printProblems writes one JSON object per problem.
func (a *app) printProblems(problems config.Problems) error {
	for _, p := range problems {
		err := a.writeJSON(struct {
			File    string `json:"file"`
			Line    int    `json:"line"`
			Path    string `json:"path"`
			Message string `json:"message"`
			Hint    string `json:"hint"`
		}{p.File, p.Line, p.Path, p.Message, p.Hint})
		if err != nil {
			return err
		}
	}
	return exit(ExitUsage, fmt.Errorf("%d problems", len(problems)))
}

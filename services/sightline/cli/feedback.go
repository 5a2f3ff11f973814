package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/pkg/feedback"
)

func (a *app) feedback() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "feedback",
		Short: "Say what was really in frames",
		Args:  usage(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "send [FILE]",
		Short: "Send feedback on frames, one JSON object a line, from a file or standard input",
		Long: `Send feedback on frames, one JSON object a line, from a file or standard input: labels of a whole picture, or verdicts on the
detections of an answer (docs/predictions.md, feedback.schema.json). Nothing is sent when a line is wrong.`,
		Example: `  echo '{"schema":"sightline.feedback.v1","frame":"street/7/12","model":"person","by":"ann","at":"2026-01-31T08:00:00Z","labels":[]}' | sightline feedback send
  sightline feedback send labels.jsonl`,
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := a.std.In
			if len(args) == 1 && args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return exit(ExitUsage, err)
				}
				defer func() { _ = file.Close() }()
				in = file
			}
			return a.sendFeedback(cmd.Context(), in)
		},
	})
	return cmd
}

// maxFeedback bounds a line.
const maxFeedback = 1 << 20

func (a *app) sendFeedback(ctx context.Context, in io.Reader) error {
	var all []feedback.Feedback
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxFeedback)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		f, err := feedback.Decode(line)
		if err != nil {
			return exit(ExitUsage, fmt.Errorf("line %d: %w", n, err))
		}
		all = append(all, f)
	}
	if err := lines.Err(); err != nil {
		return exit(ExitUsage, fmt.Errorf("read feedback: %w", err))
	}
	nc, js, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer nc.Close()
	for i, f := range all {
		if err := feedback.Send(ctx, js, f); err != nil {
			return fmt.Errorf("%d of %d sent: %w", i, len(all), err)
		}
	}
	return a.printf("sent %d\n", len(all))
}

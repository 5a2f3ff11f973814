package cli

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sightline-dev/sightline/services/sightline/top"
)

type topFlags struct {
	once  bool
	ascii bool
}

func (a *app) top() *cobra.Command {
	var f topFlags
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch rates, ages, fates, workers and drift on a full screen",
		Long: `Show on a full screen, once a second, with what they were over the last two minutes: frames captured and predicted per second, the
age of answers, what became of frames, cameras, how busy workers are, drift and faults of cameras, and what happened last. It only
needs the broker, and works over ssh. Keys: q ends, arrows and page keys move through the cameras.

With --once it prints one picture, without colours or control characters, for scripts; so it does where there is no terminal.`,
		Example: `  sightline top
  sightline top --once | head -12`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.json {
				return exit(ExitUsage, errors.New("top has no JSON: sightline status --json, ledger --json and workers --json have its figures"))
			}
			nc, js, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer nc.Close()
			ctx, stop := context.WithCancel(cmd.Context())
			defer stop()
			g, err := top.Gather(ctx, js, a.log())
			if err != nil {
				return err
			}
			gathered := make(chan error, 1)
			go func() { gathered <- g.Run(ctx) }()
			if f.once || !a.interactive() {
				err = a.topOnce(ctx, g, f)
			} else {
				err = top.Show(ctx, a.std.In, a.std.Out, g.Picture, f.ascii || !a.utf8())
			}
			stop()
			return errors.Join(err, <-gathered)
		},
	}
	cmd.Flags().BoolVar(&f.once, "once", false, "print one picture and end")
	cmd.Flags().BoolVar(&f.ascii, "ascii", false, "draw with ASCII alone; so it does where the locale is not UTF-8")
	return cmd
}

// topOnce looks for a few seconds, so that there are rates, and prints what it saw.
func (a *app) topOnce(ctx context.Context, g *top.Gatherer, f topFlags) error {
	g.Booked(ctx)
	tick := time.NewTicker(top.Every)
	defer tick.Stop()
	p := g.Picture(time.Now())
	for range 3 {
		select {
		case now := <-tick.C:
			p = g.Picture(now)
		case <-ctx.Done():
			return nil
		}
	}
	s := top.Screen{Width: 120, Height: 50, ASCII: f.ascii || !a.utf8()}
	if file, ok := a.std.Out.(*os.File); ok {
		if w, _, err := term.GetSize(int(file.Fd())); err == nil {
			s.Width = w
		}
	}
	if n, err := strconv.Atoi(a.getenv("COLUMNS", "")); err == nil {
		s.Width = n
	}
	return a.printf("%s", p.Draw(s))
}

// utf8 says whether the terminal can be expected to know more than ASCII.
func (a *app) utf8() bool {
	locale := a.getenv("LC_ALL", a.getenv("LC_CTYPE", a.getenv("LANG", "")))
	l := strings.ToLower(locale)
	return strings.Contains(l, "utf-8") || strings.Contains(l, "utf8")
}

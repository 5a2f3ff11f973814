package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/health"
)

// healthCommand is the argument that makes a program ask another process of its kind how it is.
const healthCommand = "health"

var errNobodyToAsk = errors.New("SIGHTLINE_HTTP is off: nobody answers for the process; set it to host:port, for both")

// health asks the process with the same SIGHTLINE_HTTP whether it is ready, and returns the exit code: 0 is yes, 1
// everything else, because Docker keeps 2 for itself. It needs no shell and no other program in the image.
func (s Service) health(ctx context.Context, args, environ []string, out io.Writer) int {
	flags := flag.NewFlagSet(s.Name+" "+healthCommand, flag.ContinueOnError)
	flags.SetOutput(out)
	live := flags.Bool("live", false, "ask whether anything in the process hangs, not whether it is ready")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return exitFailed
	}
	path, yes, no := "/readyz", "ready", "not ready"
	if *live {
		path, yes, no = "/livez", "live", "not live"
	}
	err := ask(ctx, flags.Args(), environ, path)
	if err != nil {
		_, _ = fmt.Fprintf(out, "%s is %s: %v\n", s.Name, no, err)
		return exitFailed
	}
	_, _ = fmt.Fprintf(out, "%s is %s\n", s.Name, yes)
	return 0
}

func ask(ctx context.Context, args, environ []string, path string) error {
	if len(args) > 0 {
		return fmt.Errorf("unknown argument %q: health takes flags only", args[0])
	}
	p, _, err := config.ProcessFromEnv(environ)
	switch {
	case err != nil:
		return err
	case p.HTTP == config.HTTPOff:
		return errNobodyToAsk
	}
	return health.Ask(ctx, p.HTTP, path)
}

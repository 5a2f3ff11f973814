// Package cli is the sightline command line. Each command is one file.
//
// # Exit codes
//
//	0  done
//	1  failed: the message says what and, where it is known, what to do
//	2  wrong usage or configuration: nothing was started
//	3  the run predicted nothing
//	4  the books do not balance: a frame is lost; of status: something needs attention
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/telemetry"
)

// Exit codes.
const (
	ExitFailed     = 1
	ExitUsage      = 2
	ExitNothing    = 3
	ExitUnbalanced = 4
	ExitAttention  = 4
)

// Streams are where a command reads and writes.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// exitError is an error with an exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func exit(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

// Main runs one command line and returns its exit code. environ is as [os.Environ] has it.
func Main(ctx context.Context, args, environ []string, std Streams) int {
	a := &app{env: config.Lookup(environ), environ: environ, std: std}
	err := a.settings(environ)
	if err == nil {
		root := newRoot(a) //nolint:contextcheck // cobra hands commands their context
		root.SetArgs(args)
		root.SetIn(std.In)
		root.SetOut(std.Out)
		root.SetErr(std.Err)
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return 0
	}
	_, _ = fmt.Fprintln(std.Err, "sightline: "+err.Error())
	if coded, ok := errors.AsType[*exitError](err); ok {
		return coded.code
	}
	return ExitFailed
}

// app is what every command shares.
type app struct {
	env     config.Env
	environ []string
	std     Streams
	process config.Process
	nats    string // as the flag has it
	json    bool
	notes   []string // what the board shows below the table
}

// settings are those of the environment; flags are laid over them.
func (a *app) settings(environ []string) error {
	p, warnings, err := config.ProcessFromEnv(environ)
	for _, w := range warnings {
		_, _ = fmt.Fprintln(a.std.Err, "warning: "+w.String())
	}
	a.process = p
	return exit(ExitUsage, err)
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "sightline",
		Short: "Camera streams in, predictions out, on NATS JetStream",
		Long: `Sightline turns camera streams into predictions on NATS subjects, and accounts for every frame.

Try it:            sightline up                    (with a sightline.yaml in this folder)
See predictions:   sightline predictions --follow
See the books:     sightline ledger
At a glance:       sightline status

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 nothing was predicted, 4 the books do not balance,
or, of status, something needs attention.`,
		SilenceUsage: true, SilenceErrors: true, Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit(ExitUsage, err) })
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "write JSON, one object per line")
	flags.StringVar(&a.nats, "nats", "", "server of a running system (SIGHTLINE_NATS_URL; default nats://127.0.0.1:4222)")
	flags.StringVar(&a.process.NKey, "nkey", a.process.NKey, "file with the NKEY seed of the operator (SIGHTLINE_NATS_NKEY)")
	flags.StringVar(&a.process.CA, "nats-ca", a.process.CA, "authorities (PEM) that may vouch for a tls:// server (SIGHTLINE_NATS_CA)")
	flags.StringVarP(&a.process.Config, "config", "c", a.process.Config, "configuration file (SIGHTLINE_CONFIG)")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.nats == "" {
			return nil
		}
		servers, err := config.ParseServers(a.nats) // its error quotes nothing: there may be a password in it
		if err != nil {
			return exit(ExitUsage, fmt.Errorf("--nats %w", err))
		}
		a.process.NATS = servers
		return nil
	}
	root.AddCommand(a.up(), a.lint(), a.apply(), a.cameras(), a.predictions(), a.ledger(),
		a.status(), a.top(), a.trace(), a.workers(), a.events(), a.dlq(), a.drift(), a.feedback(), a.detect(), a.bench())
	return root
}

// usage gives a wrong number of arguments, or an unknown command, its exit code.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error { return exit(ExitUsage, check(cmd, args)) }
}

func (a *app) getenv(name, otherwise string) string {
	if v, ok := a.env(name); ok && v != "" {
		return v
	}
	return otherwise
}

// log writes for people, or JSON when that is asked for.
func (a *app) log() *slog.Logger {
	opts := &slog.HandlerOptions{Level: a.process.LogLevel}
	if a.json || a.process.LogFormat == config.LogJSON {
		return slog.New(telemetry.LogHandler(slog.NewJSONHandler(a.std.Err, opts)))
	}
	return slog.New(telemetry.LogHandler(slog.NewTextHandler(a.std.Err, opts)))
}

// interactive says whether people look at the output as it is written.
func (a *app) interactive() bool {
	f, ok := a.std.Out.(*os.File)
	return ok && !a.json && term.IsTerminal(int(f.Fd()))
}

// loadFile reads the configuration and shows its warnings.
func (a *app) loadFile() (*config.File, error) {
	f, warnings, err := config.Load(a.process.Config, a.env)
	for _, w := range warnings {
		_, _ = fmt.Fprintln(a.std.Err, "warning: "+w.String())
	}
	if err != nil {
		return nil, exit(ExitUsage, err)
	}
	return f, nil
}

func (a *app) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(a.std.Out, format, args...)
	return err
}

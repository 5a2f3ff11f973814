// Package cli is the sightline command line. Each command is one file.
//
// # Exit codes
//
//	0  done
//	1  failed: the message says what and, where it is known, what to do
//	2  wrong usage or configuration: nothing was started
//	3  the run predicted nothing
//	4  the books do not balance: a frame is lost
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
)

// Exit codes.
const (
	ExitFailed     = 1
	ExitUsage      = 2
	ExitNothing    = 3
	ExitUnbalanced = 4
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

// Main runs one command line and returns its exit code.
func Main(ctx context.Context, args []string, env config.Env, std Streams) int {
	root := newRoot(&app{env: env, std: std}) //nolint:contextcheck // cobra hands commands their context
	root.SetArgs(args)
	root.SetIn(std.In)
	root.SetOut(std.Out)
	root.SetErr(std.Err)
	err := root.ExecuteContext(ctx)
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
	env   config.Env
	std   Streams
	json  bool
	nats  string
	file  string
	notes []string // what the board shows below the table
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "sightline",
		Short: "Camera streams in, predictions out, on NATS JetStream",
		Long: `Sightline turns camera streams into predictions on NATS subjects, and accounts for every frame.

Try it:            sightline up                    (with a sightline.yaml in this folder)
See predictions:   sightline predictions --follow
See the books:     sightline ledger

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 nothing was predicted, 4 the books do not balance.`,
		SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit(ExitUsage, err) })
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "write JSON, one object per line")
	flags.StringVar(&a.nats, "nats", a.getenv("SIGHTLINE_NATS_URL", "nats://127.0.0.1:4222"), "server of a running system (SIGHTLINE_NATS_URL)")
	flags.StringVarP(&a.file, "config", "c", a.getenv("SIGHTLINE_CONFIG", "sightline.yaml"), "configuration file (SIGHTLINE_CONFIG)")
	root.AddCommand(a.up(), a.lint(), a.apply(), a.cameras(), a.predictions(), a.ledger(), a.detect(), a.bench())
	return root
}

func (a *app) getenv(name, otherwise string) string {
	if v, ok := a.env(name); ok && v != "" {
		return v
	}
	return otherwise
}

// log writes warnings and errors for people, or JSON when the output is JSON.
func (a *app) log() *slog.Logger {
	level := slog.LevelWarn
	if err := level.UnmarshalText([]byte(a.getenv("SIGHTLINE_LOG_LEVEL", "warn"))); err != nil {
		level = slog.LevelWarn
	}
	opts := &slog.HandlerOptions{Level: level}
	if a.json {
		return slog.New(slog.NewJSONHandler(a.std.Err, opts))
	}
	return slog.New(slog.NewTextHandler(a.std.Err, opts))
}

// interactive says whether people look at the output as it is written.
func (a *app) interactive() bool {
	f, ok := a.std.Out.(*os.File)
	return ok && !a.json && term.IsTerminal(int(f.Fd()))
}

// loadFile reads the configuration and shows its warnings.
func (a *app) loadFile() (*config.File, error) {
	f, warnings, err := config.Load(a.file, a.env)
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

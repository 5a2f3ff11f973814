// Package app is the life of a service's process: settings, log, broker, place in the fleet, signals.
//
// A process waits for its broker however long that is away, at the start too. SIGTERM and SIGINT end it in order: the
// service finishes what it holds, then the process leaves the fleet. A second signal ends it at once.
//
// Where SIGHTLINE_HTTP says so, the process answers whether it is live and ready, from before there is a broker until it
// has ended; `<program> health` asks.
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/health"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/streams"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

const declareAgain = 500 * time.Millisecond

// A Service is what a process runs.
type Service struct {
	// Name is the service's: "infer".
	Name string
	// Does says in one line what the service does.
	Does string
	// Declares says that the service makes streams and buckets that are missing. Others wait for them, and may do without the
	// right to make any.
	Declares bool
	// Run works until ctx ends, and finishes what it holds.
	Run func(ctx context.Context, p *Process) error
	// Ready says why the service does no work yet, by what its last beat says. May be nil.
	Ready func(fleet.Worker) error
}

// Process is what a service gets.
type Process struct {
	config.Process
	JS     jetstream.JetStream
	Member *fleet.Member
	Events *events.Publisher
	// Health is what the process says of itself at SIGHTLINE_HTTP. Services may add to it.
	Health *health.Board
	// Telemetry is what the process says of itself in numbers, at /metrics, and in traces.
	Telemetry *telemetry.Telemetry
	Log       *slog.Logger

	vitals  *vitals
	crashed chan<- error
}

// Crash ends the process at once because something in it does not end by itself. Others get what it holds, and whoever
// started it starts it again.
func (p *Process) Crash(reason error) {
	p.vitals.crashed.Set(reason)
	select {
	case p.crashed <- reason:
	default: // it ends already
	}
}

// Main runs a service with the settings of the environment and the command line, and returns the exit code.
func Main(s Service) int {
	if len(os.Args) > 1 && os.Args[1] == healthCommand {
		return s.health(context.Background(), os.Args[2:], os.Environ(), os.Stdout)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends at once
	if _, set := os.LookupEnv("GOGC"); !set {
		// Messages are large, short-lived and few: collecting less often costs tens of megabytes and saves a few per
		// cent of all CPU (docs/benchmarks.md).
		debug.SetGCPercent(400)
	}
	ended, crashed := make(chan error, 1), make(chan error, 1)
	go func() { ended <- s.main(ctx, os.Args[1:], os.Environ(), os.Stderr, crashed) }()
	var err error
	select {
	case err = <-ended:
	case err = <-crashed: // with whatever still runs
	}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	default:
		_, _ = fmt.Fprintf(os.Stderr, "%s: %v\n", s.Name, err)
		if _, usage := errors.AsType[*usageError](err); usage {
			return exitUsage
		}
		return exitFailed
	}
}

type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// main is Main without the process around it.
func (s Service) main(ctx context.Context, args, environ []string, stderr io.Writer, crashed chan<- error) error {
	settings, err := s.settings(args, environ, stderr)
	if err != nil {
		return err
	}
	log := newLog(settings, stderr).With(slog.String("service", s.Name), slog.String("instance", settings.Instance))
	state := new(vitals)
	board := state.report(s.Name, settings, log)
	tel, err := Measure(ctx, s.Name, settings, environ, board, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := tel.Shutdown(ctx); err != nil {
			log.WarnContext(ctx, "what was measured last is not all exported", slog.String("kind", fmt.Sprintf("%T", err)))
		}
	}()
	defer context.AfterFunc(ctx, board.Drain)()
	silence, err := Answer(ctx, settings.HTTP, board, log)
	if err != nil {
		return err
	}
	defer silence()
	nc, err := broker.Connect(broker.Config{
		URL: settings.NATS.Reveal(), Name: s.Name + "-" + settings.Instance, Log: log,
		Credentials: broker.Credentials{User: s.Name, NKey: settings.NKey, CA: settings.CA},
	})
	if err != nil {
		return err
	}
	defer nc.Close()
	defer state.follow(ctx, nc)()
	if err := tel.Join(nc); err != nil {
		return err
	}
	js, err := broker.JetStream(nc)
	if err != nil {
		return err
	}
	p := &Process{Process: settings, JS: js, Events: events.NewPublisher(js, settings.Instance), Health: board, Telemetry: tel, Log: log, vitals: state, crashed: crashed}
	p.Member = fleet.NewMember(js, fleet.Config{
		Service: s.Name, Instance: settings.Instance, Region: settings.Region, Declares: s.Declares, Replicas: settings.Replicas, Log: log,
		OnFence: func(e fleet.Epitaph) {
			p.Events.Tell(events.Event{Area: "worker", Kind: "fenced", Name: settings.Instance, State: "fenced", Cause: e.Cause, Detail: "declared dead by " + e.By})
		},
	})
	state.member(board, p.Member)
	if s.Ready != nil {
		board.Ready(checkService, func() error { return s.Ready(p.Member.Entry()) })
	}
	return s.run(ctx, p)
}

// run works as a member of the fleet, until ctx ends and the service has finished.
func (s Service) run(ctx context.Context, p *Process) error {
	if err := s.declare(ctx, p); err != nil {
		return nil // told to stop before there was a broker
	}
	p.vitals.declared.Set(nil)
	tell, stopTelling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTelling()
	told := make(chan error, 1)
	go func() { told <- p.Events.Run(tell) }()
	event := events.Event{Area: "worker", Kind: "state", Name: p.Instance, Facts: map[string]string{"service": s.Name}}
	err := p.Member.While(ctx, func(ctx context.Context) error {
		defer p.vitals.watch(ctx, p.Member)()
		p.Log.InfoContext(ctx, "started", slog.String("broker", p.NATS.String()))
		p.vitals.place.Set(nil)
		event.State = "started"
		p.Events.Tell(event)
		err := s.Run(ctx, p)
		event.State = "stopped"
		p.Events.Tell(event)
		return err
	})
	stopTelling()
	return errors.Join(err, <-told)
}

// declare waits until every stream and bucket is there.
func (s Service) declare(ctx context.Context, p *Process) error {
	wait := func(err error) {
		p.vitals.declared.Set(fmt.Errorf("%w: %w", errNoStreams, err))
		p.Log.WarnContext(ctx, "waiting for the broker", slog.String("broker", p.NATS.String()), slog.Any("error", err))
	}
	if !s.Declares {
		return streams.Await(ctx, p.JS, wait)
	}
	for told := false; ; {
		err := streams.Ensure(ctx, p.JS, streams.Options{Replicas: p.Replicas})
		if err == nil {
			return nil
		}
		p.vitals.declared.Set(fmt.Errorf("%w: %w", errNoStreams, err))
		if !told && ctx.Err() == nil {
			told = true
			wait(err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(declareAgain):
		}
	}
}

// settings lays the command line over the environment.
func (s Service) settings(args, environ []string, stderr io.Writer) (config.Process, error) {
	p, warnings, err := config.ProcessFromEnv(environ)
	for _, w := range warnings {
		_, _ = fmt.Fprintln(stderr, "warning: "+w.String())
	}
	if err != nil {
		return p, &usageError{err}
	}
	flags := flag.NewFlagSet(s.Name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		_, _ = fmt.Fprintf(stderr, "%s %s.\n\nSettings come from SIGHTLINE_ variables (docs/configuration.md) and these flags:\n", s.Name, s.Does)
		flags.PrintDefaults()
		_, _ = fmt.Fprintf(stderr, "\n%s %s asks the one that runs whether it is ready.\n", s.Name, healthCommand)
	}
	servers := flags.String("nats", "", "the broker (SIGHTLINE_NATS_URL)")
	flags.StringVar(&p.Instance, "instance", p.Instance, "name of this replica (SIGHTLINE_INSTANCE)")
	if err := flags.Parse(args); err != nil {
		return p, &usageError{err}
	}
	if flags.NArg() > 0 {
		return p, &usageError{fmt.Errorf("unknown argument %q: %s takes flags only", flags.Arg(0), s.Name)}
	}
	if *servers != "" {
		if p.NATS, err = config.ParseServers(*servers); err != nil {
			return p, &usageError{fmt.Errorf("--nats %w", err)}
		}
	}
	if err := p.Validate(); err != nil {
		return p, &usageError{err}
	}
	return p, nil
}

func newLog(p config.Process, out io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: p.LogLevel}
	if p.LogFormat == config.LogJSON {
		return slog.New(telemetry.LogHandler(slog.NewJSONHandler(out, opts)))
	}
	return slog.New(telemetry.LogHandler(slog.NewTextHandler(out, opts)))
}

//go:build cgo

package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	sightline "github.com/sightline-dev/sightline/pkg/app"
	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/health"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/pkg/telemetry/machine"
	"github.com/sightline-dev/sightline/pkg/telemetry/machine/nvml"
	"github.com/sightline-dev/sightline/services/sightline/system"
	"github.com/sightline-dev/sightline/services/sightline/watch"
)

type upFlags struct {
	duration   time.Duration
	host       string
	port       int
	dataDir    string
	ortLibrary string
	http       string
}

func (a *app) up() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run everything in this process on an embedded broker",
		Long: `Run ingest, preprocess and infer in this process, on an embedded NATS server that any NATS client can reach.

The table shows every camera: frames captured and predicted per second, age from capture to prediction, and the fate
of every frame. It runs until Ctrl-C. With --for it ends by itself, and fails when nothing was predicted (exit code 3)
or a frame is lost (exit code 4).`,
		Example: `  sightline up
  sightline up --config deploy/demo/sightline.yaml --for 30s
  sightline up --port 14222 --json | jq .
  sightline up --http 127.0.0.1:8080`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runUp(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.DurationVar(&f.duration, "for", 0, "stop after this time, such as 30s; 0 runs until Ctrl-C")
	flags.StringVar(&f.host, "host", "127.0.0.1", "address that the embedded NATS server listens on")
	flags.IntVar(&f.port, "port", 4222, "port of the embedded NATS server")
	flags.StringVar(&f.dataDir, "data-dir", a.process.DataDir, "folder of the embedded NATS server's files (SIGHTLINE_DATA_DIR; default below the user's data folder)")
	flags.StringVar(&f.http, "http", a.process.HTTP, "where /livez, /readyz, /status and /metrics are answered, such as 127.0.0.1:8080, or off (SIGHTLINE_HTTP)")
	flags.StringVar(&f.ortLibrary, "ort-library", a.process.OrtLibrary, "ONNX Runtime's shared library (SIGHTLINE_ORT_LIBRARY; default: search)")
	return cmd
}

func (a *app) runUp(ctx context.Context, f upFlags) error {
	if f.duration < 0 || f.port < -1 || f.port > 65535 {
		return exit(ExitUsage, errors.New("--for is a positive time, --port is 1 to 65535, or -1 for any free one"))
	}
	file, err := a.loadFile()
	if err != nil {
		return err
	}
	if f.dataDir == "" {
		f.dataDir = a.defaultDataDir()
	}
	a.process.HTTP, a.process.DataDir = f.http, f.dataDir
	if err := a.process.Validate(); err != nil {
		return exit(ExitUsage, err)
	}
	r := &upRun{app: a, flags: f}
	board, tel, silence, err := r.measure(ctx)
	if err != nil {
		return err
	}
	defer silence()
	cfg := system.Config{
		File: file, Host: f.host, Port: f.port, StoreDir: f.dataDir, ORTLibrary: f.ortLibrary, Telemetry: tel, Log: a.log(),
		ReactOff: !a.process.React, ReactMaxShare: a.process.ReactMaxShare,
	}
	err = system.Run(ctx, cfg, func(ctx context.Context, s *system.System) error {
		board.Ready(checkRunning, func() error { return nil })
		return r.watch(ctx, s)
	}, r.settle)
	if errors.Is(err, broker.ErrPortTaken) {
		return fmt.Errorf("%w\nanother program listens there, perhaps another sightline: stop it, or choose another port with --port", err)
	}
	if errors.Is(err, broker.ErrStoreInUse) {
		return fmt.Errorf("%w\nanother sightline runs with this configuration: stop it, or choose another folder with --data-dir", err)
	}
	if err != nil && ctx.Err() == nil {
		return err
	}
	return r.verdict()
}

// defaultDataDir keeps the broker's files where a user's data belongs, apart for every configuration file: two systems must
// not share them.
func (a *app) defaultDataDir() string {
	base := a.getenv("XDG_DATA_HOME", filepath.Join(a.getenv("HOME", os.TempDir()), ".local", "share"))
	path, err := filepath.Abs(a.process.Config)
	if err != nil {
		path = a.process.Config
	}
	return filepath.Join(base, "sightline", strings.Trim(strings.NewReplacer("/", "-", " ", "_").Replace(path), "-"))
}

// checkRunning is ready when every service runs.
const checkRunning = "running"

var errStarting = errors.New("services are starting")

// measure makes what the process says of itself, and says it where it shall, until silence is called. Services of one process
// count in one place; what tells them apart is the stage.
func (r *upRun) measure(ctx context.Context) (_ *health.Board, _ *telemetry.Telemetry, silence func(), err error) {
	p, log := r.app.process, r.app.log()
	board := health.New(health.Config{Service: "sightline", Instance: p.Instance, Log: log})
	board.Ready(checkRunning, func() error { return errStarting })
	stop := context.AfterFunc(ctx, board.Drain)
	tel, err := sightline.Measure(ctx, "sightline", p, r.app.environ, board, log)
	if err != nil {
		return nil, nil, nil, err
	}
	machine.ObserveGPUs(ctx, tel, nvml.Open, log)
	quiet, err := sightline.Answer(ctx, p.HTTP, board, log)
	if err != nil {
		return nil, nil, nil, errors.Join(err, tel.Shutdown(ctx))
	}
	return board, tel, func() {
		stop()
		quiet()
		if err := tel.Shutdown(ctx); err != nil {
			log.WarnContext(ctx, "what was measured last is not all exported", slog.String("kind", fmt.Sprintf("%T", err)))
		}
	}, nil
}

// upRun shows a running system and judges it at its end.
type upRun struct {
	app   *app
	flags upFlags

	watcher *watch.Watcher
	stop    context.CancelFunc
	held    ledger.HeldBefore
	last    []watch.Camera
}

// watch shows the board until the run is over.
func (r *upRun) watch(ctx context.Context, s *system.System) error {
	r.watcher = watch.New(s.JS, s.Started)
	watching, stop := context.WithCancel(context.WithoutCancel(ctx)) // until everything has its fate
	r.stop = stop
	failed := make(chan error, 1)
	go func() { failed <- r.watcher.Run(watching) }()
	r.held.JS = s.JS

	if err := r.app.welcome(s); err != nil {
		return err
	}
	every := linesEvery
	if r.app.interactive() {
		every = boardEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var over <-chan time.Time
	if r.flags.duration > 0 {
		t := time.NewTimer(r.flags.duration)
		defer t.Stop()
		over = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-over:
			return nil
		case err := <-failed:
			return err
		case now := <-tick.C:
			if err := r.show(ctx, now); err != nil {
				return err
			}
		}
	}
}

// cameras is the picture now. What streams hold is as old as the books want it.
func (r *upRun) cameras(ctx context.Context, now time.Time) []watch.Camera {
	return r.watcher.Cameras(now, r.held.At(ctx, now, r.watcher.Pace()))
}

func (r *upRun) show(ctx context.Context, now time.Time) error {
	rows := r.cameras(ctx, now)
	if r.app.interactive() {
		return r.app.drawBoard(rows, r.watcher.Notes())
	}
	return r.app.writeLines(rows, r.watcher.Notes())
}

// settle waits until every captured frame has its fate.
func (r *upRun) settle(ctx context.Context) error {
	if r.watcher == nil {
		return nil
	}
	defer r.stop()
	const every = 200 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for quiet := time.Duration(0); quiet < r.watcher.Pace()+every/2; { // the ledger's last records are so long on their way
		select {
		case <-ctx.Done():
			return nil // the verdict tells what is still open
		case now := <-tick.C:
			r.last = r.cameras(ctx, now)
			open := uint64(0)
			for _, c := range r.last {
				open += c.Books.InFlight
			}
			if open == 0 {
				quiet += every
			} else {
				quiet = 0
			}
		}
	}
	return nil
}

// verdict is the summary and the exit code of the run.
func (r *upRun) verdict() error {
	if r.watcher == nil {
		return nil
	}
	var predicted, lost, inFlight uint64
	balanced := true
	for _, c := range r.last {
		predicted += c.Books.Predicted
		lost += c.Books.Lost
		inFlight += c.Books.InFlight
		balanced = balanced && c.Books.Balanced()
	}
	if err := r.app.summary(r.last, predicted, lost); err != nil {
		return err
	}
	if inFlight > 0 {
		_, _ = fmt.Fprintf(r.app.std.Err, "%d frames are still in flight: those of every_frame cameras are answered by the next run\n", inFlight)
	}
	switch {
	case !balanced:
		return exit(ExitUnbalanced, fmt.Errorf("the books do not balance: lost %d", lost))
	case predicted == 0 && r.flags.duration > 0:
		return exit(ExitNothing, errors.New("nothing was predicted"))
	}
	return nil
}

func (a *app) welcome(s *system.System) error {
	if a.json {
		return nil
	}
	return a.printf("NATS on %s: subscribe to predictions.<model>.<camera>, or run: sightline predictions --follow\n", s.URL)
}

func (a *app) writeLines(rows []watch.Camera, notes []string) error {
	if a.json {
		return a.writeJSON(struct {
			At      time.Time      `json:"at"`
			Cameras []watch.Camera `json:"cameras"`
		}{time.Now().UTC(), rows})
	}
	for _, n := range notes {
		if err := a.printf("%s\n", n); err != nil {
			return err
		}
	}
	for _, r := range rows {
		if err := a.printf("%s  %s\n", time.Now().Format(time.TimeOnly), r.Line()); err != nil {
			return err
		}
	}
	return nil
}

// drawBoard redraws the terminal from its upper left corner.
func (a *app) drawBoard(rows []watch.Camera, notes []string) error {
	var b strings.Builder
	b.WriteString("\x1b[H\x1b[2Jsightline up   " + time.Now().Format(time.TimeOnly) + "   Ctrl-C stops\n\n")
	if err := watch.Table(&b, rows); err != nil {
		return err
	}
	a.notes = append(a.notes, notes...)
	a.notes = a.notes[max(0, len(a.notes)-8):]
	b.WriteString("\n" + strings.Join(a.notes, "\n") + "\n")
	return a.printf("%s", b.String())
}

func (a *app) summary(rows []watch.Camera, predicted, lost uint64) error {
	if a.json {
		return a.writeJSON(struct {
			Cameras   []watch.Camera `json:"cameras"`
			Predicted uint64         `json:"predicted"`
			Lost      uint64         `json:"lost"`
		}{rows, predicted, lost})
	}
	if err := a.printf("\n"); err != nil {
		return err
	}
	if err := watch.Table(a.std.Out, rows); err != nil {
		return err
	}
	return a.printf("predicted %d, lost %d\n", predicted, lost)
}

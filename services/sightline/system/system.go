//go:build cgo

// Package system runs every service in one process on an embedded broker. It takes no short cuts: the services are the
// ones that the images run, each with a connection of its own, and they talk over JetStream only.
//
// # Shutdown
//
// Cameras stop first. Then everything captured gets its fate, and only then do the workers stop: whatever ends a run,
// its books balance.
package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/services/camera"
	driftmonitor "github.com/sightline-dev/sightline/services/drift-monitor"
	"github.com/sightline-dev/sightline/services/drift-monitor/detect"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/adapters"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/recovery"
	"github.com/sightline-dev/sightline/services/sightline/watch"
	"github.com/sightline-dev/sightline/streams"
)

// Config is what a System runs.
type Config struct {
	File       *config.File
	Host       string // where the embedded broker listens; default 127.0.0.1
	Port       int    // -1 or 0 picks a free one
	StoreDir   string // files of the embedded broker
	ORTLibrary string // ONNX Runtime's shared library; "" searches
	Log        *slog.Logger
	Drift      detect.Config // how drift is judged; the zero value is the default
	// ReactOff and ReactMaxShare are recovery's: how it reacts to cameras that are faulty or drift.
	ReactOff      bool
	ReactMaxShare float64
	// Telemetry is that of the process: all services count in one place. Nil measures nothing.
	Telemetry *telemetry.Telemetry
	// NewSource makes the source of a camera; nil is RTSP.
	NewSource func(config.Camera) (ingest.Source, error)
}

// System is a running set of services.
type System struct {
	// URL is where any NATS client connects.
	URL string
	// JS is a connection of its own, for whoever watches.
	JS jetstream.JetStream
	// Started is where a watcher finds all of this run, and nothing of those before it.
	Started watch.Start
}

// workersReady bounds how long loading models may take.
const workersReady = 60 * time.Second

// Run starts everything, hands a running System to use, and stops everything when use returns or a service fails.
// settle is called after the cameras have stopped: it returns when every frame has its fate, or when its context ends.
func Run(ctx context.Context, cfg Config, use func(context.Context, *System) error, settle func(context.Context) error) (err error) {
	server, err := broker.StartEmbedded(ctx, cfg.Host, cfg.Port, cfg.StoreDir)
	if err != nil {
		return err
	}
	defer server.Stop()
	r := &runner{cfg: cfg, server: server}
	defer r.closeConnections()
	ctx, r.fail = context.WithCancelCause(ctx)
	defer r.fail(nil)
	defer func() { err = errors.Join(err, r.stop(context.WithoutCancel(ctx), settle)) }()

	js, err := r.connect("sightline")
	if err != nil {
		return err
	}
	if err := cfg.Telemetry.Join(js.Conn()); err != nil {
		return err
	}
	if err := streams.Ensure(ctx, js, streams.Options{}); err != nil {
		return err
	}
	started, err := watch.Now(ctx, js)
	if err != nil {
		return err
	}
	sys := &System{URL: server.URL(), JS: js, Started: started}
	if err := r.startDemo(ctx); err != nil {
		return err
	}
	if _, err := Apply(ctx, js, cfg.File); err != nil {
		return err
	}
	if err := r.startRecovery(); err != nil {
		return err
	}
	if err := r.startDriftMonitor(); err != nil {
		return err
	}
	if err := r.startWorkers(ctx); err != nil {
		return err
	}
	if err := r.startIngest(); err != nil {
		return err
	}
	if err := use(ctx, sys); err != nil {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// runner owns what Run starts: groups that stop in reverse order of their start.
type runner struct {
	cfg    Config
	server *broker.Embedded
	fail   context.CancelCauseFunc
	conns  []*nats.Conn
	demo   group
	work   group
	ingest group
	// recovery is there for as long as anything is that it could mend.
	recovery group
	// drift ends after the last answer, which it still sees.
	drift group
}

// group is a set of services that stop together.
type group struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ctx    context.Context //nolint:containedctx // it is the group's life, not a call's
}

func (g *group) open() {
	g.ctx, g.cancel = context.WithCancel(context.Background())
}

func (g *group) stop() {
	if g.cancel != nil {
		g.cancel()
	}
	g.wg.Wait()
}

// run starts a service; its failure ends the whole system.
func (r *runner) run(g *group, name string, f func(context.Context) error) {
	g.wg.Go(func() {
		if err := f(g.ctx); err != nil {
			r.fail(fmt.Errorf("%s: %w", name, err))
		}
	})
}

func (r *runner) connect(name string) (jetstream.JetStream, error) {
	nc, err := r.server.Connect(name, r.cfg.Log)
	if err != nil {
		return nil, err
	}
	r.conns = append(r.conns, nc)
	return broker.JetStream(nc)
}

// member makes the connection and the place in the fleet of the only replica of a service.
func (r *runner) member(service string) (jetstream.JetStream, *fleet.Member, error) {
	const instance = "1"
	js, err := r.connect(service + "-" + instance)
	if err != nil {
		return nil, nil, err
	}
	return js, fleet.NewMember(js, fleet.Config{Service: service, Instance: service + "-" + instance, Declares: service == recovery.Name, Log: r.cfg.Log}), nil
}

func (r *runner) closeConnections() {
	for _, nc := range r.conns {
		nc.Close()
	}
}

// stillsFPS is the rate at which a demo camera plays JPEGs, which say nothing of time.
const stillsFPS = 10

func (r *runner) startDemo(ctx context.Context) error {
	d := r.cfg.File.Demo
	if d == nil {
		return nil
	}
	footage, err := camera.Load(d.Footage, stillsFPS)
	if err != nil {
		return fmt.Errorf("demo camera: %w", err)
	}
	s, err := camera.New(camera.Config{Footage: footage, Listen: net.JoinHostPort("127.0.0.1", strconv.Itoa(d.Port)), Path: d.Path})
	if err != nil {
		return fmt.Errorf("demo camera: %w", err)
	}
	r.demo.open()
	r.run(&r.demo, fmt.Sprintf("demo camera on port %d (demo.port in sightline.yaml)", d.Port), s.Run)
	select {
	case <-s.Ready():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *runner) startWorkers(ctx context.Context) error {
	r.work.open()
	inferService, err := r.startInfer()
	if err != nil {
		return err
	}
	if err := r.startPreprocess(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, workersReady, fmt.Errorf("models not ready within %s", workersReady))
	defer cancel()
	return inferService.Ready(ctx, UsedModels(r.cfg.File)...)
}

func (r *runner) startInfer() (*infer.Service, error) {
	js, member, err := r.member("infer")
	if err != nil {
		return nil, err
	}
	backend, err := NewBackend(r.cfg.ORTLibrary)
	if err != nil {
		return nil, err
	}
	repository := model.Repository{Dir: r.cfg.File.Models}
	s := infer.NewService(infer.Config{Instance: "infer-1"}, infer.Deps{
		JS: js, Backend: backend, Open: repository.OpenVersion, Member: member, Telemetry: r.cfg.Telemetry, Log: r.cfg.Log,
	})
	r.run(&r.work, "infer", func(ctx context.Context) error { return member.While(ctx, s.Run) })
	return s, nil
}

func (r *runner) startPreprocess() error {
	js, member, err := r.member("preprocess")
	if err != nil {
		return err
	}
	s := preprocess.NewService(preprocess.Default(), preprocess.Deps{JetStream: js, Imager: NewImager(), Member: member, Telemetry: r.cfg.Telemetry, Log: r.cfg.Log})
	r.run(&r.work, "preprocess", func(ctx context.Context) error { return member.While(ctx, s.Run) })
	return nil
}

func (r *runner) startIngest() error {
	js, member, err := r.member("ingest")
	if err != nil {
		return err
	}
	newSource := r.cfg.NewSource
	if newSource == nil {
		newSource = adapters.NewSource
	}
	s := ingest.NewService(ingest.Config{Instance: "ingest-1"}, ingest.Deps{
		JS: js, NewSource: newSource, NewDecoder: adapters.NewDecoder, Member: member, Telemetry: r.cfg.Telemetry, Log: r.cfg.Log,
	})
	r.ingest.open()
	r.run(&r.ingest, "ingest", func(ctx context.Context) error { return member.While(ctx, s.Run) })
	return nil
}

func (r *runner) startRecovery() error {
	js, member, err := r.member(recovery.Name)
	if err != nil {
		return err
	}
	s := recovery.NewService(recovery.Config{Instance: "recovery-1", ReactOff: r.cfg.ReactOff, ReactMaxShare: r.cfg.ReactMaxShare}, recovery.Deps{JS: js, Member: member, Telemetry: r.cfg.Telemetry, Log: r.cfg.Log})
	r.recovery.open()
	r.run(&r.recovery, recovery.Name, func(ctx context.Context) error { return member.While(ctx, s.Run) })
	return nil
}

func (r *runner) startDriftMonitor() error {
	js, member, err := r.member(driftmonitor.Name)
	if err != nil {
		return err
	}
	s := driftmonitor.NewService(driftmonitor.Config{Instance: driftmonitor.Name + "-1", Detect: r.cfg.Drift}, driftmonitor.Deps{JS: js, Telemetry: r.cfg.Telemetry, Log: r.cfg.Log})
	r.drift.open()
	r.run(&r.drift, driftmonitor.Name, func(ctx context.Context) error { return member.While(ctx, s.Run) })
	return nil
}

// settleTimeout bounds how long a stopped system waits for its last frames' fates.
const settleTimeout = 20 * time.Second

func (r *runner) stop(ctx context.Context, settle func(context.Context) error) error {
	r.ingest.stop()
	var err error
	if r.ingest.cancel != nil {
		wait, cancel := context.WithTimeout(ctx, settleTimeout)
		err = settle(wait)
		cancel()
	}
	r.work.stop()
	r.drift.stop()
	r.recovery.stop()
	r.demo.stop()
	return err
}

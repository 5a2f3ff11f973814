// Package world is a whole installation of Sightline made of real processes, with everything that can break within reach:
// nats-server (one node, or a cluster of three), cameras that serve RTSP over sockets, and two processes each of ingest,
// preprocess, infer and recovery, which are started again when they end, as an orchestrator would.
//
// Every camera and every ingest is behind a wire of its own. Everybody else reaches the broker directly.
//
// The harness sees the world as applications do: it subscribes to predictions (on every node, so that the death of one
// does not blind it), and it listens to frames and events. It changes nothing unless a fault asks for it.
package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/chaos/audit"
	"github.com/sightline-dev/sightline/chaos/meter"
	"github.com/sightline-dev/sightline/chaos/nodes"
	"github.com/sightline-dev/sightline/chaos/process"
	"github.com/sightline-dev/sightline/chaos/wire"
	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/services/camera"
	"github.com/sightline-dev/sightline/services/sightline/system"
	"github.com/sightline-dev/sightline/streams"
)

// Kind says which broker a world has.
type Kind string

// The kinds.
const (
	Single  Kind = "single"  // one node, file storage, everything once
	Cluster Kind = "cluster" // three nodes, what must survive a node three times
)

// Services, in the order in which they start. Each has two processes.
const (
	Recovery   = "recovery"
	Preprocess = "preprocess"
	Infer      = "infer"
	Ingest     = "ingest"
)

const (
	// Model is who looks at every camera.
	Model = "person"
	// FPS is how many frames a second each camera is asked for.
	FPS = 5

	// restart is how soon a worker that ended is started again.
	restart = 300 * time.Millisecond
	grace   = 8 * time.Second
)

// Config says what to start.
type Config struct {
	Kind       Kind
	Dir        string // for files, settings and logs
	Programs   string // folder of the executables: ingest, preprocess, chaos-infer, recovery, nats-server
	Models     string // model repository
	Footage    string
	ORTLibrary string
	Log        *slog.Logger
}

// Camera is one camera behind its wire.
type Camera struct {
	*camera.Server
	Name     string
	Delivery streams.Delivery
	Wire     *wire.Wire
}

// Worker is one process of a service.
type Worker struct {
	*process.Process
	Service, Instance string
	// Wires lead to the broker, one for each node, where this worker has its own.
	Wires []*wire.Wire
}

// World is a running installation.
type World struct {
	Kind    Kind
	Dir     string
	Nodes   *nodes.Broker
	Cameras []*Camera
	Workers []*Worker
	JS      jetstream.JetStream
	Meter   *meter.Meter
	Facts   *audit.Facts
	Reader  *audit.Reader
	Fleet   *fleet.View
	Seen    *Seen
	// Stranger is a fifth camera, which sends only what a fault wants it to.
	Stranger *Stranger

	cfg   Config
	stop  []func() // in reverse order
	taps  []*nats.Conn
	close context.CancelFunc
}

// what is one of the cameras that are watched.
type what struct {
	name     string
	delivery streams.Delivery
	standby  bool
}

// watched are two cameras of each delivery; one of the two has a standby.
func watched() []what {
	return []what{
		{"every-1", streams.EveryFrame, false},
		{"every-2", streams.EveryFrame, true},
		{"fresh-1", streams.Freshest, false},
		{"fresh-2", streams.Freshest, true},
	}
}

// Start starts everything and returns when every process is there. It does not wait for the steady state.
func Start(ctx context.Context, cfg Config) (*World, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("world: %w", err)
	}
	w := &World{Kind: cfg.Kind, Dir: cfg.Dir, cfg: cfg, Facts: audit.NewFacts(), Seen: newSeen()}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	w.close = end
	if err := w.start(ctx, life); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *World) start(ctx, life context.Context) error {
	n := 1
	if w.Kind == Cluster {
		n = 3
	}
	var err error
	if w.Nodes, err = nodes.Start(ctx, nodes.Config{Program: filepath.Join(w.cfg.Programs, "nats-server"), Dir: w.Dir, Nodes: n}); err != nil {
		return err
	}
	w.stop = append(w.stop, w.Nodes.Stop)
	if err := w.connect(ctx, life); err != nil {
		return err
	}
	if err := w.startCameras(ctx, life); err != nil {
		return err
	}
	if err := w.startStranger(life); err != nil {
		return err
	}
	for _, service := range []string{Recovery, Preprocess, Infer, Ingest} {
		for i := range 2 {
			if err := w.startWorker(ctx, service, fmt.Sprintf("%s-%d", service, i+1)); err != nil {
				return err
			}
		}
	}
	return w.Complete(ctx)
}

// connect declares the streams and begins to listen.
func (w *World) connect(ctx, life context.Context) error {
	nc, err := broker.Connect(broker.Config{URL: w.Nodes.URL(), Name: "chaos"})
	if err != nil {
		return fmt.Errorf("world: %w", err)
	}
	w.stop = append(w.stop, nc.Close)
	if w.JS, err = broker.JetStream(nc); err != nil {
		return fmt.Errorf("world: %w", err)
	}
	if err := w.declare(ctx); err != nil {
		return err
	}
	cameras := make([]meter.Camera, 0, len(watched()))
	for _, c := range watched() {
		cameras = append(cameras, meter.Camera{Name: c.name, FPS: FPS})
	}
	w.Meter = meter.New(cameras)
	w.Reader = audit.NewReader(w.JS, w.Facts)
	if w.Fleet, err = fleet.Follow(life, w.JS, "", slog.New(slog.DiscardHandler)); err != nil {
		return fmt.Errorf("world: %w", err)
	}
	for _, n := range w.Nodes.Nodes {
		tap, err := broker.Connect(broker.Config{URL: "nats://" + n.Addr, Name: "chaos-tap-" + n.Name})
		if err != nil {
			return fmt.Errorf("world: %w", err)
		}
		w.taps = append(w.taps, tap)
		w.stop = append(w.stop, tap.Close)
		if err := w.listen(tap); err != nil {
			return err
		}
	}
	return nil
}

// declare makes streams and buckets; a cluster that has just elected its leader may need more than one attempt.
func (w *World) declare(ctx context.Context) error {
	for {
		err := streams.Ensure(ctx, w.JS, streams.Options{Replicas: w.replicas()})
		if err == nil {
			return nil
		}
		if !clock.Pause(ctx, 250*time.Millisecond) {
			return fmt.Errorf("world: %w", err)
		}
	}
}

func (w *World) replicas() int { return len(w.Nodes.Nodes) }

// startCameras starts the cameras and applies what the operator wants of them.
func (w *World) startCameras(ctx, life context.Context) error {
	footage, err := camera.Load(w.cfg.Footage, 10)
	if err != nil {
		return fmt.Errorf("world: %w", err)
	}
	file := &config.File{Models: w.cfg.Models}
	for i, c := range watched() {
		s, err := camera.New(camera.Config{Footage: footage, NoUDP: true, Seed: uint64(i)})
		if err != nil {
			return fmt.Errorf("world: %w", err)
		}
		serve, end := context.WithCancel(life)
		done := make(chan error, 1)
		go func() { done <- s.Run(serve) }()
		w.stop = append(w.stop, func() { end(); _ = <-done })
		select {
		case <-s.Ready():
		case err := <-done:
			done <- nil
			return fmt.Errorf("world: camera %s: %w", c.name, err)
		}
		line, err := wire.Open(ctx, s.Addr())
		if err != nil {
			return fmt.Errorf("world: %w", err)
		}
		w.stop = append(w.stop, func() { _ = line.Close() })
		w.Cameras = append(w.Cameras, &Camera{Server: s, Name: c.name, Delivery: c.delivery, Wire: line})

		u, err := url.Parse(s.URL())
		if err != nil {
			return fmt.Errorf("world: %w", err)
		}
		u.Host = line.Addr()
		settings := config.DefaultCamera()
		settings.Name, settings.Models, settings.FPS, settings.Delivery = c.name, []string{Model}, FPS, c.delivery
		settings.Transport, settings.Standby = config.TransportTCP, c.standby
		if c.delivery == streams.EveryFrame {
			settings.MaxAge = 0
		}
		if settings.URL, err = config.ParseURL(u.String()); err != nil {
			return fmt.Errorf("world: camera %s: %w", c.name, err)
		}
		file.Cameras = append(file.Cameras, settings)
	}
	if _, err := system.Apply(ctx, w.JS, file); err != nil {
		return fmt.Errorf("world: %w", err)
	}
	return nil
}

// programs are the executables of the services. That of infer is the service with a backend that poison can hurt.
var programs = map[string]string{Ingest: "ingest", Preprocess: "preprocess", Infer: "chaos-infer", Recovery: "recovery"} //nolint:gochecknoglobals // a table

func (w *World) startWorker(ctx context.Context, service, instance string) error {
	worker := &Worker{Service: service, Instance: instance}
	servers := w.Nodes.URL()
	if service == Ingest {
		var through []string
		for _, n := range w.Nodes.Nodes {
			line, err := wire.Open(ctx, n.Addr)
			if err != nil {
				return fmt.Errorf("world: %w", err)
			}
			w.stop = append(w.stop, func() { _ = line.Close() })
			worker.Wires = append(worker.Wires, line)
			through = append(through, "nats://"+line.Addr())
		}
		servers = strings.Join(through, ",")
	}
	p, err := process.Start(process.Spec{
		Name: instance, Path: filepath.Join(w.cfg.Programs, programs[service]), Restart: restart,
		Log: filepath.Join(w.Dir, instance+".log"),
		Env: []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GOTRACEBACK=single",
			"SIGHTLINE_NATS_URL=" + servers, "SIGHTLINE_INSTANCE=" + instance, "SIGHTLINE_MODELS=" + w.cfg.Models,
			"SIGHTLINE_ORT_LIBRARY=" + w.cfg.ORTLibrary, fmt.Sprintf("SIGHTLINE_REPLICAS=%d", w.replicas()),
		},
	})
	if err != nil {
		return fmt.Errorf("world: %w", err)
	}
	worker.Process = p
	w.Workers = append(w.Workers, worker)
	w.stop = append(w.stop, func() { p.Stop(grace) })
	return nil
}

// Of are the processes of a service.
func (w *World) Of(service string) []*Worker {
	var out []*Worker
	for _, x := range w.Workers {
		if x.Service == service {
			out = append(out, x)
		}
	}
	return out
}

// EveryFrame are the names of the cameras of which every frame must be answered.
func (w *World) EveryFrame() []string {
	out := []string{StrangerName}
	for _, c := range w.Cameras {
		if c.Delivery == streams.EveryFrame {
			out = append(out, c.Name)
		}
	}
	return out
}

// Absent are the processes that do not beat, and the infer processes that serve nothing yet.
func (w *World) Absent() []string {
	var out []string
	for _, x := range w.Workers {
		s, ok := w.Fleet.Living(x.Service)[x.Instance]
		switch {
		case !ok || s.PID != x.PID():
			out = append(out, x.Instance)
		case x.Service == Infer && len(s.Lanes) == 0:
			out = append(out, x.Instance+" (no model)")
		}
	}
	return out
}

// Next is closed when the next message on a subject passes the broker.
func (w *World) Next(ctx context.Context, subject string) (<-chan struct{}, error) {
	next := make(chan struct{})
	var once sync.Once
	sub, err := w.JS.Conn().Subscribe(subject, func(*nats.Msg) { once.Do(func() { close(next) }) })
	if err != nil {
		return nil, fmt.Errorf("next on %s: %w", subject, err)
	}
	if err := sub.AutoUnsubscribe(1); err != nil {
		return nil, fmt.Errorf("next on %s: %w", subject, err)
	}
	return next, w.JS.Conn().FlushWithContext(ctx)
}

// Complete waits until nobody is absent.
func (w *World) Complete(ctx context.Context) error {
	for {
		absent := w.Absent()
		if len(absent) == 0 {
			return nil
		}
		if !clock.Pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("world: %w: not there: %s", context.Cause(ctx), strings.Join(absent, ", "))
		}
	}
}

// Holder is the instance that holds a lease: of a camera, or "service.recovery". It is "" when nobody does.
func (w *World) Holder(ctx context.Context, key string) (string, error) {
	kv, err := w.JS.KeyValue(ctx, streams.LeasesBucket)
	if err != nil {
		return "", fmt.Errorf("holder of %s: %w", key, err)
	}
	e, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("holder of %s: %w", key, err)
	}
	return holder(e.Value())
}

// Worker finds a process by its instance.
func (w *World) Worker(instance string) (*Worker, bool) {
	i := slices.IndexFunc(w.Workers, func(x *Worker) bool { return x.Instance == instance })
	if i < 0 {
		return nil, false
	}
	return w.Workers[i], true
}

// Unsteady says why the system is not in its steady state over the window that ends now; nothing when it is.
func (w *World) Unsteady(window time.Duration) []string {
	out := w.Meter.Unsteady(time.Now(), window)
	for _, name := range w.Absent() {
		out = append(out, name+" is not there")
	}
	return out
}

// Close ends everything.
func (w *World) Close() {
	var stopping sync.WaitGroup
	for _, x := range w.Workers { // all at the same time: each may take its grace
		stopping.Go(func() { x.Stop(grace) })
	}
	stopping.Wait()
	w.close()
	for _, stop := range slices.Backward(w.stop) {
		stop()
	}
	w.stop = nil
}

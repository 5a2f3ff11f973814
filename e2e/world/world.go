// Package world is an installation made of the images, as the compose file has it: three nodes of the broker, replicas of
// every service, two cameras. It differs in what a test must be able to reach: each node has a network of its own for its
// published port, so that it and everybody else can be cut off the network that they share; ports are free ones; keys,
// certificates and settings are its own; and replicas have names.
package world

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/chaos/meter"
	"github.com/sightline-dev/sightline/deploy/nats/secrets"
	"github.com/sightline-dev/sightline/e2e/compose"
	"github.com/sightline-dev/sightline/e2e/engine"
	"github.com/sightline-dev/sightline/e2e/watch"
	"github.com/sightline-dev/sightline/streams"
)

// The services.
const (
	Ingest     = "ingest"
	Preprocess = "preprocess"
	Infer      = "infer"
	Recovery   = "recovery"
	Drift      = "drift-monitor"
	camera     = "camera"
	setup      = "setup"

	// Model answers, FPS is how often.
	Model = "person"
	FPS   = 5

	natsPort = 4222
)

// Services are the services that a frame passes or that look after it, in the order in which they are started.
func Services() []string { return []string{Recovery, Preprocess, Infer, Ingest, Drift} }

// Config is where a world comes from.
type Config struct {
	Engine *engine.Engine
	File   *compose.File
	Dir    string // of secrets and settings
	// Infer is how many replicas of infer it begins with; of the others there are two.
	Infer int
}

// Replica is one container of a service.
type Replica struct {
	*engine.Container
	Service string
}

// World is a running installation.
type World struct {
	*watch.Watch
	Nodes    []*engine.Container
	Cameras  []*engine.Container
	Replicas []*Replica

	Config
	ports   []int
	broker  string // the network that everybody shares
	cameras string
	serial  map[string]int
	volumes map[string]string
	gone    []*engine.Container // removed, their logs kept until the end
}

// Start starts everything. The Watch is open before the first service starts.
func Start(ctx context.Context, cfg Config) (*World, error) {
	w := &World{Config: cfg, serial: map[string]int{}, volumes: map[string]string{}}
	if err := w.start(ctx); err != nil {
		return w, fmt.Errorf("world: %w", err)
	}
	return w, nil
}

func (w *World) start(ctx context.Context) error {
	if _, err := secrets.Make(w.secrets(), time.Now()); err != nil {
		return err
	}
	if err := os.WriteFile(w.settings(), []byte(settings()), 0o644); err != nil { //nolint:gosec // a container's user reads it
		return err
	}
	if err := w.networks(ctx); err != nil {
		return err
	}
	if err := w.startBroker(ctx); err != nil {
		return err
	}
	if err := w.Apply(ctx); err != nil {
		return err
	}
	var err error
	if w.Watch, err = watch.Open(ctx, watch.Config{Nodes: w.addresses(), Secrets: w.secrets(), Cameras: watched(), Model: Model}); err != nil {
		return err
	}
	if err := w.startCameras(ctx); err != nil {
		return err
	}
	for _, service := range Services() {
		n := 2
		if service == Infer {
			n = w.Infer
		}
		for range n {
			if _, err := w.Add(ctx, service, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *World) secrets() string { return filepath.Join(w.Dir, "secrets") }

func (w *World) settings() string { return filepath.Join(w.Dir, "sightline.yaml") }

// watched are two cameras of each delivery; one of the two has a standby.
func watched() []watch.Camera {
	deliveries := []streams.Delivery{streams.EveryFrame, streams.Freshest}
	out := make([]watch.Camera, 0, 2*len(deliveries))
	for _, d := range deliveries {
		for i := range 2 {
			out = append(out, watch.Camera{Camera: meter.Camera{Name: fmt.Sprintf("%s-%d", short(d), i+1), FPS: FPS}, Delivery: d})
		}
	}
	return out
}

func short(d streams.Delivery) string {
	if d == streams.EveryFrame {
		return "every"
	}
	return "fresh"
}

func settings() string {
	var b strings.Builder
	fmt.Fprintf(&b, "models: /models\ndefaults:\n  model: %s\n  fps: %d\n  transport: tcp\ncameras:\n", Model, FPS)
	for i, c := range watched() {
		fmt.Fprintf(&b, "  - {name: %s, url: \"rtsp://camera-%d:8554/street\", delivery: %s, standby: %t}\n", c.Name, i%2+1, c.Delivery, i%2 == 1)
	}
	return b.String()
}

func (w *World) networks(ctx context.Context) error {
	var err error
	if w.broker, err = w.Engine.Network(ctx, true); err != nil {
		return err
	}
	w.cameras, err = w.Engine.Network(ctx, true)
	return err
}

func (w *World) addresses() []string {
	out := make([]string, 0, len(w.ports))
	for _, p := range w.ports {
		out = append(out, net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
	}
	return out
}

const nodes = 3

func (w *World) startBroker(ctx context.Context) error {
	var err error
	if w.ports, err = engine.FreePorts(nodes); err != nil {
		return err
	}
	keys, err := w.publicKeys()
	if err != nil {
		return err
	}
	for i := range nodes {
		name := fmt.Sprintf("nats-%d", i+1)
		w.volumes[name] = "sightline-e2e-" + name
		if err := w.Engine.Volume(ctx, w.volumes[name]); err != nil {
			return err
		}
		edge, err := w.Engine.Network(ctx, false)
		if err != nil {
			return err
		}
		s, err := w.File.Spec(name, compose.Place{Name: name, Secrets: w.secrets(), Volumes: w.volumes, Env: keys})
		if err != nil {
			return err
		}
		s.Alias, s.Networks, s.Publish = name, []string{edge, w.broker}, map[int]int{natsPort: w.ports[i]}
		node, err := w.Engine.Start(ctx, s)
		if node != nil {
			w.Nodes = append(w.Nodes, node)
		}
		if err != nil {
			return err
		}
	}
	return w.Healthy(ctx)
}

// publicKeys is what nodes must know of the users.
func (w *World) publicKeys() (map[string]string, error) {
	data, err := os.ReadFile(filepath.Join(w.secrets(), secrets.Env))
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(k, "#") {
			out[k] = v
		}
	}
	return out, nil
}

// Healthy waits until the engine calls every node healthy.
func (w *World) Healthy(ctx context.Context) error {
	return watch.Until(ctx, "the broker's nodes", time.Minute, func() []string {
		var sick []string
		for _, n := range w.Nodes {
			if s, err := n.State(ctx); err != nil || s.Health == nil || s.Health.Status != "healthy" {
				sick = append(sick, fmt.Sprintf("%s is %v: %s", n.Name, s.Status, n.Tail(ctx, 3)))
			}
		}
		return sick
	})
}

// Apply runs the service setup to its end, as compose does: it declares the streams and applies the settings.
func (w *World) Apply(ctx context.Context) error {
	s, err := w.File.Spec(setup, compose.Place{Name: setup, Secrets: w.secrets(), Configs: map[string]string{"sightline.yaml": w.settings()}})
	if err != nil {
		return err
	}
	s.Networks = []string{w.broker}
	s.Host.RestartPolicy.Name, s.Host.RestartPolicy.MaximumRetryCount = "no", 0
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		c, err := w.Engine.Start(ctx, s)
		if err != nil {
			return err
		}
		code, err := c.Exit(ctx)
		said := c.Tail(ctx, 5)
		if err := errors.Join(err, c.Remove(ctx)); err != nil {
			return fmt.Errorf("setup: %w: %s", err, said)
		}
		if code == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("setup: %w: %s", context.Cause(ctx), said)
		}
	}
}

func (w *World) startCameras(ctx context.Context) error {
	for i := range 2 {
		name := fmt.Sprintf("%s-%d", camera, i+1)
		s, err := w.File.Spec(camera, compose.Place{Name: name})
		if err != nil {
			return err
		}
		s.Networks, s.Alias = []string{w.cameras}, name
		c, err := w.Engine.Start(ctx, s)
		if c != nil {
			w.Cameras = append(w.Cameras, c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Add starts one more replica of a service. image is "" or another one than the file's.
func (w *World) Add(ctx context.Context, service, image string) (*Replica, error) {
	w.serial[service]++
	name := fmt.Sprintf("%s-%d", service, w.serial[service])
	s, err := w.File.Spec(service, compose.Place{Name: name, Secrets: w.secrets()})
	if err != nil {
		return nil, err
	}
	s.Networks = []string{w.broker}
	if service == Ingest {
		s.Networks = append(s.Networks, w.cameras)
	}
	if image != "" {
		s.Image = image
	}
	c, err := w.Engine.Start(ctx, s)
	if err != nil {
		return nil, err
	}
	r := &Replica{Container: c, Service: service}
	w.Replicas = append(w.Replicas, r)
	return r, nil
}

// Retire stops a replica for good.
func (w *World) Retire(ctx context.Context, r *Replica) error {
	err := r.Stop(ctx)
	w.Replicas = slices.DeleteFunc(w.Replicas, func(x *Replica) bool { return x == r })
	w.gone = append(w.gone, r.Container)
	return err
}

// Of are the replicas of a service.
func (w *World) Of(service string) []*Replica {
	var out []*Replica
	for _, r := range w.Replicas {
		if r.Service == service {
			out = append(out, r)
		}
	}
	return out
}

// Replica finds one by its name.
func (w *World) Replica(name string) (*Replica, bool) {
	i := slices.IndexFunc(w.Replicas, func(r *Replica) bool { return r.Name == name })
	if i < 0 {
		return nil, false
	}
	return w.Replicas[i], true
}

// Members are those who should be in the fleet.
func (w *World) Members() []watch.Member {
	out := make([]watch.Member, 0, len(w.Replicas))
	for _, r := range w.Replicas {
		out = append(out, watch.Member{Service: r.Service, Instance: r.Name, Since: r.Started})
	}
	return out
}

// Unsteady says why the system is not in its steady state over the window that ends now; nothing when it is.
func (w *World) Unsteady(window time.Duration) []string {
	return append(w.Meter.Unsteady(time.Now(), window), w.Absent(w.Members())...)
}

// Cut takes a replica off the network that leads to the broker; Heal brings it back.
func (w *World) Cut(ctx context.Context, r *Replica) error { return r.Leave(ctx, w.broker) }

// Heal ends a Cut.
func (w *World) Heal(ctx context.Context, r *Replica) error { return r.Join(ctx, w.broker) }

// Everybody are all containers there are.
func (w *World) Everybody() []*engine.Container {
	out := slices.Concat(w.Nodes, w.Cameras)
	for _, r := range w.Replicas {
		out = append(out, r.Container)
	}
	return out
}

// KeepLogs writes the log of every container there was to dir.
func (w *World) KeepLogs(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // for people to read
		return fmt.Errorf("logs: %w", err)
	}
	var errs []error
	for _, c := range slices.Concat(w.Everybody(), w.gone) {
		errs = append(errs, c.KeepLog(ctx, dir))
	}
	return errors.Join(errs...)
}

// Each does something to several containers at the same time.
func Each(containers []*engine.Container, do func(*engine.Container) error) error {
	errs := make([]error, len(containers))
	var wg sync.WaitGroup
	for i, c := range containers {
		wg.Go(func() { errs[i] = do(c) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

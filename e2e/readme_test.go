//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/chaos/meter"
	"github.com/sightline-dev/sightline/chaos/report"
	"github.com/sightline-dev/sightline/e2e/compose"
	"github.com/sightline-dev/sightline/e2e/engine"
	"github.com/sightline-dev/sightline/e2e/trial"
	"github.com/sightline-dev/sightline/e2e/watch"
	"github.com/sightline-dev/sightline/e2e/world"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/streams"
)

// page is the README's path: the compose file itself, with other ports, as a project of its own.
type page struct {
	*suite
	compose.Project
	*trial.Runner
	config watch.Config
	infer  int // how many there should be
}

// readme does what the README says, command by command.
func (s *suite) readme(ctx context.Context, t *testing.T) {
	t.Helper()
	p := &page{suite: s, infer: s.file.Services[world.Infer].Deploy.Replicas}
	if err := p.prepare(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(t) })
	for _, step := range []struct {
		name string
		run  func(context.Context, *testing.T)
	}{{"up", p.up}, {"scale", p.scale}, {"kill", p.kill}, {"down-up", p.downUp}} {
		if !t.Run(step.name, func(t *testing.T) { step.run(ctx, t) }) {
			p.logs(t, "compose-"+step.name)
			if p.Runner == nil {
				return // it is not up
			}
		}
	}
}

func (p *page) prepare(dir string) error {
	ports, err := engine.FreePorts(4)
	if err != nil {
		return err
	}
	publish := map[string]map[int]int{"camera": {}}
	for i := range 3 {
		publish[fmt.Sprintf("nats-%d", i+1)] = map[int]int{4222: ports[i]}
		p.config.Nodes = append(p.config.Nodes, net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[i])))
	}
	p.Project = compose.Project{Name: project, Docker: p.docker, Dir: p.root, Override: filepath.Join(dir, "ports.yaml")}
	if err := compose.Ports(p.Override, publish); err != nil {
		return err
	}
	name := filepath.Join(p.root, "deploy", "compose", "sightline.yaml")
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	data = bytes.Replace(data, []byte("models: /models"), []byte("models: "+filepath.Join(p.root, "models")), 1) // as it is here
	f, _, err := config.Parse(name, data, p.root, os.LookupEnv)
	if err != nil {
		return err
	}
	for _, c := range f.Cameras {
		p.config.Cameras = append(p.config.Cameras, watch.Camera{Camera: meter.Camera{Name: c.Name, FPS: float64(c.FPS)}, Delivery: c.Delivery})
		p.config.Model = c.Models[0]
	}
	p.config.Secrets = filepath.Join(p.root, "deploy", "secrets")
	return nil
}

func (p *page) logs(t *testing.T, scenario string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanUpIn)
	defer cancel()
	dir := filepath.Join(p.out, scenario)
	if err := errors.Join(os.MkdirAll(dir, 0o755), p.engine.KeepProjectLogs(ctx, p.Name, dir)); err != nil {
		t.Errorf("logs: %v", err)
	}
	p.Say("logs of every container: %s", dir)
}

// end removes the project as the README says: volumes, too.
func (p *page) end(t *testing.T) {
	t.Helper()
	if p.Runner != nil {
		p.Watch.Close()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanUpIn)
	defer cancel()
	if _, err := p.Run(ctx, "down", "-v", "--timeout", "5"); err != nil {
		t.Error(err)
	}
	left, err := p.Run(ctx, "ps", "--all", "--quiet")
	if err != nil || strings.TrimSpace(left) != "" {
		t.Errorf("left after down -v: %s (%v)", left, err)
	}
}

// container is a line of `docker compose ps`.
type container struct {
	ID, Name, Service, State string
}

func (p *page) containers(ctx context.Context, service string) ([]container, error) {
	out, err := p.Run(ctx, "ps", "--all", "--no-trunc", "--format", "json", service)
	if err != nil {
		return nil, err
	}
	var all []container
	for line := range strings.Lines(out) {
		var c container
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			return nil, fmt.Errorf("compose ps: %w", err)
		}
		all = append(all, c)
	}
	return all, nil
}

// members says who is missing in the fleet.
func (p *page) members() []string {
	var out []string
	for _, service := range world.Services() {
		want := p.file.Services[service].Deploy.Replicas
		if service == world.Infer {
			want = p.infer
		}
		ready := 0
		for _, m := range p.Watch.Fleet.Living(service) {
			if service != world.Infer || len(m.Lanes) > 0 {
				ready++
			}
		}
		if ready != want {
			out = append(out, fmt.Sprintf("%d of %d %s", ready, want, service))
		}
	}
	return out
}

func (p *page) unsteady(window time.Duration) []string {
	return append(p.Watch.Meter.Unsteady(time.Now(), window), p.members()...)
}

// row is a row with one round.
func (p *page) row(t *testing.T, name, title, from string, target time.Duration, run func(*report.Round) error) {
	t.Helper()
	x := &report.Round{Number: 1, Began: time.Now().UTC(), Figures: map[string]time.Duration{}}
	if err := run(x); err != nil {
		x.Failures = append(x.Failures, err.Error())
		t.Error(err)
	}
	p.Say("%-20s %d ms; %s", name, x.Recovery.Milliseconds(), strings.Join(x.Notes, "; "))
	p.Add(&report.Row{Name: name, Title: title, From: from, Target: target, Rounds: []*report.Round{x}})
}

// answered waits for predictions of every camera and counts from the last container's start.
func (p *page) answered(ctx context.Context, x *report.Round) error {
	last := time.Now()
	if err := watch.Until(ctx, "predictions", mainWithin, func() []string { _, silent := p.Watch.Answered(); return silent }); err != nil {
		return err
	}
	at, _ := p.Watch.Answered()
	started, err := p.engine.LastStart(ctx, p.Name)
	if err != nil {
		return err
	}
	x.Notes = append(x.Notes, fmt.Sprintf("first predictions %.1f s after the last start, %.1f s after the command ended", at.Sub(started).Seconds(), at.Sub(last).Seconds()))
	x.Recovery = max(0, at.Sub(started))
	return nil
}

func (p *page) up(ctx context.Context, t *testing.T) {
	t.Helper()
	p.row(t, "compose-up", "docker compose up -d --wait", "the last container's start", mainWithin, func(x *report.Round) error {
		w, err := watch.Open(ctx, p.config)
		if err != nil {
			return err
		}
		began := time.Now()
		if _, err := p.Run(ctx, "up", "-d", "--wait"); err != nil {
			w.Close()
			return err
		}
		x.Notes = append(x.Notes, fmt.Sprintf("the command took %.1f s", time.Since(began).Seconds()))
		p.Runner = &trial.Runner{Watch: w, Unsteady: p.unsteady, Report: p.Table}
		return errors.Join(p.answered(ctx, x), p.Steady(ctx, time.Minute), p.Begin(ctx), p.starts(ctx, x))
	})
}

// starts notes how long each service takes from the start of its container until it takes work: an infer has then loaded and
// tried its model.
func (p *page) starts(ctx context.Context, x *report.Round) error {
	ready := map[string]time.Time{} // by instance: its last step
	for _, e := range p.Watch.Events(x.Began) {
		if e.Area == "worker" && e.State == "started" || e.Area == "model" && e.Kind == "loaded" {
			ready[e.Instance] = e.At
		}
	}
	for _, service := range world.Services() {
		all, err := p.containers(ctx, service)
		if err != nil {
			return err
		}
		var took []time.Duration
		for _, c := range all {
			state, err := p.engine.Adopt(c.ID, c.Name).State(ctx)
			if err != nil {
				return err
			}
			started, err := time.Parse(time.RFC3339Nano, state.StartedAt)
			if err != nil {
				return fmt.Errorf("start of %s: %w", c.Name, err)
			}
			at, ok := ready[c.ID[:min(12, len(c.ID))]] // its machine's name, and so its instance's
			if !ok {
				return fmt.Errorf("%s never told that it has started", c.Name)
			}
			took = append(took, at.Sub(started))
		}
		x.Notes = append(x.Notes, fmt.Sprintf("%s takes work %d ms after its container's start", service, report.Median(took).Milliseconds()))
	}
	return nil
}

func (p *page) try(ctx context.Context, t *testing.T, s trial.Scenario) {
	t.Helper()
	for _, miss := range p.Try(ctx, s).Misses() {
		t.Errorf("%s: %s", s.Name, miss)
	}
}

func (p *page) scale(ctx context.Context, t *testing.T) {
	t.Helper()
	p.try(ctx, t, trial.Scenario{
		Name: "compose-scale", Title: "docker compose up -d --scale infer=3",
		Run: func(ctx context.Context, r *trial.Round) error {
			p.infer = 3
			r.Mark("up")
			if _, err := p.Run(ctx, "up", "-d", "--wait", "--scale", "infer=3"); err != nil {
				return err
			}
			if err := watch.Until(ctx, "the fleet", time.Minute, p.members); err != nil {
				return err
			}
			r.Aside("sharing") // how long that takes to show is nobody's recovery
			return sharing(ctx, p.Watch, r, 3)
		},
	})
}

// kill kills each of the three, with a message in its hands: nobody starts it again but `up`.
func (p *page) kill(ctx context.Context, t *testing.T) {
	t.Helper()
	p.try(ctx, t, trial.Scenario{
		Name: "compose-kill", Title: "docker kill one infer of three", Target: time.Second, Rounds: 3,
		Run: func(ctx context.Context, r *trial.Round) error {
			all, err := p.containers(ctx, world.Infer)
			if err != nil {
				return err
			}
			next := all[(r.Number-1)%len(all)]
			x := p.engine.Adopt(next.ID, next.Name)
			at, err := inHand(ctx, p.Watch, world.Infer, x)
			if err != nil {
				return err
			}
			r.MarkAt("kill "+x.Name, at)
			if err := x.Kill(ctx); err != nil {
				return err
			}
			p.infer = 2
			p.Borne(ctx, returnsIn)
			p.infer = 3
			r.Aside("up")
			_, err = p.Run(ctx, "up", "-d", "--wait", "--scale", "infer=3")
			return err
		},
	})
}

// downUp ends everything but the volumes, and starts it again.
func (p *page) downUp(ctx context.Context, t *testing.T) {
	t.Helper()
	p.row(t, "compose-down-up", "docker compose down, then up: data stay", "the last container's start", mainWithin, func(x *report.Round) error {
		before, err := p.stored(ctx)
		if err != nil {
			return err
		}
		if _, err := p.Run(ctx, "down"); err != nil {
			return err
		}
		p.Watch.Forget()
		p.infer = p.file.Services[world.Infer].Deploy.Replicas
		if _, err := p.Run(ctx, "up", "-d", "--wait"); err != nil {
			return err
		}
		if err := p.answered(ctx, x); err != nil {
			return err
		}
		after, err := p.stored(ctx)
		if err != nil {
			return err
		}
		if after[0] > before[0] || after[1] <= before[1] {
			return fmt.Errorf("PREDICTIONS holds %d to %d, it was %d to %d", after[0], after[1], before[0], before[1])
		}
		x.Notes = append(x.Notes, fmt.Sprintf("%d predictions of before are there", before[1]-before[0]+1))
		return p.Steady(ctx, time.Minute)
	})
	p.try(ctx, t, trial.Scenario{
		Name: "compose-books", Title: "the books after all that", Drops: true,
		Run: func(context.Context, *trial.Round) error { return nil },
	})
}

// stored are the first and the last position in PREDICTIONS.
func (p *page) stored(ctx context.Context) (out [2]uint64, err error) {
	err = watch.Until(ctx, "PREDICTIONS", 30*time.Second, func() []string {
		s, err := p.Watch.JS.Stream(ctx, streams.Predictions)
		if err != nil {
			return []string{err.Error()}
		}
		state := s.CachedInfo().State
		out = [2]uint64{state.FirstSeq, state.LastSeq}
		return nil
	})
	return out, err
}

//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/e2e/compose"
	"github.com/sightline-dev/sightline/e2e/engine"
	"github.com/sightline-dev/sightline/e2e/trial"
	"github.com/sightline-dev/sightline/e2e/world"
)

const (
	project   = "sightline-e2e"
	startIn   = 3 * time.Minute
	cleanUpIn = 2 * time.Minute
)

// suite is what all scenarios share.
type suite struct {
	*trial.Table
	root   string // of the repository
	out    string // where reports and logs go
	docker string
	engine *engine.Engine
	file   *compose.File
}

// TestE2E is everything. -run TestE2E/world/kill picks scenarios; those that need a world start it first.
func TestE2E(t *testing.T) {
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if deadline, ok := t.Deadline(); ok { // time is kept for cleaning up
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-cleanUpIn))
		defer cancel()
	}
	s := newSuite(ctx, t)
	t.Cleanup(func() { s.finish(t) })
	t.Run("world", func(t *testing.T) { s.onWorld(ctx, t) })
	t.Run("compose", func(t *testing.T) { s.readme(ctx, t) })
}

func newSuite(ctx context.Context, t *testing.T) *suite {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	s := &suite{Table: trial.NewTable(os.Stdout), root: root, out: filepath.Join(root, "bin", "e2e"), docker: dockerClient()}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		t.Fatal(err)
	}
	if s.engine, err = engine.Open(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.sweep(t) // again at the end, whatever happened
		s.engine.Close()
	})
	s.sweep(t)
	if s.file, err = compose.Read(ctx, s.docker, s.root); err != nil {
		t.Fatal(err)
	}
	for name, service := range s.file.Services {
		if strings.HasPrefix(service.Image, "sightline/") && !s.engine.Has(ctx, service.Image) {
			t.Fatalf("service %s: there is no image %s: make images", name, service.Image)
		}
	}
	s.Machine.Kernel = output(ctx, "uname", "-r")
	s.Machine.Versions["engine"] = output(ctx, s.docker, "version", "--format", "{{.Server.Version}}")
	s.Machine.Versions["compose"] = output(ctx, s.docker, "compose", "version", "--short")
	return s
}

// dockerClient is the client that set-up found.
func dockerClient() string {
	if d := os.Getenv("DOCKER"); d != "" {
		return d
	}
	return "docker"
}

func output(ctx context.Context, name string, args ...string) string {
	b, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

func (s *suite) sweep(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanUpIn)
	defer cancel()
	if err := s.engine.Sweep(ctx, project); err != nil {
		t.Error(err)
	}
}

var jsonFile = flag.String("json", "", "a file for the report, for machines")

// finish prints the table.
func (s *suite) finish(t *testing.T) {
	t.Helper()
	s.Took = time.Since(s.Began)
	if err := s.writeJSON(); err != nil {
		t.Error(err)
	}
	_, _ = os.Stdout.WriteString("\n")
	if err := s.Report.Table(os.Stdout); err != nil {
		t.Error(err)
	}
}

func (s *suite) writeJSON() error {
	path := *jsonFile
	if path == "" {
		path = filepath.Join(s.out, "report.json")
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	e := json.NewEncoder(f)
	e.SetIndent("", "  ")
	return errors.Join(e.Encode(s.Report), f.Close())
}

// bound is a suite on one world.
type bound struct {
	*suite
	*trial.Runner
	w *world.World
}

// onWorld tries the scenarios that share a world, in order: each begins and ends in the steady state.
func (s *suite) onWorld(ctx context.Context, t *testing.T) {
	t.Helper()
	starting, cancel := context.WithTimeout(ctx, startIn)
	defer cancel()
	w, err := world.Start(starting, world.Config{Engine: s.engine, File: s.file, Dir: t.TempDir(), Infer: 1})
	t.Cleanup(func() { s.endWorld(t, w) })
	if err != nil {
		s.keepLogs(t, w, "start")
		t.Fatal(err)
	}
	last := time.Now()
	s.Say("world: every container is started")
	b := &bound{suite: s, w: w, Runner: &trial.Runner{Watch: w.Watch, Unsteady: w.Unsteady, Report: s.Table}}
	try := func(name string, run func(t *testing.T)) {
		if !t.Run(name, run) && !t.Skipped() {
			s.keepLogs(t, w, name)
		}
	}
	try("main", func(t *testing.T) { t.Helper(); b.mainJob(ctx, t, last) })
	denied := b.inBackground(ctx, b.denied)
	try("scale", func(t *testing.T) { t.Helper(); b.try(ctx, t, b.scale()) })
	try("denied", func(t *testing.T) { t.Helper(); b.join(t, denied) })
	if err := b.grow(ctx); err != nil {
		t.Fatal(err)
	}
	away := b.inBackground(ctx, b.away)
	for _, scenario := range b.workers() {
		try(scenario.Name, func(t *testing.T) { t.Helper(); b.try(ctx, t, scenario) })
	}
	try("away", func(t *testing.T) { t.Helper(); b.join(t, away) })
	for _, scenario := range b.installation() {
		try(scenario.Name, func(t *testing.T) { t.Helper(); b.try(ctx, t, scenario) })
	}
	try("books", func(t *testing.T) { t.Helper(); b.books(ctx, t) })
}

// try tries a scenario and fails the test when something is not as it must be.
func (b *bound) try(ctx context.Context, t *testing.T, s trial.Scenario) {
	t.Helper()
	row := b.Try(ctx, s)
	for _, miss := range row.Misses() {
		t.Errorf("%s: %s", s.Name, miss)
	}
}

func (s *suite) keepLogs(t *testing.T, w *world.World, scenario string) {
	t.Helper()
	if w == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanUpIn)
	defer cancel()
	dir := filepath.Join(s.out, scenario)
	if err := w.KeepLogs(ctx, dir); err != nil {
		t.Errorf("logs: %v", err)
	}
	s.Say("logs of every container: %s", dir)
}

// endWorld ends the clients first, then everything.
func (s *suite) endWorld(t *testing.T, w *world.World) {
	t.Helper()
	if w != nil && w.Watch != nil {
		w.Close()
	}
	s.sweep(t)
}

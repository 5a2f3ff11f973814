package predictions_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/predictions"
)

const nodeExample = "../../examples/node"

// program is an example, run as an application developer runs it.
type program struct {
	name  string
	setup func(t *testing.T) func(args ...string) *exec.Cmd
}

func programs() []program {
	return []program{
		{name: "Go", setup: func(t *testing.T) func(...string) *exec.Cmd {
			t.Helper()
			bin := filepath.Join(t.TempDir(), "watch")
			if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/watch").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return func(args ...string) *exec.Cmd { return exec.CommandContext(t.Context(), bin, args...) }
		}},
		{name: "Node", setup: func(t *testing.T) func(...string) *exec.Cmd {
			t.Helper()
			node, err := exec.LookPath("node")
			if err != nil {
				t.Fatal("node is missing: run make setup, or install Node 18 or later (Debian: apt-get install nodejs npm)")
			}
			if _, err := os.Stat(filepath.Join(nodeExample, "node_modules", "@nats-io", "transport-node")); err != nil {
				t.Fatal("examples/node/node_modules is missing: run make setup, or npm ci --ignore-scripts in examples/node")
			}
			return func(args ...string) *exec.Cmd {
				script := filepath.Join(nodeExample, "predictions.mjs")
				if args[0] == "durable" {
					script, args = filepath.Join(nodeExample, "durable.mjs"), args[1:]
				}
				return exec.CommandContext(t.Context(), node, append([]string{script}, args...)...)
			}
		}},
	}
}

// finish runs a program to its end.
func finish(t *testing.T, s *server, cmd *exec.Cmd) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), "NATS_URL="+s.now.URL()), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	return out.String(), errs.String()
}

// launch starts a program that runs until it is told to end.
func launch(t *testing.T, s *server, cmd *exec.Cmd) (lines <-chan string, stop func()) {
	t.Helper()
	var errs bytes.Buffer
	cmd.Env, cmd.Stderr = append(os.Environ(), "NATS_URL="+s.now.URL()), &errs
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 64)
	go func() {
		defer close(got)
		for in := bufio.NewScanner(out); in.Scan(); {
			got <- in.Text()
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	return got, func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		for extra := range got {
			t.Errorf("printed beyond what was expected: %s", extra)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, errs.String())
		}
	}
}

func TestPrograms(t *testing.T) {
	for _, p := range programs() {
		t.Run(p.name, func(t *testing.T) {
			run := p.setup(t)
			t.Run("latest and replay", func(t *testing.T) { testStored(t, run) })
			t.Run("live", func(t *testing.T) { testLive(t, run) })
			t.Run("durable", func(t *testing.T) { testDurable(t, run) })
		})
	}
}

func testStored(t *testing.T, run func(...string) *exec.Cmd) {
	t.Helper()
	s := serve(t)
	if out, _ := finish(t, s, run("latest")); out != "" {
		t.Errorf("latest of nothing printed %q", out)
	}
	if out, _ := finish(t, s, run("replay", "2026-01-31T08:00:00Z")); out != "" {
		t.Errorf("replay of nothing printed %q", out)
	}
	s.publish(answer("door", 1))
	split := time.Now().UTC()
	hurt := answer("door", 2, person(0.912), person(0.5))
	hurt.Status = predictions.StatusDegraded
	s.publish(hurt, answer("yard", 2))
	s.store("people", "door", "bad", []byte("not JSON"))
	s.publish(gap("yard", "stalled", time.Time{}), answer("door", 3))

	out, errs := finish(t, s, run("latest"))
	equal(t, strings.Split(out, "\n"),
		"2026-01-31T08:00:00.25Z yard people: unknown, stalled until further notice",
		"2026-01-31T08:00:03.25Z door people: nothing in view", "")
	if errs != "" {
		t.Errorf("latest complained: %s", errs)
	}
	out, errs = finish(t, s, run("replay", split.Format(time.RFC3339Nano), "door"))
	equal(t, strings.Split(out, "\n"),
		"2026-01-31T08:00:02.25Z door people: person 0.91, person 0.50 (degraded)",
		"2026-01-31T08:00:03.25Z door people: nothing in view", "")
	if !strings.Contains(errs, "malformed message 4 on predictions.people.door: ") {
		t.Errorf("replay did not tell of the malformed message: %q", errs)
	}
}

func testLive(t *testing.T, run func(...string) *exec.Cmd) {
	t.Helper()
	s := serve(t)
	s.publish(answer("door", 1))
	lines, stop := launch(t, s, run("live"))
	s.await(1)
	s.publish(answer("door", 2), gap("door", "auth", began.Add(5*time.Second)))
	want := []string{
		"2026-01-31T08:00:02.25Z door people: nothing in view",
		"2026-01-31T08:00:00.25Z door people: unknown, auth until 2026-01-31T08:00:05.25Z",
	}
	equal(t, take(t, lines, 2), want...)
	s.restart()
	s.publish(answer("door", 3))
	equal(t, take(t, lines, 1), "2026-01-31T08:00:03.25Z door people: nothing in view")
	stop()
}

func testDurable(t *testing.T, run func(...string) *exec.Cmd) {
	t.Helper()
	s := serve(t)
	s.publish(answer("door", 1))
	lines, stop := launch(t, s, run("durable", "mail"))
	s.await(1)
	s.publish(answer("door", 2), answer("door", 3))
	equal(t, take(t, lines, 2), "2026-01-31T08:00:02.25Z door people: nothing in view", "2026-01-31T08:00:03.25Z door people: nothing in view")
	s.acknowledged("app-mail")
	stop()
	s.publish(answer("door", 4)) // nobody is there
	lines, stop = launch(t, s, run("durable", "mail"))
	equal(t, take(t, lines, 1), "2026-01-31T08:00:04.25Z door people: nothing in view")
	s.acknowledged("app-mail")
	stop()
}

// acknowledged waits until a durable owes nothing.
func (s *server) acknowledged(durable string) {
	s.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		c, err := s.js.Consumer(ctx, "PREDICTIONS", durable)
		cancel()
		if err != nil {
			s.t.Fatal(err)
		}
		if info := c.CachedInfo(); info.NumAckPending == 0 && info.NumPending == 0 {
			return
		}
	}
}

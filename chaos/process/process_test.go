package process_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/chaos/process"
)

// sleeper is a program that ends only when it is made to.
func sleeper(t *testing.T, restart time.Duration) (p *process.Process, log string) {
	t.Helper()
	log = filepath.Join(t.TempDir(), "log")
	p, err := process.Start(process.Spec{Name: "sleeper", Path: "/bin/sleep", Args: []string{"600"}, Log: log, Restart: restart})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(time.Second) })
	return p, log
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestWhatIsKilledIsStartedAgain(t *testing.T) {
	p, log := sleeper(t, time.Millisecond)
	first := p.PID()
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Started(soon(t), 2); err != nil {
		t.Fatal(err)
	}
	if p.PID() == first {
		t.Error("it has the same pid")
	}
	if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), "signal: killed") {
		t.Errorf("its log says %q, %v", text, err)
	}
}

func TestHoldKeepsItDown(t *testing.T) {
	p, _ := sleeper(t, time.Millisecond)
	p.Hold()
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Ended(soon(t)); err != nil {
		t.Fatal(err)
	}
	brief, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := p.Started(brief, 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a held process: %v", err)
	}
	if err := p.Kill(); !errors.Is(err, process.ErrNotRunning) {
		t.Errorf("to kill what does not run: %v", err)
	}
	p.Release()
	if err := p.Started(soon(t), 2); err != nil {
		t.Error(err)
	}
}

func TestStopEndsWhatIsStopped(t *testing.T) {
	p, _ := sleeper(t, time.Millisecond)
	pid := p.PID()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.Stop(5 * time.Second)
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process is still there: %v", err)
	}
}

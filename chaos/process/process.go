// Package process runs a real program as an orchestrator would: it is started again when it ends, under the same name
// and with the same settings, and it can be killed, stopped and continued from outside.
//
// # Ownership
//
// Every program is the leader of a process group of its own, so that what it starts ends with it, and is killed by the
// kernel when the harness dies, however it dies. Stop returns when it is gone.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Spec is one program.
type Spec struct {
	Name string   // for messages
	Path string   // of the executable
	Args []string // without the program's name
	Env  []string // all of it
	Log  string   // file that stdout and stderr are appended to
	// Restart is how long after its end it is started again.
	Restart time.Duration
}

// Process is a supervised program.
type Process struct {
	spec Spec
	log  *os.File
	done chan struct{}

	mu       sync.Mutex
	cmd      *exec.Cmd // nil while it does not run
	held     bool      // not started again until Release
	stopping bool
	starts   int
	changed  chan struct{} // closes when it starts or ends
}

// Start starts the program and keeps it running until Stop.
func Start(spec Spec) (*Process, error) {
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	p := &Process{spec: spec, log: log, done: make(chan struct{}), changed: make(chan struct{})}
	if err := p.launch(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	go p.supervise()
	return p, nil
}

func (p *Process) launch() error {
	cmd := exec.Command(p.spec.Path, p.spec.Args...) //nolint:gosec,noctx // the harness names its own programs; Stop ends them
	cmd.Env, cmd.Stdout, cmd.Stderr = p.spec.Env, p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = cmd
	p.starts++
	p.tell()
	return nil
}

// tell wakes whoever waits for a change. The caller holds mu.
func (p *Process) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// supervise owns the waiting and the starting again.
func (p *Process) supervise() {
	defer close(p.done)
	for {
		p.mu.Lock()
		cmd := p.cmd
		p.mu.Unlock()
		err := cmd.Wait()
		_, _ = fmt.Fprintf(p.log, "--- %s ended at %s: %v\n", p.spec.Name, time.Now().UTC().Format(time.RFC3339Nano), err)
		p.mu.Lock()
		p.cmd = nil
		p.tell()
		p.mu.Unlock()
		if !p.pause() {
			return
		}
		for p.launch() != nil {
			if !p.pause() {
				return
			}
		}
	}
}

// pause waits as long as the program shall be down, and reports whether it shall run again.
func (p *Process) pause() bool {
	t := time.NewTimer(p.spec.Restart)
	defer t.Stop()
	for due := false; ; {
		p.mu.Lock()
		stopping, held, changed := p.stopping, p.held, p.changed
		p.mu.Unlock()
		switch {
		case stopping:
			return false
		case due && !held:
			return true
		}
		select {
		case <-t.C:
			due = true
		case <-changed:
		}
	}
}

// Name is the program's.
func (p *Process) Name() string { return p.spec.Name }

// PID is 0 while it does not run.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Started waits until it has been started that many times.
func (p *Process) Started(ctx context.Context, times int) error {
	for {
		p.mu.Lock()
		starts, changed := p.starts, p.changed
		p.mu.Unlock()
		if starts >= times {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s was started %d times: %w", p.spec.Name, starts, context.Cause(ctx))
		}
	}
}

// ErrNotRunning means that there is nothing to signal.
var ErrNotRunning = errors.New("does not run")

// Signal sends a signal to the whole group.
func (p *Process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("signal %s: %w", p.spec.Name, ErrNotRunning)
	}
	if err := syscall.Kill(-p.cmd.Process.Pid, s); err != nil {
		return fmt.Errorf("signal %s: %w", p.spec.Name, err)
	}
	return nil
}

// Kill is kill -9.
func (p *Process) Kill() error { return p.Signal(syscall.SIGKILL) }

// Hold keeps it down after its next end, until Release.
func (p *Process) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = true
}

// Release ends a Hold.
func (p *Process) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = false
	p.tell()
}

// Ended waits until it does not run.
func (p *Process) Ended(ctx context.Context) error {
	for {
		p.mu.Lock()
		down, changed := p.cmd == nil, p.changed
		p.mu.Unlock()
		if down {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s still runs: %w", p.spec.Name, context.Cause(ctx))
		}
	}
}

// Stop ends it for good: gently, and by force when it has not ended within the grace.
func (p *Process) Stop(grace time.Duration) {
	p.mu.Lock()
	p.stopping, p.held = true, false
	p.tell()
	p.mu.Unlock()
	_ = p.Signal(syscall.SIGCONT) // a stopped program hears nothing else
	_ = p.Signal(syscall.SIGTERM)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
		_ = p.Signal(syscall.SIGKILL)
		<-p.done
	}
	_ = p.log.Close()
}

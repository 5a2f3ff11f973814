package cli

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
)

func TestTop(t *testing.T) {
	js := brokertest.JetStream(t)
	nats := js.Conn().ConnectedUrl()
	enlist(t, js, fleet.Config{Service: "infer", Instance: "infer-1"}, func(w *fleet.Worker) { w.Load.Busy = .5 })
	publishEvent(t, js, events.Event{Area: "camera", Kind: "state", Name: "street", State: "down", Cause: "refused", At: time.Now()})
	code, out, errs := run(t, t.Context(), "top", "--once", "--ascii", "--nats", nats)
	holds(t, 0, []string{"sightline top", "0 of 1 cameras live", "street", "down: refused", "infer-1", "50 %", "predicted"}, nil, code, out, errs)
	if strings.Contains(out, "\x1b") || strings.ContainsFunc(out, func(r rune) bool { return r > 127 }) {
		t.Errorf("%q", out)
	}
	code, out, errs = run(t, t.Context(), "top", "--json", "--nats", nats)
	holds(t, ExitUsage, nil, []string{"status --json"}, code, out, errs)
}

// On a terminal it goes on until its user has seen enough.
func TestTopOnATerminal(t *testing.T) {
	js := brokertest.JetStream(t)
	person, program := terminal(t)
	var view lineBuffer
	go func() { // ends when the terminal is closed
		for b := make([]byte, 4096); ; {
			n, err := person.Read(b)
			if err != nil {
				return
			}
			_, _ = view.Write(b[:n])
		}
	}()
	ctx, interrupt := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		done <- Main(ctx, []string{"top", "--nats", js.Conn().ConnectedUrl()}, os.Environ(), Streams{In: program, Out: program, Err: &bytes.Buffer{}})
	}()
	view.wait(t, "sightline top")
	enlist(t, js, fleet.Config{Service: "infer", Instance: "infer-7"}, nil)
	view.wait(t, "infer-7")
	if _, err := person.Write([]byte("q")); err != nil {
		t.Fatal(err)
	}
	select {
	case code := <-done:
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(patience):
		interrupt()
		t.Fatal("q does not end it")
	}
	interrupt()
}

package wire_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/chaos/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that says everything back, line by line.
func echo(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return l.Addr().String()
}

func open(t *testing.T) *wire.Wire {
	t.Helper()
	w, err := wire.Open(t.Context(), echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

type client struct {
	net.Conn
	lines *bufio.Reader
}

func dial(t *testing.T, w *wire.Wire) client {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", w.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return client{c, bufio.NewReader(c)}
}

func (c client) say(t *testing.T, s string) {
	t.Helper()
	if _, err := fmt.Fprintln(c, s); err != nil {
		t.Fatal(err)
	}
}

// hear waits for a line.
func (c client) hear(t *testing.T, within time.Duration) (string, error) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	return c.lines.ReadString('\n')
}

const soon, brief = 5 * time.Second, 100 * time.Millisecond

func TestWhatIsSaidDuringACutArrivesAfterwards(t *testing.T) {
	w := open(t)
	c := dial(t, w)
	c.say(t, "before")
	if s, err := c.hear(t, soon); s != "before\n" {
		t.Fatal(s, err)
	}
	w.Cut()
	c.say(t, "during")
	if s, err := c.hear(t, brief); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a cut wire carried %q: %v", s, err)
	}
	w.Heal(false)
	if s, err := c.hear(t, soon); s != "during\n" {
		t.Fatal(s, err)
	}
}

func TestAResetEndsTheConnectionsOfBefore(t *testing.T) {
	w := open(t)
	c := dial(t, w)
	c.say(t, "before")
	if _, err := c.hear(t, soon); err != nil {
		t.Fatal(err)
	}
	w.Cut()
	w.Heal(true)
	if _, err := c.hear(t, soon); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
	again := dial(t, w)
	again.say(t, "after")
	if s, err := again.hear(t, soon); s != "after\n" {
		t.Error(s, err)
	}
}

func TestACutTellsNobodyThatTheOtherSideEnded(t *testing.T) {
	w := open(t)
	c := dial(t, w)
	c.say(t, "before")
	if _, err := c.hear(t, soon); err != nil {
		t.Fatal(err)
	}
	w.Cut()
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.hear(t, brief); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the end came through a cut wire: %v", err)
	}
	w.Heal(false)
	if _, err := c.hear(t, soon); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want the end", err)
	}
}

func TestRefuse(t *testing.T) {
	w := open(t)
	c := dial(t, w)
	if err := w.Refuse(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.hear(t, soon); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection of before: %v", err)
	}
	if _, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", w.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, want refused", err)
	}
	if err := w.Accept(context.Background()); err != nil {
		t.Fatal(err)
	}
	again := dial(t, w)
	again.say(t, "after")
	if s, err := again.hear(t, soon); s != "after\n" {
		t.Error(s, err)
	}
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// MaxPayload is the largest message an embedded server accepts: a 4K JPEG with room to spare.
const MaxPayload = 8 << 20

// Embedded is a nats-server in this process, reachable by any NATS client.
type Embedded struct{ s *server.Server }

// StartEmbedded starts a server on host:port (port -1 or 0 picks one) that keeps its files in dir.
func StartEmbedded(ctx context.Context, host string, port int, dir string) (*Embedded, error) {
	if port > 0 {
		if err := checkFree(ctx, host, port); err != nil {
			return nil, err
		}
	} else {
		port = server.RANDOM_PORT
	}
	if err := os.MkdirAll(dir, 0o700); err != nil { // the server itself would only not get ready
		return nil, fmt.Errorf("embedded broker: store: %w", err)
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "sightline", Host: host, Port: port, NoSigs: true, NoLog: true, DontListen: false,
		JetStream: true, StoreDir: dir, MaxPayload: MaxPayload,
		JetStreamMaxMemory: 2 << 30, JetStreamMaxStore: 16 << 30,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	go s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		s.Shutdown()
		return nil, fmt.Errorf("embedded broker: not ready within 20 s (store %s)", dir)
	}
	return &Embedded{s: s}, nil
}

// ErrPortTaken means that something else listens where the embedded broker should.
var ErrPortTaken = errors.New("port is taken")

func checkFree(ctx context.Context, host string, port int) error {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("embedded broker on %s: %w: something else listens there", addr, ErrPortTaken)
	case err != nil:
		return fmt.Errorf("embedded broker: %w", err)
	}
	return l.Close()
}

// URL is where clients connect.
func (e *Embedded) URL() string { return e.s.ClientURL() }

// Connect connects to this server without a socket. It behaves as Connect(e.URL(), name, log) does, for less
// per message (BenchmarkStage: 1.2 to 2.1 times as many), but does not find a server that was started anew on the port.
func (e *Embedded) Connect(name string, log *slog.Logger) (*nats.Conn, error) {
	nc, err := nats.Connect("", append(options(name, log), nats.InProcessServer(e.s))...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded broker: %w", err)
	}
	return nc, nil
}

// Stop shuts the server down and waits until its files are closed.
func (e *Embedded) Stop() {
	e.s.Shutdown()
	e.s.WaitForShutdown()
}

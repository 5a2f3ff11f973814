package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// MaxPayload is the largest message an embedded server accepts: a 4K JPEG with room to spare.
const MaxPayload = 8 << 20

// Embedded is a nats-server in this process, reachable by any NATS client.
type Embedded struct {
	s    *server.Server
	lock *os.File
}

// ErrStoreInUse means that another process keeps a broker's files in the same folder: two would destroy each other's.
var ErrStoreInUse = errors.New("store is in use")

// lockStore holds a folder for this process until it ends or closes the file.
func lockStore(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded broker: store: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator names the folder
	if err != nil {
		return nil, fmt.Errorf("embedded broker: store: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("embedded broker: %s: %w", dir, ErrStoreInUse), f.Close())
	}
	return f, nil
}

// StartEmbedded starts a server on host:port (no host is 127.0.0.1, port -1 or 0 picks one) that keeps its files in dir,
// which no other process may use meanwhile.
func StartEmbedded(ctx context.Context, host string, port int, dir string) (_ *Embedded, err error) {
	if host == "" {
		host = "127.0.0.1"
	}
	if port > 0 {
		if err := checkFree(ctx, host, port); err != nil {
			return nil, err
		}
	} else {
		port = server.RANDOM_PORT
	}
	lock, err := lockStore(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
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
	return &Embedded{s: s, lock: lock}, nil
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

// Connect connects to this server without a socket. It behaves as Connect with e.URL() does, for less
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
	_ = e.lock.Close() // the kernel lets go of it in any case
}

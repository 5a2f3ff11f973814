package access_test

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/deploy/nats/secrets"
	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a broker that runs deploy/nats/cluster.conf with secrets of its own.
type site struct {
	*testing.T
	*brokertest.Deployed

	dir string // of secrets
}

func newSite(t *testing.T, nodes ...string) *site {
	t.Helper()
	s := &site{T: t, dir: t.TempDir()}
	if _, err := secrets.Make(s.dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{"NODE_CERT": secrets.Cert, "NODE_KEY": secrets.Key, "NODE_CA": secrets.CA} {
		t.Setenv(name, s.file(file))
	}
	t.Setenv("NODE_MONITOR", "127.0.0.1:8222")
	env, err := os.Open(s.file(secrets.Env))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = env.Close() }()
	for lines := bufio.NewScanner(env); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			t.Setenv(name, value)
		}
	}
	s.Deployed = brokertest.StartDeployed(t, "../cluster.conf", nodes...)
	return s
}

func (s *site) file(name string) string { return filepath.Join(s.dir, name) }

func (s *site) credentials(user string) broker.Credentials {
	return broker.Credentials{User: user, NKey: s.file(secrets.Seed(user)), CA: s.file(secrets.CA)}
}

// problems are what goes wrong on a connection without anybody's asking.
type problems struct {
	mu   sync.Mutex
	seen []string
	more chan struct{}
}

func (p *problems) add(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, strings.ToLower(err.Error()))
	select {
	case p.more <- struct{}{}:
	default:
	}
}

func (p *problems) with(text string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, s := range p.seen {
		if strings.Contains(s, strings.ToLower(text)) {
			out = append(out, s)
		}
	}
	return out
}

// await waits until a problem has been seen.
func (p *problems) await(t *testing.T, text string) bool {
	t.Helper()
	limit := time.After(5 * time.Second)
	for len(p.with(text)) == 0 {
		select {
		case <-p.more:
		case <-limit:
			return false
		}
	}
	return true
}

// watched connects as a user, as any client does.
func (s *site) watched(user string) (*nats.Conn, *problems) {
	s.Helper()
	p := &problems{more: make(chan struct{}, 1)}
	opts, err := s.credentials(user).Options()
	if err != nil {
		s.Fatal(err)
	}
	nc, err := nats.Connect(s.URL, append(opts, nats.Name(user), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { p.add(err) }))...)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(nc.Close)
	return nc, p
}

// connect connects as a service does.
func (s *site) connect(user, instance string, log *slog.Logger) jetstream.JetStream {
	s.Helper()
	nc, err := broker.Connect(broker.Config{URL: s.URL, Name: user + "-" + instance, Credentials: s.credentials(user), Log: log})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(nc.Close)
	js, err := broker.JetStream(nc)
	if err != nil {
		s.Fatal(err)
	}
	return js
}

// eventually tries until do succeeds, for two minutes: a machine may be busy.
func (s *site) eventually(do func() error) {
	s.Helper()
	limit := time.After(2 * time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := do()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			s.Fatalf("still: %v; refused: %q", err, s.Lines("violation"))
		}
	}
}

// warnings is a log that keeps what speaks of permissions.
type warnings struct {
	mu    sync.Mutex
	lines []string
}

func (w *warnings) Enabled(context.Context, slog.Level) bool { return true }
func (w *warnings) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w *warnings) WithGroup(string) slog.Handler            { return w }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	if low := strings.ToLower(line); strings.Contains(low, "permission") || strings.Contains(low, "authorization") {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.lines = append(w.lines, line)
	}
	return nil
}

func (w *warnings) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.lines)
}

var errNotYet = errors.New("not yet")

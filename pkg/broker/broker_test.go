package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRedact(t *testing.T) {
	t.Parallel()
	const unreadable = "[unreadable url]"
	for in, want := range map[string]string{
		"":                            unreadable,
		"nats://127.0.0.1:4222":       "nats://127.0.0.1:4222",
		"nats://user:secret@a:4222":   "nats://redacted@a:4222",
		"nats://secrettoken@a":        "nats://redacted@a",
		"user:secret@a:4222":          "redacted@a:4222",
		"a, nats://u:secret@b:1 ,c:2": "a,nats://redacted@b:1,c:2",
		"tls://u:sec@ret@[::1]:4222":  "tls://redacted@[::1]:4222",
		"nats://u:sec/ret@a:4222":     "nats://redacted@a:4222",
		"nats://u/secret@a":           "nats://redacted@a",
		"nats://u:sec#ret@a":          "nats://redacted@a",
		"nats://u:sec?ret@a":          "nats://redacted@a",
		"nats://u:sec%zzret@a":        "nats://redacted@a",
		"nats://u:sec ret@a":          "nats://redacted@a",
		"nats://u:secret,more@a":      unreadable + ",redacted@a",
		"ws://a:80/path?token=secret": "ws://a:80",
		"nats://u:secret":             unreadable,
		"u:secret@x://a":              unreadable,
		"nats://u:secret@a b":         unreadable,
	} {
		if got := broker.Redact(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzRedact(f *testing.F) {
	for _, s := range []string{"nats://u:%s@a:4222", "%s@a", "nats://u:%s@a,b", "tls://u:x%s@[::1]"} {
		f.Add(s, "se/cr,et@#?")
	}
	f.Fuzz(func(t *testing.T, format, secret string) {
		const mark = "S3CR3T"
		before, after, ok := strings.Cut(format, "%s")
		if !ok || strings.ContainsAny(secret, ",") || !strings.Contains(before, "://") || strings.Contains(before, ",") ||
			!strings.Contains(after, "@") || strings.Contains(strings.SplitN(after, "@", 2)[0], ",") {
			return // not a password
		}
		if got := broker.Redact(before + mark + secret + after); strings.Contains(got, mark) {
			t.Fatalf("%q", got)
		}
	})
}

// An address that cannot be read is not quoted: its password would be.
func TestConnectErrors(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"nats://user:se cret@127.0.0.1:4222":  "connect to nats://redacted@127.0.0.1:4222: not a list of server urls",
		"nats://user:se/cret@127.0.0.1:4222":  "connect to nats://redacted@127.0.0.1:4222: not a list of server urls",
		"nats://a:4222,nats://u:sec%zret@b:1": "connect to nats://a:4222,nats://redacted@b:1: not a list of server urls",
	} {
		nc, err := broker.Connect(broker.Config{URL: in, Name: "test"})
		if err == nil {
			nc.Close()
		}
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	addr := l.Addr().(*net.TCPAddr)
	_, err = broker.StartEmbedded(t.Context(), "127.0.0.1", addr.Port, t.TempDir())
	want := fmt.Sprintf("embedded broker on 127.0.0.1:%d: port is taken: something else listens there", addr.Port)
	if !errors.Is(err, broker.ErrPortTaken) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	_, err := broker.StartEmbedded(t.Context(), "192.0.2.1", 4222, t.TempDir())
	if err == nil || errors.Is(err, broker.ErrPortTaken) || err.Error() != "embedded broker: listen tcp 192.0.2.1:4222: bind: cannot assign requested address" {
		t.Errorf("an address of somebody else: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = broker.StartEmbedded(t.Context(), "127.0.0.1", -1, file)
	if want := "embedded broker: store: mkdir " + file + ": not a directory"; err == nil || err.Error() != want {
		t.Errorf("a file for a directory: %v, want %s", err, want)
	}
}

// A connection without a socket is one like any other: by name, and with the same streams.
func TestConnectInProcess(t *testing.T) {
	t.Parallel()
	server, err := broker.StartEmbedded(t.Context(), "127.0.0.1", 0, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	inside, err := server.Connect("inside", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	outside, err := broker.Connect(broker.Config{URL: server.URL(), Name: "outside"})
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	js, err := broker.JetStream(inside)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	other, err := broker.JetStream(outside)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Publish(t.Context(), "s", make([]byte, broker.MaxPayload)); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.GetMsg(t.Context(), 1); err != nil || len(m.Data) != broker.MaxPayload {
		t.Error(err)
	}
}

// syncBuffer is a log that tests read.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A server that restarts keeps its file streams and forgets its memory streams; a connection finds it again, and a
// service may start before it.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	log := &syncBuffer{}
	nc, err := broker.Connect(broker.Config{URL: fmt.Sprintf("nats://user:secret@127.0.0.1:%d", port), Name: "early", Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	server, err := broker.StartEmbedded(t.Context(), "127.0.0.1", port, dir)
	if err != nil {
		t.Fatal(err)
	}
	js, err := broker.JetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for name, storage := range map[string]jetstream.StorageType{"FILE": jetstream.FileStorage, "MEMORY": jetstream.MemoryStorage} {
		cfg := jetstream.StreamConfig{Name: name, Subjects: []string{name + ".*"}, Storage: storage}
		for _, err = js.CreateStream(ctx, cfg); err != nil; _, err = js.CreateStream(ctx, cfg) {
			if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			if _, err := js.Publish(ctx, name+".x", []byte("payload")); err != nil {
				t.Fatal(err)
			}
		}
	}
	server.Stop()
	if server, err = broker.StartEmbedded(t.Context(), "127.0.0.1", port, dir); err != nil {
		t.Fatal(err)
	}
	defer func() { server.Stop() }()
	s, err := js.Stream(ctx, "FILE")
	for ; err != nil; s, err = js.Stream(ctx, "FILE") {
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if n := s.CachedInfo().State.Msgs; n != 5 {
		t.Errorf("%d messages on file", n)
	}
	if _, err := js.Stream(ctx, "MEMORY"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("memory: %v", err)
	}
	nc.Close()
	if text := log.String(); strings.Contains(text, "secret") || !strings.Contains(text, "broker connection back") || !strings.Contains(text, "broker connection lost") {
		t.Errorf("log: %s", text)
	}
}

func TestStoreIsForOneProcess(t *testing.T) {
	dir := t.TempDir()
	first, err := broker.StartEmbedded(t.Context(), "", -1, dir)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(first.URL(), "nats://127.0.0.1:") {
		t.Errorf("without a host it listens on %s", first.URL())
	}
	if second, err := broker.StartEmbedded(t.Context(), "127.0.0.1", -1, dir); !errors.Is(err, broker.ErrStoreInUse) {
		t.Errorf("two brokers on one store: %v", err)
		if second != nil {
			second.Stop()
		}
	}
	first.Stop()
	again, err := broker.StartEmbedded(t.Context(), "127.0.0.1", -1, dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Stop()
}

package broker_test

import (
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/streams"
)

// pair is a user's seed and public key.
func pair(t *testing.T) (seed, public string) {
	t.Helper()
	keys, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := keys.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = keys.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return string(raw), public
}

func write(t *testing.T, name, text string, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask says
		t.Fatal(err)
	}
	return path
}

func TestCredentialsThatAreNone(t *testing.T) {
	t.Parallel()
	seed, _ := pair(t)
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	other, err := account.Seed()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		credentials broker.Credentials
		want        string
	}{
		"missing":        {broker.Credentials{NKey: "/nowhere/infer.nk"}, "/nowhere/infer.nk: no such file"},
		"folder":         {broker.Credentials{NKey: t.TempDir()}, "is not a file"},
		"anybody writes": {broker.Credentials{NKey: write(t, "s", seed, 0o666)}, "chmod o-w"},
		"no seed":        {broker.Credentials{NKey: write(t, "s", "hunter2", 0o600)}, "no seed of a user"},
		"half a seed":    {broker.Credentials{NKey: write(t, "s", seed[:40], 0o600)}, "no seed of a user"},
		"an account's":   {broker.Credentials{NKey: write(t, "s", string(other), 0o600)}, "no seed of a user"},
		"no authorities": {broker.Credentials{CA: "/nowhere/ca.pem"}, "/nowhere/ca.pem: no such file"},
		"no certificate": {broker.Credentials{CA: write(t, "c", "hunter2", 0o600)}, "holds no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nc, err := broker.Connect(broker.Config{URL: "nats://127.0.0.1:1", Name: "test", Credentials: c.credentials})
			if err == nil {
				nc.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %s", err, c.want)
			}
			for _, secret := range []string{"hunter2", seed[2:20], string(other[2:20])} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("it shows a secret: %v", err)
				}
			}
		})
	}
}

// A client whose key the broker does not know goes on asking, says why once, and is let in when the broker has learnt of it.
func TestAKeyThatTheBrokerLearnsLater(t *testing.T) {
	t.Parallel()
	seed, public := pair(t)
	_, stranger := pair(t)
	start := func(key string, port int) *server.Server {
		s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true, Nkeys: []*server.NkeyUser{{Nkey: key}}})
		if err != nil {
			t.Fatal(err)
		}
		go s.Start()
		if !s.ReadyForConnections(20 * time.Second) {
			t.Fatal("not ready")
		}
		return s
	}
	first := start(stranger, server.RANDOM_PORT)
	port := first.Addr().(*net.TCPAddr).Port
	log := &syncBuffer{}
	nc, err := broker.Connect(broker.Config{
		URL: first.ClientURL(), Name: "infer-a", Log: slog.New(slog.NewTextHandler(log, nil)),
		Credentials: broker.Credentials{User: "infer", NKey: write(t, "seed", seed+"\n", 0o444)}, // as compose mounts secrets
	})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	<-time.After(1500 * time.Millisecond) // several attempts: two are the most that nats.go makes by itself
	first.Shutdown()
	first.WaitForShutdown()
	second := start(public, port)
	defer func() {
		second.Shutdown()
		second.WaitForShutdown()
	}()
	back := nc.StatusChanged(nats.CONNECTED)
	if !nc.IsConnected() {
		select {
		case <-back:
		case <-time.After(20 * time.Second):
			t.Fatalf("not let in: %s", log)
		}
	}
	if inbox := nc.NewInbox(); !strings.HasPrefix(inbox, streams.InboxPrefix("infer")+".") {
		t.Errorf("inbox %s", inbox)
	}
	if text := log.String(); strings.Count(text, "uthorization") != 1 || strings.Contains(text, seed[2:20]) {
		t.Errorf("log: %s", text)
	}
}

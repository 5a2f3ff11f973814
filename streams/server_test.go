package streams_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server" //nolint:depguard // pkg/broker imports this module: a test of it starts its own server
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server without a port and returns a client's view of it.
func serve(t *testing.T) jetstream.JetStream {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		JetStreamMaxMemory: 2 << 30, JetStreamMaxStore: 16 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("server is not ready within 20 s")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// ensured is serve with every stream and bucket.
func ensured(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := serve(t)
	if err := streams.Ensure(t.Context(), js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	return js
}

func publish(t *testing.T, js jetstream.JetStream, subject, id, data string) *jetstream.PubAck {
	t.Helper()
	ack, err := js.Publish(t.Context(), subject, []byte(data), jetstream.WithMsgID(id))
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return ack
}

func info(t *testing.T, js jetstream.JetStream, stream string) *jetstream.StreamInfo {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo()
}

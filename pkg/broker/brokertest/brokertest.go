// Package brokertest gives a test a real broker.
package brokertest

import (
	"context"
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/streams"
)

// JetStream starts an embedded broker with every stream and bucket declared, which ends with the test, and connects to it
// over a socket, as another process would.
func JetStream(tb testing.TB) jetstream.JetStream {
	tb.Helper()
	server, err := broker.StartEmbedded(context.Background(), "127.0.0.1", -1, tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(server.Stop)
	nc, err := broker.Connect(broker.Config{URL: server.URL(), Name: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	js, err := broker.JetStream(nc)
	if err != nil {
		tb.Fatal(err)
	}
	if err := streams.Ensure(context.Background(), js, streams.Options{}); err != nil {
		tb.Fatal(err)
	}
	return js
}

package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
)

const connectTimeout = 3 * time.Second

// connect reaches a running system, or says at once that there is none: a person waits.
func (a *app) connect(ctx context.Context) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(a.process.NATS.Reveal(), nats.Name("sightline-cli"), nats.Timeout(connectTimeout), nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond))
	if err != nil {
		return nil, nil, fmt.Errorf("no NATS server at %s: %w\nstart one with `sightline up`, or name another with --nats", a.process.NATS, err)
	}
	js, err := broker.JetStream(nc)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	if _, err := js.AccountInfo(ctx); err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("the NATS server at %s has no JetStream: %w", a.process.NATS, err)
	}
	return nc, js, nil
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
)

const (
	connectTimeout = 3 * time.Second
	// user is whose key the command line has.
	user = "operator"
)

// connect reaches a running system, or says at once that there is none: a person waits.
func (a *app) connect(ctx context.Context) (*nats.Conn, jetstream.JetStream, error) {
	auth, err := broker.Credentials{User: user, NKey: a.process.NKey, CA: a.process.CA}.Options()
	if err != nil {
		return nil, nil, exit(ExitUsage, err)
	}
	nc, err := nats.Connect(a.process.NATS.Reveal(), append(auth, nats.Name("sightline-cli"), nats.Timeout(connectTimeout), nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond))...)
	if errors.Is(err, nats.ErrAuthorization) {
		return nil, nil, fmt.Errorf("the NATS server at %s does not let this command in: name the operator's key with --nkey", a.process.NATS)
	}
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

// Package broker connects to NATS as this system needs it, and starts the embedded server.
//
// A connection made here never gives up, notices a dead server within seconds, and buffers nothing while it is
// away: what cannot be published now is the caller's to keep and count.
package broker

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Connect connects to the servers at urls (comma separated). name is shown by the server and, for workers, is
// <service>-<instance>. The first connection is attempted in the background too: a service may start before
// its broker.
func Connect(urls, name string, log *slog.Logger) (*nats.Conn, error) {
	nc, err := nats.Connect(urls,
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond),
		nats.RetryOnFailedConnect(true),
		nats.PingInterval(2*time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err == nil { // closed by us
				return
			}
			log.Warn("broker connection lost", slog.String("connection", name), slog.Any("error", err))
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("broker connection back", slog.String("connection", name), slog.String("server", Redact(nc.ConnectedUrl())))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("broker error", slog.String("connection", name), slog.String("subject", subject), slog.Any("error", err))
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", Redact(urls), err)
	}
	return nc, nil
}

// JetStream is the API every service uses: bounded waits, and no silent retries on the frame path.
func JetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(5*time.Second))
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	return js, nil
}

// Redact removes passwords and tokens from a comma-separated list of server URLs.
func Redact(raw string) string {
	parts := strings.Split(raw, ",")
	for i, p := range parts {
		u, err := url.Parse(strings.TrimSpace(p))
		switch {
		case err != nil:
			parts[i] = "[unreadable url]"
		case u.User != nil:
			u.User = url.User("redacted")
			parts[i] = u.String()
		}
	}
	return strings.Join(parts, ",")
}

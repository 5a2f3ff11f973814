// Package broker connects to NATS as this system needs it, and starts the embedded server.
//
// A connection made here never gives up, notices a dead server within seconds, and buffers nothing while it is
// away: what cannot be published now is the caller's to keep and count.
package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says where the broker is and who connects.
type Config struct {
	// URL names the servers, with commas between several.
	URL string
	// Name is shown by the server and, for workers, is <service>-<instance>.
	Name string
	// Credentials say to the server who connects.
	Credentials
	Log *slog.Logger
}

// Connect connects to a broker. The first connection is attempted in the background too: a service may start before
// its broker. What is wrong with the credentials is an error at once.
func Connect(cfg Config) (*nats.Conn, error) {
	auth, err := cfg.Options()
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", Redact(cfg.URL), err)
	}
	nc, err := nats.Connect(cfg.URL, append(options(cfg.Name, cfg.Log), auth...)...)
	if _, ok := errors.AsType[*url.Error](err); ok { // it quotes what it could not read, passwords too
		err = errors.New("not a list of server urls")
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", Redact(cfg.URL), err)
	}
	return nc, nil
}

func options(name string, log *slog.Logger) []nats.Option {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With(slog.String("connection", name))
	var refused refusals
	return []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		// The dialer asks for the address within its time-out. The client's own look-up has none: one that began while the
		// network was away holds up the reconnect for five seconds after it is back.
		nats.SkipHostLookup(),
		nats.IgnoreAuthErrorAbort(), // whoever rotates keys mends the server and its clients one after the other
		nats.CustomReconnectDelay(reconnectDelay),
		nats.RetryOnFailedConnect(true),
		nats.PingInterval(2 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err == nil { // closed by us
				return
			}
			log.Warn("broker connection lost", slog.Any("error", err))
		}),
		nats.ConnectHandler(func(*nats.Conn) { refused.over() }),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			refused.over()
			log.Info("broker connection back", slog.String("server", Redact(nc.ConnectedUrl())))
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if refused.news(err) {
				log.Warn("broker refuses the connection", slog.Any("error", err))
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if refused.isAuth(err) && !refused.news(err) {
				return
			}
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("broker error", slog.String("subject", subject), slog.Any("error", err))
		}),
	}
}

const (
	// reconnectFirst is how long a client waits that has found none of its servers once: nothing may be wrong but the
	// connection, and recovery takes a worker for dead that is not back within a quarter of a second.
	reconnectFirst = 25 * time.Millisecond
	reconnectWait  = 250 * time.Millisecond
	reconnectMore  = 100 * time.Millisecond // at most: not all at the same moment
)

func reconnectDelay(times int) time.Duration {
	if times <= 1 {
		return reconnectFirst + rand.N(reconnectFirst) //nolint:gosec // nobody gains from guessing it
	}
	return reconnectWait + rand.N(reconnectMore) //nolint:gosec // nobody gains from guessing it
}

// JetStream is the API every service uses: no call waits for ever.
func JetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(5*time.Second))
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	return js, nil
}

var address = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%a-z]+\])(:[0-9]{1,5})?$`)

// Redact leaves scheme and address of the servers in a comma-separated list. It does not trust a URL parser with
// that: a password with odd characters in it turns into a host, a path or a fragment.
func Redact(raw string) string {
	parts := strings.Split(raw, ",")
	for i, p := range parts {
		parts[i] = redact(strings.TrimSpace(p))
	}
	return strings.Join(parts, ",")
}

func redact(server string) string {
	scheme, rest, ok := strings.Cut(server, "://")
	if !ok {
		scheme, rest = "", server
	} else if scheme += "://"; strings.ContainsAny(scheme, "@ ") {
		return unreadable
	}
	user := ""
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, rest = "redacted@", rest[at+1:]
	}
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	if !address.MatchString(rest) {
		return unreadable
	}
	return scheme + user + rest
}

const unreadable = "[unreadable url]"

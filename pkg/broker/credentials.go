package broker

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/streams"
)

// Credentials say to a broker who connects, and to who connects which broker is the right one.
type Credentials struct {
	// User is what the broker calls the owner of the seed: its answers come to inboxes of that name.
	User string
	// NKey is the path of a file with the user's NKEY seed; empty is no key. The seed itself is never sent, kept or logged: it
	// is read to sign what the server asks, at every connection.
	NKey string
	// CA is the path of the certificates of who may vouch for the broker, and makes TLS a must; empty is the system's.
	CA string
}

const othersWrite fs.FileMode = 0o002

// Options are what nats.Connect needs to know.
func (c Credentials) Options() ([]nats.Option, error) {
	var out []nats.Option
	if c.NKey != "" {
		key, err := seed(c.NKey)
		if err != nil {
			return nil, err
		}
		out = append(out, key)
		if c.User != "" {
			out = append(out, nats.CustomInboxPrefix(streams.InboxPrefix(c.User)))
		}
	}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("authorities of the broker: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("authorities of the broker: %s holds no certificate (PEM)", c.CA)
		}
		out = append(out, nats.RootCAs(c.CA))
	}
	return out, nil
}

// seed refuses a file that anybody may change, and with it who the process is. One that anybody may read is accepted: the
// secrets of containers are often mounted so, in a folder that nobody else can enter.
func seed(path string) (nats.Option, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err == nil && info.Mode()&othersWrite != 0 {
		err = fmt.Errorf("%s can be changed by every user of this machine: chmod o-w", path)
	}
	if err != nil {
		return nil, fmt.Errorf("NKEY seed: %w", err)
	}
	key, err := nats.NkeyOptionFromSeed(path)
	if unreadable, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fmt.Errorf("NKEY seed: %w", unreadable)
	}
	if err != nil { // it would say no more than this, and must not quote what it found
		return nil, fmt.Errorf("NKEY seed: %s holds no seed of a user (it begins with SU)", path)
	}
	return key, nil
}

// refusals remember why connections fail, so that each reason is told once and not four times a second.
type refusals struct {
	mu   sync.Mutex
	last string
}

// news reports whether an error is worth telling. That nobody listens is not: the caller hears of that another way.
func (r *refusals) news(err error) bool {
	if err == nil || errors.Is(err, nats.ErrNoServers) {
		return false
	}
	if _, network := errors.AsType[interface {
		error
		Timeout() bool
	}](err); network {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == err.Error() {
		return false
	}
	r.last = err.Error()
	return true
}

func (*refusals) isAuth(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked)
}

// over forgets: the broker has let this process in.
func (r *refusals) over() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = ""
}

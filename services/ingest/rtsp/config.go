package rtsp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/bluenviron/gortsplib/v4/pkg/base"

	"github.com/sightline-dev/sightline/services/ingest"
)

// Transport says how media travels from the camera.
type Transport string

// The transports. Auto tries UDP, takes TCP when no media arrives, and remembers.
const (
	Auto Transport = "auto"
	UDP  Transport = "udp"
	TCP  Transport = "tcp"
)

// Config describes one camera. Only URL is required; zero durations take the defaults.
type Config struct {
	// URL is rtsp:// or rtsps://, with the user name and password percent-encoded in it.
	URL string

	Transport Transport // default Auto

	// TLS is for rtsps: RootCAs for a private authority, InsecureSkipVerify for none. The server name is always that
	// of the URL. nil trusts the system's authorities.
	TLS *tls.Config

	ConnectTimeout time.Duration // from dialling to the answer to PLAY; default 5 s
	MediaTimeout   time.Duration // from PLAY to the first access unit; default 2 s
	UDPTimeout     time.Duration // the same for UDP when the transport is Auto; default 1 s

	// UDPReadBuffer is the size of the kernel's receive buffer in bytes; 0 leaves the system's default.
	UDPReadBuffer int
}

func (c *Config) setDefaults() {
	if c.Transport == "" {
		c.Transport = Auto
	}
	setDefault(&c.ConnectTimeout, 5*time.Second)
	setDefault(&c.MediaTimeout, 2*time.Second)
	setDefault(&c.UDPTimeout, time.Second)
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// Validate reports every problem of c. Its text never quotes the URL.
func (c Config) Validate() error {
	var problems []error
	if _, err := parseURL(c.URL); err != nil {
		problems = append(problems, err)
	}
	switch c.Transport {
	case "", Auto, UDP, TCP:
	default:
		problems = append(problems, fmt.Errorf("transport is %q, want auto, udp or tcp", c.Transport))
	}
	for _, d := range []time.Duration{c.ConnectTimeout, c.MediaTimeout, c.UDPTimeout} {
		if d < 0 {
			problems = append(problems, errors.New("timeouts must not be negative"))
			break
		}
	}
	return ingest.WithCause(ingest.CauseConfig, errors.Join(problems...))
}

// parseURL does not wrap what the parser says: that can quote a piece of the password ("invalid port ...").
func parseURL(raw string) (*base.URL, error) {
	u, err := base.ParseURL(raw)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("camera URL is not valid: want rtsp://user:password@host:port/path " +
			"(or rtsps://) with special characters of the password percent-encoded")
	}
	return u, nil
}

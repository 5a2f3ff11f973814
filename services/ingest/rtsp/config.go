package rtsp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/bluenviron/gortsplib/v4/pkg/base"

	"github.com/sightline-dev/sightline/services/ingest"
)

// Transport says how media travels from the camera.
type Transport string

// The transports. Auto tries TCP, takes UDP when the camera will not or no media arrives, and remembers.
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

	// UDPReadBuffer is the size of the kernel's receive buffer in bytes; default 1 MiB, or what the kernel allows: a key
	// frame comes in one burst, and the system's default loses a part of it.
	UDPReadBuffer int
}

func (c *Config) setDefaults() {
	if c.Transport == "" {
		c.Transport = Auto
	}
	setDefault(&c.ConnectTimeout, 5*time.Second)
	setDefault(&c.MediaTimeout, 2*time.Second)
	if c.UDPReadBuffer == 0 {
		c.UDPReadBuffer = min(1<<20, receiveBufferLimit())
	}
}

// receiveBufferLimit is the largest receive buffer that the kernel allows; 0 when it does not say.
func receiveBufferLimit() int {
	text, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return n
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
	for _, d := range []time.Duration{c.ConnectTimeout, c.MediaTimeout} {
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

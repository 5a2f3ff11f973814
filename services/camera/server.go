package camera

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bluenviron/gortsplib/v4"
	"github.com/bluenviron/gortsplib/v4/pkg/auth"
	"github.com/bluenviron/gortsplib/v4/pkg/description"
)

// Auth is a way to authenticate.
type Auth string

// The ways. AnyAuth lets the client choose.
const (
	AnyAuth Auth = ""
	Basic   Auth = "basic"
	Digest  Auth = "digest"
)

// Config describes one camera. Only Footage is required.
type Config struct {
	Footage *Footage

	Listen string // host:port of RTSP; default 127.0.0.1:0, which takes a free port
	Path   string // default "cam"

	User, Password string // no User: anybody may look
	Auth           Auth

	TLS   *tls.Config // serve rtsps instead of rtsp
	NoUDP bool        // refuse UDP with status 461, as cameras behind some gateways do
	NoTCP bool        // refuse TCP with status 461, as some old cameras do

	Faults Faults        // from the start
	Skip   time.Duration // of the footage's first round: it begins with the first key frame behind that
	Seed   uint64        // of everything random about the faults
}

// Faults are what happens to media on its way out. The shares are 0 to 1.
type Faults struct {
	Drop     float64 // share of RTP packets that are not sent, though their sequence numbers are used up
	Corrupt  float64 // share of RTP packets with a few bits of their payload turned over
	BlockTCP bool    // nothing is sent while somebody plays over TCP, as some broken firmware does

	// Frozen sends the last key frame again and again, with timestamps that go on: an encoder whose sensor hangs.
	Frozen bool
	// Pace is how fast the footage is played, so that another number of pictures comes than the stream announces; 0 is 1, that
	// is as it should. Timestamps tell the truth.
	Pace float64
	// ClockOffset is how wrong the camera's time of day is, as its RTCP sender reports tell it.
	ClockOffset time.Duration
	// ClockRate is how fast the camera's RTP clock runs; 0 is 1, that is as it should.
	ClockRate float64
}

// Server is one camera. Make it with [New], then Run it.
type Server struct {
	cfg   Config
	ready chan struct{}
	fatal chan error
	down  sync.WaitGroup // watchers of RTSP servers

	mu      sync.Mutex
	ended   bool   // Run is returning
	addr    string // as listened
	udpPort int    // of RTP; RTCP is one above
	rtsp    *gortsplib.Server
	stream  *gortsplib.ServerStream
	media   *description.Media
	footage *Footage
	faults  Faults
	rng     *rand.Rand
	stalled bool
	waitKey bool // send nothing before the next key frame
	still   unit // the last key frame
	thaw    bool // it was sent instead of others: go on at the next one
	players map[*gortsplib.ServerSession]gortsplib.Transport
	sent    Stats
}

// Stats counts what was sent to at least the stream; viewers may be none.
type Stats struct {
	Units     uint64 // pictures
	Packets   uint64 // RTP packets, with the dropped ones
	Dropped   uint64
	Corrupted uint64
	Viewers   int // who play now
}

// New checks cfg; it opens nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Path = strings.Trim(cfg.Path, "/"); cfg.Path == "" {
		cfg.Path = "cam"
	}
	var problems []error
	if cfg.Footage == nil {
		problems = append(problems, errors.New("no footage"))
	}
	if _, _, err := net.SplitHostPort(cfg.Listen); err != nil {
		problems = append(problems, fmt.Errorf("listen address: %w", err))
	}
	if cfg.Auth != AnyAuth && cfg.Auth != Basic && cfg.Auth != Digest {
		problems = append(problems, fmt.Errorf("auth is %q, want basic or digest", cfg.Auth))
	}
	if err := cfg.Faults.validate(); err != nil {
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("camera: %w", err)
	}
	return &Server{
		cfg: cfg, ready: make(chan struct{}), fatal: make(chan error, 1), footage: cfg.Footage, faults: cfg.Faults,
		rng:     rand.New(rand.NewPCG(cfg.Seed, 1)), //nolint:gosec // faults must be repeatable
		waitKey: true, players: make(map[*gortsplib.ServerSession]gortsplib.Transport),
	}, nil
}

func (f Faults) validate() error {
	for _, share := range []float64{f.Drop, f.Corrupt} {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("share of packets is %g, want 0 to 1", share)
		}
	}
	for _, rate := range []float64{f.Pace, f.ClockRate} {
		if !(rate >= 0 && rate <= 100) || rate != 0 && rate < 0.01 {
			return fmt.Errorf("pace or rate of the clock is %g, want 0.01 to 100, or 0 for 1", rate)
		}
	}
	return nil
}

// Run serves until ctx ends, then closes everything and returns nil.
func (s *Server) Run(ctx context.Context) error {
	defer s.down.Wait()
	if err := s.Restart(); err != nil {
		return err
	}
	defer func() {
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
		s.Kill()
	}()
	close(s.ready)
	return s.play(ctx)
}

// Ready is closed when the camera can be reached.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is the host and port of RTSP. It is valid once Ready is closed, and stays through Kill and Restart.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// URL is where to look, with the user name and password in it, percent-encoded. It is valid once Ready is closed.
func (s *Server) URL() string {
	u := url.URL{Scheme: "rtsp", Host: s.Addr(), Path: "/" + s.cfg.Path}
	if s.cfg.TLS != nil {
		u.Scheme = "rtsps"
	}
	if s.cfg.User != "" {
		u.User = url.UserPassword(s.cfg.User, s.cfg.Password)
	}
	return u.String()
}

// Stats returns a snapshot.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.sent
	stats.Viewers = len(s.players)
	return stats
}

// Restart listens again after [Server.Kill], on the same ports.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errors.New("camera: has ended")
	}
	if s.rtsp != nil {
		return nil
	}
	rtsp, err := s.listen()
	if err != nil {
		return fmt.Errorf("camera: listen: %w", err)
	}
	media := &description.Media{Type: description.MediaTypeVideo}
	media.Formats = append(media.Formats, s.footage.format())
	stream := &gortsplib.ServerStream{Server: rtsp, Desc: &description.Session{Medias: []*description.Media{media}}}
	if err := stream.Initialize(); err != nil {
		rtsp.Close()
		return fmt.Errorf("camera: open stream: %w", err)
	}
	s.rtsp, s.stream, s.media = rtsp, stream, media
	s.down.Go(func() {
		err := rtsp.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.rtsp == rtsp { // nobody killed it
			s.fatal <- fmt.Errorf("camera: serve: %w", err)
		}
	})
	return nil
}

// listen starts an RTSP server on the ports of the last time, if there was one.
func (s *Server) listen() (*gortsplib.Server, error) {
	addr := s.addr
	if addr == "" {
		addr = s.cfg.Listen
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	for attempt := 0; ; attempt++ {
		var bound net.Addr
		rtsp := &gortsplib.Server{
			Handler: &handler{s: s}, RTSPAddress: addr, TLSConfig: s.cfg.TLS, WriteQueueSize: 1024,
			AuthMethods: s.cfg.Auth.methods(),
			Listen: func(network, address string) (net.Listener, error) {
				l, err := net.Listen(network, address) //nolint:noctx // listening does not block
				if err == nil {
					bound = l.Addr()
				}
				return l, err
			},
		}
		udp := s.udpPort
		if !s.cfg.NoUDP {
			if udp == 0 {
				udp = 20000 + 2*rand.IntN(12000) //nolint:gosec // any even port will do, but not the seeded one
			}
			rtsp.UDPRTPAddress = net.JoinHostPort(host, strconv.Itoa(udp))
			rtsp.UDPRTCPAddress = net.JoinHostPort(host, strconv.Itoa(udp+1))
		}
		if err = rtsp.Start(); err == nil {
			s.addr, s.udpPort = bound.String(), udp
			return rtsp, nil
		}
		if s.udpPort != 0 || s.cfg.NoUDP || attempt == 20 || bound != nil {
			return nil, err
		}
	}
}

func (a Auth) methods() []auth.VerifyMethod {
	switch a {
	case Basic:
		return []auth.VerifyMethod{auth.VerifyMethodBasic}
	case Digest:
		return []auth.VerifyMethod{auth.VerifyMethodDigestMD5}
	default:
		return nil
	}
}

package rtsp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluenviron/gortsplib/v4"
	"github.com/bluenviron/gortsplib/v4/pkg/description"
	"github.com/bluenviron/gortsplib/v4/pkg/format"
	"github.com/pion/rtp"

	"github.com/sightline-dev/sightline/services/ingest"
)

var (
	errNoVideo = errors.New("the camera offers no H.264, H.265 or MJPEG video")
	errNoMedia = errors.New("connected, but no complete picture arrived")
	errConnect = errors.New("no answer in time while connecting")
)

// play is one connection over one transport.
type play struct {
	cfg       Config
	transport Transport
	firstUnit time.Duration
	sink      func(ingest.AccessUnit)
	count     func(func(*ingest.SourceStats))

	conns socket
	media atomic.Bool
	first chan struct{} // closed at the first access unit
}

func (p *play) gotMedia() bool { return p.media.Load() }

// run plays until ctx ends or the session fails.
func (p *play) run(ctx context.Context) error {
	p.first = make(chan struct{})
	client, err := p.client()
	if err != nil {
		return err
	}
	// The library has no deadline for a TLS handshake, nor for a peer that stops reading: closing the socket is what
	// always wakes it.
	connecting := time.AfterFunc(p.cfg.ConnectTimeout, p.conns.close)
	stop := context.AfterFunc(ctx, p.conns.close)
	err = p.connect(client)
	stop()
	if !connecting.Stop() && err != nil {
		err = ingest.WithCause(ingest.CauseTimeout, errConnect)
	}
	if err == nil {
		err = p.wait(ctx, client)
	}
	kill := time.AfterFunc(closeGrace, p.conns.close)
	client.Close()
	kill.Stop()
	return err
}

func (p *play) client() (*gortsplib.Client, error) {
	u, err := parseURL(p.cfg.URL)
	if err != nil {
		return nil, ingest.WithCause(ingest.CauseConfig, err)
	}
	transport := gortsplib.TransportTCP
	if p.transport == UDP {
		transport = gortsplib.TransportUDP
	}
	client := &gortsplib.Client{
		Scheme:            u.Scheme,
		Host:              u.Host,
		Transport:         &transport,
		ReadTimeout:       p.cfg.ConnectTimeout,
		WriteTimeout:      p.cfg.ConnectTimeout,
		UDPReadBufferSize: p.cfg.UDPReadBuffer,
		UserAgent:         "sightline",
		DialContext:       p.conns.dial,
		OnTransportSwitch: func(error) {},
		OnPacketsLost:     func(uint64) {},
		OnDecodeError: func(error) {
			p.count(func(s *ingest.SourceStats) { s.PayloadErrors++ })
		},
	}
	if p.cfg.TLS != nil {
		client.TLSConfig = p.cfg.TLS.Clone() // the library writes to it
	}
	return client, nil
}

// connect goes from dialling to PLAY. The library is its only caller's goroutine, so callbacks set here are safe.
func (p *play) connect(client *gortsplib.Client) error {
	u, err := parseURL(p.cfg.URL)
	if err != nil {
		return ingest.WithCause(ingest.CauseConfig, err)
	}
	var asm *assembler // set before PLAY, and no packet comes earlier
	client.OnPacketsLost = func(n uint64) {
		asm.packetsLost()
		if n >= 1<<15 { // over TCP the library takes a step back in the sequence for 65 thousand lost packets
			n = 1
		}
		p.count(func(s *ingest.SourceStats) { s.PacketsLost += n })
	}
	if err := client.Start2(); err != nil {
		return classify("start", err)
	}
	session, answer, err := client.Describe(u)
	if err != nil {
		return classify("describe", err)
	}
	media, forma := findVideo(session)
	if media == nil {
		return ingest.WithCause(ingest.CauseCodec, errNoVideo)
	}
	asm, err = newAssembler(forma, time.Now, p.unit)
	if err != nil {
		return ingest.WithCause(ingest.CauseCodec, fmt.Errorf("open %s: %w", forma.Codec(), err))
	}
	if _, err := client.Setup(session.BaseURL, media, 0, 0); err != nil {
		return p.setupFailed(classify("setup", err))
	}
	announced := announcedFPS(forma, answer.Body)
	p.count(func(s *ingest.SourceStats) { s.AnnouncedFPS, s.Report = announced, ingest.SenderReport{} })
	client.OnPacketRTP(media, forma, p.onPacket(asm))
	client.OnPacketRTCP(media, p.onReport)
	if _, err := client.Play(nil); err != nil {
		return classify("play", err)
	}
	return nil
}

func (p *play) onPacket(asm *assembler) func(*rtp.Packet) {
	var dropped, bad uint64
	return func(pkt *rtp.Packet) {
		asm.packet(pkt)
		if asm.dropped != dropped || asm.bad != bad {
			p.count(func(s *ingest.SourceStats) {
				s.UnitsDropped += asm.dropped - dropped
				s.PayloadErrors += asm.bad - bad
			})
			dropped, bad = asm.dropped, asm.bad
		}
	}
}

func (p *play) unit(au ingest.AccessUnit) {
	p.sink(au)
	if p.media.CompareAndSwap(false, true) {
		close(p.first)
	}
}

// setupFailed: a camera that refuses a transport says 461, answers with the other, names no ports, ...; but not 401 or
// silence.
func (p *play) setupFailed(err error) error {
	if ingest.CauseOf(err) == ingest.CauseProtocol {
		return &transportError{err}
	}
	return err
}

// wait blocks until ctx ends, the session fails, or no first access unit came in time. Silence after that is the
// business of ingest.Session.
func (p *play) wait(ctx context.Context, client *gortsplib.Client) error {
	failed := make(chan error, 1)
	go func() { failed <- client.Wait() }() // ends with client.Close, which the caller waits for
	timer := time.NewTimer(p.firstUnit)
	defer timer.Stop()
	first := p.first
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-failed:
			return classify("session", err)
		case <-first:
			timer.Stop()
			first = nil
		case <-timer.C:
			if p.media.Load() {
				continue
			}
			return &transportError{ingest.WithCause(ingest.CauseStalled, errNoMedia)}
		}
	}
}

// findVideo picks the first video that we can decode.
func findVideo(session *description.Session) (*description.Media, format.Format) {
	for _, m := range session.Medias {
		if m.IsBackChannel {
			continue
		}
		for _, f := range m.Formats {
			switch f.(type) {
			case *format.H264, *format.H265, *format.MJPEG:
				return m, f
			}
		}
	}
	return nil, nil
}

// socket keeps the connection that the library dialled, so that somebody else can close it.
type socket struct {
	mu     sync.Mutex
	conn   net.Conn
	closed bool
}

func (s *socket) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	s.conn = conn
	return conn, nil
}

func (s *socket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.conn != nil {
		_ = s.conn.Close() // a second close is what happens when all went well
	}
}

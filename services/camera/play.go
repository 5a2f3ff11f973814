package camera

import (
	"context"
	"fmt"
	"time"

	"github.com/bluenviron/gortsplib/v4/pkg/format"
	"github.com/pion/rtp"
)

// maxLag is how late a picture may be before the camera gives up catching up.
const maxLag = time.Second

// packetize turns one picture into RTP packets; their sequence numbers go on through loops and switches.
type packetize func(nalus [][]byte) ([]*rtp.Packet, error)

func newPacketize(f *Footage) (packetize, error) {
	switch forma := f.format().(type) {
	case *format.H264:
		e, err := forma.CreateEncoder()
		if err != nil {
			return nil, err
		}
		return e.Encode, nil
	case *format.H265:
		e, err := forma.CreateEncoder()
		if err != nil {
			return nil, err
		}
		return e.Encode, nil
	default:
		e, err := (&format.MJPEG{}).CreateEncoder()
		if err != nil {
			return nil, err
		}
		return func(nalus [][]byte) ([]*rtp.Packet, error) { return e.Encode(nalus[0]) }, nil
	}
}

// play sends the footage in a loop until ctx ends or the server dies.
func (s *Server) play(ctx context.Context) error {
	pack, err := newPacketize(s.cfg.Footage)
	if err != nil {
		return fmt.Errorf("camera: open packetizer: %w", err)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var (
		footage   *Footage
		next      int
		loopStart = time.Now() // when the first picture of this loop is due
		loopTicks int64        // the RTP clock then
	)
	for {
		if f := s.playing(); footage != f || next == len(f.units) {
			if footage != nil {
				length := footage.length
				if next < len(footage.units) {
					length = footage.units[next].dts
				}
				loopStart, loopTicks = loopStart.Add(ticks(length)), loopTicks+length
			}
			footage, next = f, 0
		}
		u := footage.units[next]
		wait := time.Until(loopStart.Add(ticks(u.dts)))
		if wait < -maxLag { // the process was suspended: the camera's clock ran on
			loopStart, loopTicks = loopStart.Add(-wait), loopTicks-int64(wait)*videoClock/int64(time.Second)
		}
		timer.Reset(max(wait, 0))
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.fatal:
			return err
		case <-timer.C:
		}
		if err := s.send(pack, u, loopTicks+u.pts); err != nil {
			return err
		}
		next++
	}
}

func (s *Server) playing() *Footage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.footage
}

func (s *Server) send(pack packetize, u unit, ts int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mute() || s.waitKey && !u.key {
		return nil
	}
	s.waitKey = false
	packets, err := pack(u.nalus)
	if err != nil {
		return fmt.Errorf("camera: packetize: %w", err)
	}
	s.sent.Units++
	now := time.Now()
	for _, pkt := range packets {
		s.sent.Packets++
		pkt.Timestamp += uint32(ts) //nolint:gosec // the RTP clock wraps
		if pkt = s.damage(pkt); pkt == nil {
			continue
		}
		if err := s.stream.WritePacketRTPWithNTP(s.media, pkt, now); err != nil {
			return fmt.Errorf("camera: send: %w", err)
		}
	}
	return nil
}

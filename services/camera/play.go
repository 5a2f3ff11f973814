package camera

import (
	"cmp"
	"context"
	"fmt"
	"slices"
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
		footage *Footage
		next    int
		last    int64        // DTS of the picture before, of this loop
		due     = time.Now() // when the next picture is
		clock   float64      // the RTP clock then
		skip    = s.cfg.Footage.after(s.cfg.Skip)
	)
	for {
		pace, rate := s.pace()
		step := int64(0) // of the footage, from the picture before to the next one
		if f := s.playing(); footage != f || next == len(f.units) {
			if footage != nil && next == len(footage.units) {
				step = footage.length - last
			} else if footage != nil {
				step = footage.units[next].dts - last
			}
			footage, next = f, skip
			skip = 0
		} else {
			step = f.units[next].dts - last
		}
		u := footage.units[next]
		last = u.dts
		due, clock = due.Add(scaled(ticks(step), 1/pace)), clock+float64(step)/pace*rate
		wait := time.Until(due)
		if wait < -maxLag { // the process was suspended: the camera's clock ran on
			due, clock = due.Add(-wait), clock-float64(wait)*videoClock/float64(time.Second)*rate
		}
		timer.Reset(max(wait, 0))
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.fatal:
			return err
		case <-timer.C:
		}
		if err := s.send(pack, u, int64(clock+float64(u.pts-u.dts)/pace*rate)); err != nil {
			return err
		}
		next++
	}
}

// after is the index of the first key frame behind a time; 0 if there is none.
func (f *Footage) after(skip time.Duration) int {
	return max(0, slices.IndexFunc(f.units, func(u unit) bool { return u.key && ticks(u.dts) >= skip }))
}

func scaled(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

// pace is how fast footage plays, and how fast the RTP clock runs.
func (s *Server) pace() (pace, rate float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.faults.Pace, 1), cmp.Or(s.faults.ClockRate, 1)
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
	if u.key && !s.faults.Frozen || s.still.nalus == nil {
		s.still = u
	}
	switch {
	case s.faults.Frozen:
		u, s.thaw = s.still, true
	case s.thaw && !u.key: // what is predicted from pictures that nobody got
		return nil
	default:
		s.thaw = false
	}
	packets, err := pack(u.nalus)
	if err != nil {
		return fmt.Errorf("camera: packetize: %w", err)
	}
	s.sent.Units++
	now := time.Now().Add(s.faults.ClockOffset)
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

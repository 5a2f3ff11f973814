package camera

import (
	"fmt"
	"maps"
	"slices"

	"github.com/bluenviron/gortsplib/v4"
	"github.com/pion/rtp"
)

// Kill stops serving at once, as if the plug were pulled: every connection ends and the ports are closed. The
// footage goes on meanwhile.
func (s *Server) Kill() {
	s.mu.Lock()
	rtsp, stream := s.rtsp, s.stream
	s.rtsp, s.stream = nil, nil
	s.mu.Unlock()
	if rtsp == nil {
		return
	}
	rtsp.Close() // its handlers take s.mu
	stream.Close()
}

// Kick ends the sessions of everybody who looks, and goes on serving.
func (s *Server) Kick() {
	s.mu.Lock()
	sessions := slices.Collect(maps.Keys(s.players))
	s.mu.Unlock()
	for _, session := range sessions {
		session.Close()
	}
}

// Stall stops sending media while RTSP and RTCP stay alive, as a camera does whose encoder hangs.
func (s *Server) Stall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled = true
}

// Resume ends a Stall, at the next key frame.
func (s *Server) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stalled {
		s.stalled, s.waitKey = false, true
	}
}

// SetFaults replaces the faults.
func (s *Server) SetFaults(f Faults) error {
	if err := f.validate(); err != nil {
		return fmt.Errorf("camera: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f // a clock that is put right, or wrong, jumps with the next sender report
	return nil
}

// Switch goes on with other footage of the same codec, from its start, in the sessions that are open: a new
// resolution arrives with the parameter sets in the stream, while their SDP still tells the old ones.
func (s *Server) Switch(f *Footage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == nil || f.Codec != s.footage.Codec {
		return fmt.Errorf("camera: switch footage: want codec %s", s.footage.Codec)
	}
	s.footage = f
	return nil
}

// damage applies the faults to one packet; it returns nil for one that is dropped. s.mu is held.
func (s *Server) damage(pkt *rtp.Packet) *rtp.Packet {
	if s.faults.Drop > 0 && s.rng.Float64() < s.faults.Drop {
		s.sent.Dropped++
		return nil
	}
	if s.faults.Corrupt > 0 && len(pkt.Payload) > 0 && s.rng.Float64() < s.faults.Corrupt {
		s.sent.Corrupted++
		payload := append([]byte(nil), pkt.Payload...) // the footage is shared
		for range 1 + s.rng.IntN(4) {
			payload[s.rng.IntN(len(payload))] ^= 1 << s.rng.IntN(8)
		}
		pkt.Payload = payload
	}
	return pkt
}

// mute reports whether media stays inside. s.mu is held.
func (s *Server) mute() bool {
	if s.stream == nil || s.stalled {
		return true
	}
	if s.faults.BlockTCP {
		for _, transport := range s.players {
			if transport == gortsplib.TransportTCP {
				return true
			}
		}
	}
	return false
}

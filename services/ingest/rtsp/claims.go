package rtsp

import (
	"bytes"
	"strconv"
	"time"

	"github.com/bluenviron/gortsplib/v4/pkg/format"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
	"github.com/pion/rtcp"

	"github.com/sightline-dev/sightline/services/ingest"
)

// maxFPS is more than any camera sends: what announces more means something else.
const maxFPS = 240

// announcedFPS is how many pictures a second a description promises: its a=framerate line, or else the timing in its parameter
// sets; 0 if it does not say.
func announcedFPS(f format.Format, sdp []byte) float64 {
	fps := sdpFPS(sdp)
	if fps == 0 {
		fps = spsFPS(f)
	}
	if !(fps > 0 && fps <= maxFPS) {
		return 0
	}
	return fps
}

func sdpFPS(sdp []byte) float64 {
	for line := range bytes.Lines(sdp) {
		for _, key := range []string{"a=framerate:", "a=x-framerate:"} {
			if value, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte(key)); ok {
				fps, err := strconv.ParseFloat(string(bytes.TrimSpace(value)), 64)
				if err == nil {
					return fps
				}
			}
		}
	}
	return 0
}

// spsFPS reads bytes from outside: a panic of the parser is a description that does not say.
func spsFPS(f format.Format) (fps float64) {
	defer func() {
		if recover() != nil {
			fps = 0
		}
	}()
	switch f := f.(type) {
	case *format.H264:
		var sps h264.SPS
		if sps.Unmarshal(f.SPS) == nil && sps.VUI != nil && sps.VUI.TimingInfo != nil {
			return sps.FPS()
		}
	case *format.H265:
		var sps h265.SPS
		if sps.Unmarshal(f.SPS) == nil && sps.VUI != nil && sps.VUI.TimingInfo != nil {
			return sps.FPS()
		}
	}
	return 0
}

// ntpEpoch is 1900, from which NTP counts seconds, in Unix time.
const ntpEpoch = -2208988800

// onReport notes what the camera says its time of day is. One that does not know it says 0.
func (p *play) onReport(packet rtcp.Packet) {
	sr, ok := packet.(*rtcp.SenderReport)
	if !ok || sr.NTPTime == 0 {
		return
	}
	now := time.Now()
	whole, part := int64(sr.NTPTime>>32), int64(sr.NTPTime&0xFFFFFFFF)
	said := time.Unix(whole+ntpEpoch, part*int64(time.Second)>>32)
	p.count(func(s *ingest.SourceStats) { s.Report = ingest.SenderReport{NTP: said, Received: now} })
}

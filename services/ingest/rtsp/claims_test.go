package rtsp

import (
	"testing"
	"time"

	"github.com/bluenviron/gortsplib/v4/pkg/format"
	"github.com/pion/rtcp"

	"github.com/sightline-dev/sightline/services/ingest"
)

func TestAnnouncedFPS(t *testing.T) {
	t.Parallel()
	// x264's of a 320x240 clip with timing info: num_units_in_tick 1, time_scale 50.
	for _, c := range []struct {
		name, sdp string
		sps       []byte
		want      float64
	}{
		{"in the description", "v=0\r\nm=video 0 RTP/AVP 96\r\na=framerate:12.5\r\n", nil, 12.5},
		{"under another name", "a=x-framerate: 30\r\n", nil, 30},
		{"not at all", "v=0\r\nm=video 0 RTP/AVP 96\r\n", nil, 0},
		{"nonsense", "a=framerate:many\r\n", nil, 0},
		{"too many", "a=framerate:90000\r\n", nil, 0},
		{"negative", "a=framerate:-5\r\n", nil, 0},
		{"broken parameter sets", "", []byte{0x67, 0x42, 0xff}, 0},
	} {
		if got := announcedFPS(&format.H264{SPS: c.sps}, []byte(c.sdp)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := announcedFPS(&format.MJPEG{}, []byte("a=framerate:5\r\n")); got != 5 {
		t.Errorf("MJPEG: %v", got)
	}
}

func TestSenderReport(t *testing.T) {
	t.Parallel()
	var stats ingest.SourceStats
	p := &play{count: func(change func(*ingest.SourceStats)) { change(&stats) }}
	p.onReport(&rtcp.ReceiverReport{})
	p.onReport(&rtcp.SenderReport{}) // it does not know what time it is
	if !stats.Report.NTP.IsZero() {
		t.Fatalf("%+v", stats.Report)
	}
	at := time.Date(2026, 1, 31, 8, 0, 0, 500_000_000, time.UTC)
	p.onReport(&rtcp.SenderReport{NTPTime: uint64(at.Unix()-ntpEpoch)<<32 | 1<<31})
	if !stats.Report.NTP.Equal(at) || time.Since(stats.Report.Received) > time.Minute {
		t.Errorf("%+v, want %v", stats.Report, at)
	}
}

func FuzzAnnouncedFPS(f *testing.F) {
	f.Add([]byte("a=framerate:25\r\n"), []byte{0x67, 0x42, 0x00, 0x0a})
	f.Fuzz(func(t *testing.T, sdp, sps []byte) {
		for _, forma := range []format.Format{&format.H264{SPS: sps}, &format.H265{SPS: sps}} {
			if fps := announcedFPS(forma, sdp); !(fps >= 0 && fps <= maxFPS) {
				t.Errorf("%v", fps)
			}
		}
	})
}

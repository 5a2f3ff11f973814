package camera

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bluenviron/gortsplib/v4/pkg/format"
)

// maxFootage bounds what Load reads into memory, in bytes.
const maxFootage = 1 << 30

// videoClock is the RTP clock rate of every video payload we send, and that of MPEG-TS, in Hz.
const videoClock = 90000

// Footage is a clip that can be played in a loop. It is immutable.
type Footage struct {
	Codec  string        // "h264", "h265" or "mjpeg"
	Units  int           // coded pictures in the loop
	Length time.Duration // of the loop

	units  []unit
	length int64     // of the loop, in ticks of videoClock
	start  int64     // DTS of the first picture in the file
	params [3][]byte // VPS, SPS, PPS of the last key frame
}

// unit is one coded picture.
type unit struct {
	nalus    [][]byte // or one JPEG
	pts, dts int64    // ticks of videoClock since the start of the loop
	key      bool
}

// Load reads footage from a .ts file, a .jpg, .jpeg, .mjpg or .mjpeg file, or a folder of .jpg files in the order of
// their names. fps is the rate of JPEGs, which have no timestamps; MPEG-TS ignores it.
func Load(path string, fps float64) (*Footage, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("load footage: %w", err)
	}
	if info.Size() > maxFootage {
		return nil, fmt.Errorf("load footage %s: %d bytes, at most %d fit", path, info.Size(), maxFootage)
	}
	var f *Footage
	switch ext := strings.ToLower(filepath.Ext(path)); {
	case info.IsDir():
		f, err = loadFolder(path, fps)
	case ext == ".jpg" || ext == ".jpeg" || ext == ".mjpg" || ext == ".mjpeg":
		f, err = loadJPEGs(path, fps)
	case ext == ".ts":
		f, err = loadTS(path)
	default:
		err = fmt.Errorf("do not know %q: want .ts, .jpg, .mjpeg or a folder", ext)
	}
	if err != nil {
		return nil, fmt.Errorf("load footage %s: %w", path, err)
	}
	return f, nil
}

// CodedPicture is one picture of a footage.
type CodedPicture struct {
	Data []byte        // Annex B with parameter sets in key frames, or one JPEG
	PTS  time.Duration // since the start of the loop
	Key  bool
}

// Pictures returns the pictures of one loop in coding order, for those who want them without a server.
func (f *Footage) Pictures() iter.Seq[CodedPicture] {
	return func(yield func(CodedPicture) bool) {
		for _, u := range f.units {
			p := CodedPicture{Data: u.nalus[0], PTS: ticks(u.pts), Key: u.key}
			if f.Codec != "mjpeg" {
				p.Data = nil
				for _, n := range u.nalus {
					p.Data = append(append(p.Data, 0, 0, 0, 1), n...)
				}
			}
			if !yield(p) {
				return
			}
		}
	}
}

// finish closes the loop: the last picture lasts as long as the one before it.
func (f *Footage) finish() (*Footage, error) {
	if len(f.units) == 0 {
		return nil, errors.New("no pictures in it")
	}
	if !slices.ContainsFunc(f.units, func(u unit) bool { return u.key }) {
		return nil, errors.New("no key frame in it")
	}
	step := int64(videoClock / 25)
	if n := len(f.units); n > 1 {
		step = max(1, f.units[n-1].dts-f.units[n-2].dts)
	}
	f.length = f.units[len(f.units)-1].dts + step
	f.Units, f.Length = len(f.units), ticks(f.length)
	return f, nil
}

// format describes the footage for the SDP.
func (f *Footage) format() format.Format {
	switch f.Codec {
	case "h264":
		return &format.H264{PayloadTyp: 96, PacketizationMode: 1, SPS: f.params[1], PPS: f.params[2]}
	case "h265":
		return &format.H265{PayloadTyp: 96, VPS: f.params[0], SPS: f.params[1], PPS: f.params[2]}
	default:
		return &format.MJPEG{}
	}
}

// ticks converts from videoClock.
func ticks(n int64) time.Duration {
	return time.Duration(n/videoClock)*time.Second + time.Duration(n%videoClock)*time.Second/videoClock
}

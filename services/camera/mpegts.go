package camera

import (
	"bufio"
	"errors"
	"io"
	"os"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts"
)

// NAL unit types (ITU-T H.264 table 7-1, H.265 table 7-1).
const (
	h264IDR, h264SPS, h264PPS = 5, 7, 8
	h265BLA, h265CRA          = 16, 21
	h265VPS, h265PPS          = 32, 34
)

func loadTS(path string) (*Footage, error) {
	file, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	return readTS(bufio.NewReaderSize(file, 1<<16))
}

// readTS collects the first H.264 or H.265 track.
func readTS(r io.Reader) (*Footage, error) {
	reader := &mpegts.Reader{R: r}
	if err := reader.Initialize(); err != nil {
		return nil, err
	}
	f := &Footage{}
	clock := mpegts.TimeDecoder{}
	clock.Initialize()
	add := func(pts, dts int64, au [][]byte) error {
		f.add(clock.Decode(pts), clock.Decode(dts), au)
		return nil
	}
	for _, track := range reader.Tracks() {
		switch track.Codec.(type) {
		case *mpegts.CodecH264:
			f.Codec = "h264"
			reader.OnDataH264(track, add)
		case *mpegts.CodecH265:
			f.Codec = "h265"
			reader.OnDataH265(track, add)
		default:
			continue
		}
		break
	}
	if f.Codec == "" {
		return nil, errors.New("no H.264 or H.265 track in it")
	}
	for {
		err := reader.Read()
		if errors.Is(err, io.EOF) {
			return f.finish()
		}
		if err != nil {
			return nil, err
		}
	}
}

// add appends one access unit. Key frames get the parameter sets they lack, so that a viewer who was told others in
// the SDP (before a Switch) can decode them.
func (f *Footage) add(pts, dts int64, au [][]byte) {
	var own [3][]byte
	u := unit{pts: pts, dts: dts}
	for _, n := range au {
		if len(n) == 0 {
			continue
		}
		if kind := f.paramKind(n); kind >= 0 {
			own[kind] = n
			continue
		}
		u.key = u.key || f.isKey(n)
		u.nalus = append(u.nalus, n)
	}
	if len(u.nalus) == 0 || (len(f.units) == 0 && !u.key) {
		return // the loop starts with a key frame
	}
	if u.key {
		var params [][]byte
		for kind := range own {
			if own[kind] == nil {
				own[kind] = f.params[kind]
			}
			if own[kind] != nil {
				params = append(params, own[kind])
			}
		}
		f.params = own
		u.nalus = append(params, u.nalus...)
	}
	if len(f.units) == 0 {
		f.start = u.dts
	}
	u.pts, u.dts = u.pts-f.start, u.dts-f.start
	if n := len(f.units); n > 0 && u.dts <= f.units[n-1].dts {
		return // time went backwards: a spliced file
	}
	f.units = append(f.units, u)
}

func (f *Footage) paramKind(n []byte) int {
	if f.Codec == "h264" {
		switch n[0] & 0x1F {
		case h264SPS:
			return 1
		case h264PPS:
			return 2
		}
		return -1
	}
	if typ := int(n[0]>>1) & 0x3F; typ >= h265VPS && typ <= h265PPS {
		return typ - h265VPS
	}
	return -1
}

func (f *Footage) isKey(n []byte) bool {
	if f.Codec == "h264" {
		return n[0]&0x1F == h264IDR
	}
	typ := n[0] >> 1 & 0x3F
	return typ >= h265BLA && typ <= h265CRA
}

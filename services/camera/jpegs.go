package camera

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/bluenviron/gortsplib/v4/pkg/format/rtpmjpeg"
)

const (
	markSOI, markEOI, markSOS, markDHT = 0xD8, 0xD9, 0xDA, 0xC4
	markTEM, markRST0, markRST7        = 0x01, 0xD0, 0xD7
	markAPP0, markAPP15, markCOM       = 0xE0, 0xEF, 0xFE
)

var errTruncated = errors.New("JPEG is cut short")

func loadFolder(path string, fps float64) (*Footage, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var all []byte
	for _, e := range entries { // sorted by name
		if ext := strings.ToLower(filepath.Ext(e.Name())); e.IsDir() || ext != ".jpg" && ext != ".jpeg" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(path, e.Name())) //nolint:gosec // the operator names the folder
		if err != nil {
			return nil, err
		}
		if all = append(all, data...); len(all) > maxFootage {
			return nil, fmt.Errorf("more than %d bytes", maxFootage)
		}
	}
	return readJPEGs(all, fps)
}

func loadJPEGs(path string, fps float64) (*Footage, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	return readJPEGs(data, fps)
}

func readJPEGs(data []byte, fps float64) (*Footage, error) {
	if fps <= 0 || fps > 240 {
		return nil, fmt.Errorf("fps is %g, want more than 0 and at most 240", fps)
	}
	f := &Footage{Codec: "mjpeg"}
	for len(data) > 0 {
		picture, rest, err := nextJPEG(data)
		if err != nil {
			return nil, fmt.Errorf("picture %d: %w", len(f.units)+1, err)
		}
		if err := canSend(picture); err != nil {
			return nil, fmt.Errorf("picture %d: %w", len(f.units)+1, err)
		}
		ts := int64(float64(len(f.units)) * videoClock / fps)
		f.units = append(f.units, unit{nalus: [][]byte{picture}, pts: ts, dts: ts, key: true})
		data = rest
	}
	f, err := f.finish()
	if err == nil && f.Units == 1 {
		f.length = int64(videoClock / fps)
		f.Length = ticks(f.length)
	}
	return f, err
}

// nextJPEG cuts one JPEG off data, and leaves out its comments and application segments, which RTP cannot carry.
func nextJPEG(data []byte) (picture, rest []byte, err error) {
	if len(data) < 2 || data[0] != 0xFF || data[1] != markSOI {
		return nil, nil, errors.New("not a JPEG: no start of image")
	}
	picture = append(picture, data[:2]...)
	for i := 2; i+4 <= len(data); {
		if data[i] != 0xFF {
			return nil, nil, fmt.Errorf("not a JPEG: no marker at byte %d", i)
		}
		mark := data[i+1]
		if mark == 0xFF { // a fill byte
			i++
			continue
		}
		end := i + 2 + int(data[i+2])<<8 + int(data[i+3])
		if end > len(data) || end < i+4 {
			return nil, nil, errTruncated
		}
		segment := data[i:end]
		switch {
		case mark >= markAPP0 && mark <= markAPP15, mark == markCOM:
		case mark == markDHT && !hasStandardTables(segment[4:]):
			return nil, nil, errors.New("its Huffman tables are optimised, and RTP carries none: " +
				"encode it anew (ffmpeg -huffman default)")
		default:
			picture = append(picture, segment...)
		}
		i = end
		if mark == markSOS {
			n, err := entropyCoded(data[i:])
			if err != nil {
				return nil, nil, err
			}
			return append(picture, data[i:i+n]...), data[i+n:], nil
		}
	}
	return nil, nil, errTruncated
}

// entropyCoded returns the length of the data behind a start of scan, with the end of image.
func entropyCoded(data []byte) (int, error) {
	for i := 0; i+1 < len(data); i++ {
		if data[i] != 0xFF {
			continue
		}
		switch mark := data[i+1]; {
		case mark == markEOI:
			return i + 2, nil
		case mark == 0, mark == markTEM, mark >= markRST0 && mark <= markRST7, mark == 0xFF:
		default:
			return 0, errors.New("progressive JPEG, and RTP carries only baseline: encode it anew")
		}
	}
	return 0, errTruncated
}

// canSend tries the packetizer, which knows RTP's limits on size and sampling. It chews on bytes from outside.
func canSend(picture []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cannot be sent over RTP: %v", r)
		}
	}()
	e := &rtpmjpeg.Encoder{}
	if err := e.Init(); err != nil {
		return err
	}
	_, err = e.Encode(picture)
	return err
}

// standardTables returns the Huffman tables of ITU-T T.81 annex K, each as it stands in a DHT segment, taken from
// what the standard library writes.
var standardTables = sync.OnceValue(func() [][]byte {
	var b bytes.Buffer
	img := image.NewYCbCr(image.Rect(0, 0, 16, 16), image.YCbCrSubsampleRatio420)
	if err := jpeg.Encode(&b, img, nil); err != nil {
		return nil
	}
	var tables [][]byte
	for data := b.Bytes()[2:]; len(data) > 4 && data[1] != markSOS; {
		end := 2 + int(data[2])<<8 + int(data[3])
		if data[1] == markDHT {
			tables = append(tables, splitDHT(data[4:end])...)
		}
		data = data[end:]
	}
	return tables
})

// splitDHT cuts the body of a DHT segment into its tables; it returns nil when it is malformed.
func splitDHT(body []byte) [][]byte {
	var tables [][]byte
	for len(body) > 0 {
		if len(body) < 17 {
			return nil
		}
		n := 17
		for _, codes := range body[1:17] {
			n += int(codes)
		}
		if n > len(body) {
			return nil
		}
		tables = append(tables, body[:n])
		body = body[n:]
	}
	return tables
}

func hasStandardTables(body []byte) bool {
	tables := splitDHT(body)
	if tables == nil {
		return false
	}
	for _, t := range tables {
		if !slices.ContainsFunc(standardTables(), func(s []byte) bool { return bytes.Equal(s, t) }) {
			return false
		}
	}
	return true
}

// Package picture looks at an encoded picture before anybody decodes it: is it a whole JPEG or PNG, and how large does
// it claim to be?
//
// # Guarantees
//
// [Check] reads headers and walks over the structure; it never allocates and never decodes. What it refuses must not
// reach a decoder: anything that is neither a JPEG nor a PNG, a picture of more than [MaxSide] pixels a side or
// [MaxPixels] altogether, and one whose end is missing. (libjpeg fills the missing part with grey and calls it a
// success; a model would then look at grey.) What it accepts may still be damaged inside.
package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// The largest picture that is accepted.
const (
	MaxSide   = 16384
	MaxPixels = 64 << 20
)

// maxScans bounds what a progressive JPEG may cost: encoders write about ten scans, each a pass over all pixels.
const maxScans = 64

// maxPixelsPerByte is more than Huffman coding can do: every block of 8x8 pixels takes a bit. It makes a few bytes that
// claim to be millions of pixels what they are.
const maxPixelsPerByte = 512

// What is wrong with a picture; errors of Check wrap one of them.
var (
	ErrFormat    = errors.New("neither a JPEG nor a PNG")
	ErrTruncated = errors.New("truncated")
	ErrSize      = errors.New("size out of bounds")
	ErrDamaged   = errors.New("damaged")
)

// Check returns the size in pixels that a picture declares, or why it must not be decoded.
func Check(data []byte) (width, height int, err error) {
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xd8\xff")):
		width, height, err = checkJPEG(data)
		if err != nil {
			err = fmt.Errorf("jpeg of %d bytes: %w", len(data), err)
		}
	case bytes.HasPrefix(data, []byte(pngSignature)):
		width, height, err = checkPNG(data)
		if err != nil {
			err = fmt.Errorf("png of %d bytes: %w", len(data), err)
		}
	default:
		return 0, 0, fmt.Errorf("picture of %d bytes: %w", len(data), ErrFormat)
	}
	return width, height, err
}

func checkSize(width, height int) error {
	if width < 1 || height < 1 || width > MaxSide || height > MaxSide || width*height > MaxPixels {
		return fmt.Errorf("%dx%d: %w", width, height, ErrSize)
	}
	return nil
}

const (
	pngSignature = "\x89PNG\r\n\x1a\n"
	pngChunkRest = 12 // length, type and checksum around a chunk's data
	pngIHDR      = 13
)

// checkPNG walks over the chunks from IHDR to IEND. Checksums are the decoder's business.
func checkPNG(data []byte) (width, height int, err error) {
	rest := data[len(pngSignature):]
	for first := true; ; first = false {
		if len(rest) < pngChunkRest {
			return 0, 0, ErrTruncated
		}
		n, kind := binary.BigEndian.Uint32(rest), string(rest[4:8])
		if int64(n) > int64(len(rest)-pngChunkRest) {
			return 0, 0, ErrTruncated
		}
		switch {
		case first != (kind == "IHDR"), first && n != pngIHDR:
			return 0, 0, fmt.Errorf("chunk %q of %d bytes: %w", kind, n, ErrDamaged)
		case first:
			w, h := binary.BigEndian.Uint32(rest[8:]), binary.BigEndian.Uint32(rest[12:])
			width, height = int(min(w, MaxSide+1)), int(min(h, MaxSide+1))
			if err := checkSize(width, height); err != nil {
				return 0, 0, err
			}
		case kind == "IEND":
			return width, height, nil
		}
		rest = rest[pngChunkRest+n:]
	}
}

// The JPEG markers that matter here.
const (
	markerTEM  = 0x01
	markerSOF0 = 0xc0
	markerDHT  = 0xc4
	markerJPG  = 0xc8
	markerDAC  = 0xcc
	markerSOFf = 0xcf
	markerRST0 = 0xd0
	markerSOI  = 0xd8
	markerEOI  = 0xd9
	markerSOS  = 0xda
)

// checkJPEG walks over the segments to the end-of-image marker.
func checkJPEG(data []byte) (width, height int, err error) {
	rest, scans := data[2:], 0
	for {
		var marker byte
		var segment []byte
		if marker, segment, rest, err = nextSegment(rest); err != nil {
			return 0, 0, err
		}
		switch {
		case marker == markerEOI && scans > 0 && width*height > len(data)*maxPixelsPerByte:
			return 0, 0, fmt.Errorf("%dx%d: too little data: %w", width, height, ErrTruncated)
		case marker == markerEOI && scans > 0:
			return width, height, nil
		case marker == markerEOI:
			return 0, 0, fmt.Errorf("no picture before its end: %w", ErrDamaged)
		case marker == markerSOS:
			if scans++; width == 0 || scans > maxScans {
				return 0, 0, fmt.Errorf("scan %d: %w", scans, ErrDamaged)
			}
			rest = skipEntropy(rest)
		case isFrame(marker):
			if width != 0 {
				return 0, 0, fmt.Errorf("second frame header: %w", ErrDamaged)
			}
			if width, height, err = frameSize(segment); err != nil {
				return 0, 0, err
			}
		}
	}
}

// nextSegment reads one marker and, where it has one, its segment.
func nextSegment(rest []byte) (marker byte, segment, after []byte, err error) {
	if len(rest) < 2 {
		return 0, nil, nil, ErrTruncated
	}
	if rest[0] != 0xff {
		return 0, nil, nil, fmt.Errorf("%#02x where a marker should be: %w", rest[0], ErrDamaged)
	}
	for len(rest) > 1 && rest[1] == 0xff { // fill bytes
		rest = rest[1:]
	}
	if len(rest) < 2 {
		return 0, nil, nil, ErrTruncated
	}
	marker, rest = rest[1], rest[2:]
	switch {
	case marker == markerEOI:
		return marker, nil, rest, nil
	case marker <= markerTEM, marker >= markerRST0 && marker <= markerSOI:
		return 0, nil, nil, fmt.Errorf("marker %#02x between segments: %w", marker, ErrDamaged)
	case len(rest) < 2:
		return 0, nil, nil, ErrTruncated
	}
	n := int(binary.BigEndian.Uint16(rest))
	if n < 2 {
		return 0, nil, nil, fmt.Errorf("segment %#02x of %d bytes: %w", marker, n, ErrDamaged)
	}
	if n > len(rest) {
		return 0, nil, nil, ErrTruncated
	}
	return marker, rest[2:n], rest[n:], nil
}

func isFrame(marker byte) bool {
	return marker >= markerSOF0 && marker <= markerSOFf && marker != markerDHT && marker != markerJPG && marker != markerDAC
}

func frameSize(segment []byte) (width, height int, err error) {
	if len(segment) < 6 {
		return 0, 0, fmt.Errorf("frame header of %d bytes: %w", len(segment), ErrDamaged)
	}
	height, width = int(binary.BigEndian.Uint16(segment[1:])), int(binary.BigEndian.Uint16(segment[3:]))
	if bits := segment[0]; bits != 8 {
		return 0, 0, fmt.Errorf("%d bits a sample: %w", bits, ErrFormat)
	}
	return width, height, checkSize(width, height)
}

// skipEntropy returns what follows a scan's coded data: from the first marker that is neither a stuffed zero nor a
// restart. Nothing follows a scan that has no end.
func skipEntropy(rest []byte) []byte {
	for {
		at := bytes.IndexByte(rest, 0xff)
		if at < 0 || at+1 >= len(rest) {
			return nil
		}
		if m := rest[at+1]; m != 0 && m != 0xff && (m < markerRST0 || m >= markerSOI) {
			return rest[at:]
		}
		if rest[at+1] == 0xff {
			at-- // the second 0xff may be the marker's
		}
		rest = rest[at+2:]
	}
}

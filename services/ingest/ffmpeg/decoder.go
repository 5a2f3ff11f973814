// Package ffmpeg decodes H.264, H.265 and MJPEG with libavcodec, scales with libswscale and writes JPEG with TurboJPEG.
//
// It is the only cgo of ingest, and it holds no policy: when to decode, skip, resync or reconnect is package ingest's
// business. It wants libavcodec, libavutil, libswscale (FFmpeg 5.1) and libturbojpeg.
//
// # Guarantees
//
// A picture comes out of the Decode call that took its access unit, unless the stream has B-frames: one thread per
// decoder, no frame threads. A damaged access unit costs an error or a damaged picture, never the decoder. Nothing is
// printed: FFmpeg's last complaint is part of the error. No call keeps a pointer to Go memory.
//
// # Colour
//
// The picture's own matrix and range are honoured; an untagged stream is taken for BT.601 limited range, as FFmpeg and
// OpenCV do. JPEG is JFIF's full-range BT.601, made from the planes without a detour through RGB.
//
// # Concurrency
//
// A Decoder and its pictures belong to one goroutine at a time. Any number of decoders may run side by side.
package ffmpeg

/*
#cgo pkg-config: libavcodec libavutil libswscale libturbojpeg
#cgo CFLAGS: -O2 -Wall
#include <turbojpeg.h>
#include "decoder.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/sightline-dev/sightline/services/ingest"
)

var _ ingest.Decoder = (*Decoder)(nil)

var errClosed = errors.New("decoder is closed")

// unitsInFlight bounds how many access units a decoder may hold back (16 reference frames, and as many again).
const unitsInFlight = 32

var silence = sync.OnceFunc(func() { C.sl_log_init() })

// A Decoder decodes one stream. Make it with [New] and free it with Close.
type Decoder struct {
	c     *C.sl_decoder
	codec ingest.Codec
	next  int64                 // id of the next access unit
	units [unitsInFlight]origin // by id modulo unitsInFlight
	pic   picture

	out C.sl_picture // results of C calls: as local variables they would be allocated anew each time
	len C.ulong
}

// origin is what a picture inherits from its access unit.
type origin struct {
	pts      time.Duration
	received time.Time
}

// New makes a decoder for codec. From the first one on, FFmpeg's log goes nowhere in this process.
func New(codec ingest.Codec) (*Decoder, error) {
	silence()
	var id C.int
	switch codec {
	case ingest.H264:
		id = C.SL_H264
	case ingest.H265:
		id = C.SL_H265
	case ingest.MJPEG:
		id = C.SL_MJPEG
	default:
		return nil, ingest.WithCause(ingest.CauseCodec, fmt.Errorf("open decoder: unknown codec %q", codec))
	}
	d := &Decoder{c: C.sl_open(id), codec: codec}
	if d.c == nil {
		return nil, ingest.WithCause(ingest.CauseCodec, fmt.Errorf("open decoder: this libavcodec has no %s", codec))
	}
	d.pic.d = d
	return d, nil
}

// Decode implements [ingest.Decoder].
func (d *Decoder) Decode(au ingest.AccessUnit) (ingest.Picture, error) {
	d.pic.width, d.pic.height = 0, 0
	if d.c == nil {
		return nil, errClosed
	}
	if len(au.Data) == 0 {
		return nil, fmt.Errorf("decode %s: empty access unit", d.codec)
	}
	if au.Codec != d.codec {
		return nil, fmt.Errorf("decode %s: access unit is %s", d.codec, au.Codec)
	}
	id := d.next
	d.next++
	d.units[id%unitsInFlight] = origin{pts: au.PTS, received: au.Received}

	switch rc := C.sl_decode(d.c, bytePtr(au.Data), C.int(len(au.Data)), C.int64_t(id), &d.out); rc {
	case C.SL_NOTHING:
		return nil, nil //nolint:nilnil // ingest.Decoder: no picture yet
	case C.SL_PICTURE:
		from := d.units[id%unitsInFlight]
		if pts := int64(d.out.pts); pts >= 0 && pts <= id && id-pts < unitsInFlight {
			from = d.units[pts%unitsInFlight]
		}
		d.pic.origin = from
		d.pic.width, d.pic.height, d.pic.damaged = int(d.out.width), int(d.out.height), d.out.damaged != 0
		return &d.pic, nil
	default:
		return nil, d.fail("decode", rc)
	}
}

// Close implements [ingest.Decoder].
func (d *Decoder) Close() {
	C.sl_close(d.c)
	d.c, d.pic.width, d.pic.height = nil, 0, 0
}

func (d *Decoder) fail(op string, rc C.int) error {
	var text [256]C.char
	C.sl_error(rc, &text[0], C.int(len(text)))
	return fmt.Errorf("%s %s: %s", op, d.codec, C.GoString(&text[0]))
}

// picture is the decoder's last picture; there is one per decoder, so handing it out allocates nothing.
type picture struct {
	origin
	d             *Decoder
	width, height int // 0 when there is none
	damaged       bool
}

func (p *picture) Size() (width, height int) { return p.width, p.height }
func (p *picture) PTS() time.Duration        { return p.pts }
func (p *picture) Received() time.Time       { return p.received }
func (p *picture) Damaged() bool             { return p.damaged }

// maxSide is the longest side that JPEG knows.
const maxSide = 65500

func (p *picture) check(w, h int) error {
	if p.width == 0 {
		return errors.New("picture is no longer valid")
	}
	if w < 1 || h < 1 || w > maxSide || h > maxSide {
		return fmt.Errorf("scale to %dx%d: sides must be 1 to %d", w, h, maxSide)
	}
	return nil
}

// RGB implements [ingest.Picture].
func (p *picture) RGB(dst []byte, w, h int) error {
	if err := p.check(w, h); err != nil {
		return err
	}
	if len(dst) < w*h*3 {
		return fmt.Errorf("scale to %dx%d: buffer has %d bytes, want %d", w, h, len(dst), w*h*3)
	}
	if rc := C.sl_rgb(p.d.c, bytePtr(dst), C.int(w), C.int(h)); rc < 0 {
		return p.d.fail("scale", rc)
	}
	return nil
}

// JPEG implements [ingest.Picture].
func (p *picture) JPEG(dst []byte, w, h, quality int) ([]byte, error) {
	if err := p.check(w, h); err != nil {
		return dst, err
	}
	if quality < 1 || quality > 100 {
		return dst, fmt.Errorf("encode JPEG: quality is %d, want 1 to 100", quality)
	}
	p.d.len = C.tjBufSize(C.int(w), C.int(h), C.TJSAMP_420)
	n, room := len(dst), int(p.d.len)
	dst = slices.Grow(dst, room)
	if rc := C.sl_jpeg(p.d.c, bytePtr(dst[n:n+room]), &p.d.len, C.int(w), C.int(h), C.int(quality)); rc < 0 {
		return dst[:n], p.d.fail("encode JPEG of", rc)
	}
	return dst[:n+int(p.d.len)], nil
}

// Luma implements [ingest.Picture].
func (p *picture) Luma(dst []uint16, w, h int) error {
	if err := p.check(w, h); err != nil {
		return err
	}
	if len(dst) < w*h {
		return fmt.Errorf("luma of %dx%d cells: room for %d", w, h, len(dst))
	}
	if rc := C.sl_luma(p.d.c, (*C.uint16_t)(unsafe.SliceData(dst)), C.int(w), C.int(h)); rc < 0 {
		return p.d.fail("measure", rc)
	}
	return nil
}

func bytePtr(b []byte) *C.uint8_t { return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(b))) }

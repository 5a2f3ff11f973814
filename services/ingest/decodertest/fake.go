package decodertest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"time"

	"github.com/sightline-dev/sightline/services/ingest"
)

var _ ingest.Decoder = (*Fake)(nil)

// fakeHeader is what a fake access unit consists of: magic, key, width, height, number.
const fakeHeader = 4 + 1 + 2 + 2 + 4

var fakeMagic = []byte("FAKE")

// FakeUnit makes an access unit that a [Fake] decodes into a w x h picture of one grey, which is n modulo 256. A unit
// that is not a key frame needs unit n-1 before it. Its PTS is n times 40 ms.
func FakeUnit(codec ingest.Codec, n uint32, key bool, w, h uint16) ingest.AccessUnit {
	data := append([]byte(nil), fakeMagic...)
	data = append(data, 0)
	if key {
		data[4] = 1
	}
	data = binary.BigEndian.AppendUint16(data, w)
	data = binary.BigEndian.AppendUint16(data, h)
	data = binary.BigEndian.AppendUint32(data, n)
	return ingest.AccessUnit{
		Codec: codec, Data: data, PTS: time.Duration(n) * 40 * time.Millisecond, Received: time.Now(), Key: key,
	}
}

// Fake is a deterministic decoder of [FakeUnit] units, without cgo. Its methods may be called like those of any
// [ingest.Decoder]; FailNext and DamageNext from the same goroutine.
type Fake struct {
	codec   ingest.Codec
	closed  bool
	synced  bool
	last    uint32
	pic     fakePicture
	fail    int
	damage  int
	Decoded int // calls of Decode that showed a picture
}

// NewFake makes a fake decoder.
func NewFake(codec ingest.Codec) (*Fake, error) {
	switch codec {
	case ingest.H264, ingest.H265, ingest.MJPEG:
		return &Fake{codec: codec}, nil
	default:
		return nil, ingest.WithCause(ingest.CauseCodec, fmt.Errorf("open decoder: unknown codec %q", codec))
	}
}

// FailNext lets the next n calls of Decode fail.
func (f *Fake) FailNext(n int) { f.fail = n }

// DamageNext lets the next n pictures be damaged.
func (f *Fake) DamageNext(n int) { f.damage = n }

// Decode implements [ingest.Decoder].
func (f *Fake) Decode(au ingest.AccessUnit) (ingest.Picture, error) {
	f.pic = fakePicture{}
	switch {
	case f.closed:
		return nil, errors.New("decoder is closed")
	case au.Codec != f.codec:
		return nil, fmt.Errorf("decode %s: access unit is %s", f.codec, au.Codec)
	case f.fail > 0:
		f.fail--
		f.synced = false
		return nil, errors.New("decode: injected")
	case len(au.Data) != fakeHeader || !bytes.HasPrefix(au.Data, fakeMagic):
		return nil, errors.New("decode: invalid data")
	}
	key := au.Data[4] == 1
	n := binary.BigEndian.Uint32(au.Data[9:])
	if !key && (!f.synced || n != f.last+1) {
		f.synced = false
		return nil, nil //nolint:nilnil // ingest.Decoder: nothing to show
	}
	f.synced, f.last = true, n
	f.pic = fakePicture{
		grey: byte(n & 0xFF), w: int(binary.BigEndian.Uint16(au.Data[5:])), h: int(binary.BigEndian.Uint16(au.Data[7:])),
		pts: au.PTS, received: au.Received, damaged: f.damage > 0,
	}
	f.damage = max(0, f.damage-1)
	f.Decoded++
	return &f.pic, nil
}

// Close implements [ingest.Decoder].
func (f *Fake) Close() { f.closed, f.pic = true, fakePicture{} }

type fakePicture struct {
	grey     byte
	w, h     int // 0 when there is none
	pts      time.Duration
	received time.Time
	damaged  bool
}

func (p *fakePicture) Size() (width, height int) { return p.w, p.h }
func (p *fakePicture) PTS() time.Duration        { return p.pts }
func (p *fakePicture) Received() time.Time       { return p.received }
func (p *fakePicture) Damaged() bool             { return p.damaged }

func (p *fakePicture) check(w, h int) error {
	if p.w == 0 || w < 1 || h < 1 {
		return errors.New("no picture, or no size")
	}
	return nil
}

func (p *fakePicture) RGB(dst []byte, w, h int) error {
	if err := p.check(w, h); err != nil {
		return err
	}
	if len(dst) < w*h*3 {
		return fmt.Errorf("buffer has %d bytes, want %d", len(dst), w*h*3)
	}
	for i := range dst[:w*h*3] {
		dst[i] = p.grey
	}
	return nil
}

func (p *fakePicture) Luma(dst []uint16, w, h int) error {
	if err := p.check(w, h); err != nil {
		return err
	}
	if w > p.w || h > p.h || len(dst) < w*h {
		return fmt.Errorf("%dx%d cells of %dx%d pixels, room for %d", w, h, p.w, p.h, len(dst))
	}
	for i := range dst[:w*h] {
		dst[i] = uint16(p.grey) << 8
	}
	return nil
}

func (p *fakePicture) JPEG(dst []byte, w, h, quality int) ([]byte, error) {
	if err := p.check(w, h); err != nil {
		return dst, err
	}
	if quality < 1 || quality > 100 {
		return dst, fmt.Errorf("quality is %d", quality)
	}
	img := image.NewGray(image.Rect(0, 0, w, h))
	for i := range img.Pix {
		img.Pix[i] = color.Gray{Y: p.grey}.Y
	}
	out := bytes.NewBuffer(dst)
	err := jpeg.Encode(out, img, &jpeg.Options{Quality: quality})
	return out.Bytes(), err
}

package picture_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/services/preprocess/picture"
)

func noise(w, h int) *image.NRGBA {
	r := rand.New(rand.NewPCG(1, 2))
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range img.Pix {
		img.Pix[i] = byte(r.Uint32())
	}
	return img
}

func encoded(tb testing.TB, w, h int) (jpg, pngs []byte) {
	tb.Helper()
	var j, p bytes.Buffer
	if err := errors.Join(jpeg.Encode(&j, noise(w, h), nil), png.Encode(&p, noise(w, h))); err != nil {
		tb.Fatal(err)
	}
	return j.Bytes(), p.Bytes()
}

func TestCheckAcceptsWholePictures(t *testing.T) {
	for _, size := range []image.Point{{1, 1}, {17, 9}, {320, 240}} {
		jpg, pngs := encoded(t, size.X, size.Y)
		for name, data := range map[string][]byte{
			"jpeg": jpg, "png": pngs, "jpeg with padding behind": append(bytes.Clone(jpg), make([]byte, 64)...),
			"jpeg with fill bytes": append([]byte{0xff, 0xd8, 0xff, 0xff}, jpg[2:]...),
		} {
			w, h, err := picture.Check(data)
			if err != nil || w != size.X || h != size.Y {
				t.Errorf("%s of %v: %dx%d, %v", name, size, w, h, err)
			}
		}
	}
}

// TestCheckFindsEveryTruncation cuts at every byte: only the whole picture passes.
func TestCheckFindsEveryTruncation(t *testing.T) {
	jpg, pngs := encoded(t, 40, 30)
	for name, data := range map[string][]byte{"jpeg": jpg, "png": pngs} {
		for n := range data {
			if _, _, err := picture.Check(data[:n]); err == nil {
				t.Fatalf("%s cut to %d of %d bytes passes", name, n, len(data))
			}
		}
	}
}

func TestCheckErrors(t *testing.T) {
	jpg, pngs := encoded(t, 40, 30)
	frame := bytes.Index(jpg, []byte{0xff, 0xc0})
	scan := bytes.Index(jpg, []byte{0xff, 0xda})
	jpegOf := func(w, h uint16) []byte {
		out := bytes.Clone(jpg)
		binary.BigEndian.PutUint16(out[frame+5:], h)
		binary.BigEndian.PutUint16(out[frame+7:], w)
		return out
	}
	pngOf := func(w, h uint32) []byte {
		out := bytes.Clone(pngs)
		binary.BigEndian.PutUint32(out[16:], w)
		binary.BigEndian.PutUint32(out[20:], h)
		return out
	}
	deep := bytes.Clone(jpg)
	deep[frame+4] = 12
	twice := append(append(bytes.Clone(jpg[:scan]), jpg[frame:scan]...), jpg[scan:]...)
	scans := bytes.Clone(jpg[:len(jpg)-2])
	for range 100 {
		scans = append(scans, 0xff, 0xda, 0, 2, 1, 2, 3)
	}
	for _, c := range []struct {
		name string
		data []byte
		want error
		text string
	}{
		{"nothing", nil, picture.ErrFormat, "picture of 0 bytes: neither a JPEG nor a PNG"},
		{"one byte", []byte{0xff}, picture.ErrFormat, "picture of 1 bytes: neither a JPEG nor a PNG"},
		{"gif", []byte("GIF89a..."), picture.ErrFormat, "picture of 9 bytes: neither a JPEG nor a PNG"},
		{"wide jpeg", jpegOf(16385, 1), picture.ErrSize, "16385x1: size out of bounds"},
		{"large jpeg", jpegOf(16384, 4097), picture.ErrSize, "16384x4097: size out of bounds"},
		{"jpeg of much less data", jpegOf(8192, 8192), picture.ErrTruncated, "8192x8192: too little data: truncated"},
		{"jpeg without height", jpegOf(40, 0), picture.ErrSize, "40x0: size out of bounds"},
		{"wide png", pngOf(1<<31, 1), picture.ErrSize, "16385x1: size out of bounds"},
		{"empty png", pngOf(0, 1), picture.ErrSize, "0x1: size out of bounds"},
		{"12-bit jpeg", deep, picture.ErrFormat, "12 bits a sample: neither a JPEG nor a PNG"},
		{"two frame headers", twice, picture.ErrDamaged, "second frame header: damaged"},
		{"a hundred scans", scans, picture.ErrDamaged, "scan 65: damaged"},
		{"no picture", []byte{0xff, 0xd8, 0xff, 0xd9}, picture.ErrDamaged, "jpeg of 4 bytes: no picture before its end: damaged"},
		{"garbage between segments", append(bytes.Clone(jpg[:frame]), append([]byte{0}, jpg[frame:]...)...), picture.ErrDamaged, "0x00 where a marker should be: damaged"},
		{"png without a header", append(bytes.Clone(pngs[:8]), pngs[33:]...), picture.ErrDamaged, `chunk "IDAT" of 4846 bytes: damaged`},
	} {
		_, _, err := picture.Check(c.data)
		if !errors.Is(err, c.want) || !strings.HasSuffix(err.Error(), c.text) {
			t.Errorf("%s: %v, want %s", c.name, err, c.text)
		}
	}
}

func FuzzCheck(f *testing.F) {
	jpg, pngs := encoded(f, 9, 7)
	f.Add(jpg)
	f.Add(pngs)
	f.Add(jpg[:len(jpg)-3])
	f.Fuzz(func(t *testing.T, data []byte) {
		w, h, err := picture.Check(data)
		if err == nil && (w < 1 || h < 1 || w > picture.MaxSide || h > picture.MaxSide || w*h > picture.MaxPixels) {
			t.Errorf("accepted %dx%d", w, h)
		}
		if c, _, decodeErr := image.DecodeConfig(bytes.NewReader(data)); err == nil && decodeErr == nil && (c.Width != w || c.Height != h) {
			t.Errorf("says %dx%d, image/* says %dx%d", w, h, c.Width, c.Height)
		}
	})
}

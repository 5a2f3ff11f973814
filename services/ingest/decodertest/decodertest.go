// Package decodertest is what every [ingest.Decoder] must pass, and a deterministic fake that does.
package decodertest

import (
	"bytes"
	"errors"
	"image/jpeg"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/services/ingest"
)

// Stream is a coded stream for the suite: at least three groups of pictures of one size, without B-frames, that begins
// with a key frame. PTS must grow and Received must be set.
type Stream struct {
	Units         []ingest.AccessUnit
	Width, Height int
}

// Suite says what to test.
type Suite struct {
	Codec ingest.Codec
	New   func(ingest.Codec) (ingest.Decoder, error)
	Small Stream // any size
	Large Stream // another size
}

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, Suite)
	}{
		{"every unit shows its picture at once", everyUnit},
		{"starts at a key frame", startsAtKey},
		{"survives garbage", survivesGarbage},
		{"follows a change of size", changesSize},
		{"refuses what it cannot do", refuses},
		{"scales into JPEG", scalesJPEG},
		{"scales into RGB", scalesRGB},
		{"measures luma", measuresLuma},
		{"is deterministic", deterministic},
		{"ends with Close", closes},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s) })
	}
}

func open(t *testing.T, s Suite) ingest.Decoder {
	t.Helper()
	d, err := s.New(s.Codec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// decode returns the picture of a unit that must have one.
func decode(t *testing.T, d ingest.Decoder, au ingest.AccessUnit) ingest.Picture {
	t.Helper()
	pic, err := d.Decode(au)
	if err != nil {
		t.Fatal(err)
	}
	if pic == nil {
		t.Fatal("no picture")
	}
	return pic
}

func everyUnit(t *testing.T, s Suite) {
	t.Helper()
	d := open(t, s)
	for i, au := range s.Small.Units {
		pic := decode(t, d, au)
		if w, h := pic.Size(); w != s.Small.Width || h != s.Small.Height {
			t.Fatalf("picture %d is %dx%d, want %dx%d", i, w, h, s.Small.Width, s.Small.Height)
		}
		if pic.PTS() != au.PTS || !pic.Received().Equal(au.Received) || pic.Damaged() {
			t.Fatalf("picture %d: PTS %s, received %s, damaged %t; want %s, %s, false",
				i, pic.PTS(), pic.Received(), pic.Damaged(), au.PTS, au.Received)
		}
	}
}

func startsAtKey(t *testing.T, s Suite) {
	t.Helper()
	if s.Codec == ingest.MJPEG {
		return // every unit is one
	}
	d := open(t, s)
	for _, au := range s.Small.Units[1:] {
		if !au.Key {
			if pic, _ := d.Decode(au); pic != nil && !pic.Damaged() { // an error is fine too
				t.Fatal("a good picture without a key frame")
			}
			continue
		}
		decode(t, d, au)
		return
	}
	t.Fatal("the stream has one key frame only")
}

func survivesGarbage(t *testing.T, s Suite) {
	t.Helper()
	d := open(t, s)
	decode(t, d, s.Small.Units[0])
	bad := s.Small.Units[1]
	bad.Data = bytes.Repeat([]byte{0xA5, 0x00, 0x5A}, 300)
	pic, err := d.Decode(bad)
	if err == nil && pic != nil && !pic.Damaged() {
		t.Error("garbage became a good picture")
	}
	for _, au := range s.Small.Units[2:] {
		if au.Key {
			decode(t, d, au)
			return
		}
	}
}

func changesSize(t *testing.T, s Suite) {
	t.Helper()
	d := open(t, s)
	for round, stream := range []Stream{s.Small, s.Large, s.Small} {
		for i := range 3 {
			au := stream.Units[i]
			au.PTS += time.Duration(round) * time.Hour
			pic := decode(t, d, au)
			if w, h := pic.Size(); w != stream.Width || h != stream.Height {
				t.Fatalf("round %d: %dx%d, want %dx%d", round, w, h, stream.Width, stream.Height)
			}
			if err := pic.RGB(make([]byte, 64*48*3), 64, 48); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func refuses(t *testing.T, s Suite) {
	t.Helper()
	if _, err := s.New("av1"); ingest.CauseOf(err) != ingest.CauseCodec {
		t.Errorf("unknown codec: error is %v, want cause codec", err)
	}
	d := open(t, s)
	au := s.Small.Units[0]
	if _, err := d.Decode(ingest.AccessUnit{Codec: s.Codec}); err == nil {
		t.Error("took an empty access unit")
	}
	other := au
	other.Codec = "other"
	if _, err := d.Decode(other); err == nil {
		t.Error("took an access unit of another codec")
	}
	pic := decode(t, d, au)
	for _, size := range [][2]int{{0, 10}, {10, 0}, {-1, 10}, {10, -5}} {
		if _, err := pic.JPEG(nil, size[0], size[1], 80); err == nil {
			t.Errorf("made a JPEG of %v", size)
		}
		if err := pic.RGB(make([]byte, 300), size[0], size[1]); err == nil {
			t.Errorf("made RGB of %v", size)
		}
	}
	if err := pic.RGB(make([]byte, 10*10*3-1), 10, 10); err == nil {
		t.Error("wrote RGB into a short buffer")
	}
	for _, q := range []int{0, 101} {
		if _, err := pic.JPEG(nil, 10, 10, q); err == nil {
			t.Errorf("took JPEG quality %d", q)
		}
	}
}

// sizes hold odd ones, where SIMD likes to write beyond the end.
var sizes = [][2]int{{1, 1}, {2, 2}, {7, 5}, {16, 16}, {31, 33}, {64, 48}, {101, 77}, {319, 239}, {416, 234}, {640, 480}}

func scalesJPEG(t *testing.T, s Suite) {
	t.Helper()
	pic := decode(t, open(t, s), s.Small.Units[0])
	prefix := []byte("prefix")
	for _, size := range sizes {
		out, err := pic.JPEG(prefix, size[0], size[1], 85)
		if err != nil {
			t.Fatalf("%v: %v", size, err)
		}
		if !bytes.HasPrefix(out, prefix) {
			t.Fatalf("%v: did not append", size)
		}
		cfg, err := jpeg.DecodeConfig(bytes.NewReader(out[len(prefix):]))
		if err != nil || cfg.Width != size[0] || cfg.Height != size[1] {
			t.Fatalf("%v: JPEG is %dx%d, %v", size, cfg.Width, cfg.Height, err)
		}
	}
}

func scalesRGB(t *testing.T, s Suite) {
	t.Helper()
	pic := decode(t, open(t, s), s.Small.Units[0])
	const guard = 256
	for _, size := range sizes {
		n := size[0] * size[1] * 3
		dst := bytes.Repeat([]byte{0xEE}, n+guard)
		if err := pic.RGB(dst, size[0], size[1]); err != nil {
			t.Fatalf("%v: %v", size, err)
		}
		if !bytes.Equal(dst[n:], bytes.Repeat([]byte{0xEE}, guard)) {
			t.Fatalf("%v: wrote beyond the picture", size)
		}
	}
}

// measuresLuma compares with the picture scaled to grey RGB: the same but for how many pixels were looked at.
func measuresLuma(t *testing.T, s Suite) {
	t.Helper()
	pic := decode(t, open(t, s), s.Small.Units[0])
	const w, h, guard = 16, 12, 8
	luma := make([]uint16, w*h+guard)
	rgb := make([]byte, w*h*3)
	if err := errors.Join(pic.Luma(luma, w, h), pic.RGB(rgb, w, h)); err != nil {
		t.Fatal(err)
	}
	var off float64
	for i := range w * h {
		want := 0.299*float64(rgb[3*i]) + 0.587*float64(rgb[3*i+1]) + 0.114*float64(rgb[3*i+2])
		off += math.Abs(float64(luma[i])/256-want) / (w * h)
	}
	if off > 8 {
		t.Errorf("luma is %.1f grey levels off", off)
	}
	if !slices.Equal(luma[w*h:], make([]uint16, guard)) {
		t.Error("wrote beyond the grid")
	}
	if n := testing.AllocsPerRun(10, func() { _ = pic.Luma(luma, w, h) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	for _, bad := range []struct{ w, h, room int }{{0, 1, 10}, {1, -1, 10}, {4, 4, 15}, {s.Small.Width + 1, 1, s.Small.Width + 1}} {
		if err := pic.Luma(make([]uint16, bad.room), bad.w, bad.h); err == nil {
			t.Errorf("measured %+v", bad)
		}
	}
}

func deterministic(t *testing.T, s Suite) {
	t.Helper()
	var first [][]byte
	for round := range 2 {
		d := open(t, s)
		for i, au := range s.Small.Units[:3] {
			out, err := decode(t, d, au).JPEG(nil, 64, 48, 85)
			if err != nil {
				t.Fatal(err)
			}
			if round == 0 {
				first = append(first, out)
			} else if !bytes.Equal(first[i], out) {
				t.Fatalf("picture %d differs from the first time", i)
			}
		}
	}
}

func closes(t *testing.T, s Suite) {
	t.Helper()
	d := open(t, s)
	pic := decode(t, d, s.Small.Units[0])
	d.Close()
	d.Close()
	if _, err := d.Decode(s.Small.Units[1]); err == nil {
		t.Error("decoded after Close")
	}
	if err := pic.RGB(make([]byte, 300), 10, 10); err == nil {
		t.Error("a picture outlived its decoder")
	}
	if _, err := pic.JPEG(nil, 10, 10, 80); err == nil {
		t.Error("a picture outlived its decoder")
	}
	if err := pic.Luma(make([]uint16, 100), 10, 10); err == nil {
		t.Error("a picture outlived its decoder")
	}
}

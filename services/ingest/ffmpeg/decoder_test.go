package ffmpeg_test

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/services/camera"
	"github.com/sightline-dev/sightline/services/camera/cameratest"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/decodertest"
	"github.com/sightline-dev/sightline/services/ingest/ffmpeg"
)

var codecs = []ingest.Codec{ingest.H264, ingest.H265, ingest.MJPEG}

func units(tb testing.TB, clip cameratest.Clip) []ingest.AccessUnit {
	tb.Helper()
	return unitsOf(tb, cameratest.File(tb, clip))
}

func unitsOf(tb testing.TB, path string) []ingest.AccessUnit {
	tb.Helper()
	footage, err := camera.Load(path, 25)
	if err != nil {
		tb.Fatal(err)
	}
	all := make([]ingest.AccessUnit, 0, footage.Units)
	start := time.Now()
	for p := range footage.Pictures() {
		all = append(all, ingest.AccessUnit{
			Codec: ingest.Codec(footage.Codec), Data: p.Data, PTS: p.PTS, Received: start.Add(p.PTS), Key: p.Key,
		})
	}
	return all
}

func newDecoder(tb testing.TB, codec ingest.Codec) *ffmpeg.Decoder {
	tb.Helper()
	d, err := ffmpeg.New(codec)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(d.Close)
	return d
}

func TestConformance(t *testing.T) {
	for _, codec := range codecs {
		t.Run(string(codec), func(t *testing.T) {
			decodertest.Run(t, decodertest.Suite{
				Codec: codec,
				New: func(c ingest.Codec) (ingest.Decoder, error) {
					d, err := ffmpeg.New(c)
					if err != nil {
						return nil, err
					}
					return d, nil
				},
				Small: decodertest.Stream{Units: units(t, cameratest.Clip{Codec: string(codec)}), Width: 320, Height: 240},
				Large: decodertest.Stream{
					Units: units(t, cameratest.Clip{Codec: string(codec), Width: 640, Height: 360, Seconds: 1}), Width: 640, Height: 360,
				},
			})
		})
	}
}

// With B-frames a picture comes later than its access unit, and must still carry the times of its own.
func TestPicturesKeepTheirTimesThroughReordering(t *testing.T) {
	d := newDecoder(t, ingest.H264)
	last, shown := time.Duration(-1), 0
	all := units(t, cameratest.Clip{Codec: "h264", BFrames: 2, GOP: 25})
	received := map[time.Duration]time.Time{}
	for _, au := range all {
		received[au.PTS] = au.Received
		pic, err := d.Decode(au)
		if err != nil {
			t.Fatal(err)
		}
		if pic == nil {
			continue
		}
		shown++
		if pic.PTS() <= last {
			t.Fatalf("PTS %s after %s", pic.PTS(), last)
		}
		if !pic.Received().Equal(received[pic.PTS()]) {
			t.Fatalf("picture %s was received at %s, want %s", pic.PTS(), pic.Received(), received[pic.PTS()])
		}
		last = pic.PTS()
	}
	if shown < len(all)-4 {
		t.Errorf("%d pictures of %d", shown, len(all))
	}
}

// bars are the colours of colour bars as R, G, B, left to right.
var bars = [][3]int{{192, 192, 192}, {192, 192, 0}, {0, 192, 192}, {0, 192, 0}, {192, 0, 192}, {192, 0, 0}, {0, 0, 192}}

// TestColours codes known colours with every matrix and range and wants the same colours back, in both outputs.
func TestColours(t *testing.T) {
	const filter = "color=c=0xc0c0c0:s=224x80:r=25," +
		"drawbox=x=32:w=32:h=80:t=fill:c=0xc0c000,drawbox=x=64:w=32:h=80:t=fill:c=0x00c0c0," +
		"drawbox=x=96:w=32:h=80:t=fill:c=0x00c000,drawbox=x=128:w=32:h=80:t=fill:c=0xc000c0," +
		"drawbox=x=160:w=32:h=80:t=fill:c=0xc00000,drawbox=x=192:w=32:h=80:t=fill:c=0x0000c0,format=rgb24"
	for _, test := range []struct{ name, codec, scale, args string }{
		{"bt601 limited", "h264", "out_color_matrix=bt601:out_range=tv", "-colorspace smpte170m -color_range tv -qp 10"},
		{"bt601 full", "h264", "out_color_matrix=bt601:out_range=pc", "-colorspace smpte170m -color_range pc -qp 10"},
		{"bt709 limited", "h264", "out_color_matrix=bt709:out_range=tv", "-colorspace bt709 -color_range tv -qp 10"},
		{"bt709 full", "h264", "out_color_matrix=bt709:out_range=pc", "-colorspace bt709 -color_range pc -qp 10"},
		{"untagged is bt601 limited", "h264", "out_color_matrix=bt601:out_range=tv", "-qp 10"},
		{"bt709 limited h265", "h265", "out_color_matrix=bt709:out_range=tv", "-colorspace bt709 -color_range tv"},
		{"mjpeg", "mjpeg", "out_color_matrix=bt601:out_range=pc", "-q:v 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := units(t, cameratest.Clip{
				Codec: test.codec, Seconds: 1, Filter: filter, Args: test.args + " -vf scale=" + test.scale,
			})
			d := newDecoder(t, ingest.Codec(test.codec))
			pic, err := d.Decode(all[0])
			if err != nil || pic == nil {
				t.Fatal(pic, err)
			}
			for _, size := range [][2]int{{224, 80}, {112, 40}} {
				rgb := make([]byte, size[0]*size[1]*3)
				if err := pic.RGB(rgb, size[0], size[1]); err != nil {
					t.Fatal(err)
				}
				compareBars(t, fmt.Sprintf("RGB %v", size), size, func(x, y int) (r, g, b int) {
					p := rgb[(y*size[0]+x)*3:]
					return int(p[0]), int(p[1]), int(p[2])
				})
				data, err := pic.JPEG(nil, size[0], size[1], 95)
				if err != nil {
					t.Fatal(err)
				}
				img, err := jpeg.Decode(bytes.NewReader(data))
				if err != nil {
					t.Fatal(err)
				}
				compareBars(t, fmt.Sprintf("JPEG %v", size), size, colourAt(img))
			}
		})
	}
}

func colourAt(img image.Image) func(x, y int) (r, g, b int) {
	return func(x, y int) (int, int, int) {
		r, g, b, _ := img.At(x, y).RGBA()
		return int(r >> 8), int(g >> 8), int(b >> 8)
	}
}

func compareBars(t *testing.T, what string, size [2]int, at func(x, y int) (r, g, b int)) {
	t.Helper()
	const tolerance = 9
	for i, want := range bars {
		r, g, b := at((2*i+1)*size[0]/(2*len(bars)), size[1]/2)
		for c, got := range []int{r, g, b} {
			if got-want[c] > tolerance || want[c]-got > tolerance {
				t.Errorf("%s: bar %d is %d,%d,%d, want %v", what, i, r, g, b, want)
				break
			}
		}
	}
}

// TestNothingIsPrinted runs this test binary's damage test and wants no line from FFmpeg.
func TestNothingIsPrinted(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestDamage$", "-test.v=false")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if line != "PASS\n" && !strings.HasPrefix(line, "coverage:") {
			t.Errorf("printed %q", line)
		}
	}
}

// TestDamage feeds damaged units of every kind: no crash, and recovery at the key frame after.
func TestDamage(t *testing.T) {
	for _, codec := range codecs {
		d := newDecoder(t, codec)
		all := units(t, cameratest.Clip{Codec: string(codec)})
		seed := uint32(1)
		random := func(n int) int {
			seed = seed*1664525 + 1013904223
			return int(seed>>8) % n
		}
		flagged, failed := 0, 0
		for i, au := range append(all, all...) {
			au.Data = append([]byte(nil), au.Data...)
			switch i % 7 {
			case 3:
				for range 20 {
					au.Data[random(len(au.Data))] ^= 1 << random(8)
				}
			case 5:
				au.Data = au.Data[:1+random(len(au.Data))]
			}
			pic, err := d.Decode(au)
			if err != nil {
				failed++
			}
			if pic != nil && pic.Damaged() {
				flagged++
			}
			if pic != nil {
				if _, err := pic.JPEG(nil, 32, 24, 80); err != nil {
					t.Fatal(err)
				}
			}
		}
		if codec == ingest.H264 && flagged+failed == 0 {
			t.Errorf("%s: no damage noticed", codec)
		}
		for _, au := range all {
			if pic, err := d.Decode(au); au.Key && (err != nil || pic == nil) {
				t.Fatalf("%s: no recovery: %v", codec, err)
			}
		}
	}
}

func TestNoAllocationPerPicture(t *testing.T) {
	d := newDecoder(t, ingest.H264)
	all := units(t, cameratest.Clip{Codec: "h264"})
	rgb := make([]byte, 160*120*3)
	buf := make([]byte, 0, 200_000)
	i := 0
	allocs := testing.AllocsPerRun(len(all)-1, func() {
		pic, err := d.Decode(all[i%len(all)])
		i++
		if err != nil || pic == nil {
			t.Fatal(err)
		}
		if err := pic.RGB(rgb, 160, 120); err != nil {
			t.Fatal(err)
		}
		if _, err := pic.JPEG(buf, 160, 120, 85); err != nil {
			t.Fatal(err)
		}
	})
	if allocs >= 1 {
		t.Errorf("%g allocations per picture", allocs)
	}
}

// TestMemoryIsFreed opens and closes many decoders; each costs about a megabyte while open.
func TestMemoryIsFreed(t *testing.T) {
	all := units(t, cameratest.Clip{Codec: "h264"})
	round := func(n int) {
		for range n {
			d := newDecoder(t, ingest.H264)
			for _, au := range all[:3] {
				if pic, err := d.Decode(au); err != nil || pic.RGB(make([]byte, 64*48*3), 64, 48) != nil {
					t.Fatal(err)
				}
			}
			d.Close()
		}
	}
	round(30)
	before := residentKiB(t)
	round(150)
	runtime.GC()
	if grown := residentKiB(t) - before; grown > 30<<10 {
		t.Errorf("grew by %d KiB", grown)
	}
}

// benchFootage names an MPEG-TS file with real footage for the benchmarks; the test picture moves little and decodes
// four times as fast.
const benchFootage = "SIGHTLINE_BENCH_FOOTAGE"

func BenchmarkDecode(b *testing.B) {
	clips := map[string][]ingest.AccessUnit{}
	if path := os.Getenv(benchFootage); path != "" {
		clips["footage"] = unitsOf(b, path)
	}
	for _, clip := range []cameratest.Clip{
		{Codec: "h264", Width: 768, Height: 576, GOP: 50},
		{Codec: "h264", Width: 1280, Height: 720, GOP: 50},
		{Codec: "h265", Width: 768, Height: 576, GOP: 50},
		{Codec: "mjpeg", Width: 768, Height: 576},
	} {
		clips[fmt.Sprintf("%s_%dx%d", clip.Codec, clip.Width, clip.Height)] = units(b, clip)
	}
	for _, name := range slices.Sorted(maps.Keys(clips)) {
		b.Run(name, func(b *testing.B) {
			all := clips[name]
			d := newDecoder(b, all[0].Codec)
			b.ReportAllocs()
			defer reportCPU(b)()
			for i := 0; b.Loop(); i++ {
				if pic, err := d.Decode(all[i%len(all)]); err != nil || pic == nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkScale(b *testing.B) {
	for _, from := range [][2]int{{768, 576}, {1280, 720}} {
		all := units(b, cameratest.Clip{Codec: "h264", Width: from[0], Height: from[1], GOP: 50})
		if path := os.Getenv(benchFootage); path != "" && from[0] == 768 {
			all = unitsOf(b, path)
		}
		d := newDecoder(b, ingest.H264)
		pic, err := d.Decode(all[0])
		if err != nil || pic == nil {
			b.Fatal(err)
		}
		buf := make([]byte, 0, 4<<20)
		for _, to := range [][2]int{{320, 240}, {416, 416}, from} {
			b.Run(fmt.Sprintf("JPEG85_%dx%d_from_%dx%d", to[0], to[1], from[0], from[1]), func(b *testing.B) {
				b.ReportAllocs()
				defer reportCPU(b)()
				for b.Loop() {
					if _, err := pic.JPEG(buf, to[0], to[1], 85); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("RGB_%dx%d_from_%dx%d", to[0], to[1], from[0], from[1]), func(b *testing.B) {
				defer reportCPU(b)()
				for b.Loop() {
					if err := pic.RGB(buf[:cap(buf)], to[0], to[1]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

package rtsp

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/bluenviron/gortsplib/v4/pkg/format"
	"github.com/pion/rtp"

	"github.com/sightline-dev/sightline/services/ingest"
)

var (
	sdpSPS = []byte{0x67, 1, 2, 3}
	sdpPPS = []byte{0x68, 4}
	idr    = append([]byte{0x65, 0x88}, bytes.Repeat([]byte{7}, 3000)...) // first_mb_in_slice 0
	later  = append([]byte{0x65, 0x40}, bytes.Repeat([]byte{8}, 3000)...) // first_mb_in_slice 1
	inter  = []byte{0x41, 0x9A, 1, 2}
)

// bench is an assembler with a packetizer before it.
type bench struct {
	t     *testing.T
	asm   *assembler
	pack  func([][]byte) ([]*rtp.Packet, error)
	units []ingest.AccessUnit
	ts    uint32
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, ts: 1<<32 - 5000}
	f := &format.H264{PayloadTyp: 96, PacketizationMode: 1, SPS: sdpSPS, PPS: sdpPPS}
	e, err := f.CreateEncoder()
	if err != nil {
		t.Fatal(err)
	}
	b.pack = e.Encode
	b.asm, err = newAssembler(f, time.Now, func(au ingest.AccessUnit) { b.units = append(b.units, au) })
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// send packs one picture and sends its packets but those that are lost.
func (b *bench) send(nalus [][]byte, lost ...int) {
	b.t.Helper()
	packets, err := b.pack(nalus)
	if err != nil {
		b.t.Fatal(err)
	}
	b.ts += 3600
	for i, p := range packets {
		p.Timestamp = b.ts
		if slices.Contains(lost, i) {
			b.asm.packetsLost() // the library says so before the next packet, which is the same to us
			continue
		}
		b.asm.packet(p)
	}
}

func (b *bench) want(units ...string) {
	b.t.Helper()
	got := make([]string, 0, len(b.units))
	for _, u := range b.units {
		s := "inter"
		if u.Key {
			s = "key"
		}
		if u.AfterLoss {
			s += " after loss"
		}
		got = append(got, s)
	}
	if !slices.Equal(got, units) {
		b.t.Errorf("units are %q, want %q", got, units)
	}
}

func TestAssemblerHandsOnWholeUnits(t *testing.T) {
	b := newBench(t)
	b.send([][]byte{idr})
	b.send([][]byte{inter})
	b.send([][]byte{{0x06, 5, 1, 0x80}})         // no picture
	b.send([][]byte{{0x67, 9, 9, 9}, {0x68, 8}}) // new parameter sets by themselves
	b.send([][]byte{idr, later})
	b.want("key", "inter", "key")
	start := []byte{0, 0, 0, 1}
	if want := slices.Concat(start, sdpSPS, start, sdpPPS, start, idr); !bytes.Equal(b.units[0].Data, want) {
		t.Errorf("key frame is % x ...", b.units[0].Data[:20])
	}
	if want := slices.Concat(start, inter); !bytes.Equal(b.units[1].Data, want) {
		t.Errorf("inter frame is % x", b.units[1].Data)
	}
	if want := slices.Concat(start, []byte{0x67, 9, 9, 9}, start, []byte{0x68, 8}, start, idr, start, later); !bytes.Equal(b.units[2].Data, want) {
		t.Errorf("second key frame is % x ...", b.units[2].Data[:20])
	}
	if b.units[0].PTS != 0 || b.units[1].PTS != 40*time.Millisecond || b.units[2].PTS != 160*time.Millisecond {
		t.Errorf("times are %s, %s, %s: the RTP clock wraps in between", b.units[0].PTS, b.units[1].PTS, b.units[2].PTS)
	}
}

func TestAssemblerDropsWhatHasAHole(t *testing.T) {
	for _, test := range []struct {
		name string
		lost []int // of the second of four pictures, in three packets
		want []string
	}{
		{"head", []int{0}, []string{"key", "inter after loss", "key"}},
		{"middle", []int{1}, []string{"key", "inter after loss", "key"}},
		{"tail", []int{2}, []string{"key", "inter after loss", "key"}},
		{"all", []int{0, 1, 2}, []string{"key", "inter after loss", "key"}},
		{"head and tail", []int{0, 2}, []string{"key", "inter after loss", "key"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.send([][]byte{idr})
			b.send([][]byte{idr}, test.lost...)
			b.send([][]byte{inter})
			b.send([][]byte{idr})
			b.want(test.want...)
			if whole := len(test.lost) == 3; (b.asm.dropped == 0) != whole {
				t.Errorf("dropped %d", b.asm.dropped)
			}
		})
	}
}

// A picture of several slices without its first one looks whole to a depacketizer.
func TestAssemblerNoticesThatTheFirstSliceIsMissing(t *testing.T) {
	b := newBench(t)
	b.send([][]byte{idr, later}, 0, 1, 2)
	b.send([][]byte{later})
	b.send([][]byte{idr})
	b.want("key after loss")
}

func TestAssemblerWithoutMarkers(t *testing.T) {
	b := newBench(t)
	for n := range 3 {
		packets, err := b.pack([][]byte{idr})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packets {
			p.Timestamp, p.Marker = uint32(n)*3600, false
			b.asm.packet(p)
		}
	}
	b.want("key", "key") // the third is not known to be over
	if d := b.units[1].PTS - b.units[0].PTS; d != 40*time.Millisecond {
		t.Errorf("second comes %s after the first", d)
	}
}

// FuzzAssembler feeds packets from outside: lengths and contents are the input's. It wants no panic, and no unit that
// is empty or claims to be whole Annex B without being it.
func FuzzAssembler(f *testing.F) {
	for codec := range byte(3) {
		f.Add(codec, []byte{4, 0x65, 0x88, 1, 2, 5, 0x7C, 0x85, 1, 2, 3, 0, 2, 0x41, 0x9a})
		f.Add(codec, []byte{8, 0, 0, 0, 0, 1, 255, 40, 30, 6, 0x26, 1, 0xAF, 9, 9, 9, 12, 24, 0, 2, 1, 2})
		f.Add(codec, []byte{30, 0, 0, 0, 0, 1, 255, 1, 1, 0, 0, 0, 64, 1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, codec byte, data []byte) {
		formats := []format.Format{&format.H264{PacketizationMode: 1}, &format.H265{}, &format.MJPEG{}}
		asm, err := newAssembler(formats[int(codec)%len(formats)], time.Now, func(au ingest.AccessUnit) {
			if len(au.Data) == 0 || (au.Codec != ingest.MJPEG && !bytes.HasPrefix(au.Data, []byte{0, 0, 0, 1})) {
				t.Errorf("unit is % x", au.Data)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		for seq := uint16(0); len(data) > 0; seq++ {
			head, n := data[0], min(int(data[0]), len(data)-1)
			payload := data[1 : 1+n]
			data = data[1+n:]
			if head%11 == 0 {
				asm.packetsLost()
				seq++
			}
			asm.packet(&rtp.Packet{
				Header: rtp.Header{
					Version: 2, SequenceNumber: seq, Timestamp: uint32(seq/3) * 3600, Marker: head%2 == 0,
				},
				Payload: payload,
			})
		}
	})
}

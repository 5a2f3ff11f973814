package decodertest_test

import (
	"testing"

	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/decodertest"
)

func TestFake(t *testing.T) {
	for _, codec := range []ingest.Codec{ingest.H264, ingest.H265, ingest.MJPEG} {
		t.Run(string(codec), func(t *testing.T) {
			decodertest.Run(t, decodertest.Suite{
				Codec: codec,
				New:   func(c ingest.Codec) (ingest.Decoder, error) { return decodertest.NewFake(c) },
				Small: fakeStream(codec, 320, 240),
				Large: fakeStream(codec, 640, 360),
			})
		})
	}
}

func TestFakeInjectsFaults(t *testing.T) {
	f, err := decodertest.NewFake(ingest.H264)
	if err != nil {
		t.Fatal(err)
	}
	f.FailNext(1)
	units := fakeStream(ingest.H264, 320, 240).Units
	if _, err := f.Decode(units[0]); err == nil {
		t.Error("FailNext did nothing")
	}
	if pic, _ := f.Decode(units[1]); pic != nil {
		t.Error("showed a picture whose reference failed")
	}
	f.DamageNext(1)
	if pic, _ := f.Decode(units[10]); pic == nil || !pic.Damaged() {
		t.Error("DamageNext did nothing")
	}
}

func fakeStream(codec ingest.Codec, w, h uint16) decodertest.Stream {
	s := decodertest.Stream{Width: int(w), Height: int(h)}
	for n := range uint32(30) {
		s.Units = append(s.Units, decodertest.FakeUnit(codec, n, n%10 == 0 || codec == ingest.MJPEG, w, h))
	}
	return s
}

package camera

import (
	"bytes"
	"image"
	"image/jpeg"
	"testing"
)

// FuzzReadJPEGs wants no panic, and that what is taken can be sent.
func FuzzReadJPEGs(f *testing.F) {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewYCbCr(image.Rect(0, 0, 16, 16), image.YCbCrSubsampleRatio420), nil); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(append(b.Bytes(), b.Bytes()...))
	f.Add(b.Bytes()[:b.Len()/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		clip, err := readJPEGs(data, 10)
		if err != nil {
			return
		}
		pack, err := newPacketize(clip)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range clip.units {
			if packets, err := pack(u.nalus); err != nil || len(packets) == 0 {
				t.Errorf("%d packets, %v", len(packets), err)
			}
		}
	})
}

// FuzzReadTS wants no panic, and a loop in which time grows.
func FuzzReadTS(f *testing.F) {
	f.Add([]byte{0x47, 0x40, 0, 0x10})
	f.Fuzz(func(t *testing.T, data []byte) {
		clip, err := readTS(bytes.NewReader(data))
		if err != nil {
			return
		}
		last := int64(-1)
		for _, u := range clip.units {
			if u.dts <= last || len(u.nalus) == 0 {
				t.Errorf("unit at %d after %d", u.dts, last)
			}
			last = u.dts
		}
		if clip.length <= last || !clip.units[0].key {
			t.Errorf("loop of %d ends at %d", clip.length, last)
		}
	})
}

package detect

import (
	"bytes"
	"testing"
)

// A detector that is stored apart from its reference goes on as the whole one does.
func TestDecodeApart(t *testing.T) {
	d := newDetector(t, config())
	p := &player{d: d, at: morning()}
	p.play(300, loadClip(t, "steady"))
	whole, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	apart, err := d.EncodeApart()
	if err != nil || len(apart) >= len(whole) {
		t.Fatalf("%d bytes apart, %d whole, %v", len(apart), len(whole), err)
	}
	back, err := DecodeApart(config(), d.Reference(), apart)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := back.Encode(); err != nil || !bytes.Equal(again, whole) {
		t.Errorf("it is another: %v", err)
	}
	if d.Reference() == nil {
		t.Error("the detector lost its reference")
	}
	for _, bad := range []string{"{", "{}", `{"format":1,"slot":99}`} {
		if _, err := DecodeApart(config(), d.Reference(), []byte(bad)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

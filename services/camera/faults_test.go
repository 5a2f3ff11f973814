package camera

import (
	"bytes"
	"slices"
	"testing"

	"github.com/pion/rtp"
)

func TestFaultsAreRepeatable(t *testing.T) {
	payload := bytes.Repeat([]byte{0x55}, 1000)
	run := func(seed uint64) (dropped []int, damaged [][]byte) {
		s, err := New(Config{Footage: &Footage{}, Seed: seed, Faults: Faults{Drop: 0.1, Corrupt: 0.1}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2000 {
			pkt := s.damage(&rtp.Packet{Payload: payload})
			switch {
			case pkt == nil:
				dropped = append(dropped, i)
			case !bytes.Equal(pkt.Payload, payload):
				damaged = append(damaged, pkt.Payload)
			}
		}
		return dropped, damaged
	}
	dropped, damaged := run(1)
	for what, n := range map[string]int{"dropped": len(dropped), "damaged": len(damaged)} {
		if n < 140 || n > 260 {
			t.Errorf("%s %d of 2000 packets, want about 200", what, n)
		}
	}
	if d, c := run(1); !slices.Equal(d, dropped) || !slices.EqualFunc(c, damaged, bytes.Equal) {
		t.Error("the same seed did something else")
	}
	if d, _ := run(2); slices.Equal(d, dropped) {
		t.Error("another seed did the same")
	}
	if !bytes.Equal(payload, bytes.Repeat([]byte{0x55}, 1000)) {
		t.Error("the footage itself was damaged")
	}
}

func TestFaultsAreChecked(t *testing.T) {
	for _, bad := range []Faults{{Drop: 1.5}, {Corrupt: -1}, {Pace: -1}, {Pace: 0.001}, {ClockRate: 1000}} {
		if _, err := New(Config{Footage: &Footage{}, Faults: bad}); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

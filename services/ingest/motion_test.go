package ingest

import (
	"errors"
	"testing"
)

// greys is a picture of which only the cells matter.
type greys struct {
	Picture
	left, right uint16 // of either half, in grey levels
	err         error
}

func (g greys) Luma(dst []uint16, w, h int) error {
	for i := range dst[:w*h] {
		if i%w < w/2 {
			dst[i] = g.left << 8
		} else {
			dst[i] = g.right << 8
		}
	}
	return g.err
}

func TestMotion(t *testing.T) {
	var m motion
	bad := errors.New("no plane of luma")
	for i, c := range []struct {
		p    greys
		want float64
		ok   bool
	}{
		{greys{left: 10, right: 10}, 0, false}, // there was none before
		{greys{left: 10, right: 10}, 0, true},
		{greys{left: 30, right: 10}, 10, true}, // one half by 20
		{greys{left: 10, right: 30}, 20, true}, // up and down do not cancel
		{greys{left: 10, right: 30}, 0, true},
		{greys{err: bad}, 0, false},
		{greys{left: 10, right: 30}, 0, false},
		{greys{left: 11, right: 30}, 0.5, true},
	} {
		if got, ok := m.difference(c.p); got != c.want || ok != c.ok {
			t.Errorf("picture %d: %v, %v; want %v, %v", i, got, ok, c.want, c.ok)
		}
	}
	if n := testing.AllocsPerRun(100, func() { m.difference(greys{}) }); n > 1 { // the interface itself
		t.Errorf("%v allocations for a picture", n)
	}
}

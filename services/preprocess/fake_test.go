package preprocess_test

import (
	"errors"
	"testing"

	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/preprocess/imagertest"
)

func TestFake(t *testing.T) { imagertest.Run(t, &preprocess.Fake{}) }

func TestFakeFailsAsTold(t *testing.T) {
	f := &preprocess.Fake{}
	f.FailNext(2)
	data := imagertest.PNG(imagertest.Noise(4, 4, 1))
	for i := range 3 {
		if _, err := f.Decode(data); errors.Is(err, preprocess.ErrFake) != (i < 2) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if n := f.Decoded(); n != 3 {
		t.Errorf("%d calls counted, want 3", n)
	}
}

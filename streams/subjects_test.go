package streams_test

import (
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/streams"
)

func TestCheckToken(t *testing.T) {
	for name, ok := range map[string]bool{
		"door": true, "Door_2-b": true, "7": true, strings.Repeat("a", 63): true,
		"": false, "front door": false, "a.b": false, "*": false, ">": false, "-a": false, "_a": false, "é": false, "a/b": false,
		"a\n": false, strings.Repeat("a", 64): false,
	} {
		if err := streams.CheckToken(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestDeliveryOf(t *testing.T) {
	for _, d := range []streams.Delivery{streams.Freshest, streams.EveryFrame} {
		for _, subject := range []string{streams.FrameSubject(d, "every"), streams.TensorSubject(d, "every", streams.LaneStable, "live")} {
			if got := streams.DeliveryOf(subject); got != d {
				t.Errorf("%s: %s, want %s", subject, got, d)
			}
		}
	}
}

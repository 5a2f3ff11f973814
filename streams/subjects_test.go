package streams_test

import (
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/streams"
)

func TestTemplate(t *testing.T) {
	for subject, want := range map[string][2]string{
		streams.FrameSubject(streams.Freshest, "street"):                                  {"frames.live", "frames.live.{camera}"},
		streams.TensorSubject(streams.EveryFrame, "person", streams.LaneStable, "street"): {"tensors.every", "tensors.every.{model}.{lane}.{camera}"},
		streams.PredictionSubject("person", "street"):                                     {"predictions", "predictions.{model}.{camera}"},
		streams.DLQSubject("infer", "street"):                                             {"dlq.infer", "dlq.infer.{camera}"},
		streams.EventSubject("camera", "state", "street"):                                 {"events", "events"},
		"x": {"x", "x"},
	} {
		if name, template := streams.Template(subject); name != want[0] || template != want[1] {
			t.Errorf("%s: %s, %s", subject, name, template)
		}
	}
}

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

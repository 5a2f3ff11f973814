package telemetrytest_test

import (
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/pkg/telemetry/telemetrytest"
)

// The check finds what it is for.
func TestCheck(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"fine", `sightline_camera_up{camera="street"} 1`, ""},
		{"fine histogram", `sightline_frame_interval_seconds_bucket{camera="street",le="+Inf"} 1`, ""},
		{"not in the table", `sightline_camera_down{camera="street"} 1`, "sightline_camera_down is not in the table"},
		{"no such label", `sightline_camera_up{camera="street",error="EOF"} 1`, "labels that are not in the table"},
		{"no label", `sightline_camera_up 1`, "has no label camera"},
		{"open set", `sightline_camera_up{camera="other"} 1`, `camera="other" is not among`},
		{"closed set", `sightline_reconnects_total{camera="street",cause="a }, \"b"} 1`, `is not among`},
		{"counter as histogram", `sightline_frames_captured_total_count{camera="street"} 1`, "is not in the table"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, err := telemetrytest.Parse(strings.NewReader("# HELP x\n" + c.text + "\n"))
			if err != nil || len(all) != 1 {
				t.Fatal(all, err)
			}
			switch err := all.Check(map[string][]string{"camera": {"street"}}); {
			case err == nil && c.want != "", err != nil && (c.want == "" || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	all, err := telemetrytest.Parse(strings.NewReader("sightline_camera_up{camera=\"a\"} 1\nsightline_camera_up{camera=\"b\"} 2\n"))
	if err != nil || !all.Has(telemetry.CameraUp) || all.Has(telemetry.FrameAge) || all.Sum(telemetry.CameraUp, nil) != 3 || all.Sum(telemetry.CameraUp, map[string]string{"camera": "b"}) != 2 {
		t.Error(all, err)
	}
}

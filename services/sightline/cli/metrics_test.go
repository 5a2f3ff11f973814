package cli

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/pkg/telemetry/telemetrytest"
)

// missing are the metrics of the table that a system that is well does not export, and why.
func missing() map[telemetry.Name]string {
	out := map[telemetry.Name]string{
		telemetry.FramesDropped: "nothing was dropped", telemetry.Detections: "nobody is in the picture", telemetry.ModelsRefused: "no model was refused",
		telemetry.RecoveryDuration: "nothing had to be mended", telemetry.RecoveryActions: "",
	}
	for _, n := range []telemetry.Name{telemetry.DriftScore, telemetry.DriftThreshold, telemetry.QualityDetectionRateRatio} {
		out[n] = "nothing was captured yet to compare with"
	}
	for _, n := range []telemetry.Name{telemetry.QualityPrecision, telemetry.QualityRecall, telemetry.QualityAP50} {
		out[n] = "nobody labels"
	}
	for _, n := range []telemetry.Name{telemetry.FairnessGap, telemetry.FairnessRatio} {
		out[n] = "nobody is in the picture"
	}
	for n := telemetry.RolloutState; n <= telemetry.Rollbacks; n++ {
		out[n] = "reserved"
	}
	for n := telemetry.TracesKept; n <= telemetry.TelemetryExports; n++ {
		out[n] = "OTLP is off"
	}
	for n := telemetry.GPUSMClock; n <= telemetry.GPUPCIeReplays; n++ {
		out[n] = "the machine may have no GPU"
	}
	for _, n := range []telemetry.Name{telemetry.HostDiskRead, telemetry.HostDiskWritten} {
		out[n] = "the machine may have no disk of its own"
	}
	return out
}

// TestMetrics holds what a running system exports to the table: all of it is there, nothing else is, and labels have the values
// that somebody declared.
func TestMetrics(t *testing.T) {
	file := site(t, "  - {name: away, url: \"rtsp://hunter2:hunter2@127.0.0.1:1/x\", model: person}\n")
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + freePort(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan string, 1)
	go func() {
		code, out, errs := run(t, ctx, "up", "--config", file, "--port", "-1", "--data-dir", t.TempDir(), "--http", address)
		done <- strconv.Itoa(code) + "\n" + out + errs
	}()
	defer func() {
		stop()
		if result := <-done; !strings.HasPrefix(result, "0\n") {
			t.Error(result)
		}
	}()
	all := until(t, address, func(all telemetrytest.Samples) bool {
		return all.Sum(telemetry.FramesFate, map[string]string{"fate": "predicted", "camera": "street"}) > 0 && all.Has(telemetry.QueueDepth) &&
			all.Sum(telemetry.Reconnects, map[string]string{"camera": "away"}) > 0 && all.Has(telemetry.DriftState)
	})
	if err := all.Check(map[string][]string{
		"camera": {"street", "away"}, "model": {"person"}, "class": {"person"}, "service": {"ingest", "preprocess", "infer", "recovery", "drift-monitor"},
		"stream":   {"FRAMES", "FRAMES_LIVE", "FRAMES_TWIN", "TENSORS", "TENSORS_LIVE", "TENSORS_TWIN"},
		"consumer": {"preprocess", "infer-person-stable"},
	}); err != nil {
		t.Error(err)
	}
	without := missing()
	for n, m := range telemetry.Metrics() {
		if _, excused := without[telemetry.Name(n)]; !excused && !all.Has(telemetry.Name(n)) {
			t.Errorf("%s (from %s) is not exported", m.Name, m.From)
		}
	}
	street, away := map[string]string{"camera": "street"}, map[string]string{"camera": "away"}
	received, captured := all.Sum(telemetry.FramesReceived, street), all.Sum(telemetry.FramesCaptured, street)
	for what, ok := range map[string]bool{
		"received >= captured":   received >= captured && captured > 0,
		"captured >= published":  captured >= all.Sum(telemetry.FramesPublished, street),
		"published >= predicted": all.Sum(telemetry.FramesPublished, street) >= all.Sum(telemetry.FramesPredicted, street),
		"up":                     all.Sum(telemetry.CameraUp, street) == 1 && all.Sum(telemetry.CameraUp, away) == 0,
		"refused":                all.Sum(telemetry.Reconnects, map[string]string{"camera": "away", "cause": "refused"}) > 0,
		"a leader":               all.Sum(telemetry.Leader, nil) == 1,
		"five workers":           all.Sum(telemetry.Workers, map[string]string{"state": "alive"}) == 5,
		"answers":                all.Sum(telemetry.InferenceRequests, map[string]string{"outcome": "ok"}) > 0,
		"a model":                all.Sum(telemetry.ModelLoaded, nil) == 1,
		"not enough data":        all.Sum(telemetry.DriftState, street) == 3,
		"no fault":               all.Sum(telemetry.IntegrityFault, street) == 0,
		"nothing is lost":        all.Sum(telemetry.FramesFate, map[string]string{"fate": "lost"}) == 0,
		"lately":                 time.Since(time.UnixMilli(int64(1000*all.Sum(telemetry.LastPrediction, street)))) < 10*time.Second,
	} {
		if !ok {
			t.Errorf("%s does not hold", what)
		}
	}
	for _, s := range all {
		for _, v := range s.Labels {
			if strings.Contains(v, "hunter2") {
				t.Errorf("a secret is told: %+v", s)
			}
		}
	}
}

// until scrapes until what is wanted is there.
func until(t *testing.T, address string, want func(telemetrytest.Samples) bool) telemetrytest.Samples {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	late := time.After(60 * time.Second)
	var last telemetrytest.Samples
	for {
		all, err := telemetrytest.Scrape(t.Context(), "http://"+address+"/metrics")
		if err == nil && want(all) {
			return all
		}
		if err == nil {
			last = all
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within a minute: %v, last %d samples", err, len(last))
		}
	}
}

package ingest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/pkg/telemetry/telemetrytest"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/streams"
)

// A camera is told of while an instance has it, and no longer. Its frames begin traces, a share of which is exported.
func TestWhatIsSaidOfACamera(t *testing.T) {
	const shots = 5
	camera := door(t, streams.EveryFrame)
	camera.FPS, camera.TraceRatio = 0, 1
	r := newSite(t, camera)
	exported := tracetest.NewInMemoryExporter()
	var err error
	if r.tel, err = telemetry.Start(t.Context(), telemetry.Config{Service: "ingest", Spans: keepSpans{exported}}); err != nil {
		t.Fatal(err)
	}
	samples := func() telemetrytest.Samples {
		w := httptest.NewRecorder()
		r.tel.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		all, err := telemetrytest.Parse(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := all.Check(map[string][]string{"camera": {"door"}}); err != nil {
			t.Error(err)
		}
		return all
	}
	at := newScene()
	stop := r.start(t, "a", map[string]*scene{"door": at})
	at.shoot(t, shots)
	frames := r.consumer(t, streams.Frames)
	traces := map[string]bool{}
	for range shots {
		traces[r.next(t, frames).Headers().Get(frame.HeaderTrace)] = true
	}
	at.fail <- ingest.WithCause(ingest.CauseRefused, errors.New("go away"))
	this := map[string]string{"camera": "door"}
	for deadline := time.Now().Add(10 * time.Second); samples().Sum(telemetry.FramesPublished, this) < shots || samples().Sum(telemetry.CameraUp, this) != 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%v", samples())
		}
	}
	all := samples()
	for what, got := range map[string][2]float64{
		"received":   {all.Sum(telemetry.FramesReceived, this), shots},
		"captured":   {all.Sum(telemetry.FramesCaptured, this), shots},
		"published":  {all.Sum(telemetry.FramesPublished, this), shots},
		"intervals":  {all.Sum(telemetry.FrameInterval, this), shots - 1},
		"outbox":     {all.Sum(telemetry.OutboxFrames, this), 0},
		"dropped":    {all.Sum(telemetry.OutboxDropped, this), 0},
		"sampling":   {all.Sum(telemetry.CameraSampling, this), 1},
		"reconnects": {all.Sum(telemetry.Reconnects, map[string]string{"camera": "door", "cause": "refused"}), 1},
		"age":        {all.Sum(telemetry.FrameAge, map[string]string{"delivery": "every_frame"}), shots},
		"work":       {all.Sum(telemetry.StageDuration, map[string]string{"phase": "work"}), shots},
		"queue":      {all.Sum(telemetry.StageDuration, map[string]string{"phase": "queue"}), shots},
		"publish":    {all.Sum(telemetry.StageDuration, map[string]string{"phase": "publish"}), shots},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %g, want %g", what, got[0], got[1])
		}
	}
	if at := time.UnixMilli(int64(1000 * all.Sum(telemetry.CameraLastFrame, this))); time.Since(at) > time.Minute {
		t.Errorf("the last picture came at %s", at)
	}
	stop()
	for _, s := range samples() {
		if s.Labels["camera"] != "" {
			t.Errorf("left behind: %+v", s)
		}
	}
	if err := r.tel.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	captures, sends := 0, 0
	for _, s := range exported.GetSpans() {
		switch s.Name {
		case "capture":
			captures++
		case "send frames.every":
			sends++
			if !traces["00-"+s.SpanContext.TraceID().String()+"-"+s.SpanContext.SpanID().String()+"-01"] {
				t.Errorf("no frame continues %+v", s.SpanContext)
			}
		}
	}
	if captures != shots || sends != shots {
		t.Errorf("%d pictures, %d capture spans, %d send spans", shots, captures, sends)
	}
}

// keepSpans keeps what is exported when the exporter ends.
type keepSpans struct{ *tracetest.InMemoryExporter }

func (keepSpans) Shutdown(context.Context) error { return nil }

//go:build cgo

package system_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	spanpb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/pkg/telemetry/telemetrytest"
	"github.com/sightline-dev/sightline/services/camera"
	"github.com/sightline-dev/sightline/services/camera/cameratest"
	"github.com/sightline-dev/sightline/services/sightline/system"
	"github.com/sightline-dev/sightline/streams"
)

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// programs builds the services, each a program of its own.
func programs(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"build", "-o", dir + string(os.PathSeparator)}
	for _, n := range names {
		args = append(args, "github.com/sightline-dev/sightline/services/"+n+"/cmd/"+n)
	}
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

// start runs a program until the test ends, and returns the address of its metrics.
func start(t *testing.T, dir, name string, env ...string) string {
	t.Helper()
	address := freePort(t)
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, name)) // the clean-up ends it in order
	cmd.Env = append(os.Environ(), append(env, "SIGHTLINE_HTTP="+address, "SIGHTLINE_INSTANCE="+name+"-x")...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil || t.Failed() {
			out, _ := os.ReadFile(log.Name())
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		_ = log.Close()
	})
	return "http://" + address + "/metrics"
}

// play is a camera.
func play(t *testing.T) string {
	t.Helper()
	footage, err := camera.Load(cameratest.File(t, cameratest.Clip{Codec: "h264", FPS: 10}), 10)
	if err != nil {
		t.Fatal(err)
	}
	address := freePort(t)
	c, err := camera.New(camera.Config{Footage: footage, Listen: address, Path: "x"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() { stop(); _ = <-ended })
	<-c.Ready()
	return "rtsp://" + address + "/x"
}

// find waits for a span.
func find(t *testing.T, c *telemetrytest.Collector, what string, is func(telemetrytest.Span) bool) telemetrytest.Span {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		spans, changed := c.Spans()
		for _, s := range spans {
			if is(s) {
				return s
			}
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("no %s among %d spans", what, len(spans))
		}
	}
}

// TestOneTraceAcrossProcesses runs every service as a program of its own. A frame's trace goes from the camera through all of
// them to an application's span, over OTLP to a collector; what was not sampled is exported when it is quarantined, by whoever
// had to do with it.
func TestOneTraceAcrossProcesses(t *testing.T) {
	collector := telemetrytest.NewCollector(t)
	server, err := broker.StartEmbedded(t.Context(), "127.0.0.1", -1, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop) // after the programs
	for k, v := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_METRIC_EXPORT_INTERVAL": "500",
	} {
		t.Setenv(k, v)
	}
	models, err := filepath.Abs("../../../models")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"SIGHTLINE_NATS_URL=" + server.URL(), "SIGHTLINE_MODELS=" + models}
	dir := programs(t, "recovery", "ingest", "preprocess", "infer")
	pages := map[string]string{"recovery": start(t, dir, "recovery", env...)}

	nc, err := server.Connect("app", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := broker.JetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := streams.Await(t.Context(), js, func(error) {}); err != nil {
		t.Fatal(err)
	}
	yaml := "models: " + models + "\ncameras:\n  - {name: street, url: " + play(t) + ", model: person, trace_ratio: 1}\n"
	file, _, err := config.Parse("sightline.yaml", []byte(yaml), dir, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := system.Apply(t.Context(), js, file); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"infer", "preprocess", "ingest"} {
		pages[name] = start(t, dir, name, env...)
	}

	app, err := telemetry.Start(t.Context(), telemetry.Config{Service: "door", Env: os.LookupEnv})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = app.Shutdown(context.Background()) }()
	if err := app.Join(nc); err != nil {
		t.Fatal(err)
	}
	t.Run("one trace", func(t *testing.T) { oneTrace(t, collector, app, nc) })
	t.Run("kept", func(t *testing.T) { kept(t, collector, app, nc) })
	t.Run("metrics", func(t *testing.T) { metrics(t, collector, pages) })
}

// oneTrace is the way of one frame.
func oneTrace(t *testing.T, collector *telemetrytest.Collector, app *telemetry.Telemetry, nc *nats.Conn) {
	t.Helper()
	client, err := predictions.Open(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, enough := context.WithTimeout(t.Context(), 60*time.Second)
	defer enough()
	var trace, frameName string
	for m, err := range client.Subscribe(ctx, predictions.Filter{Camera: "street"}) {
		if err != nil || m.Kind != predictions.KindPrediction {
			continue
		}
		_, span := app.Tracer().Start(predictions.Context(ctx, m), "open the door")
		span.End()
		trace, frameName = span.SpanContext().TraceID().String(), m.Frame
		break
	}
	if trace == "" {
		t.Fatal("no prediction")
	}
	parent := ""
	for _, hop := range []struct {
		service, name string
		kind          spanpb.Span_SpanKind
		template      string
	}{
		{"ingest", "capture", spanpb.Span_SPAN_KIND_INTERNAL, ""},
		{"ingest", "send frames.live", spanpb.Span_SPAN_KIND_PRODUCER, "frames.live.{camera}"},
		{"preprocess", "process frames.live", spanpb.Span_SPAN_KIND_CONSUMER, "frames.live.{camera}"},
		{"preprocess", "send tensors.live", spanpb.Span_SPAN_KIND_PRODUCER, "tensors.live.{model}.{lane}.{camera}"},
		{"infer", "process tensors.live", spanpb.Span_SPAN_KIND_CONSUMER, "tensors.live.{model}.{lane}.{camera}"},
		{"infer", "send predictions", spanpb.Span_SPAN_KIND_PRODUCER, "predictions.{model}.{camera}"},
		{"door", "open the door", spanpb.Span_SPAN_KIND_INTERNAL, ""},
	} {
		s := find(t, collector, hop.name, func(s telemetrytest.Span) bool { return s.Trace == trace && s.Name == hop.name })
		if s.Service != hop.service || s.Parent != parent || s.Kind != hop.kind || s.Failed || s.End < s.Start {
			t.Errorf("%+v, want it from %s, child of %q", s, hop.service, parent)
		}
		a := s.Attributes
		if hop.template != "" && (a["messaging.system"] != "nats" || a["messaging.destination.template"] != hop.template || a["messaging.operation.type"] != a["messaging.operation.name"]) {
			t.Errorf("%s: %v", s.Name, a)
		}
		switch hop.kind {
		case spanpb.Span_SPAN_KIND_CONSUMER:
			if a["sightline.frame"] != frameName || a["messaging.consumer.group.name"] == "" || a["sightline.outcome"] != telemetry.OutcomeDone {
				t.Errorf("%s: %v", s.Name, a)
			}
		default:
			if hop.name == "capture" && a["sightline.frame"] != frameName {
				t.Errorf("%s: %v, want frame %s", s.Name, a, frameName)
			}
		}
		if hop.name == "process tensors.live" {
			batch := find(t, collector, "infer batch", func(b telemetrytest.Span) bool {
				return b.Name == "infer batch" && strings.Contains(strings.Join(b.Links, " "), s.ID)
			})
			if batch.Service != "infer" || batch.Trace == trace || len(s.Links) != 1 || s.Links[0] != batch.ID {
				t.Errorf("batch %+v of %+v", batch, s)
			}
		}
		parent = s.ID
	}
}

// kept publishes a frame that is no picture, as an ingest would whose trace is not sampled. preprocess quarantines it, and then
// everybody exports what they have.
func kept(t *testing.T, collector *telemetrytest.Collector, app *telemetry.Telemetry, nc *nats.Conn) {
	t.Helper()
	ctx, capture := app.Tracer().Root(t.Context(), "capture a ghost", 0)
	capture.End()
	name := frame.Name{Camera: "ghost", Epoch: 1, Seq: 1}
	msg := nats.NewMsg(streams.FrameSubject(streams.Freshest, name.Camera))
	frame.Facts{
		Name: name, Captured: time.Now(), Deadline: time.Now().Add(10 * time.Second), SourceW: 8, SourceH: 8, Models: []string{"person"},
		Trace: telemetry.Header(capture),
	}.Encode(msg.Header)
	_, send := app.Tracer().Send(ctx, telemetry.Destination{Name: "frames.live", Template: "frames.live.{camera}"}, msg.Subject, name.String(), 3)
	msg.Header[frame.HeaderTrace] = []string{telemetry.Header(send)}
	msg.Data = []byte("no.")
	send.End()
	if err := nc.PublishMsg(msg); err != nil {
		t.Fatal(err)
	}
	trace := capture.SpanContext().TraceID().String()
	for _, want := range []struct {
		service, name string
		failed        bool
	}{{"preprocess", "process frames.live", true}, {"preprocess", "send dlq.preprocess", false}, {"door", "capture a ghost", false}, {"door", "send frames.live", false}} {
		s := find(t, collector, want.name+" of the ghost", func(s telemetrytest.Span) bool { return s.Trace == trace && s.Name == want.name })
		if s.Service != want.service || s.Failed != want.failed {
			t.Errorf("%+v", s)
		}
	}
}

// metrics looks at what each program exports, to Prometheus and to the collector.
func metrics(t *testing.T, collector *telemetrytest.Collector, pages map[string]string) {
	t.Helper()
	late := time.Now().Add(20 * time.Second)
	for service, want := range map[string]telemetry.Name{
		"ingest": telemetry.FramesCaptured, "preprocess": telemetry.StageMessages, "infer": telemetry.FramesPredicted, "recovery": telemetry.FramesFate,
	} {
		for {
			all, err := telemetrytest.Scrape(t.Context(), pages[service])
			if err == nil && all.Has(want) && collector.Sent(want.String(), service) {
				if err := all.Check(map[string][]string{"camera": {"street", "ghost"}, "model": {"person"}}); err != nil {
					t.Errorf("%s: %v", service, err)
				}
				if info := all.Sum(telemetry.BuildInfo, nil); info != 1 {
					t.Errorf("%s: build_info is %g", service, info)
				}
				break
			}
			if time.Now().After(late) {
				t.Fatalf("%s does not export %s, or not to both: %v", service, want, err)
			}
			_, changed := collector.Spans()
			select {
			case <-changed:
			case <-time.After(time.Second):
			}
		}
	}
	all, err := telemetrytest.Scrape(t.Context(), pages["preprocess"])
	if err != nil {
		t.Fatal(err)
	}
	if all.Sum(telemetry.DeadLetters, nil) != 1 || all.Sum(telemetry.TracesKept, map[string]string{"why": "quarantined"}) != 1 ||
		all.Sum(telemetry.FramesDropped, map[string]string{"camera": "ghost", "fate": "quarantined"}) != 1 {
		t.Error("the quarantined frame is not counted")
	}
}

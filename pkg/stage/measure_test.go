package stage_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/pkg/telemetry/telemetrytest"
	"github.com/sightline-dev/sightline/streams"
)

// observed is a stage's telemetry.
type observed struct {
	*telemetry.Telemetry
	t     *testing.T
	spans *tracetest.InMemoryExporter
}

func observe(t *testing.T) *observed {
	t.Helper()
	o := &observed{t: t, spans: tracetest.NewInMemoryExporter()}
	var err error
	if o.Telemetry, err = telemetry.Start(t.Context(), telemetry.Config{Service: "infer", Spans: keepSpans{o.spans}}); err != nil {
		t.Fatal(err)
	}
	return o
}

// keepSpans keeps what is exported when the exporter ends.
type keepSpans struct{ *tracetest.InMemoryExporter }

func (keepSpans) Shutdown(context.Context) error { return nil }

func (o *observed) samples() telemetrytest.Samples {
	o.t.Helper()
	w := httptest.NewRecorder()
	o.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	all, err := telemetrytest.Parse(w.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	if err := all.Check(map[string][]string{"camera": {"cam"}}); err != nil {
		o.t.Error(err)
	}
	return all
}

// exported ends the telemetry and returns all spans by name.
func (o *observed) exported() map[string][]tracetest.SpanStub {
	o.t.Helper()
	if err := o.Shutdown(context.Background()); err != nil {
		o.t.Fatal(err)
	}
	out := map[string][]tracetest.SpanStub{}
	for _, s := range o.spans.GetSpans() {
		out[s.Name] = append(out[s.Name], s)
	}
	return out
}

const everySubject = "frames.every.cam"

// putTraced stores a frame whose trace is sampled or not. It was captured that long ago and is late after max.
func (r *rig) putTraced(name string, sampled bool, ago, maxAge time.Duration) {
	r.t.Helper()
	captured := time.Now().Add(-ago)
	flags := "00"
	if sampled {
		flags = "01"
	}
	msg := &nats.Msg{Subject: everySubject, Data: []byte(name), Header: nats.Header{
		"Name": {name}, frame.HeaderName: {"cam/1/" + name}, frame.HeaderCaptured: {strconv.FormatInt(captured.UnixNano(), 10)},
		frame.HeaderTrace: {"00-4bf92f3577b34da6a3ce929d0e0e47" + name + "-00f067aa0ba902b7-" + flags},
	}}
	if maxAge > 0 {
		msg.Header[frame.HeaderDeadline] = []string{strconv.FormatInt(captured.Add(maxAge).UnixNano(), 10)}
	}
	if _, err := r.js.PublishMsg(r.ctx(), msg); err != nil {
		r.t.Fatal(err)
	}
}

// What became of messages is counted, timed, and in the traces of those that are sampled or worth it.
func TestWhatAStageSaysOfItself(t *testing.T) {
	r := newRig(t)
	o := observe(t)
	cfg := r.config()
	cfg.Name, cfg.Telemetry, cfg.MaxAttempts = "infer", o.Telemetry, 2
	r.putTraced("10", true, 0, 0)                          // sampled
	r.putTraced("11", false, 0, 0)                         // neither
	r.putTraced("12", false, 3*time.Second, 4*time.Second) // slow
	r.putTraced("13", false, 0, 0)                         // fails once
	r.putTraced("14", false, 0, 0)                         // poison
	r.putTraced("15", false, 0, 0)                         // expired
	r.put(everySubject, "no trace")
	var failed atomic.Bool
	r.start(cfg, stage.Each(func(ctx context.Context, m stage.Message) ([]stage.Output, error) {
		name := string(m.Data)
		if in := trace.SpanContextFromContext(ctx); in.IsValid() != (name != "no trace") || in.IsValid() && !strings.HasSuffix(in.TraceID().String(), name) {
			t.Errorf("%s is handled in %v", name, in)
		}
		switch {
		case name == "13" && !failed.Swap(true):
			return nil, errors.New("no luck")
		case name == "14":
			return nil, stage.Poison(errors.New("rotten"))
		case name == "15":
			return nil, stage.Drop(ledger.Expired, "max_age")
		}
		return []stage.Output{{Subject: streams.PredictionSubject("m", "cam"), ID: name, Data: m.Data}}, nil
	}))
	r.settled(streams.Frames)
	all := o.samples()
	infer := map[string]string{"stage": "infer"}
	for what, got := range map[string][2]float64{
		"done":         {all.Sum(telemetry.StageMessages, map[string]string{"outcome": "done"}), 5},
		"dropped":      {all.Sum(telemetry.StageMessages, map[string]string{"outcome": "dropped"}), 1},
		"retried":      {all.Sum(telemetry.StageMessages, map[string]string{"outcome": "retried"}), 1},
		"quarantined":  {all.Sum(telemetry.StageMessages, map[string]string{"outcome": "quarantined"}), 1},
		"redeliveries": {all.Sum(telemetry.Redeliveries, infer), 1},
		"dead letters": {all.Sum(telemetry.DeadLetters, infer), 1},
		"expired":      {all.Sum(telemetry.FramesDropped, map[string]string{"fate": "expired", "reason": "max_age"}), 1},
		"poison":       {all.Sum(telemetry.FramesDropped, map[string]string{"fate": "quarantined", "reason": "handler"}), 1},
		"queue":        {all.Sum(telemetry.StageDuration, map[string]string{"phase": "queue"}), 8},
		"work":         {all.Sum(telemetry.StageDuration, map[string]string{"phase": "work"}), 8},
		"publish":      {all.Sum(telemetry.StageDuration, map[string]string{"phase": "publish"}), 5},
		"age":          {all.Sum(telemetry.FrameAge, map[string]string{"delivery": "every_frame"}), 4},
		"kept slow":    {all.Sum(telemetry.TracesKept, map[string]string{"why": "slow"}), 2},
		"kept failed":  {all.Sum(telemetry.TracesKept, map[string]string{"why": "failed"}), 1},
		"kept poison":  {all.Sum(telemetry.TracesKept, map[string]string{"why": "quarantined"}), 1},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %g, want %g", what, got[0], got[1])
		}
	}
	outcomes := map[string]string{}
	for _, s := range o.exported()["process frames.every"] {
		id := s.SpanContext.TraceID().String()
		for _, a := range s.Attributes {
			if string(a.Key) == telemetry.AttrOutcome {
				outcomes[id[30:]] += a.Value.AsString() + " "
			}
		}
		if failed := s.Status.Code == codes.Error; failed != (id[30:] == "14" || id[30:] == "13" && strings.Count(outcomes["13"], " ") == 1) {
			t.Errorf("%s: %+v", id[30:], s.Status)
		}
	}
	want := map[string]string{"10": "done ", "12": "done ", "13": "retried done ", "14": "quarantined ", "15": "dropped "}
	if len(outcomes) != len(want) {
		t.Errorf("%v, want %v", outcomes, want)
	}
	for name, o := range want {
		if outcomes[name] != o {
			t.Errorf("%s: %q, want %q", name, outcomes[name], o)
		}
	}
	for _, m := range r.stored(streams.Predictions) {
		if name := string(m.Data); name != "no trace" && (!strings.Contains(m.Header.Get(frame.HeaderTrace), name) || strings.Contains(m.Header.Get(frame.HeaderTrace), "00f067aa0ba902b7")) {
			t.Errorf("%s goes on as %s", name, m.Header.Get(frame.HeaderTrace))
		}
	}
}

// A batch is one span, linked to those of its messages.
func TestTheSpanOfABatch(t *testing.T) {
	r := newRig(t)
	o := observe(t)
	cfg := r.config()
	cfg.Name, cfg.Telemetry, cfg.MaxBatch, cfg.MaxQueueDelay, cfg.BatchSpan = "infer", o.Telemetry, 3, 5*time.Second, "infer batch"
	for _, name := range []string{"20", "21", "22"} {
		r.putTraced(name, true, 0, 0)
	}
	r.start(cfg, func(_ context.Context, batch []stage.Message) ([]stage.Result, error) {
		return make([]stage.Result, len(batch)), nil
	})
	r.settled(streams.Frames)
	got := o.exported()
	if len(got["infer batch"]) != 1 || len(got["process frames.every"]) != 3 {
		t.Fatal(got)
	}
	batch := got["infer batch"][0]
	links := map[trace.SpanID]bool{}
	for _, l := range batch.Links {
		links[l.SpanContext.SpanID()] = true
	}
	for _, s := range got["process frames.every"] {
		if !links[s.SpanContext.SpanID()] || len(s.Links) != 1 || s.Links[0].SpanContext.SpanID() != batch.SpanContext.SpanID() {
			t.Errorf("%+v is not linked to %+v", s, batch)
		}
	}
}

// What is published again was stored already.
func TestDuplicatesAreCounted(t *testing.T) {
	r := newRig(t)
	o := observe(t)
	cfg := r.config()
	cfg.Name, cfg.Telemetry = "infer", o.Telemetry
	r.put(everySubject, "a", "b")
	r.start(cfg, stage.Each(func(context.Context, stage.Message) ([]stage.Output, error) {
		return []stage.Output{{Subject: streams.PredictionSubject("m", "cam"), ID: "same"}}, nil
	}))
	r.settled(streams.Frames)
	if n := o.samples().Sum(telemetry.DuplicatesSuppressed, map[string]string{"stage": "infer"}); n != 1 {
		t.Errorf("%g duplicates", n)
	}
	o.exported()
}

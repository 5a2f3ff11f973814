package stage_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/streams"
)

// BenchmarkStage is one live stage on an embedded broker: 20 KB in; out is a tensor, or what a prediction weighs.
// Ring limits are lifted, so that every message counts. With metrics, as without OTLP; with traces, as with it and a frame in
// a hundred sampled. Compare them as processes of their own, in turns: what runs first in a process is slower.
func BenchmarkStage(b *testing.B) {
	measured := []struct {
		name string
		cfg  *telemetry.Config
	}{{"off", nil}, {"metrics", &telemetry.Config{}}, {"traces", &telemetry.Config{Spans: tracetest.NewNoopExporter()}}}
	for _, m := range measured {
		b.Run("out=230KB/telemetry="+m.name, func(b *testing.B) { benchmarkStage(b, 230<<10, m.cfg) })
	}
	for _, m := range measured {
		b.Run("out=1KB/telemetry="+m.name, func(b *testing.B) { benchmarkStage(b, 1<<10, m.cfg) })
	}
}

func benchmarkStage(b *testing.B, out int, measured *telemetry.Config) {
	b.Helper()
	var tel *telemetry.Telemetry
	if measured != nil {
		var err error
		if tel, err = telemetry.Start(b.Context(), *measured); err != nil {
			b.Fatal(err)
		}
		defer func() { _ = tel.Shutdown(context.Background()) }()
	}
	r := newRig(b)
	for _, name := range []string{"BENCH_IN", "BENCH_OUT"} {
		cfg := jetstream.StreamConfig{
			Name: name, Subjects: []string{name + ".*"}, Storage: jetstream.MemoryStorage, MaxMsgsPerSubject: 64,
			Discard: jetstream.DiscardOld, Duplicates: 10 * time.Second,
		}
		if name == "BENCH_IN" {
			cfg.Retention, cfg.MaxMsgsPerSubject = jetstream.WorkQueuePolicy, -1
		}
		if _, err := r.js.CreateStream(r.ctx(), cfg); err != nil {
			b.Fatal(err)
		}
	}
	const ahead = 64
	done := &counter{all: uint64(b.N), ended: make(chan struct{}), room: make(chan struct{}, ahead)}
	payload := make([]byte, out)
	s := stage.New(stage.Config{
		Name: "bench", Publisher: r.client(), Sources: []streams.Binder{r.bind(r.client(), "BENCH_IN", 10*time.Second)},
		Quarantine: func(stage.Message) string { return "dlq.bench.cam" }, Workers: 2, Observer: done, Telemetry: tel,
	}, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
		return []stage.Output{{Subject: "BENCH_OUT.cam", ID: m.Header.Get("Name"), Data: payload}}, nil
	}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	in := r.client()
	b.SetBytes(int64(20<<10 + out))
	b.ResetTimer()
	go func() { ended <- s.Run(ctx) }()
	go func() {
		data := make([]byte, 20<<10)
		for i := range b.N {
			done.room <- struct{}{}
			msg := &nats.Msg{Subject: "BENCH_IN.cam", Header: nats.Header{
				"Name": {strconv.Itoa(i)}, frame.HeaderCaptured: {strconv.FormatInt(time.Now().UnixNano(), 10)}, frame.HeaderTrace: {traceparent(i)},
			}, Data: data}
			if _, err := in.PublishMsg(context.Background(), msg); err != nil {
				b.Error(err)
			}
		}
	}()
	<-done.ended
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// traceparent is that of a frame; one in a hundred is sampled.
func traceparent(i int) string {
	sampled := 0
	if i%100 == 0 {
		sampled = 1
	}
	return fmt.Sprintf("00-4bf92f3577b34da6%016x-00f067aa0ba902b7-%02x", i, sampled)
}

// counter ends a benchmark when all messages are done.
type counter struct {
	n     atomic.Uint64
	all   uint64
	ended chan struct{}
	room  chan struct{}
}

func (c *counter) Taken(stage.Message) {}

func (c *counter) Done(stage.Message, []stage.Output) {
	<-c.room
	if c.n.Add(1) == c.all {
		close(c.ended)
	}
}

func (c *counter) Dropped(stage.Message, ledger.Mark, string) {}
func (c *counter) Returned(stage.Message)                     {}

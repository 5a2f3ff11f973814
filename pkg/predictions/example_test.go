package predictions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	otel "go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

func ExampleClient_Subscribe() {
	ctx, log := context.Background(), slog.Default()
	nc, err := nats.Connect("nats://localhost:4222", nats.MaxReconnects(-1))
	if err != nil {
		return
	}
	defer nc.Close()
	client, err := predictions.Open(nc)
	if err != nil {
		return
	}

	for m, err := range client.Subscribe(ctx, predictions.Filter{Camera: "door"}) {
		switch {
		case err != nil: // a malformed message, or the broker is away: it goes on by itself
			log.WarnContext(ctx, "predictions", slog.Any("error", err))
		case m.Kind == predictions.KindGap:
			fmt.Println(m.Camera, "cannot be seen:", m.Gap.Reason)
		case len(m.Detections) == 0:
			fmt.Println(m.Camera, "nothing in view")
		default:
			fmt.Println(m.Camera, m.Detections[0].Class, m.Detections[0].Box)
		}
	}
}

func ExampleContext() {
	var client *predictions.Client // as in the example of Subscribe
	ctx := context.Background()
	var tracer otel.Tracer // of your TracerProvider

	for m, err := range client.Subscribe(ctx, predictions.Filter{Camera: "door"}) {
		if err != nil {
			continue
		}
		ctx, span := tracer.Start(predictions.Context(ctx, m), "open the door")
		openTheDoor(ctx, m)
		span.End()
	}
}

func openTheDoor(context.Context, predictions.Message) {}

func ExampleClient_Durable() {
	var client *predictions.Client // as in the example of Subscribe
	ctx, log := context.Background(), slog.Default()
	bill := func(predictions.Message) error { return nil } // must not mind the same ID twice

	for d, err := range client.Durable(ctx, "billing", predictions.Filter{Model: "people"}) {
		if err != nil {
			log.WarnContext(ctx, "predictions", slog.Any("error", err))
			continue
		}
		if err := bill(d.Message); err != nil {
			_ = d.Retry(5 * time.Second) // without it, the message comes again after 30 s
			continue
		}
		if err := d.Ack(ctx); err != nil {
			log.WarnContext(ctx, "billed, but it may come again", slog.String("id", d.ID), slog.Any("error", err))
		}
	}
}

func ExampleClient_SubscribeAfter() {
	var client *predictions.Client // as in the example of Subscribe
	ctx, log := context.Background(), slog.Default()
	load := func() uint64 { return 0 }                             // the last Seq that was saved
	save := func(predictions.Message, uint64) error { return nil } // result and Seq, in one transaction

	for m, err := range client.SubscribeAfter(ctx, load(), predictions.Filter{}) {
		if err != nil {
			log.WarnContext(ctx, "predictions", slog.Any("error", err))
			continue
		}
		if err := save(m, m.Seq); err != nil {
			return // start again from what was saved
		}
	}
}

func ExampleClient_Latest() {
	client, stop := platform()
	defer stop()

	for m, err := range client.Latest(context.Background(), predictions.Filter{}) {
		switch {
		case err != nil:
			fmt.Println("error:", err)
		case m.Kind == predictions.KindGap:
			fmt.Println(m.Camera, "unknown:", m.Gap.Reason)
		default:
			fmt.Println(m.Camera, len(m.Detections), "objects")
		}
	}
	// Output:
	// door 1 objects
	// yard unknown: stalled
}

func ExampleClient_Replay() {
	client, stop := platform()
	defer stop()
	anHourAgo := time.Now().Add(-time.Hour)

	for m, err := range client.Replay(context.Background(), anHourAgo, predictions.Filter{Camera: "door"}) {
		if err != nil {
			fmt.Println("error:", err)
			continue
		}
		fmt.Println(m.Seq, m.Frame, len(m.Detections), "objects")
	}
	// Output:
	// 1 door/7/1 0 objects
	// 3 door/7/2 1 objects
}

// platform is a broker with a few messages, for the examples.
func platform() (*predictions.Client, func()) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "predictions")
	must(err)
	server, err := broker.StartEmbedded(ctx, "127.0.0.1", -1, dir)
	must(err)
	nc, err := nats.Connect(server.URL())
	must(err)
	js, err := jetstream.New(nc)
	must(err)
	must(streams.Ensure(ctx, js, streams.Options{}))
	for _, p := range []predictions.Prediction{answer("door", 1), answer("yard", 1), answer("door", 2, person(0.9)), gap("yard", "stalled", time.Time{})} {
		data, err := json.Marshal(p)
		must(err)
		_, err = js.Publish(ctx, streams.PredictionSubject(p.Model, p.Camera), data, jetstream.WithMsgID(p.ID()))
		must(err)
	}
	client, err := predictions.Open(nc)
	must(err)
	return client, func() {
		nc.Close()
		server.Stop()
		must(os.RemoveAll(dir))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

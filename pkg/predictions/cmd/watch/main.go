// Command watch prints predictions, one a line. It is the example of package predictions as a whole program, and
// prints what examples/node prints.
//
//	go run ./pkg/predictions/cmd/watch latest [camera]                      the newest message of every model and camera
//	go run ./pkg/predictions/cmd/watch replay 2026-01-31T08:00:00Z [camera] what was stored since then
//	go run ./pkg/predictions/cmd/watch live [camera]                        what happens from now on, until Ctrl-C
//	go run ./pkg/predictions/cmd/watch durable <name> [camera]              the same, at least once, across crashes
//
// NATS_URL says where the broker is, NATS_NKEY names the file with the seed of the user app, NATS_CA that of the authority that
// vouches for a tls:// broker; a broker on this machine (make demo) needs none of them.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/pkg/predictions"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: watch latest | replay <RFC 3339 time> | live | durable <name>  [camera]")

func run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	args = append(args, "", "", "") // what is left out is ""
	nc, err := connect(env)
	if err != nil {
		return err
	}
	defer nc.Close()
	client, err := predictions.Open(nc)
	if err != nil {
		return err
	}

	var messages iter.Seq2[predictions.Message, error]
	switch args[0] {
	case "latest":
		messages = client.Latest(ctx, predictions.Filter{Camera: args[1]})
	case "replay":
		since, err := time.Parse(time.RFC3339, args[1])
		if err != nil {
			return errUsage
		}
		messages = client.Replay(ctx, since, predictions.Filter{Camera: args[2]})
	case "live":
		messages = client.Subscribe(ctx, predictions.Filter{Camera: args[1]})
	case "durable":
		messages = acknowledged(ctx, client.Durable(ctx, args[1], predictions.Filter{Camera: args[2]}))
	default:
		return errUsage
	}
	for m, err := range messages {
		if err != nil { // one bad message must not end the reader
			_, _ = fmt.Fprintln(stderr, err)
			continue
		}
		if _, err := fmt.Fprintln(stdout, line(m)); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

func connect(env func(string) string) (*nats.Conn, error) {
	url := cmp.Or(env("NATS_URL"), nats.DefaultURL)
	options := []nats.Option{nats.MaxReconnects(-1)}
	if seed := env("NATS_NKEY"); seed != "" {
		sign, err := nats.NkeyOptionFromSeed(seed)
		if err != nil {
			return nil, fmt.Errorf("NATS_NKEY: %w", err)
		}
		options = append(options, sign, nats.CustomInboxPrefix("_INBOX_app")) // each user listens to answers of its own only
	}
	if ca := env("NATS_CA"); ca != "" {
		options = append(options, nats.RootCAs(ca))
	}
	nc, err := nats.Connect(url, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	return nc, nil
}

// acknowledged tells the broker that a delivery has been handled when the loop asks for the next one.
func acknowledged(ctx context.Context, deliveries iter.Seq2[predictions.Delivery, error]) iter.Seq2[predictions.Message, error] {
	return func(yield func(predictions.Message, error) bool) {
		for d, err := range deliveries {
			if !yield(d.Message, err) {
				return
			}
			if err := d.Ack(ctx); err != nil && !yield(predictions.Message{}, err) {
				return
			}
		}
	}
}

func line(m predictions.Message) string {
	if m.Kind == predictions.KindGap { // nobody looked: that is not the same as nothing in view
		end := "further notice"
		if !m.Gap.To.IsZero() {
			end = m.Gap.To.Format(time.RFC3339Nano)
		}
		return fmt.Sprintf("%s %s %s: unknown, %s until %s", m.Gap.From.Format(time.RFC3339Nano), m.Camera, m.Model, m.Gap.Reason, end)
	}
	objects := make([]string, len(m.Detections))
	for i, d := range m.Detections {
		objects[i] = fmt.Sprintf("%s %.2f", d.Class, d.Score)
	}
	text := strings.Join(objects, ", ")
	if text == "" {
		text = "nothing in view"
	}
	if m.Status == predictions.StatusDegraded {
		text += " (degraded)"
	}
	return fmt.Sprintf("%s %s %s: %s", m.CapturedAt.Format(time.RFC3339Nano), m.Camera, m.Model, text)
}

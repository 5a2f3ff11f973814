package ingest_test

import (
	"cmp"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

// reluctant is a broker that takes frames only as a test lets it.
type reluctant struct {
	jetstream.JetStream

	let <-chan struct{}
}

func (r reluctant) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if strings.HasPrefix(m.Subject, "frames.") {
		select {
		case <-r.let:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return r.JetStream.PublishMsg(ctx, m, opts...)
}

// An instance that stops publishes what it has of every_frame cameras for as long as the broker takes it, and gives up soon
// when it does not.
func TestWhatWaitsWhenAnInstanceStops(t *testing.T) {
	const shot = 7
	for _, c := range []struct {
		name     string
		delivery streams.Delivery
		every    time.Duration // a frame is stored
		stored   uint64
		within   time.Duration
	}{
		{"while the broker takes frames", streams.EveryFrame, time.Second, shot, 11 * time.Second},
		{"the broker takes none", streams.EveryFrame, never, 0, 9 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inTime(t, func(t *testing.T) (missed string) {
				t.Helper()
				r := newSite(t, door(t, c.delivery))
				let := make(chan struct{})
				r.slow = func(js jetstream.JetStream) jetstream.JetStream { return reluctant{js, let} }
				at := newScene()
				stop := r.start(t, "a", map[string]*scene{"door": at})
				at.shoot(t, shot)
				tick := time.NewTicker(c.every)
				defer tick.Stop()
				stopped := make(chan struct{})
				began := time.Now()
				go func() {
					defer close(stopped)
					stop()
				}()
				for open := true; open; {
					select {
					case <-tick.C:
						select {
						case let <- struct{}{}:
						case <-stopped:
						}
					case <-stopped:
						open = false
					}
				}
				took := time.Since(began)
				books, err := ledger.Read(t.Context(), r.js)
				if err != nil {
					t.Fatal(err)
				}
				lines := books.Lines(time.Now(), nil)
				if len(lines) != 1 || lines[0].Captured != shot || lines[0].InFlight+lines[0].Superseded != shot || lines[0].Superseded != lines[0].Reasons["superseded/broker_away"] {
					t.Fatalf("books %+v", lines)
				}
				if lines[0].InFlight != c.stored {
					missed = "frames were dropped"
				}
				return cmp.Or(missed, within(c.within, took, "stopped after"))
			})
		})
	}
}

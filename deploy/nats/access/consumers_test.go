package access_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/deploy/nats/access"
	"github.com/sightline-dev/sightline/streams"
)

// Applications cannot fill the broker with consumers: there is a limit, and it holds for calls from their account.
func TestApplicationsMakeSoManyConsumers(t *testing.T) {
	s := newSite(t, "nats-1")
	ops := s.connect(access.Operator, "o1", nil)
	s.eventually(func() error { return streams.Ensure(t.Context(), ops, streams.Options{}) })
	stream, err := ops.Stream(t.Context(), streams.Predictions)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	if cfg.MaxConsumers != streams.Readers {
		t.Errorf("%d consumers at most, want %d", cfg.MaxConsumers, streams.Readers)
	}
	cfg.MaxConsumers = 3 // so that it does not take long
	if _, err := ops.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	nc, _ := s.watched(access.App)
	app, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	var refused *jetstream.APIError
	for i := range 4 {
		_, err = app.CreateConsumer(t.Context(), streams.Predictions, jetstream.ConsumerConfig{Durable: fmt.Sprintf("app%d", i), AckPolicy: jetstream.AckExplicitPolicy})
		if i < 3 && err != nil {
			t.Fatal(err)
		}
	}
	if !errors.As(err, &refused) || refused.ErrorCode != jetstream.JSErrCodeMaximumConsumersLimit {
		t.Errorf("one more: %v", err)
	}
	// As declared again: what is there stays, and there is room.
	if err := streams.Ensure(t.Context(), ops, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := app.CreateConsumer(t.Context(), streams.Predictions, jetstream.ConsumerConfig{Durable: "another", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Error(err)
	}
}

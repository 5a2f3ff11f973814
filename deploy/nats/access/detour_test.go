package access_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/deploy/nats/access"
	"github.com/sightline-dev/sightline/streams"
)

// TestNothingByDetour: whoever may read a stream says where the broker delivers, and whoever asks says where it answers. Neither
// makes the broker obey a call, take an acknowledgement, or store a message that the user may not send.
func TestNothingByDetour(t *testing.T) {
	s := newSite(t, "nats-1")
	ops, _ := s.watched(access.Operator)
	js, err := jetstream.New(ops)
	if err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	ingest := s.connect(access.Ingest, "a", nil)
	publish := func(subject string) {
		t.Helper()
		s.eventually(func() error {
			_, err := ingest.Publish(t.Context(), subject, []byte("{}"))
			return err
		})
	}
	publish(streams.PredictionSubject("m", "door"))
	publish(streams.FrameSubject(streams.EveryFrame, "door"))
	targets := []string{"$JS.API.STREAM.DELETE." + streams.Events, "$JS.API.STREAM.PURGE." + streams.Predictions, "$KV.LEASES.door", s.inHand(t)}

	app, _ := s.watched(access.App)
	mine, err := jetstream.New(app)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := mine.CreateConsumer(t.Context(), streams.Predictions, jetstream.ConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for i, target := range targets {
		for _, headersOnly := range []bool{false, true} { // nothing is what an acknowledgement says
			_, err := mine.CreatePushConsumer(t.Context(), streams.Predictions, jetstream.ConsumerConfig{
				Name: fmt.Sprintf("to-%d-%t", i, headersOnly), DeliverSubject: target, AckPolicy: jetstream.AckNonePolicy, HeadersOnly: headersOnly,
			})
			if err != nil {
				t.Logf("deliver to %s: %v", target, err) // all the better
			}
		}
		for _, ask := range []string{
			"$JS.API.STREAM.INFO." + streams.Predictions, "$JS.API.CONSUMER.MSG.NEXT." + streams.Predictions + "." + reader.CachedInfo().Name,
			"$JS.API.DIRECT.GET." + streams.Predictions + "." + streams.PredictionSubject("m", "door"),
		} {
			if err := app.PublishRequest(ask, target, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish(streams.PredictionSubject("m", "door"))
	<-time.After(time.Second) // nothing tells that something does not happen
	for name, want := range map[string]uint64{streams.Events: 0, streams.Predictions: 2, "KV_" + streams.LeasesBucket: 0} {
		if info, err := js.Stream(t.Context(), name); err != nil || info.CachedInfo().State.Msgs != want {
			t.Errorf("%s: %v, want %d messages", name, err, want)
		}
	}
	if c, err := js.Consumer(t.Context(), streams.Frames, "preprocess"); err != nil || c.CachedInfo().NumAckPending != 1 {
		t.Errorf("a frame was acknowledged by somebody else: %v", err)
	}
}

// inHand is the subject on which a frame would be acknowledged that a worker has in its hands.
func (s *site) inHand(t *testing.T) string {
	t.Helper()
	group, err := streams.Preprocess(s.connect(access.Preprocess, "a", nil))[1](t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m, err := group.Next(jetstream.FetchMaxWait(10 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return m.Reply()
}

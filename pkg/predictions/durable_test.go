package predictions_test

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// impatient makes a durable with a short AckWait, as an operator may.
func (s *server) impatient(name string) {
	s.t.Helper()
	_, err := s.js.CreateConsumer(s.t.Context(), streams.Predictions, jetstream.ConsumerConfig{
		Durable: "app-" + name, FilterSubject: "predictions.*.*", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 500 * time.Millisecond,
		MaxDeliver: -1,
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// deliveries handles n deliveries with f and leaves the loop.
func deliveries(t *testing.T, c *predictions.Client, name string, n int, f func(predictions.Delivery, error)) {
	t.Helper()
	for d, err := range c.Durable(t.Context(), name, predictions.Filter{}) {
		f(d, err)
		if n--; n == 0 {
			return
		}
	}
}

func seqOf(c *predictions.Client, name string) func(context.Context) iter.Seq2[predictions.Delivery, error] {
	return func(ctx context.Context) iter.Seq2[predictions.Delivery, error] {
		return c.Durable(ctx, name, predictions.Filter{})
	}
}

func TestDurableDeliversAgainAfterACrash(t *testing.T) {
	s := serve(t)
	s.impatient("billing")
	s.publish(answer("door", 1), answer("door", 2), answer("door", 3))

	var id string
	deliveries(t, s.client(), "billing", 2, func(d predictions.Delivery, err error) {
		equal(t, []string{tell(d.Message, err)}, "door/7/"+string(rune('0'+d.Seq)))
		if d.Seq == 1 {
			if err := d.Ack(t.Context()); err != nil {
				t.Error(err)
			}
		}
		id = d.ID
	}) // door/7/2 was not acknowledged: the process died

	attempts := map[string]int{}
	deliveries(t, s.client(), "billing", 2, func(d predictions.Delivery, err error) {
		if err != nil {
			t.Error(err)
		}
		attempts[d.ID] = d.Attempt
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := d.Ack(ended); err != nil { // a shutdown does not keep what was done from being acknowledged
			t.Error(err)
		}
	})
	if attempts[id] < 2 || attempts["door/7/3/people@3"] != 1 || len(attempts) != 2 {
		t.Errorf("attempts %v, want door/7/3 once and %s again", attempts, id)
	}
}

func TestDurableBeginsWithItsFirstUse(t *testing.T) {
	s := serve(t)
	c := s.client()
	s.publish(answer("door", 1))
	word := func(d predictions.Delivery, err error) string {
		if err == nil {
			err = d.Ack(context.Background())
		}
		return tell(d.Message, err)
	}
	got, stop := following(t, seqOf(c, "mail"), word)
	s.await(1)
	s.publish(answer("door", 2))
	equal(t, take(t, got, 1), "door/7/2")
	stop()
	s.publish(answer("door", 3), gap("door", "auth", time.Time{})) // nobody is there
	got, stop = following(t, seqOf(c, "mail"), word)
	equal(t, take(t, got, 2), "door/7/3", "door auth")
	stop()

	if err := c.RemoveDurable(t.Context(), "mail"); err != nil {
		t.Fatal(err)
	}
	if err := c.RemoveDurable(t.Context(), "mail"); err != nil {
		t.Fatalf("a second time: %v", err)
	}
	s.await(0)
}

func TestDurableRetryAndMalformed(t *testing.T) {
	s := serve(t)
	s.impatient("mail")
	s.store("people", "door", "bad", []byte("{}"))
	s.publish(answer("door", 1))
	var got []string
	deliveries(t, s.client(), "mail", 3, func(d predictions.Delivery, err error) {
		got = append(got, tell(d.Message, err))
		settle := d.Ack
		if d.Attempt == 1 {
			settle = func(context.Context) error { return d.Retry(20 * time.Millisecond) }
		}
		if err := settle(t.Context()); err != nil { // harmless for what came with an error
			t.Error(err)
		}
	})
	equal(t, got, "malformed 1 predictions.people.door", "door/7/1", "door/7/1")
}

func TestDurableErrorsThatEnd(t *testing.T) {
	s := serve(t)
	s.impatient("mail")
	c := s.client()
	ended := 0
	for _, err := range c.Durable(t.Context(), "mail", predictions.Filter{Camera: "door"}) {
		if ended++; !errors.Is(err, predictions.ErrDurableDiffers) {
			t.Error(err)
		}
	}
	for _, err := range c.Durable(t.Context(), "e.mail", predictions.Filter{}) {
		if ended++; !errors.Is(err, predictions.ErrFilter) {
			t.Error(err)
		}
	}
	if ended != 2 {
		t.Errorf("%d errors, want one of each loop", ended)
	}
	if err := c.RemoveDurable(t.Context(), ""); !errors.Is(err, predictions.ErrFilter) {
		t.Error(err)
	}
}

func TestDurableThatWasRemovedComesBack(t *testing.T) {
	s := serve(t)
	c := s.client()
	got, _ := following(t, seqOf(c, "mail"), func(d predictions.Delivery, err error) string {
		if err == nil {
			err = d.Ack(context.Background())
		}
		return tell(d.Message, err)
	})
	s.await(1)
	s.publish(answer("door", 1))
	equal(t, messagesOf(t, got, 1, isFrame), "door/7/1")
	if err := c.RemoveDurable(t.Context(), "mail"); err != nil {
		t.Fatal(err)
	}
	s.publish(answer("door", 2))
	equal(t, messagesOf(t, got, 1, isFrame), "door/7/2")
}

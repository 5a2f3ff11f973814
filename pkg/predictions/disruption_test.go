package predictions_test

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// restart stops the broker and starts it again where it was.
func (s *server) restart() {
	s.t.Helper()
	s.now.Stop()
	s.start()
}

func frames(from, to int) []string {
	out := make([]string, 0, to-from+1)
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprintf("door/7/%d", i))
	}
	return out
}

// messagesOf takes n messages and leaves out errors, which are allowed while the broker is away.
func messagesOf(t *testing.T, from <-chan string, n int, isMessage func(string) bool) []string {
	t.Helper()
	var got []string
	for len(got) < n {
		if s := take(t, from, 1)[0]; isMessage(s) {
			got = append(got, s)
		}
	}
	return got
}

func isFrame(s string) bool {
	var seq int
	_, err := fmt.Sscanf(s, "door/7/%d", &seq)
	return err == nil
}

func TestNothingIsLostOrDoubledAcrossRestarts(t *testing.T) {
	s := serve(t)
	c := s.client()
	got, stop := following(t, func(ctx context.Context) iter.Seq2[predictions.Message, error] {
		return c.Subscribe(ctx, predictions.Filter{Camera: "door"})
	}, tell)
	s.await(1)
	s.restart() // before the first message: "now" must not move
	const total = 600
	for i := 1; i <= total; i++ {
		if i == 150 || i == 400 {
			s.restart()
		}
		s.publish(answer("door", i))
	}
	equal(t, messagesOf(t, got, total, isFrame), frames(1, total)...)
	stop()
	for len(got) > 0 {
		if s := <-got; isFrame(s) {
			t.Errorf("%s came twice", s)
		}
	}
}

func TestReplayGoesOnAfterARestart(t *testing.T) {
	s := serve(t)
	for i := 1; i <= 600; i++ {
		s.publish(answer("door", i))
	}
	var got []string
	for m, err := range s.client().Replay(t.Context(), time.Time{}, predictions.Filter{}) {
		if err != nil {
			continue
		}
		if got = append(got, tell(m, err)); len(got) == 100 {
			s.restart()
		}
	}
	equal(t, got, frames(1, 600)...)
}

func TestLatestGoesOnAfterARestart(t *testing.T) {
	s := serve(t)
	want := make([]string, 0, 300)
	for i := range 300 {
		p := answer(fmt.Sprintf("camera-%d", i), 1)
		s.publish(p)
		want = append(want, p.Frame)
	}
	var got []string
	for m, err := range s.client().Latest(t.Context(), predictions.Filter{}) {
		if err != nil {
			continue
		}
		if got = append(got, tell(m, err)); len(got) == 10 {
			s.restart()
		}
	}
	equal(t, got, want...)
}

func TestTheReaderThatWasForgottenComesBack(t *testing.T) {
	s := serve(t)
	s.publish(answer("door", 1))
	c := s.client()
	got, _ := following(t, func(ctx context.Context) iter.Seq2[predictions.Message, error] {
		return c.SubscribeAfter(ctx, 0, predictions.Filter{})
	}, tell)
	equal(t, take(t, got, 1), "door/7/1")
	st, err := s.js.Stream(t.Context(), streams.Predictions)
	if err != nil {
		t.Fatal(err)
	}
	for name := range st.ConsumerNames(t.Context()).Name() {
		if err := st.DeleteConsumer(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	s.publish(answer("door", 2))
	equal(t, take(t, got, 1), "door/7/2") // without an error: nothing was lost
}

func TestWhatWasRemovedUnreadIsTold(t *testing.T) {
	s := serve(t)
	s.publish(answer("door", 1), answer("door", 2), answer("door", 3), answer("door", 4))
	st, err := s.js.Stream(t.Context(), streams.Predictions)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Purge(t.Context(), jetstream.WithPurgeSequence(4)); err != nil {
		t.Fatal(err)
	}
	c := s.client()
	for after, want := range map[uint64][]string{
		0:  {"door/7/4"}, // the beginning, wherever that is
		1:  {"messages 2 to 3 may be missed: the stream no longer has them", "door/7/4"},
		3:  {"door/7/4"},
		17: {"messages from 18 on may be missed: the stream was created anew", "door/7/4"},
	} {
		var got []string
		for m, err := range c.SubscribeAfter(t.Context(), after, predictions.Filter{}) {
			if got = append(got, tell(m, err)); len(got) == len(want) {
				break
			}
		}
		equal(t, got, want...)
	}
}

func TestAStreamMadeAnewIsFollowed(t *testing.T) {
	s := serve(t)
	c := s.client()
	s.publish(answer("door", 1), answer("door", 2), answer("door", 3))
	got, _ := following(t, func(ctx context.Context) iter.Seq2[predictions.Message, error] {
		return c.SubscribeAfter(ctx, 0, predictions.Filter{})
	}, tell)
	take(t, got, 3)
	if err := s.js.DeleteStream(t.Context(), streams.Predictions); err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), s.js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	s.publish(answer("door", 4), answer("door", 5), answer("door", 6), answer("door", 7))
	told := false
	equal(t, messagesOf(t, got, 4, func(s string) bool {
		told = told || s == "messages from 4 on may be missed: the stream was created anew"
		return isFrame(s)
	}), frames(4, 7)...)
	if !told {
		t.Error("nobody was told")
	}
}

func TestSharedDurableAcrossRestarts(t *testing.T) {
	s := serve(t)
	s.impatient("billing")
	work := func(ctx context.Context) iter.Seq2[predictions.Delivery, error] {
		return func(yield func(predictions.Delivery, error) bool) {
			for d, err := range s.client().Durable(ctx, "billing", predictions.Filter{}) {
				if err == nil {
					err = d.Ack(ctx)
				}
				if !yield(d, err) {
					return
				}
			}
		}
	}
	word := func(d predictions.Delivery, err error) string { return tell(d.Message, err) }
	one, _ := following(t, work, word)
	two, _ := following(t, work, word)
	const total = 200
	for i := 1; i <= total; i++ {
		if i == 100 {
			s.restart()
		}
		s.publish(answer("door", i))
	}
	seen := map[string]bool{}
	limit := time.After(60 * time.Second)
	for len(seen) < total {
		var m string
		select {
		case m = <-one:
		case m = <-two:
		case <-limit:
			t.Fatalf("%d of %d within 60 s", len(seen), total)
		}
		if isFrame(m) {
			seen[m] = true
		}
	}
	for _, f := range frames(1, total) {
		if !seen[f] {
			t.Errorf("%s is missing", f)
		}
	}
}

package predictions_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// tell is a message or error in a word.
func tell(m predictions.Message, err error) string {
	malformed, isMalformed := errors.AsType[*predictions.MalformedError](err)
	switch {
	case isMalformed && (malformed.Subject != m.Subject || malformed.Seq != m.Seq):
		return "error without its envelope"
	case isMalformed:
		return fmt.Sprintf("malformed %d %s", malformed.Seq, malformed.Subject)
	case err != nil:
		return err.Error()
	case m.Kind == predictions.KindGap:
		return m.Camera + " " + m.Gap.Reason
	default:
		return m.Frame
	}
}

// all reads a sequence that ends by itself.
func all(t *testing.T, seq iter.Seq2[predictions.Message, error]) []string {
	t.Helper()
	got := []string{}
	for m, err := range seq {
		got = append(got, tell(m, err))
	}
	return got
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// following runs a loop in the background and hands on what it yields.
func following[M any](t *testing.T, seq func(context.Context) iter.Seq2[M, error], tell func(M, error) string) (got <-chan string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, done := make(chan string, 4096), make(chan struct{})
	go func() {
		defer close(done)
		for m, err := range seq(ctx) {
			out <- tell(m, err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return out, stop
}

// take waits for n values.
func take(t *testing.T, from <-chan string, n int) []string {
	t.Helper()
	limit := time.After(30 * time.Second)
	got := make([]string, 0, n)
	for len(got) < n {
		select {
		case s := <-from:
			got = append(got, s)
		case <-limit:
			t.Fatalf("%d of %d within 30 s: %v", len(got), n, got)
		}
	}
	return got
}

// await waits until PREDICTIONS has n consumers.
func (s *server) await(n int) {
	s.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		st, err := s.js.Stream(s.t.Context(), streams.Predictions)
		if err == nil && st.CachedInfo().State.Consumers == n {
			return
		}
		if s.t.Context().Err() != nil {
			s.t.Fatal(err)
		}
	}
}

func TestLatest(t *testing.T) {
	s := serve(t)
	c := s.client()
	equal(t, all(t, c.Latest(t.Context(), predictions.Filter{})))

	other := answer("door", 9)
	other.Model = "faces"
	s.publish(answer("door", 1), answer("yard", 1), other, answer("door", 2), answer("yard", 2), gap("yard", "stalled", time.Time{}))
	s.store("people", "roof", "x", []byte(`{"schema":"sightline.prediction.v1"}`))
	latest := c.Latest(t.Context(), predictions.Filter{})
	for range 2 { // each range asks again
		equal(t, all(t, latest), "door/7/9", "door/7/2", "yard stalled", "malformed 7 predictions.people.roof")
	}
	equal(t, all(t, c.Latest(t.Context(), predictions.Filter{Camera: "door"})), "door/7/9", "door/7/2")
	equal(t, all(t, c.Latest(t.Context(), predictions.Filter{Camera: "door", Model: "people"})), "door/7/2")
	equal(t, all(t, c.Latest(t.Context(), predictions.Filter{Camera: "gate"})))
	s.await(0) // every consumer was removed
}

func TestLatestOfManyCameras(t *testing.T) {
	s := serve(t)
	want := make([]string, 0, 600)
	for i := range 600 { // more than one batch
		p := answer(fmt.Sprintf("camera-%d", i), 1)
		s.publish(p)
		want = append(want, p.Frame)
	}
	equal(t, all(t, s.client().Latest(t.Context(), predictions.Filter{})), want...)
}

func TestReplay(t *testing.T) {
	s := serve(t)
	c := s.client()
	s.publish(answer("door", 1), answer("yard", 1))
	at := time.Now() // the broker's clock, too
	var want []string
	for i := 2; i <= 700; i++ { // more than one batch
		s.publish(answer("door", i))
		want = append(want, fmt.Sprintf("door/7/%d", i))
	}
	s.store("people", "door", "bad", []byte("not JSON"))
	s.publish(gap("door", "auth", time.Time{}))
	s.store("people", "door", "stray", []byte(`{"schema":"sightline.prediction.v1","kind":"gap","status":"unknown","camera":"yard","model":"people","gap":{"reason":"auth","from":"2026-01-31T08:00:00Z"}}`))
	s.publish(answer("door", 701))
	want = append(want, "malformed 702 predictions.people.door", "door auth", "malformed 704 predictions.people.door", "door/7/701")

	equal(t, all(t, c.Replay(t.Context(), at, predictions.Filter{Camera: "door"})), want...)
	equal(t, all(t, c.Replay(t.Context(), time.Time{}, predictions.Filter{Camera: "yard"})), "yard/7/1")
	equal(t, all(t, c.Replay(t.Context(), time.Now().Add(time.Hour), predictions.Filter{})))
	equal(t, all(t, c.Replay(t.Context(), at, predictions.Filter{Model: "faces"})))
	for m, err := range c.Replay(t.Context(), at, predictions.Filter{}) {
		equal(t, []string{tell(m, err)}, "door/7/2")
		break
	}
	s.await(0)
}

func TestReplayEndsWhereItBegan(t *testing.T) {
	s := serve(t)
	s.publish(answer("door", 1), answer("door", 2))
	n := 2
	var got []string
	for m, err := range s.client().Replay(t.Context(), time.Time{}, predictions.Filter{}) {
		got = append(got, tell(m, err))
		n++
		s.publish(answer("door", n)) // it never catches up
	}
	equal(t, got, "door/7/1", "door/7/2")
}

func TestSubscribe(t *testing.T) {
	s := serve(t)
	c := s.client()
	s.publish(answer("door", 1))
	got, stop := following(t, func(ctx context.Context) iter.Seq2[predictions.Message, error] {
		return c.Subscribe(ctx, predictions.Filter{Camera: "door"})
	}, tell)
	s.await(1)
	s.publish(answer("door", 2), gap("door", "stalled", time.Time{}), answer("yard", 2))
	s.store("people", "door", "bad", []byte("null"))
	s.publish(gap("door", "stalled", began.Add(time.Second)), answer("door", 3))
	equal(t, take(t, got, 5), "door/7/2", "door stalled", "malformed 5 predictions.people.door", "door stalled", "door/7/3")
	stop() // quietly
	equal(t, nil, take(t, got, len(got))...)
	s.await(0)
}

func TestMessageCarriesItsEnvelope(t *testing.T) {
	s := serve(t)
	before := time.Now()
	s.publish(full())
	for m, err := range s.client().Latest(t.Context(), predictions.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Subject != "predictions.people.door" || m.Seq != 1 || m.ID != "door/7/12/people@3" || m.Traceparent != trace ||
			m.Time.Before(before.Add(-time.Second)) || m.Time.After(time.Now().Add(time.Second)) {
			t.Errorf("envelope %+v", m)
		}
		if m.Detections[1] != person(1) || m.Quality.Sharpness != 18000.25 {
			t.Errorf("prediction %+v", m.Prediction)
		}
	}
}

func TestSubscribeFromEarlier(t *testing.T) {
	s := serve(t)
	c := s.client()
	s.publish(answer("door", 1), answer("door", 2))
	since := time.Now()
	s.publish(answer("door", 3))
	fromTime, _ := following(t, func(ctx context.Context) iter.Seq2[predictions.Message, error] {
		return c.SubscribeSince(ctx, since, predictions.Filter{})
	}, tell)
	fromSeq, _ := following(t, func(ctx context.Context) iter.Seq2[predictions.Message, error] {
		return c.SubscribeAfter(ctx, 1, predictions.Filter{})
	}, tell)
	fromStart, _ := following(t, func(ctx context.Context) iter.Seq2[predictions.Message, error] {
		return c.SubscribeAfter(ctx, 0, predictions.Filter{})
	}, tell)
	equal(t, take(t, fromTime, 1), "door/7/3")
	equal(t, take(t, fromSeq, 2), "door/7/2", "door/7/3")
	equal(t, take(t, fromStart, 3), "door/7/1", "door/7/2", "door/7/3")
	s.publish(answer("door", 4))
	for _, got := range []<-chan string{fromTime, fromSeq, fromStart} {
		equal(t, take(t, got, 1), "door/7/4")
	}
}

func TestSequencesThatCannotWorkEnd(t *testing.T) {
	s := serve(t)
	nc := s.connect()
	c, err := predictions.Open(nc)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, all(t, c.Subscribe(t.Context(), predictions.Filter{Camera: "front door"})),
		`bad filter: "front door" is not a name: use 1 to 63 letters, digits, '-' or '_', starting with a letter or digit`)
	for _, err := range c.Latest(t.Context(), predictions.Filter{Model: ">"}) {
		if !errors.Is(err, predictions.ErrFilter) {
			t.Error(err)
		}
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	equal(t, all(t, c.Subscribe(done, predictions.Filter{})))
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // shorter than a fetch may be
	defer cancel()
	equal(t, all(t, c.Subscribe(soon, predictions.Filter{})))

	nc.Close()
	var last error
	for _, err := range c.SubscribeSince(t.Context(), began, predictions.Filter{}) {
		last = err
	}
	if !errors.Is(last, nats.ErrConnectionClosed) {
		t.Errorf("closed connection: %v", last)
	}
}

func TestSubscribeWaitsForTheStream(t *testing.T) {
	s := serve(t)
	if err := s.js.DeleteStream(t.Context(), streams.Predictions); err != nil {
		t.Fatal(err)
	}
	c := s.client()
	got, _ := following(t, func(ctx context.Context) iter.Seq2[predictions.Message, error] {
		return c.Subscribe(ctx, predictions.Filter{})
	}, tell)
	if first := take(t, got, 1)[0]; !strings.Contains(first, jetstream.ErrStreamNotFound.Error()) {
		t.Error(first)
	}
	if err := streams.Ensure(t.Context(), s.js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	s.await(1)
	s.publish(answer("door", 1))
	for {
		if next := take(t, got, 1)[0]; next == "door/7/1" {
			return
		} else if !strings.Contains(next, jetstream.ErrStreamNotFound.Error()) {
			t.Fatal(next)
		}
	}
}

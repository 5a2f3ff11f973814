package broker_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/streams"
)

const door = "frames.live.door"

// site answers for streams, as far as they are there.
type site struct {
	mu     sync.Mutex
	away   map[string]error // by what a subject begins with; nil never answers
	counts map[string]int
}

func (s *site) PublishMsg(ctx context.Context, msg *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	kind := strings.Join(strings.Split(msg.Subject, ".")[:2], ".")
	s.mu.Lock()
	err, away := s.away[kind]
	s.counts[kind]++
	s.mu.Unlock()
	switch {
	case away && err != nil:
		return nil, err
	case away:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &jetstream.PubAck{Stream: kind}, nil
}

func (s *site) set(kind string, err error, away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.away, kind)
	if away {
		s.away[kind] = err
	}
}

// took is how many messages each kind of stream was asked to take since the last time.
func (s *site) took() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	s.counts = map[string]int{}
	return c
}

func newSite() *site { return &site{away: map[string]error{}, counts: map[string]int{}} }

func send(t *testing.T, p broker.Publisher, subject string) (stream string, err error) {
	t.Helper()
	ack, err := p.PublishMsg(t.Context(), &nats.Msg{Subject: subject})
	if err != nil {
		return "", err
	}
	return ack.Stream, nil
}

func TestFailoverPassesOverAStreamThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		f := broker.NewFailover(s)
		expect := func(what, stream string, within time.Duration) {
			t.Helper()
			began := time.Now()
			got, err := send(t, f, door)
			if err != nil || got != stream || time.Since(began) != within {
				t.Errorf("%s: %s, %v after %s, want %s after %s", what, got, err, time.Since(began), stream, within)
			}
		}
		const live, twin, bound = "frames.live", "frames.twin", 250 * time.Millisecond
		expect("it is there", live, 0)
		s.set(live, nil, true)
		expect("it does not answer", twin, bound)
		s.took()
		for range 10 {
			expect("it is known to be away", twin, 0)
		}
		if c := s.took(); c[live] != 0 || c[twin] != 10 {
			t.Errorf("%v", c)
		}
		if other, err := send(t, f, "tensors.live.people.stable.door"); err != nil || other != "tensors.live" {
			t.Errorf("another kind of stream: %s, %v", other, err)
		}
		if !f.Away(door) || f.Away("tensors.live.people.stable.door") || f.Away("frames.every.door") {
			t.Error("who is away?")
		}
		// The pause doubles up to ten seconds; then one message finds out, the others do not wait for it.
		for _, pause := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second} {
			time.Sleep(pause - time.Millisecond) //nolint:forbidigo // in a bubble
			expect("still away", twin, 0)
			time.Sleep(time.Millisecond) //nolint:forbidigo // in a bubble
			s.took()
			var all sync.WaitGroup
			var slow atomic.Int32
			for range 8 {
				all.Go(func() {
					began := time.Now()
					if got, err := send(t, f, door); err != nil || got != twin {
						t.Error(got, err)
					}
					if time.Since(began) > 0 {
						slow.Add(1)
					}
				})
			}
			all.Wait()
			if c := s.took(); c[live] != 1 || c[twin] != 8 || slow.Load() != 1 {
				t.Errorf("after %s: %v, %d were slow", pause, c, slow.Load())
			}
		}
		s.set(live, nil, false)
		expect("back, not noticed", twin, 0)
		time.Sleep(10 * time.Second) //nolint:forbidigo // in a bubble
		expect("back", live, 0)
		expect("back", live, 0)
		// It begins with two seconds again.
		s.set(live, jetstream.ErrNoStreamResponse, true)
		expect("away again, and somebody says so", twin, 0)
		s.set(live, nil, false)
		time.Sleep(2 * time.Second) //nolint:forbidigo // in a bubble
		expect("back again", live, 0)
	})
}

func TestFailoverOnlyWhenTheTwinIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		f := broker.NewFailover(s)
		s.set("frames.live", nil, true)
		s.set("frames.twin", jetstream.ErrNoStreamResponse, true)
		for range 3 {
			_, err := send(t, f, door)
			if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, jetstream.ErrNoStreamResponse) || f.Away(door) {
				t.Errorf("%v, away %v", err, f.Away(door))
			}
		}
		// Away, with a twin, and then the twin goes and the stream is back.
		s.set("frames.twin", nil, false)
		if _, err := send(t, f, door); err != nil || !f.Away(door) {
			t.Error(err)
		}
		s.set("frames.live", nil, false)
		s.set("frames.twin", jetstream.ErrNoStreamResponse, true)
		if got, err := send(t, f, door); err != nil || got != "frames.live" || f.Away(door) {
			t.Errorf("%s, %v", got, err)
		}
		// A caller who stops waiting says nothing about the stream.
		s.set("frames.live", nil, true)
		s.set("frames.twin", nil, false)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := f.PublishMsg(ctx, &nats.Msg{Subject: door}); !errors.Is(err, context.Canceled) || f.Away(door) {
			t.Errorf("%v", err)
		}
		// One with little time leaves half of it for the twin.
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if ack, err := f.PublishMsg(ctx, &nats.Msg{Subject: door}); err != nil || ack.Stream != "frames.twin" {
			t.Errorf("%v, %v", ack, err)
		}
	})
}

func TestARefusalIsNoAbsence(t *testing.T) {
	t.Parallel()
	s := newSite()
	f := broker.NewFailover(s)
	for code, away := range map[jetstream.ErrorCode]bool{
		10054: false /* too large */, 10077: false /* full */, 10071: false, /* wrong last sequence */
		10008: true, 10009: true, 10023: true, 10118: true,
	} {
		err := error(&jetstream.APIError{ErrorCode: code})
		s.set("tensors.live", err, true)
		s.took()
		_, got := send(t, f, "tensors.live.people.stable.door")
		if c := s.took(); away != (c["tensors.twin"] == 1) || away != (got == nil) || !away && !errors.Is(got, err) {
			t.Errorf("%d: %v, %v", code, c, got)
		}
		s.set("tensors.live", nil, false)
		f = broker.NewFailover(s)
	}
	for _, err := range []error{nats.ErrMaxPayload, nats.ErrReconnectBufExceeded, nats.ErrConnectionClosed, nats.ErrBadSubject} {
		s.set("tensors.live", err, true)
		if _, got := send(t, f, "tensors.live.people.stable.door"); !errors.Is(got, err) {
			t.Errorf("%v: %v", err, got)
		}
	}
	if c := s.took(); c["tensors.twin"] != 0 {
		t.Errorf("%v", c)
	}
}

// What callers may give along works, and their message is theirs.
func TestFailoverLeavesTheMessageAlone(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	f := broker.NewFailover(js)
	if err := js.DeleteStream(t.Context(), streams.FramesLive); err != nil {
		t.Fatal(err)
	}
	data := []byte("jpeg")
	msg := &nats.Msg{Subject: door, Header: nats.Header{jetstream.MsgIDHeader: []string{"door/1/1"}, "X": []string{"y"}}, Data: data}
	for i := range 3 {
		ack, err := f.PublishMsg(t.Context(), msg, jetstream.WithRetryAttempts(0))
		if err != nil || ack.Stream != streams.FramesTwin || ack.Duplicate != (i > 0) {
			t.Fatalf("%+v, %v", ack, err)
		}
	}
	if msg.Subject != door || len(msg.Header) != 2 || msg.Header.Get(jetstream.MsgIDHeader) != "door/1/1" {
		t.Errorf("%+v", msg)
	}
	s, err := js.Stream(t.Context(), streams.FramesTwin)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if got.Subject != "frames.twin.door" || got.Header.Get("X") != "y" || string(got.Data) != "jpeg" {
		t.Errorf("%+v", got)
	}
	// Everything else passes through as it is.
	if ack, err := f.PublishMsg(t.Context(), &nats.Msg{Subject: "frames.every.door"}, jetstream.WithMsgID("1"), jetstream.WithExpectStream(streams.Frames)); err != nil || ack.Stream != streams.Frames {
		t.Errorf("%+v, %v", ack, err)
	}
	if err := js.DeleteStream(t.Context(), streams.Frames); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := f.PublishMsg(t.Context(), &nats.Msg{Subject: "frames.every.door"}); !errors.Is(err, jetstream.ErrNoStreamResponse) || time.Since(began) < jetstream.DefaultPubRetryWait {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

// TestLossOfANode kills the node that has FRAMES_LIVE under a steady stream of frames.
func TestLossOfANode(t *testing.T) {
	c := brokertest.StartCluster(t, 3)
	js := brokertest.Connect(t, c.URL(), "test")
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := streams.Ensure(t.Context(), js, streams.Options{Replicas: 3})
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	live, twin := at(t, js, streams.FramesLive), at(t, js, streams.FramesTwin)
	if live == twin {
		if err := streams.ReplaceLive(t.Context(), js, streams.FramesTwin, live, streams.Options{Replicas: 3}); err != nil {
			t.Fatal(err)
		}
	}
	// The consumer is not on the node that ends; the publisher is: it has to find another one, too.
	var consumers []jetstream.Consumer
	for i, bind := range streams.Preprocess(brokertest.Connect(t, c.NodeURL(twin), "consumer")) {
		if i == 1 {
			continue
		}
		consumer, err := bind(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		consumers = append(consumers, consumer)
	}
	work, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	got := map[string]bool{}
	var last time.Time
	var gap time.Duration
	first := make(chan string, 1024)
	var pulling sync.WaitGroup
	for _, consumer := range consumers {
		pulling.Go(func() {
			for work.Err() == nil {
				batch, err := consumer.Fetch(4, jetstream.FetchMaxWait(500*time.Millisecond))
				if err != nil {
					continue
				}
				for m := range batch.Messages() {
					mu.Lock()
					id := m.Headers().Get(jetstream.MsgIDHeader)
					if !last.IsZero() && !got[id] {
						gap = max(gap, time.Since(last))
					}
					last, got[id] = time.Now(), true
					mu.Unlock()
					_ = m.Ack()
					select {
					case first <- m.Subject():
					default:
					}
				}
			}
		})
	}
	publisher := brokertest.Connect(t, c.NodeURL(live)+","+c.NodeURL(twin), "publisher")
	f := broker.NewFailover(publisher)
	var worst, behind time.Duration
	var through []string
	var before time.Time
	killed := false
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := range 150 {
		<-tick.C
		if i == 50 {
			killed = true
			go c.Kill(live)
		}
		msg := &nats.Msg{Subject: door, Header: nats.Header{jetstream.MsgIDHeader: []string{strconv.Itoa(i)}}}
		began := time.Now()
		for {
			try, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			ack, err := f.PublishMsg(try, msg, jetstream.WithRetryAttempts(0))
			cancel()
			if err == nil {
				through = append(through, ack.Stream)
				break
			}
			if time.Since(began) > 20*time.Second {
				t.Fatalf("frame %d: %v", i, err)
			}
		}
		worst = max(worst, time.Since(began))
		if !before.IsZero() {
			behind = max(behind, time.Since(before))
		}
		before = time.Now()
	}
	if !killed || !slices.Contains(through[:50], streams.FramesLive) || slices.Contains(through[:50], streams.FramesTwin) || through[149] != streams.FramesTwin {
		t.Errorf("frames went through %v", through)
	}
	deadline = time.Now().Add(20 * time.Second)
	for {
		mu.Lock()
		n := 0
		for i := 60; i < 150; i++ { // those around the death may have died with it
			if got[strconv.Itoa(i)] {
				n++
			}
		}
		mu.Unlock()
		if n == 90 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of the 90 frames after the death came through the twin", n)
		}
		<-tick.C
	}
	stop()
	pulling.Wait()
	t.Logf("the node of FRAMES_LIVE was killed: longest publish %s, longest gap between publishes %s, between frames at the worker %s, %d of 150 frames handled",
		worst.Round(time.Millisecond), behind.Round(time.Millisecond), gap.Round(time.Millisecond), len(got))
	if behind > 5*time.Second { // 0.5 s on a quiet machine
		t.Errorf("publishing stood still for %s", behind)
	}
}

func at(t *testing.T, js jetstream.JetStream, stream string) string {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return streams.Node(s.CachedInfo())
}

func BenchmarkFailover(b *testing.B) {
	js := brokertest.JetStream(b)
	msg := &nats.Msg{Subject: door, Header: nats.Header{}, Data: make([]byte, 60<<10)}
	for name, p := range map[string]broker.Publisher{"plain": js, "failover": broker.NewFailover(js)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.PublishMsg(b.Context(), msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	// What is not the broker's.
	for name, p := range map[string]broker.Publisher{"plain-nowhere": newSite(), "failover-nowhere": broker.NewFailover(newSite())} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.PublishMsg(b.Context(), msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package stage_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

// publisher lets a test stand between a stage and the broker.
type publisher func(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error)

func (p publisher) PublishMsg(ctx context.Context, msg *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return p(ctx, msg)
}

// gate is a handler that says when it is at work and waits until it may answer.
type gate struct {
	at   chan string
	open chan struct{}
}

func newGate() gate { return gate{at: make(chan string, 100), open: make(chan struct{})} }

func (g gate) handle(ctx context.Context, m stage.Message) ([]stage.Output, error) {
	g.at <- string(m.Data)
	select {
	case <-g.open:
		return answer(m), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// ignore is the same without an ear for its context.
func (g gate) ignore(_ context.Context, m stage.Message) ([]stage.Output, error) {
	g.at <- string(m.Data)
	<-g.open
	return answer(m), nil
}

// Outputs are stored before the input is acknowledged; a crash between the two leads to a redelivery whose outputs
// are recognised.
func TestCrashBetweenOutputAndAck(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	crashed := make(chan struct{})
	cfg := r.config()
	cfg.DrainTimeout = time.Millisecond
	cfg.Publisher = publisher(func(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error) {
		if ack, err := r.js.PublishMsg(ctx, msg); err != nil {
			return ack, err
		}
		close(crashed)
		<-ctx.Done() // stored, and nobody will ever know
		return nil, ctx.Err()
	})
	first := r.start(cfg, stage.Each(answerAll))
	r.put(every, "f")
	<-crashed
	equal(t, "stored before the ack", r.data(streams.Predictions), []string{"f"})
	equal(t, "input still there", r.data(streams.Frames), []string{"f"})
	if err := first.stop(); !errors.Is(err, stage.ErrDrainTimeout) {
		t.Errorf("Run returned %v", err)
	}
	second := r.start(r.config(), stage.Each(answerAll))
	second.wait(1, "done f")
	r.settled(streams.Frames)
	equal(t, "answers", r.data(streams.Predictions), []string{"f"})
}

// Draining finishes what is in hand, takes nothing more for long, and owes nothing in the end.
func TestDrain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.Workers = 2
	g := newGate()
	m := r.start(cfg, stage.Each(g.handle))
	r.put(every, "a", "b", "c", "d", "e")
	<-g.at
	<-g.at
	m.cancel()
	close(g.open)
	if err := m.stop(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	r.settled(streams.Frames)
	got := r.data(streams.Predictions)
	slices.Sort(got)
	equal(t, "answers", got, []string{"a", "b", "c", "d", "e"})
	equal(t, "retried", m.Stats().Retried, uint64(0))
}

// A drain that takes too long cancels the handlers with the reason and hands everything back at once, whether the
// handlers listen or not; another member gets it long before AckWait.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"handler listens", "handler is deaf"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			cfg := r.config()
			cfg.Sources = []streams.Binder{r.bind(r.js, streams.Frames, 5*time.Minute)}
			cfg.DrainTimeout, cfg.Timeout = 50*time.Millisecond, time.Hour
			g := newGate()
			h := g.handle
			if name == "handler is deaf" {
				h = g.ignore
			}
			first := r.start(cfg, stage.Each(h))
			r.put(every, "a", "b", "c")
			for _, n := range []string{"a", "b", "c"} {
				first.wait(1, "taken "+n)
			}
			<-g.at
			if err := first.stop(); !errors.Is(err, stage.ErrDrainTimeout) || err.Error() != "stage test: drain timeout" {
				t.Errorf("Run returned %v", err)
			}
			second := r.start(cfg, stage.Each(answerAll))
			for _, n := range []string{"a", "b", "c"} {
				second.wait(1, "done "+n)
			}
			close(g.open)
			r.settled(streams.Frames)
			got := r.data(streams.Predictions)
			slices.Sort(got)
			equal(t, "answers", got, []string{"a", "b", "c"})
		})
	}
}

// Members share the work; one that leaves takes nothing with it.
func TestMembersShareTheWork(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var names []string
	for c := 'a'; c <= 'z'; c++ {
		names = append(names, string(c))
	}
	g := newGate()
	cfg := r.config()
	cfg.MaxInFlight = 2
	one, two := r.start(cfg, stage.Each(g.handle)), r.start(cfg, stage.Each(g.handle))
	r.put(every, names...)
	<-g.at
	<-g.at
	r.eventually(func() error {
		if a, b := one.Stats().Taken, two.Stats().Taken; a != 2 || b != 2 {
			return errors.New("not shared")
		}
		return nil
	})
	one.cancel()
	close(g.open)
	if err := one.stop(); err != nil {
		t.Error(err)
	}
	r.settled(streams.Frames)
	got := r.data(streams.Predictions)
	slices.Sort(got)
	equal(t, "answers", got, names)
	equal(t, "done", one.Stats().Done+two.Stats().Done, uint64(len(names)))
	if one.Stats().Done == 0 || two.Stats().Done == 0 {
		t.Errorf("one did %d, two did %d", one.Stats().Done, two.Stats().Done)
	}
}

// Never are there more than MaxInFlight messages of a source in the process, settling ones included.
func TestMaxInFlight(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var inHand atomic.Int64
	var mu sync.Mutex
	var most int64
	cfg := r.config()
	cfg.Workers, cfg.MaxInFlight = 1, 3
	cfg.Publisher = publisher(func(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error) {
		defer inHand.Add(-1)
		return r.js.PublishMsg(ctx, msg)
	})
	m := r.start(cfg, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
		mu.Lock()
		defer mu.Unlock()
		most = max(most, inHand.Add(1))
		return answer(m), nil
	}))
	c, err := r.js.Consumer(r.ctx(), streams.Frames, "work")
	for err != nil {
		c, err = r.js.Consumer(r.ctx(), streams.Frames, "work")
	}
	names := make([]string, 60)
	for i := range names {
		names[i] = string(rune('A' + i))
	}
	r.put(every, names...)
	for m.Stats().Done < uint64(len(names)) {
		i, err := c.Info(r.ctx())
		if err != nil {
			t.Fatal(err)
		}
		if i.NumAckPending > 3 {
			t.Fatalf("%d messages in flight", i.NumAckPending)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if most > 3 {
		t.Errorf("%d answers in hand", most)
	}
}

// Live and every-frame messages are worked on side by side: a full output of one does not stop the other.
func TestTwoSources(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.Sources = []streams.Binder{r.bind(r.js, streams.FramesLive, time.Second), r.bind(r.js, streams.Frames, time.Second)}
	full := make(chan struct{})
	cfg.Publisher = publisher(func(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error) {
		if string(msg.Data)[0] == 'e' {
			select {
			case <-full:
			default:
				return nil, errors.New("maximum messages per subject exceeded")
			}
		}
		return r.js.PublishMsg(ctx, msg)
	})
	m := r.start(cfg, stage.Each(answerAll))
	r.put(every, "e1", "e2", "e3", "e4", "e5", "e6")
	for _, n := range []string{"l1", "l2", "l3", "l4", "l5", "l6"} {
		r.put("frames.live.cam", n)
		m.wait(1, "done "+n)
	}
	close(full)
	for _, n := range []string{"e1", "e2", "e3", "e4", "e5", "e6"} {
		m.wait(1, "done "+n)
	}
	r.settled(streams.Frames)
	r.settled(streams.FramesLive)
}

// A member whose connection breaks down loses its messages to the group, not for the group.
func TestMemberDies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	js := r.client()
	cfg := r.config()
	cfg.Sources, cfg.Publisher = []streams.Binder{r.bind(js, streams.Frames, time.Second)}, js
	cfg.DrainTimeout = time.Millisecond
	g := newGate()
	dying := r.start(cfg, stage.Each(g.handle))
	r.put(every, "a", "b", "c")
	<-g.at
	dying.wait(1, "taken c")
	js.Conn().Close()
	cfg = r.config()
	cfg.Sources = []streams.Binder{r.bind(r.js, streams.Frames, time.Second)}
	heir := r.start(cfg, stage.Each(answerAll))
	var wg sync.WaitGroup
	for _, n := range []string{"a", "b", "c"} {
		wg.Go(func() { heir.wait(1, "done "+n) })
	}
	wg.Wait()
	r.settled(streams.Frames)
}

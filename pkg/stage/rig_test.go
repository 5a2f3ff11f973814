package stage_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

const patience = 20 * time.Second // a test that waits longer for an event has failed

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a real broker with every stream declared.
type rig struct {
	t      testing.TB
	dir    string
	server *broker.Embedded
	js     jetstream.JetStream
}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	r := &rig{t: tb, dir: tb.TempDir()}
	s, err := broker.StartEmbedded(context.Background(), "127.0.0.1", -1, r.dir)
	if err != nil {
		tb.Fatal(err)
	}
	r.server = s
	tb.Cleanup(func() { r.server.Stop() })
	r.js = r.client()
	if err := streams.Ensure(r.ctx(), r.js, streams.Options{}); err != nil {
		tb.Fatal(err)
	}
	return r
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.t.Cleanup(cancel)
	return ctx
}

func (r *rig) client() jetstream.JetStream {
	r.t.Helper()
	nc, err := broker.Connect(broker.Config{URL: r.server.URL(), Name: "test"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	js, err := broker.JetStream(nc)
	if err != nil {
		r.t.Fatal(err)
	}
	return js
}

// put stores frames of camera "cam" and returns when they are stored.
func (r *rig) put(subject string, names ...string) {
	r.t.Helper()
	for _, name := range names {
		msg := &nats.Msg{Subject: subject, Data: []byte(name), Header: nats.Header{"Name": {name}}}
		if _, err := r.js.PublishMsg(r.ctx(), msg); err != nil {
			r.t.Fatal(err)
		}
	}
}

// bind binds to a work group of a stream with an AckWait of its own.
func (r *rig) bind(js jetstream.JetStream, stream string, ackWait time.Duration) streams.Binder {
	return func(ctx context.Context) (jetstream.Consumer, error) {
		return js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
			Durable: "work", AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxDeliver: -1, MaxAckPending: 1000,
		})
	}
}

// stored returns what a stream holds, in order.
func (r *rig) stored(stream string) []*jetstream.RawStreamMsg {
	r.t.Helper()
	s, err := r.js.Stream(r.ctx(), stream)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []*jetstream.RawStreamMsg
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
		if m, err := s.GetMsg(r.ctx(), seq); err == nil {
			out = append(out, m)
		}
	}
	return out
}

func (r *rig) data(stream string) []string {
	r.t.Helper()
	var out []string
	for _, m := range r.stored(stream) {
		out = append(out, string(m.Data))
	}
	return out
}

// settled waits until the work group owes nothing: the stream is empty and no acknowledgement is pending.
func (r *rig) settled(stream string) {
	r.t.Helper()
	r.eventually(func() error {
		c, err := r.js.Consumer(r.ctx(), stream, "work")
		if err != nil {
			return err
		}
		i := c.CachedInfo()
		s, err := r.js.Stream(r.ctx(), stream)
		if err != nil {
			return err
		}
		if n := s.CachedInfo().State.Msgs; n != 0 || i.NumPending != 0 || i.NumAckPending != 0 {
			return fmt.Errorf("%s holds %d, pending %d, unacknowledged %d", stream, n, i.NumPending, i.NumAckPending)
		}
		return nil
	})
}

// eventually asks the broker until it says what it should.
func (r *rig) eventually(f func() error) {
	r.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			r.t.Fatalf("still: %v", err)
		}
	}
}

// member is a running stage.
type member struct {
	*stage.Stage
	t      testing.TB
	cancel context.CancelFunc
	ended  chan error
	seen   *seen
}

// config is a stage that answers every frame of FRAMES on PREDICTIONS.
func (r *rig) config() stage.Config {
	return stage.Config{
		Name: "test", Publisher: r.js, Sources: []streams.Binder{r.bind(r.js, streams.Frames, 10*time.Second)},
		Quarantine: func(stage.Message) string { return streams.DLQSubject("test", "cam") },
	}
}

func (r *rig) start(cfg stage.Config, h stage.Handler) *member {
	r.t.Helper()
	m := &member{t: r.t, ended: make(chan error, 1), seen: newSeen()}
	cfg.Observer = m.seen
	m.Stage = stage.New(cfg, h)
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go func() { m.ended <- m.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-m.ended; err != nil && !errors.Is(err, stage.ErrDrainTimeout) {
			r.t.Error(err)
		}
	})
	return m
}

// stop ends the stage and returns what Run returned.
func (m *member) stop() error {
	m.t.Helper()
	m.cancel()
	select {
	case err := <-m.ended:
		m.ended <- err
		return err
	case <-time.After(patience):
		m.t.Fatal("stage did not end")
		return nil
	}
}

// seen is an Observer that tests wait on.
type seen struct {
	mu     sync.Mutex
	events []string
	told   chan struct{}
}

func newSeen() *seen { return &seen{told: make(chan struct{})} }

func (s *seen) tell(event string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, event)
	close(s.told)
	s.told = make(chan struct{})
}

func (s *seen) Taken(m stage.Message) { s.tell("taken " + string(m.Data)) }

func (s *seen) Done(m stage.Message, _ []stage.Output) { s.tell("done " + string(m.Data)) }

func (s *seen) Dropped(m stage.Message, fate ledger.Mark, reason string) {
	s.tell(fmt.Sprintf("%s/%s %s", fate, reason, m.Data))
}

func (s *seen) Returned(m stage.Message) { s.tell("returned " + string(m.Data)) }

func (s *seen) count(event string) (int, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, e := range s.events {
		if e == event {
			n++
		}
	}
	return n, s.told
}

// wait blocks until event was told n times.
func (m *member) wait(n int, event string) {
	m.t.Helper()
	timeout := time.After(patience)
	for {
		got, told := m.seen.count(event)
		if got >= n {
			return
		}
		select {
		case <-told:
		case <-timeout:
			m.seen.mu.Lock()
			defer m.seen.mu.Unlock()
			m.t.Fatalf("%q seen %d of %d times; all: %q", event, got, n, m.seen.events)
		}
	}
}

// answer is the output for a message.
func answer(m stage.Message) []stage.Output {
	return []stage.Output{{Subject: streams.PredictionSubject("model", "cam"), ID: "answer/" + string(m.Data), Data: m.Data}}
}

func answerAll(_ context.Context, m stage.Message) ([]stage.Output, error) { return answer(m), nil }

func equal(tb testing.TB, what string, got, want any) {
	tb.Helper()
	if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
		tb.Errorf("%s: got %s, want %s", what, g, w)
	}
}

package events_test

import (
	"context"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = errors.New("broker is away")

// fake is a JetStream whose publishes fail while it is away.
type fake struct {
	mu      sync.Mutex
	away    bool
	refuse  error // for events called "bad"
	calls   chan string
	hold    chan struct{} // a publish waits for it
	names   []string
	subject []string
}

func (f *fake) PublishMsg(_ context.Context, msg *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	e, err := events.Decode(msg.Data)
	if err != nil {
		return nil, err
	}
	if f.calls != nil {
		f.calls <- e.Name
	}
	if f.hold != nil {
		<-f.hold
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return nil, errAway
	}
	if e.Name == "bad" {
		return nil, f.refuse
	}
	f.names, f.subject = append(f.names, e.Name), append(f.subject, msg.Subject)
	return &jetstream.PubAck{}, nil
}

func (f *fake) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.names...)
}

func event(name string) events.Event { return events.Event{Area: "camera", Kind: "state", Name: name} }

// run publishes until the returned function is called, which returns what Run did.
func run(t *testing.T, p *events.Publisher) func() error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return func() error { cancel(); return <-ended }
}

// Events of an outage are told after it, in order and each once; a broker that restarts is such an outage.
func TestOrderOverARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := broker.StartEmbedded(t.Context(), "127.0.0.1", -1, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Stop() })
	url := server.URL()
	port, _ := strconv.Atoi(url[strings.LastIndexByte(url, ':')+1:])
	nc, err := broker.Connect(broker.Config{URL: url, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := broker.JetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	p := events.NewPublisher(js, "i1")
	stop := run(t, p)
	var want []string
	tell := func(n int) {
		for range n {
			name := "cam" + strconv.Itoa(len(want))
			want = append(want, name)
			p.Tell(event(name))
		}
	}
	tell(20)
	server.Stop()
	tell(20)
	if server, err = broker.StartEmbedded(t.Context(), "127.0.0.1", port, dir); err != nil {
		t.Fatal(err)
	}
	tell(20)
	if err := stop(); err != nil { // the last words wait for the broker
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), streams.Events)
	for err != nil && t.Context().Err() == nil {
		s, err = js.Stream(t.Context(), streams.Events)
	}
	var got []string
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		e, err := events.Decode(m.Data)
		if err != nil || e.Instance != "i1" || e.At.IsZero() || m.Subject != "events.camera.state."+e.Name {
			t.Errorf("%s: %+v, %v", m.Subject, e, err)
		}
		got = append(got, e.Name)
	}
	if !reflect.DeepEqual(got, want) || p.Dropped() != 0 {
		t.Errorf("got %q, dropped %d", got, p.Dropped())
	}
}

// The queue is bounded: the oldest fall out and are counted; the one on its way that arrives is not counted.
func TestBound(t *testing.T) {
	t.Parallel()
	f := &fake{calls: make(chan string, 5000), hold: make(chan struct{})}
	p := events.NewPublisher(f, "i1")
	stop := run(t, p)
	p.Tell(event("0"))
	<-f.calls // being published while the queue overflows
	const all = 1500
	for i := 1; i < all; i++ {
		p.Tell(event(strconv.Itoa(i)))
	}
	close(f.hold)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	got := f.told()
	if len(got)+int(p.Dropped()) != all || got[0] != "0" || got[1] != strconv.Itoa(all-1024) || got[len(got)-1] != strconv.Itoa(all-1) {
		t.Errorf("told %d (%s, %s .. %s), dropped %d of %d", len(got), got[0], got[1], got[len(got)-1], p.Dropped(), all)
	}
}

// An event that no broker will ever take holds nobody up.
func TestHopelessEvents(t *testing.T) {
	t.Parallel()
	f := &fake{refuse: nats.ErrMaxPayload}
	p := events.NewPublisher(f, "i1")
	p.Tell(event("a"))
	p.Tell(event("bad"))
	year := event("b")
	year.At = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	p.Tell(year)
	p.Tell(event("c"))
	if err := run(t, p)(); err != nil {
		t.Fatal(err)
	}
	if got := f.told(); !reflect.DeepEqual(got, []string{"a", "c"}) || p.Dropped() != 2 {
		t.Errorf("told %q, dropped %d", got, p.Dropped())
	}
}

// A name that is no subject token does not get lost on a subject that nobody stores.
func TestSubjects(t *testing.T) {
	t.Parallel()
	f := &fake{}
	p := events.NewPublisher(f, "i1")
	for _, n := range []string{"host.local", "", "a b", "*", ">"} {
		p.Tell(event(n))
	}
	if err := run(t, p)(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"host_local", "_", "a_b", "_", "_"}; len(f.subject) == len(want) {
		for i, s := range f.subject {
			if s != "events.camera.state."+want[i] {
				t.Errorf("%q: %s", f.names[i], s)
			}
		}
	} else {
		t.Errorf("subjects %q", f.subject)
	}
}

// What cannot be told at the end is reported, within seconds.
func TestLastWordsFail(t *testing.T) {
	t.Parallel()
	p := events.NewPublisher(&fake{away: true}, "i1")
	p.Tell(event("a"))
	begin := time.Now()
	err := run(t, p)()
	if !errors.Is(err, errAway) || err.Error() != "publish events.camera.state.a: broker is away" {
		t.Errorf("Run returned %v", err)
	}
	if d := time.Since(begin); d > 8*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	if _, err := events.Decode([]byte("x")); err == nil || err.Error() != "event: invalid character 'x' looking for beginning of value" {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"area":"camera","kind":"state","name":"door","at":"2026-10-01T12:00:00Z","instance":"i1","state":"up","facts":{"fps":"25"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := events.Decode(data)
		if err != nil {
			return
		}
		js := &fake{}
		p := events.NewPublisher(js, "i1")
		p.Tell(e)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if len(js.told())+int(p.Dropped()) != 1 {
			t.Fatalf("told %q, dropped %d", js.told(), p.Dropped())
		}
	})
}

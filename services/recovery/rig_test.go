package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

const patience = 20 * time.Second // a test that waits longer for an event has failed

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a real broker, and the test's own connection to it.
type rig struct {
	*testing.T
	dir    string
	server *broker.Embedded // nil for a cluster
	urls   string
	copies int // of every stream; 0 is 1
	js     jetstream.JetStream
	told   chan events.Event
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, dir: t.TempDir()}
	s, err := broker.StartEmbedded(context.Background(), "127.0.0.1", -1, r.dir)
	if err != nil {
		t.Fatal(err)
	}
	r.server = s
	t.Cleanup(func() { r.server.Stop() })
	r.urls = s.URL()
	r.js = r.connect("test")
	if err := streams.Ensure(t.Context(), r.js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	r.listen()
	return r
}

// newClusterRig is newRig with a broker of three nodes.
func newClusterRig(t *testing.T) (*rig, *brokertest.Cluster) {
	t.Helper()
	c := brokertest.StartCluster(t, 3)
	r := &rig{T: t, urls: c.URL(), copies: 3}
	r.js = r.connect("test")
	r.eventually(func() error { return streams.Ensure(t.Context(), r.js, streams.Options{Replicas: r.copies}) })
	r.listen()
	return r, c
}

func (r *rig) listen() {
	r.Helper()
	r.told = make(chan events.Event, 1024)
	sub, err := r.js.Conn().Subscribe("events.>", func(m *nats.Msg) {
		if e, err := events.Decode(m.Data); err == nil {
			r.Logf("%s %s.%s %s %s %v", time.Now().Format("05.000"), e.Area, e.Kind, e.Name, e.State, e.Facts)
			r.told <- e
		}
	})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = sub.Drain() })
}

func (r *rig) connect(name string) jetstream.JetStream {
	r.Helper()
	nc, err := broker.Connect(broker.Config{URL: r.urls, Name: name, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(nc.Close)
	js, err := broker.JetStream(nc)
	if err != nil {
		r.Fatal(err)
	}
	return js
}

// restart stops the broker and starts it again in the same place.
func (r *rig) restart(meanwhile ...func()) {
	r.Helper()
	u, err := url.Parse(r.server.URL())
	if err != nil {
		r.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		r.Fatal(err)
	}
	r.server.Stop()
	for _, f := range meanwhile {
		f()
	}
	r.eventually(func() error {
		s, err := broker.StartEmbedded(context.Background(), "127.0.0.1", port, r.dir)
		if err == nil {
			r.server = s
		}
		return err
	})
}

// event waits for an event of a kind about somebody.
func (r *rig) event(kind, name string) events.Event {
	r.Helper()
	limit := time.After(patience)
	for {
		select {
		case e := <-r.told:
			if e.Area == area && e.Kind == kind && e.Name == name {
				return e
			}
		case <-limit:
			r.Fatalf("no event %s of %s", kind, name)
		}
	}
}

// inTime tries again what takes a machine that keeps up. An attempt says whether it did; what must hold on any machine it fails
// for.
func inTime(t *testing.T, late string, attempt func(t *testing.T) bool) {
	t.Helper()
	const attempts = 5
	for range attempts {
		intime := false
		t.Run("attempt", func(t *testing.T) { intime = attempt(t) })
		if intime || t.Failed() {
			return
		}
	}
	t.Errorf("in each of %d attempts %s", attempts, late)
}

func (r *rig) eventually(f func() error) {
	r.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			r.Fatalf("still: %v", err)
		}
	}
}

// process is a member of the fleet with a connection of its own.
type process struct {
	r      *rig
	js     jetstream.JetStream
	member *fleet.Member
	stop   context.CancelFunc // asks it to stop in an orderly way
	ended  sync.WaitGroup
	hang   chan struct{} // while somebody fills it, there are no beats
}

// start starts a process of a service whose work is run.
func (r *rig) start(service, instance string, run func(ctx context.Context, p *process) error) *process {
	r.Helper()
	p := &process{r: r, js: r.connect(service + "-" + instance), hang: make(chan struct{}, 1)}
	p.member = fleet.NewMember(p.js, fleet.Config{Service: service, Instance: instance, Declares: service == Name, Replicas: r.copies})
	p.member.Describe(func(*fleet.Worker) {
		p.hang <- struct{}{}
		<-p.hang
	})
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	joined := make(chan struct{})
	p.ended.Go(func() {
		err := p.member.While(ctx, func(ctx context.Context) error {
			close(joined)
			return run(ctx, p)
		})
		if err != nil && !p.js.Conn().IsClosed() {
			r.Errorf("%s: %v", instance, err)
		}
	})
	r.Cleanup(func() {
		stop()
		p.ended.Wait()
	})
	select {
	case <-joined:
	case <-time.After(patience):
		r.Fatalf("%s does not join", instance)
	}
	return p
}

func idle(ctx context.Context, _ *process) error {
	<-ctx.Done()
	return nil
}

func (p *process) entry() fleet.Worker {
	p.r.Helper()
	w, err := p.look()
	if err != nil {
		p.r.Fatal(err)
	}
	return w
}

func (p *process) look() (fleet.Worker, error) {
	kv, err := p.r.js.KeyValue(p.r.Context(), streams.WorkersBucket)
	if err != nil {
		return fleet.Worker{}, err
	}
	e, err := kv.Get(p.r.Context(), p.member.Key())
	if err != nil {
		return fleet.Worker{}, err
	}
	return fleet.Decode(e.Value())
}

// kill ends a process as kill -9 does, as far as others can see: its connection is closed, and nothing comes any more.
func (p *process) kill() { p.js.Conn().Close() }

// tellDisconnect is what the server tells of a process that was killed.
func (p *process) tellDisconnect(w fleet.Worker, reason string) {
	p.r.Helper()
	d := disconnect{Reason: reason}
	d.Server.ID, d.Client.ID = w.Connection.Server, w.Connection.Client
	data, err := json.Marshal(d)
	if err != nil {
		p.r.Fatal(err)
	}
	if err := p.r.js.Conn().Publish(streams.DisconnectSubject, data); err != nil {
		p.r.Fatal(err)
	}
}

// recover starts a replica of recovery.
func (r *rig) recover(instance string) *process {
	r.Helper()
	return r.start(Name, instance, func(ctx context.Context, p *process) error {
		return NewService(Config{Instance: instance, Replicas: r.copies}, Deps{JS: p.js, Member: p.member, Log: slog.New(slog.DiscardHandler)}).Run(ctx)
	})
}

// leads waits until r0 leads.
func (r *rig) leads() {
	r.Helper()
	for {
		if e := r.event("leader", "r0"); e.State == "leading" {
			return
		}
	}
}

// put stores frames of an every_frame camera under their names.
func (r *rig) put(names ...string) {
	r.Helper()
	for _, name := range names {
		if _, err := r.js.Publish(r.Context(), streams.FrameSubject(streams.EveryFrame, "door"), []byte(name), jetstream.WithMsgID(name)); err != nil {
			r.Fatal(err)
		}
	}
}

// take receives up to n frames that are there, as a worker that says nothing about it.
func (r *rig) take(js jetstream.JetStream, n int) map[string]jetstream.Msg {
	r.Helper()
	c, err := streams.Preprocess(js)[1](r.Context())
	if err != nil {
		r.Fatal(err)
	}
	out := map[string]jetstream.Msg{}
	r.eventually(func() error { // a consumer of three nodes answers when they have a leader
		batch, err := c.FetchNoWait(n)
		if err != nil {
			return err
		}
		for m := range batch.Messages() {
			out[string(m.Data())] = m
		}
		return batch.Error()
	})
	return out
}

// takeAll receives n frames, which may take a while to be there.
func (r *rig) takeAll(js jetstream.JetStream, n int) map[string]jetstream.Msg {
	r.Helper()
	out := map[string]jetstream.Msg{}
	r.eventually(func() error {
		maps.Copy(out, r.take(js, n-len(out)))
		if len(out) < n {
			return fmt.Errorf("%d of %d frames", len(out), n)
		}
		return nil
	})
	return out
}

// hands is a holder that claims what the test says.
type hands struct {
	mu        sync.Mutex
	claims    []fleet.Claim
	abandoned int
}

func (h *hands) Claims() []fleet.Claim {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.claims
}

func (h *hands) Abandon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.claims, h.abandoned = nil, h.abandoned+1
}

// claim makes messages the holder's, and waits until the fleet knows.
func (h *hands) claim(p *process, held, resting map[string]jetstream.Msg) {
	p.r.Helper()
	c := fleet.Claim{Stream: streams.Frames, Consumer: "preprocess", Held: deliveries(p.r.T, held), Resting: deliveries(p.r.T, resting)}
	h.mu.Lock()
	h.claims = []fleet.Claim{c}
	h.mu.Unlock()
	p.r.eventually(func() error {
		if e := p.entry(); len(e.Claims) != 1 || len(e.Claims[0].Held) != len(held) || len(e.Claims[0].Resting) != len(resting) {
			return fmt.Errorf("entry claims %+v", e.Claims)
		}
		return nil
	})
}

func deliveries(t *testing.T, all map[string]jetstream.Msg) []fleet.Delivery {
	t.Helper()
	var out []fleet.Delivery
	for _, m := range all {
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fleet.Delivery{meta.Sequence.Stream, meta.NumDelivered})
	}
	return out
}

// counting counts what is published.
type counting struct {
	jetstream.JetStream
	mu sync.Mutex
	n  map[string]int // by id
}

func (c *counting) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	c.mu.Lock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[m.Header.Get(jetstream.MsgIDHeader)]++
	c.mu.Unlock()
	return c.JetStream.PublishMsg(ctx, m, opts...)
}

// preprocess starts a real stage over the frames. at is told of every frame that a handler has; handlers wait for open.
type preprocess struct {
	*process
	stage *stage.Stage
	out   *counting
	at    chan string
	open  chan struct{}
}

func (r *rig) preprocess(instance string, open chan struct{}) *preprocess {
	r.Helper()
	w := &preprocess{at: make(chan string, 1024), open: open, out: &counting{}}
	ready := make(chan struct{})
	w.process = r.start("preprocess", instance, func(ctx context.Context, p *process) error {
		w.out.JetStream = p.js
		w.stage = stage.New(stage.Config{
			Name: "preprocess", Sources: streams.Preprocess(p.js), Publisher: w.out, Member: p.member, Workers: 4, DrainTimeout: 100 * time.Millisecond,
			Quarantine: func(stage.Message) string { return streams.DLQSubject("preprocess", "door") },
		}, stage.Each(func(ctx context.Context, m stage.Message) ([]stage.Output, error) {
			w.at <- string(m.Data)
			select {
			case <-w.open:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			return []stage.Output{{Subject: streams.PredictionSubject("people", "door"), ID: string(m.Data), Data: []byte(instance + " " + string(m.Data))}}, nil
		}))
		close(ready)
		if err := w.stage.Run(ctx); err != nil && !errors.Is(err, stage.ErrDrainTimeout) {
			return err
		}
		return nil
	})
	<-ready
	return w
}

// answers are the stored answers: how often each frame was answered, and by whom.
func (r *rig) answers() (times map[string]int, by map[string]string) {
	r.Helper()
	s, err := r.js.Stream(r.Context(), streams.Predictions)
	if err != nil {
		r.Fatal(err)
	}
	times, by = map[string]int{}, map[string]string{}
	for n := uint64(1); n <= s.CachedInfo().State.LastSeq; n++ {
		m, err := s.GetMsg(r.Context(), n)
		if err != nil {
			r.Fatal(err)
		}
		var who, what string
		if _, err := fmt.Sscan(string(m.Data), &who, &what); err != nil {
			r.Fatal(err)
		}
		times[what]++
		by[what] = who
	}
	return times, by
}

func (r *rig) kv(bucket string) jetstream.KeyValue {
	r.Helper()
	kv, err := r.js.KeyValue(r.Context(), bucket)
	if err != nil {
		r.Fatal(err)
	}
	return kv
}

func (r *rig) leaseOf(camera, instance string) *lease.Lease {
	r.Helper()
	l, err := lease.Acquire(r.Context(), r.kv(streams.LeasesBucket), camera, instance, 0)
	if err != nil {
		r.Fatal(err)
	}
	return l
}

func names(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = "frame-" + strconv.Itoa(i)
	}
	return out
}

func holds(w fleet.Worker, n int) error {
	held := 0
	for _, c := range w.Claims {
		held += len(c.Held)
	}
	if held != n {
		return errAt("holds", held, "want", n)
	}
	return nil
}

func exactlyOnce(times map[string]int, n int) error {
	if len(times) != n {
		return errAt(len(times), "answered, want", n)
	}
	for frame, k := range times {
		if k != 1 {
			return errAt(frame, "is answered", k, "times")
		}
	}
	return nil
}

func errAt(what ...any) error { return errors.New(fmt.Sprintln(what...)) }

// write puts an entry into WORKERS as its worker would.
func (r *rig) write(w fleet.Worker) {
	r.Helper()
	data, err := json.Marshal(w)
	if err != nil {
		r.Fatal(err)
	}
	if _, err := r.kv(streams.WorkersBucket).Put(r.Context(), w.Key(), data); err != nil {
		r.Fatal(err)
	}
}

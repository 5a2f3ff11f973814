package shed

import (
	"math"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/sampling"
	"github.com/sightline-dev/sightline/streams"
)

// roster is a fleet that a test makes up.
type roster struct {
	workers []fleet.Worker
	deaf    bool
}

func (r *roster) Hears() bool { return !r.deaf }

func (r *roster) Living(service string) map[string]fleet.Seen {
	out := map[string]fleet.Seen{}
	for _, w := range r.workers {
		if w.Service == service {
			out[w.Instance] = fleet.Seen{Worker: w}
		}
	}
	return out
}

func serves(model string) []fleet.Lane {
	return []fleet.Lane{{Model: model, Lane: streams.LaneStable, Version: 2}}
}

// bench is a broker whose messages a test moves by hand.
type bench struct {
	*testing.T
	js    jetstream.JetStream
	fleet *roster
	probe *probe
}

func newBench(t *testing.T, workers ...fleet.Worker) *bench {
	t.Helper()
	b := &bench{T: t, js: brokertest.JetStream(t), fleet: &roster{workers: workers}}
	b.probe = newProbe(b.js, b.fleet)
	return b
}

func (b *bench) put(n int, subject string) {
	b.Helper()
	for range n {
		if _, err := b.js.PublishMsg(b.Context(), &nats.Msg{Subject: subject}); err != nil {
			b.Fatal(err)
		}
	}
}

func (b *bench) bind(bind streams.Binder) jetstream.Consumer {
	b.Helper()
	c, err := bind(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func (b *bench) take(bind streams.Binder, n int) []jetstream.Msg {
	b.Helper()
	c := b.bind(bind)
	batch, err := c.Fetch(n, jetstream.FetchMaxWait(5*time.Second))
	if err != nil {
		b.Fatal(err)
	}
	var out []jetstream.Msg
	for m := range batch.Messages() {
		out = append(out, m)
	}
	if len(out) != n {
		b.Fatalf("took %d messages, want %d", len(out), n)
	}
	return out
}

func (b *bench) ack(messages []jetstream.Msg) {
	b.Helper()
	for _, m := range messages {
		if err := m.DoubleAck(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// waits returns when a work group knows of n messages that wait: it hears of them a moment after they are stored.
func (b *bench) waits(bind streams.Binder, n uint64) {
	b.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for b.bind(bind).CachedInfo().NumPending != n {
		select {
		case <-tick.C:
		case <-timeout:
			b.Fatalf("%d messages wait, want %d", b.bind(bind).CachedInfo().NumPending, n)
		}
	}
}

// sample compares two looks: rates times their distance are the numbers of messages.
func (b *bench) sample(cameras []Camera) (Sample, float64) {
	b.Helper()
	before := b.probe.before.at
	s, err := b.probe.sample(b.Context(), cameras, 1)
	if err != nil {
		b.Fatal(err)
	}
	return s, b.probe.before.at.Sub(before).Seconds()
}

func near(a, b float64) bool { return math.Abs(a-b) < 0.01 }

func TestProbe(t *testing.T) {
	t.Parallel()
	b := newBench(t,
		fleet.Worker{Service: "preprocess", Instance: "p", Capacity: 2, Load: fleet.Load{Busy: 0.5}},
		fleet.Worker{Service: "infer", Instance: "small", Capacity: 1, Load: fleet.Load{Busy: 1}, Lanes: serves("face")},
		fleet.Worker{Service: "infer", Instance: "large", Capacity: 3, Load: fleet.Load{Busy: 0.2}, Lanes: serves("face")},
		fleet.Worker{Service: "infer", Instance: "other", Capacity: 1, Load: fleet.Load{Busy: 1}, Lanes: serves("nobody-wants-it")},
	)
	cameras := []Camera{{Priority: 5, FPS: 10, Models: []string{"face", "plate"}}}
	if _, err := b.probe.sample(t.Context(), cameras, 1); err == nil {
		t.Error("one look is enough")
	}
	pre, face := streams.Preprocess(b.js), streams.Infer(b.js, "face", streams.LaneStable)
	tensor := streams.TensorSubject(streams.Freshest, "face", streams.LaneStable, "a")
	twin, _ := streams.Twin(tensor)

	// Consumers are made by those who bind: until then there is nothing to compare with.
	for _, bind := range []streams.Binder{pre[0], pre[len(pre)-1], face[0], face[len(face)-1]} {
		b.bind(bind)
	}
	b.put(2, "frames.live.a")
	_, _ = b.sample(cameras)

	b.put(1, "frames.live.a")
	b.put(2, "frames.twin.a")
	b.put(2, "frames.every.b")
	b.ack(b.take(pre[0], 3)[:2])
	b.put(1, tensor)
	b.put(1, twin)
	b.waits(pre[0], 0)
	b.waits(pre[len(pre)-1], 2)
	b.waits(face[0], 1)
	b.waits(face[len(face)-1], 1)
	s, over := b.sample(cameras)
	if !near(s.Arrived*over, 3) {
		t.Errorf("%v frames arrived, want 3", s.Arrived*over)
	}
	want := map[string]Group{
		"preprocess":         {Workers: 1, Busy: 0.5, Waiting: 2, Held: 1, Answered: 2},
		"infer-face-stable":  {Model: "face", Workers: 2, Busy: 0.4, Waiting: 2},
		"infer-plate-stable": {Model: "plate"},
	}
	if len(s.Groups) != len(want) {
		t.Errorf("%d groups: %+v", len(s.Groups), s.Groups)
	}
	for _, g := range s.Groups {
		w := want[g.Name]
		if g.Model != w.Model || g.Workers != w.Workers || !near(g.Busy, w.Busy) || g.Waiting != w.Waiting || g.Held != w.Held || !near(g.Answered*over, w.Answered) {
			t.Errorf("%+v, want %+v", g, w)
		}
	}
}

// A frame that is evicted while a worker has it is answered all the same, and counts.
func TestProbeCountsWhatIsEvictedInHand(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	cameras := []Camera{{Priority: 5, FPS: 10, Models: []string{"face"}}}
	pre := streams.Preprocess(b.js)
	b.bind(pre[0])
	_, _ = b.probe.sample(t.Context(), cameras, 1)
	b.put(3, "frames.live.a")
	_ = b.take(pre[0], 3)
	b.put(2, "frames.live.a")
	b.put(2, streams.TensorSubject(streams.Freshest, "face", streams.LaneStable, "a"))
	b.waits(pre[0], 2)
	s, over := b.sample(cameras)
	if g := s.Groups[0]; !near(g.Answered*over, 2) || g.Held != 1 || g.Waiting != 2 {
		t.Errorf("%+v", g)
	}
}

// What is dropped because it is too late comes out nowhere: it is no capacity.
func TestAnsweredLeavesOutWhatIsDropped(t *testing.T) {
	t.Parallel()
	count := func(published, messages uint64) streamCount { return streamCount{last: published, messages: messages} }
	at := time.Unix(1_700_000_000, 0)
	for _, tt := range []struct {
		name                 string
		predictions, tensors uint64
		every                [2]streamCount
		a, b                 Group
		wantA, wantB         float64
	}{
		{"all answered", 30, 0, [2]streamCount{}, Group{Answered: 10, Waiting: 5}, Group{Answered: 20}, 10, 20},
		{"the slow one drops", 24, 0, [2]streamCount{}, Group{Answered: 10, Waiting: 5}, Group{Answered: 20}, 4, 20},
		{"both are slow", 15, 0, [2]streamCount{}, Group{Answered: 10, Waiting: 5}, Group{Answered: 20, Waiting: 9}, 5, 10},
		{"every_frame answers too", 40, 0, [2]streamCount{count(100, 50), count(110, 50)}, Group{Answered: 10, Waiting: 5}, Group{Answered: 20}, 10, 20},
		{"every_frame waits", 30, 0, [2]streamCount{count(100, 50), count(110, 60)}, Group{Answered: 10, Waiting: 5}, Group{Answered: 20}, 10, 20},
		{"handlers fail", 0, 0, [2]streamCount{}, Group{Answered: 10, Waiting: 5}, Group{Answered: 20, Waiting: 5}, 2.5, 5},
		{"nothing waits", 0, 0, [2]streamCount{}, Group{Answered: 10}, Group{Answered: 20}, 10, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := difference{
				look{at: at, streams: map[string]streamCount{streams.Predictions: count(1000, 9), streams.Tensors: tt.every[0]}},
				look{at: at.Add(time.Second), streams: map[string]streamCount{streams.Predictions: count(1000+tt.predictions, 9), streams.Tensors: tt.every[1]}},
			}
			tt.a.Model, tt.b.Model = "a", "b"
			groups := []Group{tt.a, tt.b}
			d.answers(groups, []float64{tt.a.Answered, tt.b.Answered}, 1)
			if groups[0].Answered != tt.wantA || groups[1].Answered != tt.wantB {
				t.Errorf("%v and %v, want %v and %v", groups[0].Answered, groups[1].Answered, tt.wantA, tt.wantB)
			}
		})
	}
	// A frame becomes a tensor for each of its models.
	d := difference{
		look{at: at, streams: map[string]streamCount{streams.TensorsLive: count(10, 3)}},
		look{at: at.Add(time.Second), streams: map[string]streamCount{streams.TensorsLive: count(34, 3)}},
	}
	groups := []Group{{Answered: 20, Waiting: 4}}
	d.answers(groups, []float64{20}, 1.5)
	if groups[0].Answered != 16 {
		t.Errorf("%v frames, want 16", groups[0].Answered)
	}
}

// Nothing is concluded from a broker that does not answer, from streams made anew, or when no beats are heard.
func TestProbeDoesNotGuess(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	cameras := []Camera{{Priority: 5, FPS: 10, Models: []string{"face"}}}
	_, _ = b.probe.sample(t.Context(), cameras, 1)
	_, _ = b.sample(cameras)
	b.fleet.deaf = true
	if _, err := b.probe.sample(t.Context(), cameras, 1); err == nil {
		t.Error("a sample without beats")
	}
	b.fleet.deaf = false
	b.put(3, "frames.live.a")
	for _, name := range []string{streams.FramesLive, streams.FramesTwin} {
		if err := b.js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := streams.Ensure(t.Context(), b.js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	if s, _ := b.sample(cameras); !math.IsNaN(s.Arrived) {
		t.Errorf("%v frames a second arrived at a stream that was made anew", s.Arrived)
	}
	b.js.Conn().Close()
	if _, err := b.probe.sample(t.Context(), cameras, 1); err == nil {
		t.Error("a sample without a broker")
	}
}

func TestLowerable(t *testing.T) {
	t.Parallel()
	c := config.DefaultCamera()
	c.Models = []string{"face"}
	every, off := c, c
	every.Delivery, every.MaxAge, off.Enabled = streams.EveryFrame, 0, false
	got := lowerable(map[string]catalog.Entry[config.Camera]{"a": {Value: c}, "b": {Value: every}, "c": {Value: off}})
	if len(got) != 1 || got[0].FPS != 10 || got[0].Priority != 5 || got[0].MaxAge != 2*time.Second || got[0].Models[0] != "face" {
		t.Errorf("%+v", got)
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	if s := shares(full); s != nil {
		t.Errorf("full sampling is written as %v", s)
	}
	for _, k := range []float64{0.0001, 0.02, 0.5, 1.3, 4, 9.9} {
		s := shares(k)
		if err := s.Validate(); err != nil || len(s) != sampling.MaxPriority {
			t.Errorf("k %v: %v, %v", k, s, err)
		}
		if back := scalar(s); k > 0.01 && math.Abs(back-k)/k > 0.03 {
			t.Errorf("k %v is read back as %v", k, back)
		}
		for p := 2; p <= sampling.MaxPriority; p++ {
			if s.Of(p) < s.Of(p-1) {
				t.Errorf("k %v: priority %d has less than %d: %v", k, p, p-1, s)
			}
		}
	}
	if k := scalar(nil); k != full {
		t.Errorf("no shares are read as %v", k)
	}
}

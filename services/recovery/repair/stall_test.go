package repair

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/streams"
)

type steady struct{}

func (steady) Confirm(context.Context) error { return nil }
func (steady) Token() uint64                 { return 1 }

type list []events.Event

func (l *list) Tell(e events.Event) { *l = append(*l, e) }

// consumer is one as the broker describes it.
func consumer(change func(*jetstream.ConsumerInfo)) *jetstream.ConsumerInfo {
	c := &jetstream.ConsumerInfo{NumPending: 5, NumWaiting: 2}
	c.Config.MaxAckPending = 100
	c.Delivered.Consumer, c.AckFloor.Consumer = 10, 10
	change(c)
	return c
}

func TestOnlyAConsumerThatStoppedIsMended(t *testing.T) {
	const every = 500 * time.Millisecond
	for name, look := range map[string]func(i int, c *jetstream.ConsumerInfo){
		"nothing waits":             func(_ int, c *jetstream.ConsumerInfo) { c.NumPending = 0 },
		"nobody asks":               func(_ int, c *jetstream.ConsumerInfo) { c.NumWaiting = 0 },
		"it delivers":               func(i int, c *jetstream.ConsumerInfo) { c.Delivered.Consumer += uint64(i / 4) },
		"what it delivers is acked": func(i int, c *jetstream.ConsumerInfo) { c.AckFloor.Consumer += uint64(i / 4) },
		"as much as allowed rests":  func(_ int, c *jetstream.ConsumerInfo) { c.NumAckPending = 100 },
		"nobody asks now and then": func(i int, c *jetstream.ConsumerInfo) {
			if i%5 == 0 {
				c.NumWaiting = 0
			}
		},
	} {
		var s stall
		at := time.Now()
		for i := range 120 {
			if got := s.look(consumer(func(c *jetstream.ConsumerInfo) { look(i, c) }), at.Add(time.Duration(i)*every)); got != none {
				t.Errorf("%s: remedy %d at look %d", name, got, i)
				break
			}
		}
	}
}

func TestRemedies(t *testing.T) {
	const every = 500 * time.Millisecond
	for name, c := range map[string]struct {
		replicas []*jetstream.PeerInfo
		want     map[time.Duration]remedy
	}{
		"alone":      {nil, map[time.Duration]remedy{3 * time.Second: declare, 6 * time.Second: replace, 36 * time.Second: replace}},
		"in cluster": {[]*jetstream.PeerInfo{{}}, map[time.Duration]remedy{3 * time.Second: declare, 6 * time.Second: passOn, 9 * time.Second: replace, 39 * time.Second: replace}},
	} {
		var s stall
		began := time.Now()
		replaced := false
		for at := time.Duration(0); at <= 40*time.Second; at += every {
			got := s.look(consumer(func(i *jetstream.ConsumerInfo) {
				i.Cluster = &jetstream.ClusterInfo{Replicas: c.replicas}
				if replaced { // a new one begins at nothing
					i.Delivered.Consumer, i.AckFloor.Consumer = 0, 0
				}
			}), began.Add(at))
			replaced = replaced || got == replace
			if got != c.want[at] {
				t.Errorf("%s: remedy %d after %s, want %d", name, got, at, c.want[at])
			}
		}
		// It works again: the next time, the mildest remedy comes first.
		s.look(consumer(func(i *jetstream.ConsumerInfo) { i.Delivered.Consumer = 99 }), began.Add(41*time.Second))
		s.look(consumer(func(i *jetstream.ConsumerInfo) { i.Delivered.Consumer = 99 }), began.Add(42*time.Second))
		if got := s.look(consumer(func(i *jetstream.ConsumerInfo) { i.Delivered.Consumer = 99 }), began.Add(46*time.Second)); got != declare {
			t.Errorf("%s: remedy %d after it worked again", name, got)
		}
	}
}

// Every remedy leaves the work group as declared, and its messages where they were.
func TestRemediesLoseNothing(t *testing.T) {
	js := brokertest.JetStream(t)
	log := &list{}
	r := New(Config{JS: js, Leadership: steady{}, Events: log})
	g := streams.Groups()[1]
	if err := streams.MendGroup(t.Context(), js, g); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"1", "2", "3"} {
		if _, err := js.Publish(t.Context(), "frames.every.door", nil, jetstream.WithMsgID(id)); err != nil {
			t.Fatal(err)
		}
	}
	for i, next := range []remedy{declare, replace, replace} {
		info, err := r.lookGroup(t.Context(), g)
		if err != nil {
			t.Fatal(err)
		}
		r.remedy(t.Context(), g, info, next, time.Now().Add(-stalledAfter))
		if len(*log) != i+1 {
			t.Fatalf("told %+v", *log)
		}
		if e := (*log)[i]; e.State != mended || e.Cause != "stalled" || e.Name != "FRAMES.preprocess" || e.Facts["action"] == "" {
			t.Errorf("%+v", e)
		}
		c, err := js.Consumer(t.Context(), g.Stream, g.Config.Durable)
		if err != nil {
			t.Fatal(err)
		}
		batch, err := c.Fetch(10, jetstream.FetchMaxWait(300*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for range batch.Messages() { // none is acknowledged
			n++
		}
		if n != 3 { // a new consumer delivers again what the one before it had delivered
			t.Errorf("remedy %d: %d messages", next, n)
		}
	}
	// A broker of one node has nobody to pass a consumer to.
	info, err := r.lookGroup(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	r.remedy(t.Context(), g, info, passOn, time.Now())
	r.remedy(t.Context(), g, info, passOn, time.Now())
	if e := (*log)[len(*log)-1]; e.State != failed || len(*log) != 4 {
		t.Errorf("a failure is told once: %+v", *log)
	}
}

func TestUnservedIsToldOnce(t *testing.T) {
	log := &list{}
	js := brokertest.JetStream(t)
	workers := 0
	r := New(Config{JS: js, Leadership: steady{}, Events: log, Workers: func(stage, model string) int {
		if stage != "infer" || model != "people" {
			t.Errorf("workers of %s %s", stage, model)
		}
		return workers
	}})
	groups := streams.Groups("people")
	at := time.Now()
	look := func(after time.Duration, change func(*jetstream.ConsumerInfo)) []events.Event {
		t.Helper()
		before := len(*log)
		l := newLoad(groups[len(groups)-1])
		l.add(consumer(change))
		r.judge(t.Context(), map[string]*load{"infer-people-stable": l}, at.Add(after))
		return (*log)[before:]
	}
	nobody := func(c *jetstream.ConsumerInfo) { c.NumWaiting = 0 }
	if got := look(0, nobody); len(got) > 0 {
		t.Errorf("at once: %+v", got)
	}
	// Somebody works although nobody asks: one message takes long.
	workers = 1
	if got := look(20*time.Second, nobody); len(got) > 0 {
		t.Errorf("with a worker: %+v", got)
	}
	workers = 0
	for i := range 10 {
		if got := look(time.Duration(21+i)*time.Second, nobody); len(got) > 0 {
			t.Errorf("after %d s: %+v", i, got)
		}
	}
	if got := look(31*time.Second, nobody); len(got) != 1 || got[0].State != "unserved" || got[0].Name != "people" || got[0].Kind != "unserved" {
		t.Errorf("after 10 s: %+v", got)
	}
	if got := look(60*time.Second, nobody); len(got) > 0 {
		t.Errorf("again: %+v", got)
	}
	if got := look(61*time.Second, func(*jetstream.ConsumerInfo) {}); len(got) != 1 || got[0].State != "served" {
		t.Errorf("somebody asks: %+v", got)
	}
}

// BenchmarkSweep is what looking costs when there is nothing to mend.
func BenchmarkSweep(b *testing.B) {
	js := brokertest.JetStream(b)
	r := New(Config{JS: js, Leadership: steady{}, Events: &list{}})
	unsubscribe, err := r.listen()
	if err != nil {
		b.Fatal(err)
	}
	defer unsubscribe()
	r.sweep(b.Context())
	for b.Loop() {
		r.sweep(b.Context())
	}
}

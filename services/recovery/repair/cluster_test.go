package repair_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/services/recovery/repair"
	"github.com/sightline-dev/sightline/streams"
)

func TestLiveStreamsAndTheirTwinsLiveApart(t *testing.T) {
	c := brokertest.StartCluster(t, 3)
	o := streams.Options{Replicas: 3}
	js, operator := brokertest.Connect(t, c.URL(), "recovery-r1"), brokertest.Connect(t, c.URL(), operator)
	eventually(t, "everything is declared", func() bool { return streams.Ensure(t.Context(), js, o) == nil })
	node := func(stream string) string {
		s, err := operator.Stream(context.Background(), stream)
		if err != nil {
			return ""
		}
		return streams.Node(s.CachedInfo())
	}
	// Both on one node, which is where the server is free to put them.
	if err := operator.DeleteStream(t.Context(), streams.FramesTwin); err != nil {
		t.Fatal(err)
	}
	cfg := streams.Declared(o)[streams.FramesTwin]
	cfg.Placement = &jetstream.Placement{Tags: []string{"node:" + node(streams.FramesLive)}}
	if _, err := operator.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	cfg.Placement = nil
	if _, err := operator.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if a, b := node(streams.FramesLive), node(streams.FramesTwin); a == "" || a != b {
		t.Fatalf("on %q and %q", a, b)
	}
	log := newTold()
	run(t, repair.Config{JS: js, Options: o, Leadership: &leader{}, Events: log})
	e := log.await(t, "repair", streams.FramesTwin, "mended")
	if e.Cause != "same_node" {
		t.Errorf("%+v", e)
	}
	t.Logf("twin moved in %s ms", e.Facts["duration_ms"])
	apart := func() bool {
		for _, p := range streams.Pairs() {
			if a, b := node(p.Live), node(p.Twin); a == "" || b == "" || a == b {
				return false
			}
		}
		return true
	}
	eventually(t, "all twins are elsewhere", apart)
	eventually(t, "they have their work groups", func() bool {
		for _, g := range streams.Groups() {
			if _, err := operator.Consumer(t.Context(), g.Stream, g.Config.Durable); err != nil {
				return false
			}
		}
		return true
	})

	// A replicated work group can be passed to another node.
	for _, g := range streams.Groups() {
		if g.Stream == streams.Frames {
			if err := streams.PassGroup(t.Context(), operator, g); err != nil {
				t.Error(err)
			}
		}
	}

	t.Cleanup(func() {
		if t.Failed() {
			for _, p := range streams.Pairs() {
				t.Logf("%s on %q, %s on %q", p.Live, node(p.Live), p.Twin, node(p.Twin))
			}
			t.Logf("leader %q, told %+v", c.Leader(), log.find(func(events.Event) bool { return true }))
		}
	})
	// The node of the live stream ends and does not come back.
	gone := node(streams.FramesLive)
	log.forget()
	began := time.Now()
	c.Kill(gone)
	// Whoever starts now finds everything declared, though nobody reaches some of it.
	for what, start := range map[string]func() error{
		"await":  func() error { return streams.Await(t.Context(), operator, nil) },
		"ensure": func() error { return streams.Ensure(t.Context(), operator, o) },
	} {
		eventually(t, what+" while a node is away", func() bool { return start() == nil })
	}
	e = log.await(t, "repair", streams.FramesLive, "mended")
	t.Logf("live stream was on another node %s after its own was killed", time.Since(began))
	if e.Cause != "node_away" || time.Since(began) < 10*time.Second {
		t.Errorf("after %s: %+v", time.Since(began), e)
	}
	eventually(t, "all live streams are on the nodes that are left, apart", func() bool {
		for _, p := range streams.Pairs() {
			if node(p.Live) == gone || node(p.Twin) == gone {
				return false
			}
		}
		return apart()
	})
	if got := log.find(func(e events.Event) bool { return e.Kind == "operator" || e.Facts["cause"] == "deleted" }); len(got) > 0 {
		t.Errorf("told as a deletion: %+v", got)
	}
	if _, err := operator.Publish(t.Context(), "frames.live.door", nil, jetstream.WithMsgID("1")); err != nil {
		t.Error(err)
	}
}

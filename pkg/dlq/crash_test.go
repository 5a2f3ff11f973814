package dlq

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

// TestCrashBetweenReplayAndDelete puts a message back, does not get to deleting it, and replays it again.
func TestCrashBetweenReplayAndDelete(t *testing.T) {
	js := brokertest.JetStream(t)
	m := nats.NewMsg(streams.DLQSubject("preprocess", "street"))
	m.Data = []byte("jpeg")
	m.Header = nats.Header{
		frame.HeaderName: {"street/1/1"}, frame.HeaderDeadline: {"5"}, frame.HeaderTrace: {"trace"},
		stage.HeaderSubject: {"frames.twin.street"}, stage.HeaderAttempts: {"4"}, stage.HeaderReason: {"why"}, stage.HeaderVersion: {"1"},
	}
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	e, err := Get(t.Context(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := putBack(t.Context(), js, e); err != nil {
		t.Fatal(err)
	}
	if _, err := Replay(t.Context(), js, 1); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), streams.Frames)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("the work queue has %d messages", n)
	}
	back, err := s.GetLastMsgForSubject(t.Context(), "frames.every.street")
	if err != nil {
		t.Fatal(err)
	}
	id := back.Header[jetstream.MsgIDHeader][0]
	if len(back.Header) != 4 || back.Header[frame.HeaderName][0] != "street/1/1" || back.Header[frame.HeaderTrace][0] != "trace" || back.Header[stage.HeaderReplay][0] != id {
		t.Errorf("headers %v", back.Header)
	}

	e.At = e.At.Add(time.Nanosecond) // the same sequence of another DLQ
	if other, err := e.message(); err != nil || other.Header[jetstream.MsgIDHeader][0] == id {
		t.Errorf("id %s again: %v", id, err)
	}
}

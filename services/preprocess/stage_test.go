package preprocess_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/preprocess/imagertest"
	"github.com/sightline-dev/sightline/streams"
)

// TestMain fails when a goroutine outlives the tests, their brokers included.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// marks is a ledger that keeps lines.
type marks struct {
	mu    sync.Mutex
	lines []string
}

func (m *marks) Add(n frame.Name, mark ledger.Mark, model, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = append(m.lines, strings.TrimSpace(fmt.Sprint(n, " ", mark, " ", model, " ", reason)))
}

// sorted returns each line once: a redelivery says the same again.
func (m *marks) sorted() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(m.lines)))
}

func publish(t *testing.T, js jetstream.JetStream, msg *nats.Msg) {
	t.Helper()
	if _, err := js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
}

func send(t *testing.T, js jetstream.JetStream, f frame.Facts, d streams.Delivery, data []byte) {
	t.Helper()
	msg := &nats.Msg{Subject: streams.FrameSubject(d, f.Name.Camera), Header: nats.Header{}, Data: data}
	f.Encode(msg.Header)
	publish(t, js, msg)
}

// read returns what a stream holds, by subject, once it holds n messages.
func read(t *testing.T, js jetstream.JetStream, stream string, n uint64) map[string]*jetstream.RawStreamMsg {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	var info *jetstream.StreamInfo
	eventually(t, fmt.Sprintf("%d messages in %s", n, stream), func() bool {
		if info, err = s.Info(t.Context()); err != nil {
			t.Fatal(err)
		}
		return info.State.Msgs >= n
	})
	if info.State.Msgs != n {
		t.Fatalf("%s holds %d messages, want %d", stream, info.State.Msgs, n)
	}
	out := map[string]*jetstream.RawStreamMsg{}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		if m, err := s.GetMsg(t.Context(), seq); err == nil {
			out[m.Subject+" "+m.Header.Get(jetstream.MsgIDHeader)] = m
		}
	}
	return out
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// run runs a stage; the function it returns stops it and waits for a clean drain.
func run(t *testing.T, s *stage.Stage) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

func TestStage(t *testing.T) {
	js := brokertest.JetStream(t)
	jpg := imagertest.JPEG(imagertest.Scene(320, 240, 0.4), 90)
	named := func(camera string, seq uint64, models ...string) frame.Facts {
		f := facts()
		f.Name = frame.Name{Camera: camera, Epoch: 7, Seq: seq}
		f.Models = models
		return f
	}
	stale := named("gate", 2, "box")
	stale.Deadline = time.Now().Add(-time.Second)
	send(t, js, named("gate", 1, "box", "gray"), streams.Freshest, jpg)
	send(t, js, stale, streams.Freshest, jpg)
	send(t, js, named("gate", 3, "box"), streams.Freshest, []byte("this is not a picture"))
	send(t, js, named("line", 1, "gray"), streams.EveryFrame, jpg)
	publish(t, js, &nats.Msg{Subject: streams.FrameSubject(streams.Freshest, "door"), Data: jpg}) // no headers

	books := &marks{}
	s, err := preprocess.New(preprocess.Default(), preprocess.Deps{
		JetStream: js, Models: declared(), Imager: &preprocess.Fake{}, Observer: preprocess.NewObserver(books),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer run(t, s)()

	live := read(t, js, streams.TensorsLive, 2)
	for _, name := range []string{"box", "gray"} {
		key := "tensors.live." + name + ".stable.gate gate/7/1/" + name + "/stable"
		m := live[key]
		if m == nil {
			t.Fatalf("no %s in %v", key, slices.Collect(maps.Keys(live)))
		}
		if tensor, err := frame.DecodeTensor(m.Header, m.Data); err != nil || tensor.Model != name || tensor.Trace != trace {
			t.Errorf("%s: %+v, %v", name, tensor, err)
		}
	}
	if m := read(t, js, streams.Tensors, 1)["tensors.every.gray.stable.line line/7/1/gray/stable"]; m == nil {
		t.Error("no tensor of the every_frame camera")
	}
	dlq := read(t, js, streams.DLQ, 2)
	bad := quarantined(dlq, "dlq.preprocess.gate ", "gate/7/3")
	if bad == nil || string(bad.Data) != "this is not a picture" ||
		bad.Header.Get(stage.HeaderReason) != "decode: picture of 21 bytes: neither a JPEG nor a PNG" {
		t.Errorf("quarantined picture: %+v", bad)
	}
	if nameless := quarantined(dlq, "dlq.preprocess.door ", ""); nameless == nil || !bytes.Equal(nameless.Data, jpg) {
		t.Errorf("the frame without headers is not in DLQ: %v", slices.Collect(maps.Keys(dlq)))
	}
	want := []string{
		"gate/7/1 forwarded box", "gate/7/1 forwarded gray", "gate/7/1 taken",
		"gate/7/2 expired  max_age", "gate/7/2 taken",
		"gate/7/3 quarantined  preprocess", "gate/7/3 taken",
		"line/7/1 forwarded gray", "line/7/1 taken",
	}
	eventually(t, "the books", func() bool { return slices.Equal(books.sorted(), want) })
	read(t, js, streams.FramesLive, 0)
	read(t, js, streams.Frames, 0)
}

// quarantined finds a copy by the start and the end of its subject and id.
func quarantined(dlq map[string]*jetstream.RawStreamMsg, start, end string) *jetstream.RawStreamMsg {
	for key, m := range dlq {
		if strings.HasPrefix(key, start) && strings.HasSuffix(key, end) {
			return m
		}
	}
	return nil
}

// TestStageWaitsForDeclaration: a model that is declared a moment later gets its frame, once.
func TestStageWaitsForDeclaration(t *testing.T) {
	js := brokertest.JetStream(t)
	late := &lateModels{StaticModels: declared()}
	s, err := preprocess.New(preprocess.Default(), preprocess.Deps{JetStream: js, Models: late, Imager: &preprocess.Fake{}})
	if err != nil {
		t.Fatal(err)
	}
	defer run(t, s)()
	send(t, js, facts(), streams.EveryFrame, imagertest.PNG(imagertest.Scene(64, 48, 1)))
	read(t, js, streams.Tensors, 1)
	read(t, js, streams.Frames, 0)
	if n := s.Stats().Retried; n != 1 {
		t.Errorf("retried %d times, want 1", n)
	}
}

// lateModels knows nothing when it is asked for the first time.
type lateModels struct {
	preprocess.StaticModels
	once sync.Once
}

func (l *lateModels) Model(name string) (d model.Declaration, ok bool) {
	first := false
	l.once.Do(func() { first = true })
	if first {
		return d, false
	}
	return l.StaticModels.Model(name)
}

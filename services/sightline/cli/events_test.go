package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/streams"
)

// lineBuffer is an output that a test waits on.
type lineBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (b *lineBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.more != nil {
		close(b.more)
		b.more = nil
	}
	return b.text.Write(p)
}

// wait returns what was written when it has s in it.
func (b *lineBuffer) wait(t *testing.T, s string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		b.mu.Lock()
		text := b.text.String()
		if b.more == nil {
			b.more = make(chan struct{})
		}
		more := b.more
		b.mu.Unlock()
		if strings.Contains(text, s) {
			return text
		}
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("%q was not written:\n%s", s, text)
		}
	}
}

// publishEvent stores an event as it is.
func publishEvent(t *testing.T, js jetstream.JetStream, e events.Event) {
	t.Helper()
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	token := strings.NewReplacer(".", "_").Replace(e.Name)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for { // the broker may just be starting
		if _, err = js.PublishMsg(ctx, &nats.Msg{Subject: streams.EventSubject(e.Area, e.Kind, token), Data: data}); err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestEvents(t *testing.T) {
	js := brokertest.JetStream(t)
	nats := js.Conn().ConnectedUrl()
	at := time.Now().Add(-time.Minute)
	for i, e := range []events.Event{
		{Area: "camera", Kind: "state", Name: "street", State: "down", Cause: "refused", Detail: "\x1b[2Jsaid\nso", At: at.Add(2 * time.Second)},
		{Area: "camera", Kind: "state", Name: "street", State: "live", At: at.Add(time.Second)}, // told late
		{Area: "camera", Kind: "state", Name: "door", State: "live", At: at.Add(3 * time.Second)},
		{Area: "worker", Kind: "joined", Name: "box.lan", At: at.Add(4 * time.Second)},
		{Area: "worker", Kind: "joined", Name: "box_lan", At: at.Add(5 * time.Second)},
		{Area: "recovery", Kind: "action", Name: "infer-1", At: at.Add(6 * time.Second), Facts: map[string]string{"token": "7", "action": "nak", "cause": "no beat", "empty": ""}},
	} {
		e.Instance = "teller-" + strconv.Itoa(i)
		publishEvent(t, js, e)
	}
	if _, err := js.PublishMsg(t.Context(), natsMsg("events.camera.state.odd", "not an event")); err != nil {
		t.Fatal(err)
	}

	code, out, errs := run(t, t.Context(), "events", "--nats", nats)
	holds(t, 0, nil, []string{"warning: event:"}, code, out, errs)
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	want := []string{
		"camera/state       street               live",
		"camera/state       street               down         refused  [2Jsaid so",
		"camera/state       door                 live",
		"worker/joined      box.lan",
		"worker/joined      box_lan",
		`recovery/action    infer-1                           action=nak cause="no beat" empty="" token=7`,
	}
	if len(lines) != len(want) {
		t.Fatalf("%s", out)
	}
	for i, l := range lines {
		if l[len("2006-01-02 15:04:05.000  "):] != want[i] {
			t.Errorf("got  %s\nwant                          %s", l, want[i])
		}
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--area", "recovery"}, "infer-1"},
		{[]string{"--area", "camera", "--camera", "street"}, "street street"},
		{[]string{"--name", "box.lan"}, "box.lan"},
		{[]string{"--name", "box_lan"}, "box_lan"},
		{[]string{"--since", "0s"}, ""},
		{[]string{"--since", "1h", "--name", "door"}, "door"},
		{[]string{"--area", "nothing"}, ""},
	} {
		code, out, errs := run(t, t.Context(), append([]string{"events", "--json", "--nats", nats}, tt.args...)...)
		var names []string
		for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
			var e events.Event
			if err := dec.Decode(&e); err != nil {
				t.Fatal(err)
			}
			names = append(names, e.Name)
		}
		if got := strings.Join(names, " "); code != 0 || got != tt.want {
			t.Errorf("%v: exit code %d, %q\n%s", tt.args, code, got, errs)
		}
	}
}

func natsMsg(subject, data string) *nats.Msg { return &nats.Msg{Subject: subject, Data: []byte(data)} }

// TestEventsFollow follows over restarts of the broker, and over an EVENTS that was made anew meanwhile.
func TestEventsFollow(t *testing.T) {
	port, err := strconv.Atoi(freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	start := func() *broker.Embedded {
		t.Helper()
		s, err := broker.StartEmbedded(context.Background(), "127.0.0.1", port, dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	server := start()
	defer func() { server.Stop() }()
	nc, err := broker.Connect(broker.Config{URL: server.URL(), Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := broker.JetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	tell := func(name string) {
		t.Helper()
		publishEvent(t, js, events.Event{Area: "camera", Kind: "state", Name: name, At: time.Now()})
	}
	tell("before")

	ctx, interrupt := context.WithCancel(t.Context())
	var out, errs lineBuffer
	done := make(chan int, 1)
	go func() {
		done <- Main(ctx, []string{"events", "--follow", "--since", "1h", "--nats", server.URL()}, os.Environ(), Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
	}()
	out.wait(t, "before")
	tell("first")
	out.wait(t, "first")

	server.Stop()
	server = start()
	tell("second")
	out.wait(t, "second")

	server.Stop()
	server = start()
	anew := func() error {
		if err := js.DeleteStream(t.Context(), streams.Events); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
		return streams.Ensure(t.Context(), js, streams.Options{})
	}
	for deadline := time.Now().Add(patience); ; { // the connection may not be back yet
		if err := anew(); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	tell("third")
	text := out.wait(t, "third")
	for _, name := range []string{"before", "first", "second", "third"} {
		if strings.Count(text, name) != 1 {
			t.Errorf("%s: not once\n%s", name, text)
		}
	}
	interrupt()
	select {
	case code := <-done:
		if code != 0 {
			t.Errorf("exit code %d: %s", code, errs.wait(t, ""))
		}
	case <-time.After(patience):
		t.Fatal("Ctrl-C does not end it")
	}
}

// TestEventsFollowBeginsNow shows nothing of the past, and ends when nobody reads.
func TestEventsFollowBeginsNow(t *testing.T) {
	js := brokertest.JetStream(t)
	publishEvent(t, js, events.Event{Area: "camera", Kind: "state", Name: "before", At: time.Now()})
	out := &closingBuffer{}
	done := make(chan int, 1)
	go func() {
		done <- Main(t.Context(), []string{"events", "-f", "--nats", js.Conn().ConnectedUrl()}, os.Environ(), Streams{In: strings.NewReader(""), Out: out, Err: &bytes.Buffer{}})
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for {
		publishEvent(t, js, events.Event{Area: "camera", Kind: "state", Name: "now", At: time.Now()})
		select {
		case code := <-done:
			if text := out.text.String(); code != ExitFailed || !strings.Contains(text, "now") || strings.Contains(text, "before") {
				t.Errorf("exit code %d: %s", code, text)
			}
			return
		case <-tick.C:
		case <-timeout:
			t.Fatal("it goes on")
		}
	}
}

// closingBuffer takes one line, as `head -1` does.
type closingBuffer struct{ text bytes.Buffer }

func (b *closingBuffer) Write(p []byte) (int, error) {
	if b.text.Len() > 0 {
		return 0, os.ErrClosed
	}
	return b.text.Write(p)
}

func TestEventBuffer(t *testing.T) {
	var b eventBuffer
	var out []string
	show := func(es []events.Event) {
		for _, e := range es {
			out = append(out, e.Name)
		}
	}
	at := time.Now()
	for _, e := range []struct {
		name string
		at   int
	}{{"c", 3}, {"a", 1}, {"d", 4}, {"b", 2}, {"e", 4}, {"f", 4}} {
		show(b.add(events.Event{Name: e.name, At: at.Add(time.Duration(e.at))}, 3))
	}
	show(b)
	if got := strings.Join(out, ""); got != "abcdef" {
		t.Error(got)
	}
}

// What is purged while it is read does not keep the reader waiting for it.
func TestEventsPurgedMeanwhile(t *testing.T) {
	js := brokertest.JetStream(t)
	for range eventsBatch + 100 {
		publishEvent(t, js, events.Event{Area: "camera", Kind: "state", Name: "door", At: time.Now()})
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n := 0
	tail := eventTail{js: js, subject: "events.>", take: func(events.Event, error) error {
		if n++; n > 1 {
			return nil
		}
		s, err := js.Stream(ctx, streams.Events)
		if err != nil {
			return err
		}
		return s.Purge(ctx)
	}}
	if err := tail.read(ctx, true); err != nil || n == 0 {
		t.Errorf("after %d events: %v", n, err)
	}
}

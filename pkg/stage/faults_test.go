package stage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

// A message that was delivered more often than MaxAttempts is quarantined before a handler sees it.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.put(every, "killer")
	c, err := r.bind(r.js, streams.Frames, 10*time.Second)(r.ctx())
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		m, err := c.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Nak(); err != nil {
			t.Fatal(err)
		}
	}
	m := r.start(r.config(), stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
		t.Errorf("the handler saw %s", m.Data)
		return nil, nil
	}))
	m.wait(1, "quarantined/test killer")
	r.settled(streams.Frames)
	dead := r.stored(streams.DLQ)
	equal(t, "reason", dead[0].Header.Get(stage.HeaderReason), "delivered 5 times without an answer")
	equal(t, "attempts", dead[0].Header.Get(stage.HeaderAttempts), "5")
}

// A message that kills its process again and again takes none of those into quarantine that were in the process
// with it, wherever among them it is.
func TestKillerTakesNoNeighbour(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c", "d", "e", "f"}
	for _, killer := range []int{0, 2, 5} {
		t.Run("at "+strconv.Itoa(killer), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.put(every, names...)
			end := make(chan struct{})
			t.Cleanup(func() { close(end) })
			lives := 0
			for dead := false; !dead; {
				lives++
				js := r.client()
				killed := make(chan struct{})
				cfg := r.config()
				cfg.Sources, cfg.Publisher = []streams.Binder{r.bind(js, streams.Frames, 400*time.Millisecond)}, js
				cfg.DrainTimeout, cfg.MaxInFlight, cfg.Timeout = time.Millisecond, 6, time.Hour
				m := r.start(cfg, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
					if lives <= 2 || string(m.Data) == names[killer] { // at first it is too quick for its neighbours
						js.Conn().Close()
						close(killed)
						<-end
					}
					return answer(m), nil
				}))
				quarantined := make(chan struct{})
				go func() {
					defer close(quarantined)
					for {
						n, told := m.seen.count("quarantined/test " + names[killer])
						if n > 0 {
							return
						}
						select {
						case <-told:
						case <-killed:
							return
						}
					}
				}()
				<-quarantined
				select {
				case <-killed:
				default:
					dead = true
				}
				m.cancel()
			}
			if lives < 5 || lives > 7 { // two for the neighbours, two strikes, one to quarantine; on a busy machine AckWait costs some
				t.Errorf("it took %d lives", lives)
			}
			r.settled(streams.Frames)
			equal(t, "quarantined", r.data(streams.DLQ), []string{names[killer]})
			got := r.data(streams.Predictions)
			slices.Sort(got)
			equal(t, "answers", got, slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == names[killer] }))
		})
	}
}

// A handler that hangs and ignores its context loses its message to another member; the message is not kept alive
// for it, and its late answer counts for nothing.
func TestHangingHandler(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.Sources = []streams.Binder{r.bind(r.js, streams.Frames, 5*time.Minute)}
	cfg.Timeout = 20 * time.Millisecond
	g := newGate()
	first := r.start(cfg, stage.Each(g.ignore))
	r.put(every, "a", "b", "c") // b and c wait behind a
	first.wait(1, "taken c")
	<-g.at
	r.eventually(func() error {
		if st := first.Stats(); st.Hung != 1 || st.Retried < 3 {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	second := r.start(cfg, stage.Each(answerAll))
	for _, n := range []string{"a", "b", "c"} {
		second.wait(1, "done "+n)
	}
	r.settled(streams.Frames)
	equal(t, "taken by a stage that can do nothing with it", first.Stats().Taken <= 6, true)

	close(g.open) // the handler comes back: so does the stage
	r.eventually(func() error {
		if first.Stats().Hung != 0 {
			return errors.New("hangs")
		}
		return nil
	})
	if err := second.stop(); err != nil {
		t.Error(err)
	}
	r.put(every, "d")
	first.wait(1, "done d")
	if n, _ := first.seen.count("done a"); n != 0 {
		t.Error("the late answer was counted")
	}
	r.settled(streams.Frames)
	equal(t, "answers", len(r.data(streams.Predictions)), 4)
}

// A message that makes handlers hang ends in quarantine after the second, and takes nobody with it who shared a batch.
func TestHangIsQuarantined(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.Workers, cfg.MaxBatch, cfg.Timeout = 2, 2, 10*time.Millisecond
	stuck := make(chan error, 2)
	cfg.Stuck = func(err error) { stuck <- err }
	g := newGate()
	defer close(g.open)
	r.put(every, "hang", "a", "b") // in one batch with a, and then alone
	m := r.start(cfg, stage.Each(func(ctx context.Context, m stage.Message) ([]stage.Output, error) {
		if string(m.Data) == "hang" {
			return g.ignore(ctx, m)
		}
		return answer(m), nil
	}))
	m.wait(1, "quarantined/test hang")
	if err := <-stuck; !errors.Is(err, stage.ErrHung) {
		t.Error(err)
	}
	r.start(r.config(), stage.Each(answerAll)) // in the place of the process that is of no use any more
	r.settled(streams.Frames)
	got := r.data(streams.Predictions)
	slices.Sort(got)
	equal(t, "answers", got, []string{"a", "b"})
	equal(t, "reason", r.stored(streams.DLQ)[0].Header.Get(stage.HeaderReason), "handler ignored its time-out")
	equal(t, "hung", m.Stats().Hung, 2)
	r.settled(streams.Frames)
}

// A consumer or stream that is deleted under a stage is bound again.
func TestConsumerDeleted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m := r.start(r.config(), stage.Each(answerAll))
	r.put(every, "a")
	m.wait(1, "done a")
	if err := r.js.DeleteConsumer(r.ctx(), streams.Frames, "work"); err != nil {
		t.Fatal(err)
	}
	r.put(every, "b")
	m.wait(1, "done b")
	r.settled(streams.Frames)
	if m.Stats().BindErrors == 0 {
		t.Error("nothing was counted")
	}
}

func TestStreamDeletedAndMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m := r.start(r.config(), stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
		if string(m.Data) == "poison" {
			return nil, stage.Poison(errors.New("no"))
		}
		return answer(m), nil
	}))
	for i := range 2 {
		r.put(every, "poison", fmt.Sprint("f", i)) // the same sequences in every life of the stream
		m.wait(i+1, "quarantined/test poison")
		m.wait(1, fmt.Sprint("done f", i))
		if err := r.js.DeleteStream(r.ctx(), streams.Frames); err != nil {
			t.Fatal(err)
		}
		if err := streams.Ensure(r.ctx(), r.js, streams.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "every poison has its copy", len(r.data(streams.DLQ)), 2)
}

// A broker that restarts on its files interrupts a stage and no more.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := newGate()
	cfg := r.config()
	cfg.Workers = 2
	m := r.start(cfg, stage.Each(g.handle))
	names := []string{"a", "b", "c", "d", "e", "f"}
	r.put(every, names...)
	<-g.at // work is in hand while the broker is away
	<-g.at
	r.restart(func() { close(g.open) })
	for _, n := range names {
		m.wait(1, "done "+n)
	}
	r.settled(streams.Frames)
	got := r.data(streams.Predictions)
	slices.Sort(got)
	equal(t, "answers", got, names)
	equal(t, "quarantined", m.Stats().Quarantined, uint64(0))
}

// restart stops the broker and starts it again on the same port and files.
func (r *rig) restart(meanwhile func()) {
	r.t.Helper()
	url := r.server.URL()
	port, err := strconv.Atoi(url[strings.LastIndexByte(url, ':')+1:])
	if err != nil {
		r.t.Fatal(err)
	}
	r.server.Stop()
	meanwhile()
	if r.server, err = broker.StartEmbedded(r.ctx(), "127.0.0.1", port, r.dir); err != nil {
		r.t.Fatal(err)
	}
}

// A full output subject makes the message come back, beyond its AckWait and any number of times, and go on when there is
// room again.
func TestFullOutputSubject(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const tensor = "tensors.every.model.stable.cam"
	for range streams.TensorBacklog {
		r.put(tensor, "old")
	}
	cfg := r.config()
	cfg.MaxAttempts = 2
	cfg.Sources = []streams.Binder{r.bind(r.js, streams.Frames, 600*time.Millisecond)}
	m := r.start(cfg, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
		if m.Attempt != 1 {
			t.Errorf("attempt %d", m.Attempt)
		}
		return []stage.Output{{Subject: tensor, ID: string(m.Data), Data: m.Data}}, nil
	}))
	r.put(every, "f")
	m.wait(4, "taken f")
	if m.Stats().Quarantined+m.Stats().Done != 0 {
		t.Errorf("%+v", m.Stats())
	}
	s, err := r.js.Stream(r.ctx(), streams.Tensors)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(r.ctx(), s.CachedInfo().State.FirstSeq); err != nil {
		t.Fatal(err)
	}
	m.wait(1, "done f")
	r.settled(streams.Frames)
}

// A quarantine copy that cannot be stored leaves the message where it is.
func TestQuarantineNeedsItsCopy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.js.DeleteStream(r.ctx(), streams.DLQ); err != nil {
		t.Fatal(err)
	}
	cfg := r.config()
	cfg.DrainTimeout = time.Millisecond
	m := r.start(cfg, stage.Each(func(context.Context, stage.Message) ([]stage.Output, error) {
		return nil, stage.Poison(errors.New("no"))
	}))
	r.put(every, "f")
	r.eventually(func() error {
		if m.Stats().PublishErrors < 3 {
			return errors.New("not tried")
		}
		return nil
	})
	equal(t, "frames", r.data(streams.Frames), []string{"f"})
	if err := m.stop(); !errors.Is(err, stage.ErrDrainTimeout) {
		t.Errorf("Run returned %v", err)
	}
	equal(t, "frames", r.data(streams.Frames), []string{"f"})
	equal(t, "quarantined", m.Stats().Quarantined, uint64(0))
	if err := streams.Ensure(r.ctx(), r.js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	again := r.start(cfg, stage.Each(func(context.Context, stage.Message) ([]stage.Output, error) {
		return nil, stage.Poison(errors.New("no"))
	}))
	again.wait(1, "quarantined/test f")
	r.settled(streams.Frames)
	equal(t, "copies", r.data(streams.DLQ), []string{"f"})
}

// A message that fills its subject's limit to the byte does not fit into DLQ beside the reason: its headers do.
func TestQuarantineOfTheLargestMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	big := &nats.Msg{Subject: every, Header: nats.Header{"Name": {"big"}}, Data: make([]byte, broker.MaxPayload-40)}
	if _, err := r.js.PublishMsg(r.ctx(), big); err != nil {
		t.Fatal(err)
	}
	m := r.start(r.config(), stage.Each(func(context.Context, stage.Message) ([]stage.Output, error) {
		return nil, stage.Poison(errors.New("no"))
	}))
	r.eventually(func() error {
		if m.Stats().Quarantined != 1 {
			return errors.New("not quarantined")
		}
		return nil
	})
	r.settled(streams.Frames)
	dead := r.stored(streams.DLQ)
	equal(t, "omitted", dead[0].Header.Get(stage.HeaderOmitted), strconv.Itoa(len(big.Data)))
	equal(t, "name", dead[0].Header.Get("Name"), "big")
}

// One camera's queue for a model that nobody serves is full. Its messages stay, and those of other cameras pass them.
func TestFullSubjectLetsOthersPass(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const tensor, waiting = "tensors.every.nobody.stable.dead", 40
	for range streams.TensorBacklog {
		r.put(tensor, "old")
	}
	for range waiting {
		r.put("frames.every.dead", "dead")
	}
	r.put("frames.every.good", "good", "good", "good")
	cfg := r.config()
	cfg.Sources = []streams.Binder{r.bind(r.js, streams.Frames, 10*time.Second)}
	m := r.start(cfg, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
		if m.Subject == "frames.every.good" {
			return nil, nil
		}
		return []stage.Output{{Subject: tensor, ID: "dead/" + strconv.FormatUint(m.Sequence, 10), Data: m.Data}}, nil
	}))
	m.wait(3, "done good")
	if m.Stats().Quarantined != 0 {
		t.Errorf("%+v", m.Stats())
	}
}

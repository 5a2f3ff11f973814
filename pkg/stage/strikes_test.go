package stage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

// Several workers meet one camera's full queue by turns: none of them knows how often the others did.
func TestFullSubjectOfManyWorkersQuarantinesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const tensor, workers = "tensors.every.nobody.stable.cam", 4
	for range streams.TensorBacklog {
		r.put(tensor, "old")
	}
	deliveries := make(chan int, 1024)
	var members []*member
	for range workers {
		cfg := r.config()
		cfg.Strikes, cfg.MaxInFlight = r.js, 2
		members = append(members, r.start(cfg, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
			deliveries <- m.Attempt
			return []stage.Output{{Subject: tensor, ID: string(m.Data), Data: m.Data}}, nil
		})))
	}
	names := []string{"a", "b", "c", "d", "e", "f"}
	r.put(every, names...)
	for range 10 * len(names) { // twice as often as quarantined them before
		select {
		case <-deliveries:
		case <-time.After(patience):
			t.Fatal("not delivered")
		}
	}
	equal(t, "quarantined", r.data(streams.DLQ), []string(nil))
	if s, err := r.js.Stream(r.ctx(), streams.Tensors); err != nil || s.Purge(r.ctx()) != nil {
		t.Fatal(err)
	}
	r.settled(streams.Frames)
	got := r.data(streams.Tensors)
	slices.Sort(got)
	equal(t, "stored", got, names)
	for _, m := range members {
		equal(t, "quarantined", m.Stats().Quarantined, uint64(0))
	}
}

// Whoever waited in a process that died is no killer, however often that happened to it.
func TestDeathsOfOthersConvictNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.put(every, "innocent")
	c, err := r.bind(r.js, streams.Frames, 10*time.Second)(r.ctx())
	if err != nil {
		t.Fatal(err)
	}
	for range 9 {
		m, err := c.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Nak(); err != nil {
			t.Fatal(err)
		}
	}
	cfg := r.config()
	cfg.Strikes = r.js
	once := true
	m := r.start(cfg, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
		if once { // a declaration that has not come yet, say
			once = false
			return nil, stage.RetryIn(time.Millisecond, errors.New("not yet"))
		}
		return answer(m), nil
	}))
	m.wait(1, "done innocent")
	r.settled(streams.Frames)
	equal(t, "quarantined", r.data(streams.DLQ), []string(nil))
	equal(t, "strikes", r.strikes(), 0)
}

// What was taken away while it waited for its turn alone was not tried: nothing is held against it.
func TestWhatWaitedHasNoStrike(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.put(every, "a", "b")
	c, err := r.bind(r.js, streams.Frames, 10*time.Second)(r.ctx())
	if err != nil {
		t.Fatal(err)
	}
	for range 4 { // both become suspects
		m, err := c.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Nak(); err != nil {
			t.Fatal(err)
		}
	}
	cfg := r.config()
	cfg.Strikes = r.js
	begun, open := make(chan struct{}, 2), make(chan struct{})
	m := r.start(cfg, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
		begun <- struct{}{}
		<-open
		return answer(m), nil
	}))
	m.wait(1, "taken a")
	m.wait(1, "taken b")
	<-begun
	m.Abandon() // this process was declared dead
	close(open)
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	equal(t, "strikes", r.strikes(), 0)
}

// Killers among many: each is quarantined, and nobody else, wherever they are.
func TestKillersTakeNoNeighbour(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{
		{"a", "b", "K1", "c", "d", "K2", "e", "f"},
		{"K1", "a", "K2", "b", "K3"},
	} {
		t.Run(strings.Join(names, " "), func(t *testing.T) {
			t.Parallel()
			// Lives are short, so that the test is: a busy machine does not keep them up, and then takes what is theirs for dead.
			for _, ackWait := range []time.Duration{400 * time.Millisecond, time.Second, 3 * time.Second, 8 * time.Second} {
				kept := false
				t.Run(ackWait.String(), func(t *testing.T) { kept = killersAmong(t, names, ackWait) })
				if kept || t.Failed() {
					return
				}
			}
			t.Error("this machine keeps nothing alive")
		})
	}
}

// killersAmong reports whether the machine kept up. If it did, killers must be quarantined and nobody else.
func killersAmong(t *testing.T, names []string, ackWait time.Duration) bool {
	t.Helper()
	r := newRig(t)
	slow := watchMachine(t, ackWait/4)
	r.put(every, names...)
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	kills := func(name string) bool { return name[0] == 'K' }
	lives := 0
	for r.frames() > 0 {
		if lives++; lives > 12 {
			return slow.failed(t, "%d lives, quarantined %v", lives, r.data(streams.DLQ))
		}
		js := r.client()
		killed := make(chan struct{})
		cfg := r.config()
		cfg.Sources, cfg.Publisher, cfg.Strikes = []streams.Binder{r.bind(js, streams.Frames, ackWait)}, js, js
		cfg.DrainTimeout, cfg.MaxInFlight, cfg.Timeout = time.Millisecond, len(names), time.Hour
		m := r.start(cfg, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
			if lives <= 2 || kills(string(m.Data)) {
				js.Conn().Close()
				close(killed)
				<-end
			}
			return answer(m), nil
		}))
		emptied := make(chan struct{})
		go func() {
			defer close(emptied)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for r.frames() > 0 {
				select {
				case <-killed:
					return
				case <-tick.C:
				}
			}
		}()
		<-emptied
		m.cancel()
	}
	var bad, good []string
	for _, n := range names {
		if kills(n) {
			bad = append(bad, n)
		} else {
			good = append(good, n)
		}
	}
	t.Logf("%d lives", lives)
	dead, got := r.data(streams.DLQ), r.data(streams.Predictions)
	slices.Sort(dead)
	slices.Sort(got)
	if !slices.Equal(dead, bad) || !slices.Equal(got, good) {
		return slow.failed(t, "quarantined %v, want %v; answers %v, want %v", dead, bad, got, good)
	}
	return true
}

// machine is watched by a clock that has little to do.
type machine struct{ slow atomic.Bool }

// watchMachine notices when the machine makes somebody wait for longer than that.
func watchMachine(t *testing.T, longer time.Duration) *machine {
	t.Helper()
	m := &machine{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(longer / 4)
		defer tick.Stop()
		for last := time.Now(); ; last = time.Now() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if time.Since(last) > longer {
				m.slow.Store(true)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return m
}

// failed fails the test, unless the machine was slow: then it reports that it did not keep up.
func (m *machine) failed(t *testing.T, format string, args ...any) (kept bool) {
	t.Helper()
	if m.slow.Load() {
		t.Logf("on a slow machine: "+format, args...)
	} else {
		t.Errorf(format, args...)
	}
	return false
}

// A message that fails whenever it is tried has as many attempts with strikes as without.
func TestStrikesCountFailures(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.Strikes = r.js
	var attempts []int
	m := r.start(cfg, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
		attempts = append(attempts, m.Attempt)
		return nil, errors.New("no")
	}))
	r.put(every, "f")
	m.wait(1, "quarantined/test f")
	r.settled(streams.Frames)
	equal(t, "attempts", attempts, []int{1, 2, 3, 4})
	equal(t, "quarantined", r.data(streams.DLQ), []string{"f"})
}

func (r *rig) frames() uint64 {
	s, err := r.js.Stream(context.Background(), streams.Frames)
	if err != nil {
		panic(fmt.Sprint(err))
	}
	return s.CachedInfo().State.Msgs
}

// strikes is how many messages have strikes.
func (r *rig) strikes() int {
	r.t.Helper()
	kv, err := r.js.KeyValue(r.ctx(), streams.StrikesBucket)
	if err != nil {
		r.t.Fatal(err)
	}
	keys, err := kv.Keys(r.ctx())
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		r.t.Fatal(err)
	}
	return len(keys)
}

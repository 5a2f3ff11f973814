package stage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

const every = "frames.every.cam"

func TestFates(t *testing.T) {
	t.Parallel()
	errBroken := errors.New("broken")
	for _, c := range []struct {
		name     string
		handle   func(context.Context, stage.Message) ([]stage.Output, error)
		event    string // told in the end
		attempts []int
		answers  []string
		reason   string // in DLQ
	}{
		{"done", answerAll, "done f", []int{1}, []string{"f"}, ""},
		{"done without outputs", func(context.Context, stage.Message) ([]stage.Output, error) { return nil, nil }, "done f", []int{1}, nil, ""},
		{"drop", func(context.Context, stage.Message) ([]stage.Output, error) {
			return nil, stage.Drop(ledger.Expired, "max_age")
		}, "expired/max_age f", []int{1}, nil, ""},
		{"wrapped drop", func(context.Context, stage.Message) ([]stage.Output, error) {
			return nil, fmt.Errorf("look: %w", stage.Drop(ledger.Superseded, "newer"))
		}, "superseded/newer f", []int{1}, nil, ""},
		{"poison", func(context.Context, stage.Message) ([]stage.Output, error) { return nil, stage.Poison(errBroken) }, "quarantined/test f", []int{1}, nil, "broken"},
		{"retry then done", func(_ context.Context, m stage.Message) ([]stage.Output, error) {
			if m.Attempt < 3 {
				return nil, stage.RetryIn(time.Millisecond, errBroken)
			}
			return answer(m), nil
		}, "done f", []int{1, 2, 3}, []string{"f"}, ""},
		{"error", func(context.Context, stage.Message) ([]stage.Output, error) { return nil, errBroken }, "quarantined/test f", []int{1, 2, 3, 4}, nil, "broken"},
		{"panic", func(context.Context, stage.Message) ([]stage.Output, error) { panic("at the disco") }, "quarantined/test f", []int{1, 2, 3, 4}, nil, "panic: at the disco"},
		{"time-out", func(ctx context.Context, _ stage.Message) ([]stage.Output, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, "quarantined/test f", []int{1, 2, 3, 4}, nil, "context deadline exceeded"},
		{"output without an id", func(_ context.Context, m stage.Message) ([]stage.Output, error) {
			return []stage.Output{{Subject: "predictions.m.cam", Data: m.Data}}, nil
		}, "quarantined/test f", []int{1}, nil, "output for predictions.m.cam of frames.every.cam has no id"},
		{"output on a bad subject", func(_ context.Context, m stage.Message) ([]stage.Output, error) {
			return []stage.Output{{Subject: "predictions.m.c am", ID: "1", Data: m.Data}}, nil
		}, "quarantined/test f", []int{1}, nil, "publish predictions.m.c am: 1 bytes: nats: invalid subject"},
		{"oversize output", func(context.Context, stage.Message) ([]stage.Output, error) {
			return []stage.Output{{Subject: "predictions.m.cam", ID: "1", Data: make([]byte, 9<<20)}}, nil
		}, "quarantined/test f", []int{1}, nil, "publish predictions.m.cam: 9437184 bytes: nats: maximum payload exceeded"},
		{"endless reason", func(context.Context, stage.Message) ([]stage.Output, error) {
			return nil, stage.Poison(errors.New(strings.Repeat("x", 511) + "é" + strings.Repeat("x", 1<<20)))
		}, "quarantined/test f", []int{1}, nil, strings.Repeat("x", 511)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			var mu sync.Mutex
			var attempts []int
			cfg := r.config()
			cfg.Timeout = 50 * time.Millisecond
			m := r.start(cfg, stage.Each(func(ctx context.Context, m stage.Message) ([]stage.Output, error) {
				mu.Lock()
				attempts = append(attempts, m.Attempt)
				mu.Unlock()
				return c.handle(ctx, m)
			}))
			r.put(every, "f")
			m.wait(1, c.event)
			r.settled(streams.Frames)
			if err := m.stop(); err != nil {
				t.Error(err)
			}
			equal(t, "attempts", attempts, c.attempts)
			equal(t, "answers", r.data(streams.Predictions), c.answers)
			dead := r.stored(streams.DLQ)
			if (len(dead) == 1) != (c.reason != "") {
				t.Fatalf("%d messages in DLQ", len(dead))
			}
			if len(dead) == 1 {
				equal(t, "reason", dead[0].Header.Get(stage.HeaderReason), c.reason)
				equal(t, "attempts", dead[0].Header.Get(stage.HeaderAttempts), strconv.Itoa(len(c.attempts)))
				equal(t, "stage", dead[0].Header.Get(stage.HeaderStage), "test")
				equal(t, "subject", dead[0].Header.Get(stage.HeaderSubject), every)
				equal(t, "own header", dead[0].Header.Get("Name"), "f")
				equal(t, "payload", string(dead[0].Data), "f")
				equal(t, "on", dead[0].Subject, "dlq.test.cam")
			}
		})
	}
}

// The delays between the attempts of a message that fails for no stated reason grow.
func TestRetriesBackOff(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var at []time.Time
	m := r.start(r.config(), stage.Each(func(context.Context, stage.Message) ([]stage.Output, error) {
		at = append(at, time.Now())
		return nil, errors.New("broken")
	}))
	r.put(every, "f")
	m.wait(1, "quarantined/test f")
	for i, least := range []time.Duration{20 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond} {
		if d := at[i+1].Sub(at[i]); d < least {
			t.Errorf("attempt %d came after %v, want at least %v", i+2, d, least)
		}
	}
}

// One poison message in a batch that fails as a whole: it alone is quarantined, its neighbours are answered once.
func TestBatchWithOnePoison(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(){
		"error": func() {}, "panic": func() { panic("bad picture") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			names := []string{"a", "b", "c", "POISON", "e", "f", "g", "h"}
			r.put(every, names...)
			cfg := r.config()
			cfg.MaxBatch, cfg.MaxQueueDelay = 8, 200*time.Millisecond
			var mu sync.Mutex
			calls := map[string]int{}
			biggest := 0
			m := r.start(cfg, func(_ context.Context, batch []stage.Message) ([]stage.Result, error) {
				mu.Lock()
				defer mu.Unlock()
				biggest = max(biggest, len(batch))
				out := make([]stage.Result, len(batch))
				for i, m := range batch {
					calls[string(m.Data)]++
					out[i].Outputs = answer(m)
				}
				for _, m := range batch {
					if string(m.Data) == "POISON" {
						fail()
						return nil, errors.New("bad picture")
					}
				}
				return out, nil
			})
			m.wait(1, "quarantined/test POISON")
			r.settled(streams.Frames)
			got := r.data(streams.Predictions)
			slices.Sort(got)
			equal(t, "answers", got, []string{"a", "b", "c", "e", "f", "g", "h"})
			equal(t, "quarantined", r.data(streams.DLQ), []string{"POISON"})
			equal(t, "batch", biggest, 8)
			for _, n := range got {
				if taken, _ := m.seen.count("taken " + n); taken != 1 {
					t.Errorf("%s was delivered %d times", n, taken)
				}
			}
			st := m.Stats()
			equal(t, "done, quarantined", []uint64{st.Done, st.Quarantined}, []uint64{7, 1})
		})
	}
}

// A batch whose handler answers for each message is not bisected, and each answer counts for its message.
func TestBatchResultsAreIndependent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.put(every, "a", "drop", "poison", "retry", "e")
	cfg := r.config()
	cfg.MaxBatch, cfg.MaxQueueDelay = 5, 200*time.Millisecond
	m := r.start(cfg, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
		switch string(m.Data) {
		case "drop":
			return nil, stage.Drop(ledger.Expired, "max_age")
		case "poison":
			return nil, stage.Poison(errors.New("no"))
		case "retry":
			if m.Attempt == 1 {
				return nil, stage.RetryIn(time.Millisecond, errors.New("later"))
			}
		}
		return answer(m), nil
	}))
	r.put(every)
	for _, e := range []string{"done a", "done e", "done retry", "expired/max_age drop", "quarantined/test poison"} {
		m.wait(1, e)
	}
	r.settled(streams.Frames)
	equal(t, "batches", m.Stats().Batches, uint64(2))
	equal(t, "retried", m.Stats().Retried, uint64(1))
}

// RetryIn and Drop for a whole batch mean every message of it: nobody looks for a culprit.
func TestBatchVerdictIsNotBisected(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.put(every, "a", "b", "c", "d")
	cfg := r.config()
	cfg.MaxBatch, cfg.MaxQueueDelay = 4, 200*time.Millisecond
	var calls []int
	m := r.start(cfg, func(_ context.Context, batch []stage.Message) ([]stage.Result, error) {
		calls = append(calls, len(batch))
		if len(calls) == 1 {
			return nil, stage.RetryIn(time.Millisecond, errors.New("backend is starting"))
		}
		return nil, stage.Drop(ledger.Expired, "max_age")
	})
	for _, n := range []string{"a", "b", "c", "d"} {
		m.wait(1, "expired/max_age "+n)
	}
	equal(t, "first calls", calls[0], 4)
	equal(t, "retried", m.Stats().Retried, uint64(4))
}

// A handler that returns too few results is wrong about all of them: every message is tried alone, and then
// quarantined with that reason.
func TestWrongNumberOfResults(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.put(every, "a", "b")
	cfg := r.config()
	cfg.MaxBatch, cfg.MaxQueueDelay, cfg.MaxAttempts = 2, 200*time.Millisecond, 2
	m := r.start(cfg, func(context.Context, []stage.Message) ([]stage.Result, error) { return nil, nil })
	m.wait(1, "quarantined/test a")
	m.wait(1, "quarantined/test b")
	r.settled(streams.Frames)
	for _, d := range r.stored(streams.DLQ) {
		equal(t, "reason", d.Header.Get(stage.HeaderReason), "handler returned 0 results for 1 messages")
	}
}

// A frame that two work groups cannot handle is in DLQ twice: the second copy is not taken for a double.
func TestQuarantineCopiesOfOneFrame(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.Sources = []streams.Binder{r.bind(r.js, streams.Tensors, time.Second)}
	cfg.Identity = func(stage.Message) string { return "cam/1/1" }
	m := r.start(cfg, stage.Each(func(context.Context, stage.Message) ([]stage.Output, error) {
		return nil, stage.Poison(errors.New("no"))
	}))
	r.put("tensors.every.m1.stable.cam", "t1")
	r.put("tensors.every.m2.stable.cam", "t2")
	m.wait(1, "quarantined/test t1")
	m.wait(1, "quarantined/test t2")
	equal(t, "copies", len(r.data(streams.DLQ)), 2)
}

package stage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// hangGrace is how long a handler may go on after its time-out before its messages are taken from it.
const hangGrace = time.Second

// hangFor is how long a handler may hang while others work.
const hangFor = 30 * time.Second

// attempt handles a batch and settles each of its messages on its own goroutine, so that the next batch starts
// while outputs are being acknowledged. MaxInFlight bounds those goroutines.
func (s *Stage) attempt(ctx context.Context, taken []*item) {
	batch := make([]*item, 0, len(taken))
	for _, it := range taken {
		if it.begin() {
			batch = append(batch, it)
		}
	}
	if len(batch) == 0 {
		return
	}
	s.batches.Add(1)
	s.bisect(ctx, batch)
}

// bisect calls the handler. When a batch fails as a whole it tries the halves: the innocent must not pay for the
// poison. RetryIn and Drop are not blamed on one of the messages.
func (s *Stage) bisect(ctx context.Context, batch []*item) {
	results, err := s.call(ctx, batch)
	if errors.Is(err, ErrHung) {
		return // its messages are settled
	}
	if err != nil && len(batch) > 1 && ctx.Err() == nil && !deliberate(err) {
		half := len(batch) / 2
		s.bisect(ctx, batch[:half])
		s.bisect(ctx, batch[half:])
		return
	}
	for i, it := range batch {
		r := Result{Err: err}
		if err == nil {
			r = results[i]
		}
		s.settling.Go(func() {
			s.acquit(ctx, it, r.Err)
			s.settle(ctx, it, r)
		})
	}
}

// call runs the handler under its time-out and turns a panic into an error.
func (s *Stage) call(ctx context.Context, batch []*item) (results []Result, err error) {
	in := make([]Message, len(batch))
	for i, it := range batch {
		in[i] = it.msg // a copy: who hands the message back may be reading it
		in[i].Queued = time.Since(it.msg.Stored)
	}
	ctx, began := s.measure.begin(ctx, batch, in)
	defer func() { began(err) }()
	watch := s.watch(ctx, batch)
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.ErrorContext(ctx, "handler panicked", slog.String("stage", s.cfg.Name), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			results, err = nil, fmt.Errorf("panic: %v", p)
		}
		if watch() {
			results, err = nil, ErrHung
		}
	}()
	timed, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	defer func(began time.Time) { s.busy.Add(int64(time.Since(began))) }(time.Now())
	results, err = s.handle(timed, in)
	if err == nil && len(results) != len(in) {
		err = fmt.Errorf("handler returned %d results for %d messages", len(results), len(in))
	}
	return results, err
}

// watch takes the messages away from a handler that ignores its time-out: somebody else must get them, and the
// worker is of no use until the handler returns. The function it returns ends the watch and reports whether it
// came to that.
func (s *Stage) watch(ctx context.Context, batch []*item) func() bool {
	var over atomic.Bool
	given := make(chan struct{})
	t := time.AfterFunc(s.cfg.Timeout+hangGrace, func() {
		if over.Swap(true) {
			return
		}
		defer close(given)
		s.cfg.Log.ErrorContext(ctx, "handler ignores its time-out", slog.String("stage", s.cfg.Name), slog.Int("messages", len(batch)))
		stuck := s.hangs.begin() == s.cfg.Workers
		s.giveUp(stuck)
		for _, it := range batch {
			s.settling.Go(func() { s.settle(ctx, it, Result{Err: ErrHung}) })
		}
		if stuck {
			s.handBackWaiting()
		}
	})
	return func() bool {
		if !over.Swap(true) {
			t.Stop()
			return false
		}
		<-given
		s.hangs.end()
		return true
	}
}

// giveUp calls Stuck once the messages are on their way back to the broker: at once when no handler is left, and after a
// while when one does not return.
func (s *Stage) giveUp(stuck bool) {
	if s.cfg.Stuck == nil {
		return
	}
	after := hangFor
	if stuck {
		after = hangGrace
	}
	time.AfterFunc(after, func() {
		if s.hangs.count() > 0 {
			s.cfg.Stuck(ErrHung)
		}
	})
}

// handBackWaiting returns what no handler has seen yet, because no handler is left to see it. The delay outlasts a
// pull that is still open, which would only get it again.
func (s *Stage) handBackWaiting() {
	for _, it := range s.held.all() {
		if it.waiting() {
			s.nak(it, fetchWait)
		}
	}
}

// hangs counts the handlers that ignore their time-out.
type hangs struct {
	mu    sync.Mutex
	n     int
	freed chan struct{}
}

func (h *hangs) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n
}

func (h *hangs) stuck(workers int) bool { return h.count() >= workers }

func (h *hangs) begin() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	return h.n
}

func (h *hangs) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n--
	if h.freed != nil {
		close(h.freed)
		h.freed = nil
	}
}

// wait blocks while every worker hangs. It reports false when ctx ended.
func (h *hangs) wait(ctx context.Context, workers int) bool {
	for {
		h.mu.Lock()
		if h.n < workers {
			h.mu.Unlock()
			return true
		}
		if h.freed == nil {
			h.freed = make(chan struct{})
		}
		freed := h.freed
		h.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return false
		}
	}
}

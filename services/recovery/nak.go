package recovery

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/streams"
)

// naksAtOnce bounds the requests that are under way for one work group.
const naksAtOnce = 32

// nak hands messages back, and returns those of which the broker said that it got to know. A message that is settled
// stays settled.
func nak(ctx context.Context, nc *nats.Conn, g group, sequences []uint64) ([]uint64, error) {
	if len(sequences) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	work := make(chan uint64)
	var (
		mu     sync.Mutex
		done   []uint64
		failed error
		asking sync.WaitGroup
	)
	for range min(naksAtOnce, len(sequences)) {
		asking.Go(func() {
			for n := range work {
				_, err := nc.RequestWithContext(ctx, streams.AckSubject(g.stream, g.consumer, n, g.info.Delivered.Consumer), []byte("-NAK"))
				mu.Lock()
				if err == nil {
					done = append(done, n)
				} else {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	for _, n := range sequences {
		work <- n
	}
	close(work)
	asking.Wait()
	if failed != nil {
		return done, fmt.Errorf("hand back %d of %d messages of %s: %w", len(sequences)-len(done), len(sequences), g.name(), failed)
	}
	return done, nil
}

// handedFor is how long it is remembered which messages were handed back.
const handedFor = 15 * time.Second

// handed are the messages that were handed back lately, so that cases that happen together hand each back once.
type handed struct {
	mu    sync.Mutex
	at    map[string]map[uint64]time.Time // by work group
	swept time.Time
}

func newHanded() handed { return handed{at: map[string]map[uint64]time.Time{}} }

// take leaves out the sequences that were handed back after a time. The others are the caller's to hand back.
func (h *handed) take(group string, after time.Time, sequences []uint64, now time.Time) []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sweep(now)
	out := make([]uint64, 0, len(sequences))
	for _, n := range sequences {
		if h.at[group][n].After(after) {
			continue
		}
		if h.at[group] == nil {
			h.at[group] = map[uint64]time.Time{}
		}
		h.at[group][n] = now
		out = append(out, n)
	}
	return out
}

// putBack undoes take for those that were not handed back.
func (h *handed) putBack(group string, taken, done []uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := make(map[uint64]bool, len(done))
	for _, n := range done {
		kept[n] = true
	}
	for _, n := range taken {
		if !kept[n] {
			delete(h.at[group], n)
		}
	}
}

// sweep forgets. The caller holds mu.
func (h *handed) sweep(now time.Time) {
	if now.Sub(h.swept) <= handedFor {
		return
	}
	h.swept = now
	for g, at := range h.at {
		maps.DeleteFunc(at, func(_ uint64, t time.Time) bool { return now.Sub(t) > handedFor })
		if len(at) == 0 {
			delete(h.at, g)
		}
	}
}

package telemetry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// ringSize and ringFor bound the unsampled spans that are kept in memory: by number, and by age when they are asked for.
	ringSize = 4096
	ringFor  = 30 * time.Second
	// keptFor is how long spans of a trace that is kept are exported as they end, keptLimit how many such traces there are.
	keptFor   = 30 * time.Second
	keptLimit = 1024
	// keepRate and keepBurst bound the traces that this process finds worth keeping, hearRate and hearBurst those that others do.
	keepRate, keepBurst = 5, 20
	hearRate, hearBurst = 50, 200
)

// Why says why an unsampled trace is exported.
type Why string

// The reasons.
const (
	Slow        Why = "slow"
	Failed      Why = "failed"
	Quarantined Why = "quarantined"
	heard       Why = "heard"
)

// keeper passes sampled spans on, and has the others of the last seconds. It is a span processor.
type keeper struct {
	batches []sdk.SpanProcessor
	kept    map[Why]*Counter
	now     func() time.Time

	mu         sync.Mutex
	ring       []sdk.ReadOnlySpan
	next       int
	wanted     map[trace.TraceID]time.Time // until when
	mine, hear bucket

	conn *nats.Conn
	sub  *nats.Subscription
}

func newKeeper(t *Telemetry) *keeper {
	k := &keeper{
		now: time.Now, ring: make([]sdk.ReadOnlySpan, ringSize), wanted: map[trace.TraceID]time.Time{}, kept: map[Why]*Counter{},
		mine: bucket{rate: keepRate, burst: keepBurst}, hear: bucket{rate: hearRate, burst: hearBurst},
	}
	s := t.Set()
	for _, why := range []Why{Slow, Failed, Quarantined, heard} {
		k.kept[why] = s.Counter(TracesKept, string(why))
	}
	return k
}

// OnStart implements sdk.SpanProcessor.
func (k *keeper) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd implements sdk.SpanProcessor.
func (k *keeper) OnEnd(s sdk.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() && !k.want(s) {
		return
	}
	k.export(s)
}

// want reports whether a span of a trace that is not sampled is exported all the same; otherwise it is remembered.
func (k *keeper) want(s sdk.ReadOnlySpan) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.wanted) > 0 {
		if k.concerns(s) {
			return true
		}
	}
	k.ring[k.next] = s
	k.next = (k.next + 1) % len(k.ring)
	return false
}

// concerns reports whether a span is of a trace that is kept, or a batch that one was in.
func (k *keeper) concerns(s sdk.ReadOnlySpan) bool {
	now := k.now()
	if now.Before(k.wanted[s.SpanContext().TraceID()]) {
		return true
	}
	if !s.Parent().IsValid() {
		for _, l := range s.Links() {
			if now.Before(k.wanted[l.SpanContext.TraceID()]) {
				return true
			}
		}
	}
	return false
}

func (k *keeper) export(s sdk.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		s = sampledSpan{s}
	}
	for _, b := range k.batches {
		b.OnEnd(s)
	}
}

// sampledSpan is a span that is exported although its trace is not sampled.
type sampledSpan struct{ sdk.ReadOnlySpan }

func (s sampledSpan) SpanContext() trace.SpanContext {
	c := s.ReadOnlySpan.SpanContext()
	return c.WithTraceFlags(c.TraceFlags().WithSampled(true))
}

// Shutdown implements sdk.SpanProcessor.
func (k *keeper) Shutdown(ctx context.Context) error {
	return k.each(func(p sdk.SpanProcessor) error { return p.Shutdown(ctx) })
}

// ForceFlush implements sdk.SpanProcessor.
func (k *keeper) ForceFlush(ctx context.Context) error {
	return k.each(func(p sdk.SpanProcessor) error { return p.ForceFlush(ctx) })
}

func (k *keeper) each(do func(sdk.SpanProcessor) error) error {
	errs := make([]error, 0, len(k.batches))
	for _, b := range k.batches {
		errs = append(errs, do(b))
	}
	return errors.Join(errs...)
}

// Keep has a trace exported that is not sampled, by every process that has spans of it. It does nothing for one that is
// sampled, and when too many are kept already.
func (t *Telemetry) Keep(c trace.SpanContext, why Why) {
	if t == nil || t.traces == nil || !c.HasTraceID() || c.IsSampled() {
		return
	}
	k := t.traces.keep
	if !k.add(c.TraceID(), why, &k.mine) {
		return
	}
	k.mu.Lock()
	conn := k.conn
	k.mu.Unlock()
	if conn != nil {
		id := c.TraceID()
		_ = conn.Publish(streams.KeepTraceSubject, hex.AppendEncode(nil, id[:])) // a trace of others is no reason to wait
	}
}

// add exports what there is of a trace, and what will be. It reports false when that was known, or is too much.
func (k *keeper) add(id trace.TraceID, why Why, limit *bucket) bool {
	now := k.now()
	k.mu.Lock()
	if now.Before(k.wanted[id]) || !limit.take(now) {
		k.mu.Unlock()
		return false
	}
	for other, until := range k.wanted {
		if now.After(until) {
			delete(k.wanted, other)
		}
	}
	if len(k.wanted) >= keptLimit {
		k.mu.Unlock()
		return false
	}
	k.wanted[id] = now.Add(keptFor)
	var found []sdk.ReadOnlySpan
	for i, s := range k.ring {
		if s != nil && (s.SpanContext().TraceID() == id || linked(s, id)) {
			if now.Sub(s.EndTime()) < ringFor {
				found = append(found, s)
			}
			k.ring[i] = nil
		}
	}
	k.mu.Unlock()
	k.kept[why].Inc()
	for _, s := range found {
		k.export(s)
	}
	return true
}

func linked(s sdk.ReadOnlySpan, id trace.TraceID) bool {
	if s.Parent().IsValid() {
		return false
	}
	for _, l := range s.Links() {
		if l.SpanContext.TraceID() == id {
			return true
		}
	}
	return false
}

// Join makes this process keep what others find worth keeping, and tell them what it does.
func (t *Telemetry) Join(nc *nats.Conn) error {
	if t == nil || t.traces == nil {
		return nil
	}
	k := t.traces.keep
	sub, err := nc.Subscribe(streams.KeepTraceSubject, func(m *nats.Msg) {
		var id trace.TraceID
		if len(m.Data) != hex.EncodedLen(len(id)) {
			return
		}
		if _, err := hex.Decode(id[:], m.Data); err == nil && id.IsValid() {
			k.add(id, heard, &k.hear)
		}
	})
	if err != nil {
		return fmt.Errorf("telemetry: listen to %s: %w", streams.KeepTraceSubject, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conn, k.sub = nc, sub
	return nil
}

func (k *keeper) leave() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	sub := k.sub
	k.sub, k.conn = nil, nil
	if sub == nil || !sub.IsValid() {
		return nil
	}
	return sub.Unsubscribe()
}

// bucket bounds a rate.
type bucket struct {
	rate, burst float64
	tokens      float64
	at          time.Time
}

func (b *bucket) take(now time.Time) bool {
	if b.at.IsZero() {
		b.tokens = b.burst
	} else {
		b.tokens = min(b.burst, b.tokens+now.Sub(b.at).Seconds()*b.rate)
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

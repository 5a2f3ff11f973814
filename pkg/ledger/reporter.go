package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// lastFlush bounds the attempts to say the last things.
	lastFlush = 5 * time.Second
	// maxRate is how many records per second a Reporter publishes, unless it has more cameras than fit into
	// MaxFlushInterval at that rate. 1,000 cameras are reported of every 5 s, 100 and less every half second.
	maxRate = 200
	// maxSlot bounds what is published at once: a Reporter of more cameras spreads them over its interval, in slots.
	maxSlot = 10
	// outstanding is how many publishes wait for their acknowledgement at the same time: 1,000 cameras must not take
	// 1,000 round trips one after another.
	outstanding = 16
	// maxRanges bounds a record: at most 42 bytes each, they stay far below a broker's default limit of 1 MiB. Only
	// a long outage gathers that many.
	maxRanges = 8192
)

// Publisher is the part of JetStream that a Reporter needs.
type Publisher interface {
	PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error)
}

// Reporter gathers what one stage instance saw and publishes it as ranges. What cannot be published is kept and
// merged into the next attempt: it stays small, because it is ranges.
//
// It reports of every camera each FlushInterval. One that has very many cameras reports of each less often, up to
// MaxFlushInterval, spreads them over that time, and says so in its records.
type Reporter struct {
	js              Publisher
	stage, instance string
	began           time.Time
	ids             string // what the ids of its records begin with

	mu      sync.Mutex
	pending map[epochKey]*pending
	routes  map[string]routeOf // by camera: said with every record, because records are not kept for ever
	back    returns
	flushMu sync.Mutex // one flush at a time, so that a failed one is merged back before the next
	records atomic.Uint64
	every   time.Duration // the interval now
}

type epochKey struct {
	camera string
	epoch  uint64
}

type entryKey struct {
	mark          Mark
	model, reason string
	again         int
}

type pending struct {
	entries map[entryKey]*Ranges
}

type routeOf struct {
	epoch uint64
	route Route
}

// NewReporter returns a Reporter for one instance of a stage. Run publishes for it.
func NewReporter(js Publisher, stage, instance string) *Reporter {
	began := time.Now()
	return &Reporter{
		js: js, stage: stage, instance: instance, began: began,
		// The time makes them differ from those of an earlier process of that name: LEDGER would take those for doubles.
		ids:     stage + "/" + instance + "/" + strconv.FormatInt(began.UnixNano(), 36) + "/",
		pending: map[epochKey]*pending{}, routes: map[string]routeOf{}, every: FlushInterval,
	}
}

// Add says one thing of one frame. It never blocks on the broker.
func (r *Reporter) Add(n frame.Name, mark Mark, model, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := entryKey{mark: mark, model: model, reason: reason}
	switch mark { //nolint:exhaustive // the others do not depend on what was said before
	case Taken:
		k.again = r.back.count(n, model)
	case Returned:
		if k.again = r.back.count(n, model); k.again >= maxReturns {
			return // then it is in this worker's hands, as far as the books know
		}
		r.back.add(n, model)
	}
	r.entry(epochKey{n.Camera, n.Epoch}, k).Add(n.Seq, n.Seq)
}

// SetRoute says how an epoch's frames are to be judged. A camera's later epoch takes the place of an earlier one.
func (r *Reporter) SetRoute(camera string, epoch uint64, route Route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.routes[camera] = routeOf{epoch, route}
	r.at(epochKey{camera, epoch})
}

func (r *Reporter) at(k epochKey) *pending {
	p := r.pending[k]
	if p == nil {
		p = &pending{entries: map[entryKey]*Ranges{}}
		r.pending[k] = p
	}
	return p
}

func (r *Reporter) entry(k epochKey, e entryKey) *Ranges {
	p := r.at(k)
	if p.entries[e] == nil {
		p.entries[e] = &Ranges{}
	}
	return p.entries[e]
}

// Run flushes every camera once per interval until ctx ends, and all of them once more then. It reports only what the
// last flush could not deliver.
func (r *Reporter) Run(ctx context.Context) error {
	wait := time.NewTimer(FlushInterval)
	defer wait.Stop()
	for active := 0; ; {
		plan := planOf(active)
		r.mu.Lock()
		r.every = plan.every
		r.mu.Unlock()
		began := time.Now()
		active = 0
		for slot := range plan.slots {
			wait.Reset(time.Until(began.Add(plan.every * time.Duration(slot+1) / time.Duration(plan.slots))))
			select {
			case <-wait.C:
				n, _ := r.flush(ctx, func(k epochKey) bool { return plan.slotOf(k.camera) == slot }) // kept for the next round; the last one is returned
				active += n
			case <-ctx.Done():
				return r.last(context.WithoutCancel(ctx))
			}
		}
	}
}

// plan is one round: when which camera is flushed.
type plan struct {
	every time.Duration
	slots int
}

func planOf(active int) plan {
	return plan{
		every: min(max(time.Duration(active)*time.Second/maxRate, FlushInterval), MaxFlushInterval),
		slots: max((active+maxSlot-1)/maxSlot, 1),
	}
}

// slotOf spreads cameras evenly, and leaves each in its place from one round to the next.
func (p plan) slotOf(camera string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(camera))
	return int(h.Sum32()>>1) % p.slots
}

// last flushes, and tries again for a while: a broker that is just restarting must not cost the last fates.
func (r *Reporter) last(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lastFlush)
	defer cancel()
	retry := time.NewTicker(FlushInterval / 2)
	defer retry.Stop()
	for {
		err := r.Flush(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return err
		}
	}
}

// Flush publishes everything gathered so far.
func (r *Reporter) Flush(ctx context.Context) error {
	_, err := r.flush(ctx, func(epochKey) bool { return true })
	return err
}

// flush publishes what was gathered of some cameras, several at a time, and says of how many there was something. The
// first failure ends it: the broker is away.
func (r *Reporter) flush(ctx context.Context, which func(epochKey) bool) (int, error) {
	r.flushMu.Lock()
	defer r.flushMu.Unlock()
	batch := r.take(which)
	err := sideBySide(slices.Collect(maps.Keys(batch)),
		func(k epochKey) error { return r.publish(ctx, k, batch[k]) },
		func(k epochKey) { r.putBack(k, batch[k]) })
	return len(batch), err
}

// sideBySide does something with all items, several at a time. After the first failure, which it returns, it begins no
// more: the broker is away. What failed or was not begun is undone.
func sideBySide[T any](items []T, do func(T) error, undo func(T)) error {
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed error
		places = make(chan struct{}, outstanding)
	)
	for _, item := range items {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			mu.Lock()
			err := failed
			mu.Unlock()
			if err == nil {
				err = do(item)
			}
			if err == nil {
				return
			}
			undo(item)
			mu.Lock()
			defer mu.Unlock()
			failed = err
		})
	}
	wg.Wait()
	return failed
}

// take takes what is pending of some cameras.
func (r *Reporter) take(which func(epochKey) bool) map[epochKey]*pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	batch := map[epochKey]*pending{}
	for k, p := range r.pending {
		if which(k) {
			batch[k] = p
			delete(r.pending, k)
		}
	}
	return batch
}

// publish says everything that is pending of an epoch, in as many records as it takes.
func (r *Reporter) publish(ctx context.Context, k epochKey, p *pending) error {
	rec := Record{Camera: k.camera, Epoch: k.epoch, Stage: r.stage, Instance: r.instance, Run: r.began.UnixMilli(), Entries: []Entry{}}
	r.mu.Lock()
	if at, ok := r.routes[k.camera]; ok && at.epoch == k.epoch {
		rec.Route = &at.route
	}
	if r.every > FlushInterval {
		rec.Every = r.every.Milliseconds()
	}
	r.mu.Unlock()
	room := maxRanges
	for e, ranges := range p.entries {
		for rest := *ranges; len(rest) > 0; {
			n := min(room, len(rest))
			rec.Entries = append(rec.Entries, Entry{Mark: e.mark, Model: e.model, Reason: e.reason, Again: e.again, Frames: rest[:n]})
			rest, room = rest[n:], room-n
			if room > 0 {
				continue
			}
			if err := r.store(ctx, rec); err != nil {
				return err
			}
			rec.Entries, room = []Entry{}, maxRanges
		}
	}
	if len(rec.Entries) == 0 && (rec.Route == nil || len(p.entries) > 0) {
		return nil
	}
	return r.store(ctx, rec)
}

func (r *Reporter) store(ctx context.Context, rec Record) error {
	rec.At = time.Now().UTC()
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("ledger record of %s: %w", rec.Camera, err)
	}
	msg := nats.NewMsg(streams.LedgerSubject(rec.Camera))
	msg.Data = data
	msg.Header.Set(jetstream.MsgIDHeader, r.ids+strconv.FormatUint(r.records.Add(1), 10))
	if _, err := r.js.PublishMsg(ctx, msg); err != nil {
		return fmt.Errorf("publish %s: %w", msg.Subject, err)
	}
	return nil
}

// putBack merges what was not delivered with what came since. A record that was stored although its
// acknowledgement got lost is then said twice, which does no harm: the books are sets.
func (r *Reporter) putBack(k epochKey, p *pending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at(k)
	for e, ranges := range p.entries {
		r.entry(k, e).AddAll(*ranges)
	}
}

const (
	// returnsKept is how long it is remembered at least that a frame was handed back: no live stream has it longer.
	returnsKept = 2 * streams.LiveMaxAge
	// maxReturns bounds what is said of a frame that is handed back over and over.
	maxReturns = 16
)

// returns remembers how often frames were handed back of late, in two generations.
type returns struct {
	now, before map[returnKey]int
	turned      time.Time
}

type returnKey struct {
	frame frame.Name
	model string
}

func (r *returns) count(n frame.Name, model string) int {
	k := returnKey{n, model}
	return max(r.now[k], r.before[k])
}

func (r *returns) add(n frame.Name, model string) {
	again := r.count(n, model) + 1
	if now := time.Now(); r.now == nil || now.Sub(r.turned) > returnsKept {
		r.now, r.before, r.turned = map[returnKey]int{}, r.now, now
	}
	r.now[returnKey{n, model}] = again
}

package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/streams"
)

// FlushInterval is how often a Reporter writes what it gathered: one message per camera and interval.
const FlushInterval = 500 * time.Millisecond

const (
	// lastFlush bounds the attempts to say the last things.
	lastFlush = 5 * time.Second
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
type Reporter struct {
	js              Publisher
	stage, instance string
	ids             string // what the ids of its records begin with

	mu      sync.Mutex
	pending map[epochKey]*pending
	routes  map[string]routeOf // by camera: said with every record, because records are not kept for ever
	flushMu sync.Mutex         // one flush at a time, so that a failed one is merged back before the next
	records uint64
}

type epochKey struct {
	camera string
	epoch  uint64
}

type entryKey struct {
	mark          Mark
	model, reason string
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
	return &Reporter{
		js: js, stage: stage, instance: instance,
		// The time makes them differ from those of an earlier process of that name: LEDGER would take those for doubles.
		ids:     stage + "/" + instance + "/" + strconv.FormatInt(time.Now().UnixNano(), 36) + "/",
		pending: map[epochKey]*pending{}, routes: map[string]routeOf{},
	}
}

// Add says one thing of one frame. It never blocks on the broker.
func (r *Reporter) Add(n frame.Name, mark Mark, model, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entry(epochKey{n.Camera, n.Epoch}, entryKey{mark, model, reason}).Add(n.Seq, n.Seq)
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

// Run flushes every FlushInterval until ctx ends, and once more then. It reports only what the last flush could
// not deliver.
func (r *Reporter) Run(ctx context.Context) error {
	tick := time.NewTicker(FlushInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = r.Flush(ctx) // kept for the next tick; the last one is returned
		case <-ctx.Done():
			return r.last(context.WithoutCancel(ctx))
		}
	}
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
	r.flushMu.Lock()
	defer r.flushMu.Unlock()
	r.mu.Lock()
	batch := r.pending
	r.pending = make(map[epochKey]*pending, len(batch))
	r.mu.Unlock()

	var failed error
	for k, p := range batch {
		if failed == nil {
			failed = r.publish(ctx, k, p)
		}
		if failed != nil {
			r.putBack(k, p)
		}
	}
	return failed
}

// publish says everything that is pending of an epoch, in as many records as it takes.
func (r *Reporter) publish(ctx context.Context, k epochKey, p *pending) error {
	rec := Record{Camera: k.camera, Epoch: k.epoch, Stage: r.stage, Instance: r.instance, Entries: []Entry{}}
	r.mu.Lock()
	if at, ok := r.routes[k.camera]; ok && at.epoch == k.epoch {
		rec.Route = &at.route
	}
	r.mu.Unlock()
	room := maxRanges
	for e, ranges := range p.entries {
		for rest := *ranges; len(rest) > 0; {
			n := min(room, len(rest))
			rec.Entries = append(rec.Entries, Entry{Mark: e.mark, Model: e.model, Reason: e.reason, Frames: rest[:n]})
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
	r.records++
	msg := nats.NewMsg(streams.LedgerSubject(rec.Camera))
	msg.Data = data
	msg.Header.Set(jetstream.MsgIDHeader, r.ids+strconv.FormatUint(r.records, 10))
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

package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// lookEvery is how often a View asks whether it has heard everything: a watch can be blind for seconds after the
	// broker was away, and for good when somebody made the bucket anew.
	lookEvery   = time.Second
	lookTimeout = 2 * time.Second
	fillTimeout = 5 * time.Second
	lookAgain   = 100 * time.Millisecond
)

// View is a live copy of LEASES: who holds what. It hears of a lease that is given back or expires within milliseconds,
// and mends itself within a few seconds when it was cut off.
type View struct {
	js  jetstream.JetStream
	log *slog.Logger

	mu      sync.Mutex
	holders map[string]Holder
	seen    uint64        // the bucket's newest revision that was heard of
	created time.Time     // of the bucket that this is a copy of
	changed chan struct{} // closes when somebody gets or loses a lease
	filled  chan struct{} // closes when the bucket has been read once
	once    sync.Once
}

// Follow starts a View that lasts until ctx ends. It begins empty, and waits by itself for a broker or a bucket that is not
// there yet.
func Follow(ctx context.Context, js jetstream.JetStream, log *slog.Logger) *View {
	v := &View{js: js, log: log, holders: map[string]Holder{}, changed: make(chan struct{}), filled: make(chan struct{})}
	go v.run(ctx)
	return v
}

// Filled closes when the bucket has been read once.
func (v *View) Filled() <-chan struct{} { return v.filled }

// Holder is who holds a lease.
func (v *View) Holder(key string) (Holder, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	h, ok := v.holders[key]
	return h, ok
}

// All is a copy of everything, and a channel that closes when somebody gets or loses a lease. A renewal is no change.
func (v *View) All() (map[string]Holder, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.holders), v.changed
}

// Changed closes when somebody gets or loses a lease.
func (v *View) Changed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

func (v *View) run(ctx context.Context) {
	told := false
	for ctx.Err() == nil {
		err := v.watch(ctx)
		if err != nil && !told && ctx.Err() == nil {
			told = true
			v.log.WarnContext(ctx, "cannot see who holds leases", slog.Any("error", err))
		}
		if err == nil {
			told = false
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookAgain):
		}
	}
}

// watch reads the bucket and follows it, until it is seen to have missed something: then it returns nil.
func (v *View) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	created, last, err := v.bucket(ctx)
	if err != nil {
		return err
	}
	kv, err := v.js.KeyValue(ctx, streams.LeasesBucket)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", streams.LeasesBucket, err)
	}
	back := v.js.Conn().StatusChanged(nats.CONNECTED)
	defer v.js.Conn().RemoveStatusListener(back)
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", streams.LeasesBucket, err)
	}
	defer func() { _ = w.Stop() }()
	if err := v.fill(w.Updates(), created, last); err != nil {
		return err
	}
	return v.follow(ctx, w.Updates(), back)
}

// fill takes the bucket's content in one go, so that nobody sees half of it.
func (v *View) fill(updates <-chan jetstream.KeyValueEntry, created time.Time, seen uint64) error {
	late := time.NewTimer(fillTimeout)
	defer late.Stop()
	holders := map[string]Holder{}
	for {
		select {
		case e, open := <-updates:
			if !open {
				return errors.New("watch ended")
			}
			if e == nil {
				v.replace(holders, seen, created)
				return nil
			}
			seen = max(seen, e.Revision())
			if h, ok := holder(e); ok {
				holders[e.Key()] = h
			}
		case <-late.C:
			return fmt.Errorf("watch bucket %s: no answer within %s", streams.LeasesBucket, fillTimeout)
		}
	}
}

func (v *View) replace(holders map[string]Holder, seen uint64, created time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	same := maps.Equal(v.holders, holders)
	v.holders, v.seen, v.created = holders, seen, created
	v.once.Do(func() { close(v.filled) })
	if !same {
		v.signal()
	}
}

// follow ends when the watch does, or has missed something.
func (v *View) follow(ctx context.Context, updates <-chan jetstream.KeyValueEntry, back <-chan nats.Status) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	looked := make(chan bool, 1) // whether it was blind
	looking := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-back: // what happened meanwhile is told late, if at all
			return nil
		case e, open := <-updates:
			if !open {
				return errors.New("watch ended")
			}
			if e != nil {
				v.take(e)
			}
		case <-tick.C:
			if !looking {
				looking = true
				before := v.revision()
				go func() { looked <- v.blind(ctx, before) }()
			}
		case blind := <-looked:
			looking = false
			if blind {
				return nil
			}
		}
	}
}

func (v *View) take(e jetstream.KeyValueEntry) {
	h, held := holder(e)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen = e.Revision()
	before, was := v.holders[e.Key()]
	if held {
		v.holders[e.Key()] = h
	} else {
		delete(v.holders, e.Key())
	}
	if held != was || before != h {
		v.signal()
	}
}

// signal tells of a change. The caller holds mu.
func (v *View) signal() {
	close(v.changed)
	v.changed = make(chan struct{})
}

func (v *View) revision() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.seen
}

// blind reports whether the bucket was written since a revision that is still the newest heard of, or is another one.
func (v *View) blind(ctx context.Context, before uint64) bool {
	created, last, err := v.bucket(ctx)
	if err != nil {
		return false // the broker is away, or the bucket: nothing to be heard
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return !created.Equal(v.created) || last > before && v.seen == before || last < before
}

func (v *View) bucket(ctx context.Context) (created time.Time, last uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	stream, err := v.js.Stream(ctx, "KV_"+streams.LeasesBucket)
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("bucket %s: %w", streams.LeasesBucket, err)
	}
	info := stream.CachedInfo()
	return info.Created, info.State.LastSeq, nil
}

// holder reads an entry. What cannot be read is held by somebody, of a newer version perhaps.
func holder(e jetstream.KeyValueEntry) (Holder, bool) {
	if e.Operation() != jetstream.KeyValuePut {
		return Holder{}, false
	}
	h, _ := Decode(e.Value())
	return h, true
}

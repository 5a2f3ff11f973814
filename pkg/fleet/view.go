package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// listEvery is how often a View compares itself with the bucket: a beat can get lost on its way.
	listEvery = 5 * time.Second
	// forgetAfter is when a View drops who is neither heard nor listed.
	forgetAfter = 30 * time.Second
	// replacedLimit bounds how many replaced incarnations a View keeps for who asks.
	replacedLimit = 256
)

// Seen is a worker as a View knows it.
type Seen struct {
	Worker
	// Heard is when its last beat arrived here, by this process's clock.
	Heard time.Time
	// Missed is how many beats of the View's own process arrived since then: beats come through the broker, so a broker
	// that does not answer makes nobody look dead.
	Missed int
}

// View is a live picture of the fleet. It listens to beats as they are published, which needs nothing of the broker that
// a restart could take away.
type View struct {
	js   jetstream.JetStream
	self string
	log  *slog.Logger

	mu      sync.Mutex
	workers map[string]Seen
	// replaced are incarnations that another one followed without a leave.
	replaced []Seen
	// doubted are those that beat on under a tombstone: either the bucket did not take the beat, or not the tombstone.
	doubted map[string]struct{}
	left    map[string]struct{} // since the last comparison with the bucket began
	ask     chan struct{}       // asks for a comparison with the bucket at once
	echo    time.Time           // when the last beat of self arrived
	changed chan struct{}       // closes when somebody comes, goes, or is another incarnation
	beaten  chan struct{}       // closes with the next beat of anybody
}

// Follow starts a View that lasts until ctx ends. self is the key of this process's member, "" if it is none.
func Follow(ctx context.Context, js jetstream.JetStream, self string, log *slog.Logger) (*View, error) {
	v := &View{js: js, self: self, log: log, workers: map[string]Seen{}, doubted: map[string]struct{}{}, left: map[string]struct{}{}, ask: make(chan struct{}, 1), changed: make(chan struct{}), beaten: make(chan struct{})}
	beats := make(chan *nats.Msg, 4096) // some seconds of a large fleet; a beat that is lost is followed by another
	sub, err := js.Conn().ChanSubscribe(subject(">"), beats)
	if err != nil {
		return nil, fmt.Errorf("follow workers: %w", err)
	}
	if err := v.list(ctx); err != nil && ctx.Err() != nil {
		return nil, errors.Join(err, sub.Unsubscribe())
	}
	go v.run(ctx, sub, beats)
	return v, nil
}

func (v *View) run(ctx context.Context, sub *nats.Subscription, beats <-chan *nats.Msg) {
	defer func() { _ = sub.Unsubscribe() }()
	tick := time.NewTicker(listEvery)
	defer tick.Stop()
	var listing sync.WaitGroup
	defer listing.Wait()
	listed := make(chan struct{}, 1) // nobody compares
	listed <- struct{}{}
	for {
		var ask <-chan struct{}
		if len(listed) > 0 {
			ask = v.ask
		}
		select {
		case <-ctx.Done():
			return
		case m := <-beats:
			v.take(m)
			continue
		case <-tick.C:
		case <-ask:
		}
		select {
		case <-listed:
			listing.Go(func() { // beats are heard while the bucket elects a leader and answers nobody
				_ = v.list(ctx) // the broker is away: the next one will do
				listed <- struct{}{}
			})
		default:
		}
	}
}

func (v *View) take(m *nats.Msg) {
	key := strings.TrimPrefix(m.Subject, subject(""))
	switch m.Header.Get("KV-Operation") {
	case "DEL", "PURGE":
		v.mu.Lock()
		defer v.mu.Unlock()
		v.left[key] = struct{}{}
		if _, known := v.workers[key]; known {
			delete(v.workers, key)
			v.signal(&v.changed)
		}
		return
	}
	w, err := Decode(m.Data)
	if err != nil || w.Key() != key {
		v.log.Warn("unreadable beat", slog.String("key", key), slog.Any("error", err))
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hear(w, time.Now(), false)
}

// hear notes a beat; the bucket takes not every one that is heard. The caller holds mu.
func (v *View) hear(w Worker, at time.Time, stored bool) {
	before, known := v.workers[w.Key()]
	if known && before.State == Dead && before.Incarnation == w.Incarnation && w.State == Alive && !stored {
		v.doubted[w.Key()] = struct{}{}
		select {
		case v.ask <- struct{}{}:
		default:
		}
		return
	}
	if known && before.Incarnation != w.Incarnation && before.State == Alive && w.State == Alive {
		v.replaced = append(v.replaced, before)
		v.replaced = v.replaced[max(0, len(v.replaced)-replacedLimit):]
	}
	v.workers[w.Key()] = Seen{Worker: w, Heard: at}
	if w.Key() == v.self {
		v.echo = at
		for k, s := range v.workers {
			if k != v.self {
				s.Missed++
				v.workers[k] = s
			}
		}
	}
	if !known || before.Incarnation != w.Incarnation || before.State != w.State {
		v.signal(&v.changed)
	}
	v.signal(&v.beaten)
}

func (v *View) signal(c *chan struct{}) {
	close(*c)
	*c = make(chan struct{})
}

// list adds who is in the bucket but was not heard, and drops who is neither.
func (v *View) list(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, listEvery)
	defer cancel()
	kv, err := v.js.KeyValue(ctx, streams.WorkersBucket)
	if err != nil {
		return fmt.Errorf("list workers: %w", err)
	}
	v.mu.Lock()
	clear(v.left)
	v.mu.Unlock()
	keys, err := kv.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return fmt.Errorf("list workers: %w", err)
	}
	listed := map[string]bool{}
	for _, key := range keys {
		listed[key] = true
		v.mu.Lock()
		s, known := v.workers[key]
		_, doubted := v.doubted[key]
		delete(v.doubted, key)
		v.mu.Unlock()
		if known && !doubted && time.Since(s.Heard) < listEvery {
			continue
		}
		asked := time.Now()
		e, err := kv.Get(ctx, key)
		if err != nil {
			continue
		}
		w, err := Decode(e.Value())
		if err != nil {
			continue
		}
		v.mu.Lock()
		now, known := v.workers[key]
		_, left := v.left[key]
		// What was heard meanwhile is newer.
		if !known && !left || known && !now.Heard.After(asked) && (now.Incarnation != w.Incarnation || now.State != w.State) {
			v.hear(w, time.Now(), true)
		}
		v.mu.Unlock()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, s := range v.workers {
		if !listed[key] && time.Since(s.Heard) > forgetAfter {
			delete(v.workers, key)
			v.signal(&v.changed)
		}
	}
	return nil
}

// All is everybody known, by key, tombstones and the silent included.
func (v *View) All() map[string]Seen {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.workers)
}

// Replaced returns, once, the incarnations that another one followed without having left or been declared dead: their
// processes were started again before anybody noticed their end. Somebody who only tries for the name looks the same
// here; the bucket knows.
func (v *View) Replaced() []Seen {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := v.replaced
	v.replaced = nil
	return out
}

// Living are the workers of a service that beat, by instance.
func (v *View) Living(service string) map[string]Seen {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := map[string]Seen{}
	for _, s := range v.workers {
		if s.Service == service && s.State == Alive && time.Since(s.Heard) < streams.WorkerTTL {
			out[s.Instance] = s
		}
	}
	return out
}

// Hears reports whether beats arrive here at all: those of the View's own process do.
func (v *View) Hears() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return time.Since(v.echo) < FreshFor
}

// Changed closes when somebody comes, goes, or is another incarnation.
func (v *View) Changed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

// Beaten closes with the next beat of anybody.
func (v *View) Beaten() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.beaten
}

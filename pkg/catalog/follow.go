package catalog

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	fillTimeout = 10 * time.Second
	// checkEvery is how often a View asks whether its bucket is still the one that it follows. The server tells at once,
	// but not for certain.
	checkEvery   = 2 * time.Second
	checkTimeout = time.Second
	// settleFor is how long a bucket that was made anew must not have changed, once it holds something, before what it
	// lacks is gone: whoever writes everything again needs a moment.
	settleFor = 5 * time.Second
	// revisionBits are what the revisions of one bucket need: those of a later one come after them.
	revisionBits = 48
)

// follower keeps a View up to date. It is owned by one goroutine.
type follower[T any] struct {
	js     jetstream.JetStream
	bucket string
	decode func([]byte) (T, error)
	log    *slog.Logger
	view   *View[T]

	created time.Time // of the bucket that is watched
	watcher jetstream.KeyWatcher
	stop    context.CancelFunc
	filled  bool   // everything that was there has been read
	anew    bool   // the bucket is another than the one before
	buckets uint64 // how many there were before this one
	sums    map[string][sha256.Size]byte
	seen    map[string]bool // keys that this bucket has told something about
	told    time.Time       // when it last did
}

// open begins to watch the bucket for as long as life lasts.
func (f *follower[T]) open(ctx, life context.Context) error {
	kv, err := f.js.KeyValue(ctx, f.bucket)
	if err != nil {
		return err
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return err
	}
	watch, stop := context.WithCancel(life)
	watcher, err := kv.WatchAll(watch)
	if err != nil {
		stop()
		return err
	}
	created := createdAt(status)
	if !f.created.IsZero() && !created.Equal(f.created) {
		f.anew = true
		f.buckets++
	}
	f.created, f.watcher, f.stop = created, watcher, stop
	f.filled, f.seen = false, map[string]bool{}
	return nil
}

func createdAt(status jetstream.KeyValueStatus) time.Time {
	if s, ok := status.(*jetstream.KeyValueBucketStatus); ok {
		return s.StreamInfo().Created
	}
	return time.Time{}
}

func (f *follower[T]) close() {
	if f.watcher != nil {
		_ = f.watcher.Stop() // its context ends, too
		f.stop()
		f.watcher = nil
	}
}

func (f *follower[T]) run(ctx context.Context) {
	defer f.close()
	news := make(chan *nats.Msg, 1)
	if sub, err := f.js.Conn().ChanSubscribe("$JS.EVENT.ADVISORY.STREAM.CREATED.KV_"+f.bucket, news); err == nil {
		defer func() { _ = sub.Unsubscribe() }()
	}
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		var updates <-chan jetstream.KeyValueEntry
		if f.watcher != nil {
			updates = f.watcher.Updates()
		}
		select {
		case e, ok := <-updates:
			if !ok {
				f.close() // watched again at the next tick
				continue
			}
			f.take(e)
		case <-news:
			f.check(ctx)
		case <-tick.C:
			f.check(ctx)
			f.settle()
		case <-ctx.Done():
		}
	}
}

// check watches the bucket again if it is another one, or if nothing is watched.
func (f *follower[T]) check(life context.Context) {
	ctx, cancel := context.WithTimeout(life, checkTimeout)
	defer cancel()
	if f.watcher != nil {
		s, err := f.js.Stream(ctx, "KV_"+f.bucket)
		if err != nil || s.CachedInfo().Created.Equal(f.created) {
			return
		}
		f.log.WarnContext(ctx, "bucket was deleted and made anew, keeping what it held")
		f.close()
	}
	_ = f.open(ctx, life) // not there yet: the next tick tries again
}

// take applies one message of the watch.
func (f *follower[T]) take(e jetstream.KeyValueEntry) {
	if e == nil {
		f.filled = true
		if !f.anew {
			f.view.keep(f.seen) // what was removed while nothing was watched
		}
		return
	}
	f.seen[e.Key()], f.told = true, time.Now()
	if e.Operation() != jetstream.KeyValuePut {
		delete(f.sums, e.Key())
		f.view.set(e.Key(), nil)
		return
	}
	sum := sha256.Sum256(e.Value())
	if _, kept := f.view.Get(e.Key()); kept && f.anew && f.sums[e.Key()] == sum { // written again as it was: nobody has to do anything
		return
	}
	value, err := f.decode(e.Value())
	if err != nil {
		f.log.Error("unreadable value, keeping the earlier one", slog.String("key", e.Key()), slog.Uint64("revision", e.Revision()), slog.Any("error", err))
		return
	}
	f.sums[e.Key()] = sum
	f.view.set(e.Key(), &Entry[T]{value, f.buckets<<revisionBits + e.Revision()})
}

// settle makes a bucket that was made anew the desired state.
func (f *follower[T]) settle() {
	if f.anew && f.watcher != nil && f.filled && len(f.seen) > 0 && time.Since(f.told) > settleFor {
		f.view.keep(f.seen)
		f.anew = false
	}
}

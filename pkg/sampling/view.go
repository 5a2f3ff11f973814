package sampling

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/streams"
)

// staleAfter is when a View stops believing what nobody renews: the broker removes it earlier, unless the news of that got
// lost.
const staleAfter = streams.SamplingTTL + RenewEvery/2

// View is a live copy of SAMPLING. It is safe for concurrent use.
type View struct {
	state atomic.Pointer[State]

	mu      sync.Mutex
	changed chan struct{}
}

// Follow starts a View that lasts until ctx ends.
func Follow(ctx context.Context, js jetstream.JetStream, log *slog.Logger) (*View, error) {
	bucket, err := catalog.Follow(ctx, js, streams.SamplingBucket, Decode, log)
	if err != nil {
		return nil, err
	}
	v := &View{changed: make(chan struct{})}
	v.state.Store(&State{})
	if e, ok := bucket.Get(Key); ok {
		v.set(e.Value)
	}
	go v.follow(ctx, bucket, staleAfter)
	return v, nil
}

func (v *View) follow(ctx context.Context, bucket *catalog.View[State], stale time.Duration) {
	silence := time.NewTimer(stale)
	defer silence.Stop()
	var revision uint64
	for {
		entries, changed := bucket.All()
		e, ok := entries[Key]
		switch {
		case !ok:
			v.set(State{})
		case e.Revision != revision:
			silence.Reset(stale)
			v.set(e.Value)
		}
		revision = e.Revision
		select {
		case <-changed:
		case <-silence.C:
			v.set(State{})
		case <-ctx.Done():
			return
		}
	}
}

func (v *View) set(s State) {
	before := v.state.Swap(&s)
	if maps.Equal(before.Share, s.Share) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.changed)
	v.changed = make(chan struct{})
}

// Share is the share of a priority at this moment. It is cheap enough to ask for every picture.
func (v *View) Share(priority int) float64 { return v.state.Load().Share.Of(priority) }

// State is what was decided last, and a channel that closes when shares change.
func (v *View) State() (State, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return *v.state.Load(), v.changed
}

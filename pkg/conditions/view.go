package conditions

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/streams"
)

// staleAfter is when a View stops believing what nobody renews: the broker removes it earlier, unless the news of that got
// lost.
const staleAfter = streams.ConditionsTTL + RenewEvery/2

// View is a live copy of CONDITIONS. It is safe for concurrent use.
type View struct {
	heard atomic.Pointer[map[string]heard]
}

// heard is a condition and when it was said last, by this process's clock.
type heard struct {
	Condition
	revision uint64
	at       time.Time
}

// Follow starts a View that lasts until ctx ends.
func Follow(ctx context.Context, js jetstream.JetStream, log *slog.Logger) (*View, error) {
	bucket, err := catalog.Follow(ctx, js, streams.ConditionsBucket, Decode, log)
	if err != nil {
		return nil, err
	}
	v := &View{}
	v.heard.Store(&map[string]heard{})
	changed := v.take(bucket)
	go func() {
		for {
			select {
			case <-changed:
				changed = v.take(bucket)
			case <-ctx.Done():
				return
			}
		}
	}()
	return v, nil
}

// take takes what the bucket holds, and returns a channel that closes when that changes.
func (v *View) take(bucket *catalog.View[Condition]) <-chan struct{} {
	entries, changed := bucket.All()
	before, now := *v.heard.Load(), make(map[string]heard, len(entries))
	for camera, e := range entries {
		h := before[camera]
		if h.revision != e.Revision {
			h = heard{e.Value, e.Revision, time.Now()}
		}
		now[camera] = h
	}
	v.heard.Store(&now)
	return changed
}

// Of are the reasons why a model's answers about a camera cannot be trusted as usual; none is the rule. It is cheap enough to ask
// for every answer. The result must not be changed.
func (v *View) Of(camera, model string) []string {
	h, ok := (*v.heard.Load())[camera]
	if !ok || time.Since(h.at) > staleAfter {
		return nil
	}
	return h.All(model)
}

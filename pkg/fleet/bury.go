package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

// ErrAlive means that a worker has beaten since it was judged.
var ErrAlive = errors.New("the worker is alive")

// Bury writes a worker's tombstone, on condition that it has not beaten since it was judged to be dead: w is the entry
// by which it was judged. From then on its incarnation has no effects. It is no error when the incarnation is over
// already.
func Bury(ctx context.Context, js jetstream.JetStream, w Worker, epitaph Epitaph) error {
	kv, err := js.KeyValue(ctx, streams.WorkersBucket)
	if err != nil {
		return fmt.Errorf("bury %s: %w", w.Key(), err)
	}
	w.State, w.Epitaph, w.Claims = Dead, &epitaph, nil
	stone, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("bury %s: %w", w.Key(), err)
	}
	e, err := kv.Get(ctx, w.Key())
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		_, err = kv.Create(ctx, w.Key(), stone)
	case err == nil:
		now, unreadable := Decode(e.Value())
		switch {
		case unreadable != nil:
		case now.Incarnation != w.Incarnation, now.State == Dead:
			return nil
		case now.At.After(w.At):
			return fmt.Errorf("bury %s: %w", w.Key(), ErrAlive)
		}
		_, err = kv.Update(ctx, w.Key(), stone, e.Revision())
	}
	if streams.Conflict(err) {
		return fmt.Errorf("bury %s: %w", w.Key(), ErrAlive)
	}
	if err != nil {
		return fmt.Errorf("bury %s: %w", w.Key(), err)
	}
	return nil
}

package drift

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/streams"
)

// View is a live copy of DRIFT. It is safe for concurrent use.
type View struct{ records *catalog.View[Record] }

// Follow starts a View that lasts until ctx ends.
func Follow(ctx context.Context, js jetstream.JetStream, log *slog.Logger) (*View, error) {
	records, err := catalog.Follow(ctx, js, streams.DriftBucket, Decode, log)
	if err != nil {
		return nil, err
	}
	return &View{records: records}, nil
}

// Status is what is known of a camera and model.
func (v *View) Status(camera, model string) (Status, bool) {
	e, ok := v.records.Get(StatusKey(camera, model))
	if !ok || e.Value.Status == nil {
		return Status{}, false
	}
	return *e.Value.Status, true
}

// Integrity is what is wrong with a camera.
func (v *View) Integrity(camera string) (Integrity, bool) {
	e, ok := v.records.Get(IntegrityKey(camera))
	if !ok || e.Value.Integrity == nil {
		return Integrity{}, false
	}
	return *e.Value.Integrity, true
}

// All is everything, and a channel that closes at the next change.
func (v *View) All() (Report, <-chan struct{}) {
	entries, changed := v.records.All()
	records := make(map[string]Record, len(entries))
	for key, e := range entries {
		records[key] = e.Value
	}
	return report(records), changed
}

// Report is everything that the drift-monitor says, sorted by camera and model.
type Report struct {
	Statuses    []Status    `json:"statuses"`
	Integrities []Integrity `json:"integrity"`
	Fairness    []Fairness  `json:"fairness"`
}

func report(records map[string]Record) Report {
	r := Report{Statuses: []Status{}, Integrities: []Integrity{}, Fairness: []Fairness{}}
	for _, key := range slices.Sorted(maps.Keys(records)) {
		switch rec := records[key]; {
		case rec.Status != nil:
			r.Statuses = append(r.Statuses, *rec.Status)
		case rec.Integrity != nil:
			r.Integrities = append(r.Integrities, *rec.Integrity)
		case rec.Fairness != nil:
			r.Fairness = append(r.Fairness, *rec.Fairness)
		}
	}
	return r
}

// Read is what DRIFT holds now. What cannot be read is left out and counted.
func Read(ctx context.Context, js jetstream.JetStream) (r Report, unreadable int, err error) {
	kv, err := js.KeyValue(ctx, streams.DriftBucket)
	if err != nil {
		return r, 0, fmt.Errorf("bucket %s: %w", streams.DriftBucket, err)
	}
	w, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return r, 0, fmt.Errorf("read bucket %s: %w", streams.DriftBucket, err)
	}
	defer func() { _ = w.Stop() }()
	records := map[string]Record{}
	for {
		select {
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return r, 0, fmt.Errorf("read bucket %s: the watch ended", streams.DriftBucket)
			case e == nil: // that was all
				return report(records), unreadable, nil
			}
			rec, err := Decode(e.Value())
			if err != nil {
				unreadable++
				continue
			}
			records[e.Key()] = rec
		case <-ctx.Done():
			return r, 0, fmt.Errorf("read bucket %s: %w", streams.DriftBucket, context.Cause(ctx))
		}
	}
}

// ErrStale means that a leader with a higher fencing token has written.
var ErrStale = errors.New("a newer leader decides about drift")

const putAttempts = 3

// Put writes a record by compare-and-set. It returns [ErrStale] when a leader with a higher token has written.
func Put(ctx context.Context, kv jetstream.KeyValue, r Record) error {
	data, err := r.Encode()
	if err != nil {
		return err
	}
	for range putAttempts {
		if err = put(ctx, kv, r, data); !streams.Conflict(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("put drift of %s: %w", r.Key(), err)
	}
	return nil
}

func put(ctx context.Context, kv jetstream.KeyValue, r Record, data []byte) error {
	e, err := kv.Get(ctx, r.Key())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		_, err = kv.Create(ctx, r.Key(), data)
		return err
	}
	if err != nil {
		return err
	}
	// What nobody can read is overwritten: nobody follows it either.
	if have, err := Decode(e.Value()); err == nil && have.Token() > r.Token() {
		return fmt.Errorf("%w: its token is %d, this one's %d", ErrStale, have.Token(), r.Token())
	}
	_, err = kv.Update(ctx, r.Key(), data, e.Revision())
	return err
}

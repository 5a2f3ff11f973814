// Package conditions says why answers about a camera cannot be trusted as usual: it is frozen, say, or its model's accuracy is
// suspected to be lost. Recovery's leader writes them to the bucket CONDITIONS ([Put], [Remove]), every infer follows it
// ([Follow]) and marks its answers.
//
// # What it promises
//
// A camera is fine unless somebody says otherwise, and is so again by itself when nobody has said so for
// [streams.ConditionsTTL]: a leader renews what it wrote every [RenewEvery]. Of two leaders the one with the higher fencing
// token wins, whichever writes last.
package conditions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// RenewEvery is how often a leader repeats what it wrote, so that it does not expire.
	RenewEvery = streams.ConditionsTTL / 3

	putAttempts = 3
)

// ErrStale means that a leader with a higher fencing token has written.
var ErrStale = errors.New("a newer leader decides about conditions")

// Condition is what is wrong with a camera.
type Condition struct {
	// Reasons hold for whoever looks at the camera: frozen, black, ...
	Reasons []string `json:"reasons,omitempty"`
	// Models are reasons that hold for one model: suspected_loss.
	Models map[string][]string `json:"models,omitempty"`
	By     string              `json:"by"`    // instance that wrote it
	Since  time.Time           `json:"since"` // when the first of them was noticed
	Token  uint64              `json:"token"` // fencing token of the leader
}

// Empty reports whether nothing is wrong.
func (c Condition) Empty() bool { return len(c.Reasons) == 0 && len(c.Models) == 0 }

// Same reports whether two conditions say the same, whoever says it.
func (c Condition) Same(o Condition) bool {
	return slices.Equal(c.Reasons, o.Reasons) && maps.EqualFunc(c.Models, o.Models, slices.Equal[[]string])
}

// All are the reasons for a model, sorted.
func (c Condition) All(model string) []string {
	more := c.Models[model]
	if len(more) == 0 {
		return c.Reasons
	}
	out := slices.Concat(c.Reasons, more)
	slices.Sort(out)
	return slices.Compact(out)
}

var word = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// Validate reports a condition that nobody should follow.
func (c Condition) Validate() error {
	if c.Empty() {
		return errors.New("condition without a reason")
	}
	for _, reasons := range append(slices.Collect(maps.Values(c.Models)), c.Reasons) {
		for i, r := range reasons {
			if !word.MatchString(r) || i > 0 && reasons[i-1] >= r {
				return fmt.Errorf("reasons %q: want different words of a-z, 0-9 and _, sorted", reasons)
			}
		}
	}
	for m, reasons := range c.Models {
		if err := streams.CheckToken(m); err != nil {
			return fmt.Errorf("model: %w", err)
		}
		if len(reasons) == 0 {
			return fmt.Errorf("model %s without a reason", m)
		}
	}
	return nil
}

// Decode reads a condition.
func Decode(data []byte) (Condition, error) {
	var c Condition
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("condition: %w", err)
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("condition: %w", err)
	}
	return c, nil
}

// Put writes a camera's condition by compare-and-set, or renews it. It returns [ErrStale] when a leader with a higher token has
// written.
func Put(ctx context.Context, js jetstream.JetStream, camera string, c Condition) error {
	if err := errors.Join(streams.CheckToken(camera), c.Validate()); err != nil {
		return fmt.Errorf("put condition of %s: %w", camera, err)
	}
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("put condition of %s: %w", camera, err)
	}
	err = write(ctx, js, camera, c.Token, func(kv jetstream.KeyValue, revision uint64) error {
		if revision == 0 {
			_, err := kv.Create(ctx, camera, data)
			return err
		}
		_, err := kv.Update(ctx, camera, data, revision)
		return err
	})
	if err != nil {
		return fmt.Errorf("put condition of %s: %w", camera, err)
	}
	return nil
}

// Remove says that a camera is fine. It returns [ErrStale] when a leader with a higher token has written.
func Remove(ctx context.Context, js jetstream.JetStream, camera string, token uint64) error {
	err := write(ctx, js, camera, token, func(kv jetstream.KeyValue, revision uint64) error {
		if revision == 0 {
			return nil
		}
		return kv.Delete(ctx, camera, jetstream.LastRevision(revision))
	})
	if err != nil {
		return fmt.Errorf("remove condition of %s: %w", camera, err)
	}
	return nil
}

// write does something with the revision of a camera's entry, 0 if there is none, unless a newer leader wrote it.
func write(ctx context.Context, js jetstream.JetStream, camera string, token uint64, do func(kv jetstream.KeyValue, revision uint64) error) error {
	kv, err := js.KeyValue(ctx, streams.ConditionsBucket)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", streams.ConditionsBucket, err)
	}
	for range putAttempts {
		var revision uint64
		e, getErr := kv.Get(ctx, camera)
		switch {
		case errors.Is(getErr, jetstream.ErrKeyNotFound):
		case getErr != nil:
			return getErr
		default:
			revision = e.Revision()
			// What nobody can read is overwritten: no infer follows it either.
			if have, err := Decode(e.Value()); err == nil && have.Token > token {
				return fmt.Errorf("%w: its token is %d, this one's %d", ErrStale, have.Token, token)
			}
		}
		if err = do(kv, revision); !streams.Conflict(err) {
			break
		}
	}
	return err
}

// Read is what CONDITIONS holds now, by camera.
func Read(ctx context.Context, js jetstream.JetStream) (map[string]Condition, error) {
	kv, err := js.KeyValue(ctx, streams.ConditionsBucket)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", streams.ConditionsBucket, err)
	}
	w, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("read bucket %s: %w", streams.ConditionsBucket, err)
	}
	defer func() { _ = w.Stop() }()
	out := map[string]Condition{}
	for {
		select {
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return nil, fmt.Errorf("read bucket %s: the watch ended", streams.ConditionsBucket)
			case e == nil: // that was all
				return out, nil
			}
			if c, err := Decode(e.Value()); err == nil {
				out[e.Key()] = c
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("read bucket %s: %w", streams.ConditionsBucket, context.Cause(ctx))
		}
	}
}

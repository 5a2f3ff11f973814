// Package sampling says how much of what cameras could capture is captured while workers cannot keep up: a share for every
// priority, in the bucket SAMPLING. Recovery's leader writes it ([Put]), every ingest follows it ([Follow]).
//
// # What it promises
//
// The share of a priority is 1 unless somebody says otherwise, and it returns to 1 by itself when nobody has said so for
// [streams.SamplingTTL]: a leader renews what it wrote every [RenewEvery]. Of two leaders the one with the higher fencing
// token wins, whichever writes last.
//
// Only cameras with delivery freshest are lowered: every_frame promises every frame.
package sampling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// Key is the one key of the bucket.
	Key = "all"
	// RenewEvery is how often a leader repeats what it wrote, so that it does not expire.
	RenewEvery = 10 * time.Second
	// MinRate is what a camera keeps however short capacity is, in pictures per second: unknown is not nothing.
	MinRate = 0.2
	// MinPriority is the least priority of a camera.
	MinPriority = 1
	// MaxPriority is that of the most important one.
	MaxPriority = 10

	putAttempts = 3
)

// ErrStale means that a leader with a higher fencing token has written.
var ErrStale = errors.New("a newer leader decides about sampling")

// Shares is the share of pictures that a camera of a priority captures, more than 0 and up to 1. A priority that is not in it
// captures all.
type Shares map[int]float64

// Of is the share of a priority.
func (s Shares) Of(priority int) float64 {
	if v, ok := s[priority]; ok {
		return v
	}
	return 1
}

// Full reports whether nobody is lowered.
func (s Shares) Full() bool {
	for _, v := range s {
		if v < 1 {
			return false
		}
	}
	return true
}

// Validate reports shares that nobody should follow.
func (s Shares) Validate() error {
	for p, v := range s {
		if p < MinPriority || p > MaxPriority {
			return fmt.Errorf("priority %d is not %d to %d", p, MinPriority, MaxPriority)
		}
		if !(v > 0 && v <= 1) {
			return fmt.Errorf("share %v of priority %d is not more than 0 and at most 1", v, p)
		}
	}
	return nil
}

// Rate is what a camera captures of fps pictures per second under a share.
func Rate(fps, share float64) float64 { return max(fps*min(share, 1), min(fps, MinRate)) }

// State is the value of the key.
type State struct {
	Share Shares    `json:"share,omitempty"`
	Token uint64    `json:"token"` // fencing token of the leader that wrote it
	Since time.Time `json:"since"` // when these shares were decided
}

// Decode reads a State.
func Decode(data []byte) (State, error) {
	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("sampling: %w", err)
	}
	if err := s.Share.Validate(); err != nil {
		return s, fmt.Errorf("sampling: %w", err)
	}
	return s, nil
}

// Put writes the shares by compare-and-set, or renews them. It returns [ErrStale] when a leader with a higher token has
// written.
func Put(ctx context.Context, js jetstream.JetStream, shares Shares, token uint64) error {
	if err := shares.Validate(); err != nil {
		return fmt.Errorf("put sampling: %w", err)
	}
	kv, err := js.KeyValue(ctx, streams.SamplingBucket)
	if err != nil {
		return fmt.Errorf("put sampling: %w", err)
	}
	for range putAttempts {
		if err = put(ctx, kv, shares, token); !streams.Conflict(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("put sampling: %w", err)
	}
	return nil
}

func put(ctx context.Context, kv jetstream.KeyValue, shares Shares, token uint64) error {
	want := State{Share: shares, Token: token, Since: time.Now().UTC()}
	e, err := kv.Get(ctx, Key)
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return err
	}
	found := err == nil
	if found {
		// What nobody can read is overwritten: no ingest follows it either.
		if have, err := Decode(e.Value()); err == nil {
			if have.Token > token {
				return fmt.Errorf("%w: its token is %d, this one's %d", ErrStale, have.Token, token)
			}
			if maps.Equal(have.Share, shares) {
				want.Since = have.Since
			}
		}
	}
	data, err := json.Marshal(want)
	if err != nil {
		return err
	}
	if found {
		_, err = kv.Update(ctx, Key, data, e.Revision())
	} else {
		_, err = kv.Create(ctx, Key, data)
	}
	return err
}

package driftmonitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/services/drift-monitor/integrity"
	"github.com/sightline-dev/sightline/streams"
)

// Keys of the bucket REFERENCES that are the monitor's own. No model begins with an underscore.
const (
	positionKey = "_position"
	statePrefix = "_state."
)

// position is how far the streams were read, and what is known stands for.
type position struct {
	Predictions uint64 `json:"predictions"`
	Events      uint64 `json:"events"`
	Feedback    uint64 `json:"feedback"`
	Token       uint64 `json:"token"` // of the leader that wrote it
}

// state is what is known of one camera.
type state struct {
	Integrity json.RawMessage       `json:"integrity"`
	Models    map[string]modelState `json:"models,omitempty"`
}

// load reads what the last leader wrote down.
func (m *monitor) load(ctx context.Context) error {
	kv, err := m.deps.JS.KeyValue(ctx, streams.ReferencesBucket)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", streams.ReferencesBucket, err)
	}
	e, err := kv.Get(ctx, positionKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", positionKey, err)
	}
	if err := json.Unmarshal(e.Value(), &m.position); err != nil {
		m.deps.Log.WarnContext(ctx, "how far the last leader read is not readable: beginning anew", slog.Any("error", err))
		return nil
	}
	return errors.Join(m.each(ctx, kv, statePrefix, m.restore), m.each(ctx, kv, fairnessPrefix, func(_ context.Context, model string, data []byte) error {
		return m.resumeProduct(model, data)
	}))
}

// each hands what is under a prefix to take. What cannot be read is told.
func (m *monitor) each(ctx context.Context, kv jetstream.KeyValue, prefix string, take func(context.Context, string, []byte) error) error {
	w, err := kv.Watch(ctx, prefix+">", jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("read %s>: %w", prefix, err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case e, ok := <-w.Updates():
			if !ok || e == nil {
				return nil
			}
			if err := take(ctx, strings.TrimPrefix(e.Key(), prefix), e.Value()); err != nil {
				m.deps.Log.WarnContext(ctx, "what was known is not readable", slog.String("key", e.Key()), slog.Any("error", err))
			}
		case <-ctx.Done():
			return fmt.Errorf("read %s>: %w", prefix, context.Cause(ctx))
		}
	}
}

func (m *monitor) restore(ctx context.Context, name string, data []byte) error {
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	i, err := integrity.Load(s.Integrity)
	if err != nil {
		return err
	}
	c := &camera{integrity: i, models: map[string]*watched{}}
	m.cameras[name] = c
	for model, x := range s.Models {
		w, err := m.resume(ctx, name, model, x)
		if err != nil {
			return fmt.Errorf("model %s: %w", model, err)
		}
		c.models[model] = w
		if w.status != nil {
			m.said.say(drift.Record{Status: w.status})
		}
	}
	m.said.say(drift.Record{Integrity: &drift.Integrity{Camera: name, Faults: i.Faults()}})
	return nil
}

// saving is a pass of writing down what is known, a few cameras at a time; then how far that goes.
type saving struct {
	names []string
	at    position
}

// saveStep is how many cameras are encoded before other things get their turn.
const saveStep = 64

// save begins a pass.
func (m *monitor) save() {
	m.saving = &saving{at: m.position}
	m.saving.at.Token = m.lead.Token()
	for _, name := range slices.Sorted(maps.Keys(m.cameras)) {
		if m.cameras[name].changed {
			m.saving.names = append(m.saving.names, name)
		}
	}
}

// step goes on with the pass. Cameras may be known further than the position says by then: what is read again they know.
func (s *saving) step(m *monitor) {
	for range saveStep {
		if len(s.names) == 0 {
			if data, err := json.Marshal(s.at); err == nil {
				m.out.keep(positionKey, data)
			}
			m.saving = nil
			return
		}
		name := s.names[0]
		s.names = s.names[1:]
		if c := m.cameras[name]; c != nil {
			m.keep(name, c)
		}
	}
}

// keep writes down what is known of a camera.
func (m *monitor) keep(name string, c *camera) {
	data, err := c.encode()
	if err != nil { // figures that are no numbers: it is known until the next restart
		m.deps.Log.Error("a camera's state cannot be written", slog.String("camera", name), slog.Any("error", err))
		return
	}
	c.changed = false
	m.out.keep(statePrefix+name, data)
}

func (c *camera) encode() ([]byte, error) {
	i, err := c.integrity.Save()
	if err != nil {
		return nil, err
	}
	s := state{Integrity: i, Models: make(map[string]modelState, len(c.models))}
	for model, w := range c.models {
		if s.Models[model], err = w.encode(); err != nil {
			return nil, err
		}
	}
	return json.Marshal(s)
}

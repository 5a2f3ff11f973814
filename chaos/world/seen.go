package world

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/chaos/meter"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// Seen is what was heard besides answers. Any number of goroutines may use it.
type Seen struct {
	mu     sync.Mutex
	ids    map[string]bool // of messages that several nodes delivered
	gaps   []GapRecord
	events []Event
	// answered and buried are frames of the stranger, and of anybody in DLQ, and when their first copy arrived.
	answered, buried map[string]time.Time
}

// GapRecord is a gap record and when it arrived.
type GapRecord struct {
	Camera string
	predictions.Gap
	At time.Time
}

// Event is an event and when it arrived.
type Event struct {
	events.Event
	Arrived time.Time
}

func newSeen() *Seen {
	return &Seen{ids: map[string]bool{}, answered: map[string]time.Time{}, buried: map[string]time.Time{}}
}

// Answered says when a frame of the stranger was answered.
func (s *Seen) Answered(n frame.Name) (time.Time, bool) { return s.when(s.answered, n.String()) }

// Buried says when a frame was quarantined.
func (s *Seen) Buried(n frame.Name) (time.Time, bool) { return s.when(s.buried, n.String()) }

func (s *Seen) when(in map[string]time.Time, name string) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := in[name]
	return at, ok
}

func (s *Seen) note(in map[string]time.Time, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := in[name]; !ok {
		in[name] = time.Now()
	}
}

// first reports whether the message is the first copy.
func (s *Seen) first(m *nats.Msg) bool {
	id := m.Header.Get("Nats-Msg-Id")
	if id == "" {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids[id] {
		return false
	}
	s.ids[id] = true
	return true
}

// Gaps are the gap records that arrived from a time on.
func (s *Seen) Gaps(from time.Time) []GapRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.gaps, func(g GapRecord) bool { return !g.At.Before(from) })
	if i < 0 {
		return nil
	}
	return slices.Clone(s.gaps[i:])
}

// Spans are the times of a camera that gap records cover up to a moment.
func (s *Seen) Spans(camera string, until time.Time) []meter.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []meter.Span
	var open *predictions.Gap
	for _, g := range s.gaps {
		switch {
		case g.Camera != camera:
		case g.To.IsZero():
			gap := g.Gap
			if open != nil && open.From.Before(gap.From) { // its predecessor was never closed: it ends where this begins
				out = append(out, meter.Span{From: open.From, To: gap.From})
			}
			open = &gap
		default:
			out = append(out, meter.Span{From: g.From, To: g.To})
			open = nil
		}
	}
	if open != nil {
		out = append(out, meter.Span{From: open.From, To: until})
	}
	return out
}

// Events are the events that arrived from a time on.
func (s *Seen) Events(from time.Time) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.events, func(e Event) bool { return !e.Arrived.Before(from) })
	if i < 0 {
		return nil
	}
	return slices.Clone(s.events[i:])
}

// listen subscribes on one node.
func (w *World) listen(nc *nats.Conn) error {
	for subject, take := range map[string]nats.MsgHandler{
		streams.PredictionSubject("*", "*"):           w.prediction,
		streams.FrameSubject(streams.EveryFrame, "*"): w.frame,
		streams.EventSubject("*", "*", "*"):           w.event,
		streams.DLQSubject("*", "*"):                  w.quarantined,
	} {
		if _, err := nc.Subscribe(subject, take); err != nil {
			return fmt.Errorf("world: listen to %s: %w", subject, err)
		}
	}
	return nil
}

func (w *World) prediction(m *nats.Msg) {
	now := time.Now()
	p, err := predictions.Decode(m.Data)
	if err != nil {
		return
	}
	if p.Kind == predictions.KindPrediction {
		if p.Camera == StrangerName {
			w.Seen.note(w.Seen.answered, p.Frame)
		}
		w.Meter.Add(p.Camera, meter.Arrival{Frame: p.Frame, At: now, Captured: p.CapturedAt})
		return
	}
	if p.Gap == nil || !w.Seen.first(m) {
		return
	}
	w.Seen.mu.Lock()
	defer w.Seen.mu.Unlock()
	w.Seen.gaps = append(w.Seen.gaps, GapRecord{Camera: p.Camera, Gap: *p.Gap, At: now})
}

func (w *World) frame(m *nats.Msg) {
	if h := m.Header[frame.HeaderName]; len(h) > 0 {
		if n, err := frame.ParseName(h[0]); err == nil {
			w.Facts.Published(n)
		}
	}
}

func (w *World) quarantined(m *nats.Msg) {
	if h := m.Header[frame.HeaderName]; len(h) > 0 {
		w.Seen.note(w.Seen.buried, h[0])
	}
}

func (w *World) event(m *nats.Msg) {
	var e events.Event
	if json.Unmarshal(m.Data, &e) != nil || !w.Seen.first(m) {
		return
	}
	w.Seen.mu.Lock()
	defer w.Seen.mu.Unlock()
	w.Seen.events = append(w.Seen.events, Event{Event: e, Arrived: time.Now()})
}

func holder(value []byte) (string, error) {
	h, err := lease.Decode(value)
	if err != nil {
		return "", fmt.Errorf("holder: %w", err)
	}
	return h.Instance, nil
}

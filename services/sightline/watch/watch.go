// Package watch folds what a running system says about itself (EVENTS, LEDGER, PREDICTIONS) into one picture: what every
// camera does, how fresh its answers are, and whether its books balance. It only listens.
package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// window is the time over which rates and ages are given.
const window = 10 * time.Second

// Camera is one row: a camera as seen by one model.
type Camera struct {
	Camera string      `json:"camera"`
	Model  string      `json:"model"`
	State  string      `json:"state"`           // connecting, live, down, waiting, released
	Cause  string      `json:"cause,omitempty"` // why it is down
	FPSIn  float64     `json:"fps_in"`          // frames captured per second
	FPSOut float64     `json:"fps_out"`         // predictions per second
	AgeP50 float64     `json:"age_p50_ms"`      // from capture until a subscriber has the prediction
	AgeP99 float64     `json:"age_p99_ms"`
	InView int         `json:"in_view"` // detections in the latest prediction
	Books  ledger.Line `json:"books"`
}

// Watcher holds the picture. Run keeps it up to date.
type Watcher struct {
	js    jetstream.JetStream
	start Start

	mu     sync.Mutex
	books  ledger.Books
	states map[string]events.Event
	feeds  map[feedKey]*feed
	rates  map[feedKey][]count
	notes  []string
	bad    uint64 // messages that could not be read
}

type feedKey struct{ camera, model string }

// feed is what arrived for one camera and model within the window.
type feed struct {
	at     []time.Time
	age    []time.Duration
	inView int
}

type count struct {
	at time.Time
	n  uint64
}

// Start is where a Watcher begins to read.
type Start struct {
	Time   time.Time // of answers and events
	Ledger uint64    // sequence in LEDGER: its records must not begin in the middle of an epoch. 0: the books come from elsewhere
}

// Now is the start for what has not happened yet.
func Now(ctx context.Context, js jetstream.JetStream) (Start, error) {
	stream, err := js.Stream(ctx, streams.Ledger)
	if err != nil {
		return Start{}, fmt.Errorf("watch %s: %w", streams.Ledger, err)
	}
	return Start{Time: time.Now(), Ledger: stream.CachedInfo().State.LastSeq + 1}, nil
}

// New makes a Watcher of everything from a start on; Run runs it.
func New(js jetstream.JetStream, start Start) *Watcher {
	return &Watcher{js: js, start: start, states: map[string]events.Event{}, feeds: map[feedKey]*feed{}, rates: map[feedKey][]count{}}
}

// Run follows the three streams until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	if w.start.Ledger == 0 {
		return w.consume(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	following := make(chan error, 1)
	go func() {
		_, err := ledger.Follow(ctx, w.js, w.start.Ledger, w.takeMarks)
		following <- err
	}()
	err := w.consume(ctx)
	cancel()
	return errors.Join(err, <-following)
}

// consume takes answers and events.
func (w *Watcher) consume(ctx context.Context) error {
	stops := make([]jetstream.ConsumeContext, 0, 3)
	defer func() {
		for _, c := range stops {
			c.Stop()
		}
	}()
	for _, f := range []struct {
		stream, subject string
		take            func(jetstream.Msg) error
	}{
		{streams.Predictions, streams.PredictionSubject("*", "*"), w.takePrediction},
		{streams.Events, streams.EventSubject("camera", "state", "*"), w.takeState},
		{streams.Events, streams.EventSubject("model", "refused", "*"), w.takeRefusal},
	} {
		c, err := w.js.OrderedConsumer(ctx, f.stream, jetstream.OrderedConsumerConfig{
			FilterSubjects: []string{f.subject}, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &w.start.Time,
		})
		if err != nil {
			return fmt.Errorf("watch %s: %w", f.stream, err)
		}
		cc, err := c.Consume(func(m jetstream.Msg) {
			if f.take(m) != nil {
				w.mu.Lock()
				w.bad++
				w.mu.Unlock()
			}
		})
		if err != nil {
			return fmt.Errorf("watch %s: %w", f.stream, err)
		}
		stops = append(stops, cc)
	}
	<-ctx.Done()
	return nil
}

func (w *Watcher) takeMarks(m ledger.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.books.Take(m)
}

func (w *Watcher) takePrediction(m jetstream.Msg) error {
	now := time.Now()
	p, err := predictions.Decode(m.Data())
	if err != nil {
		return err
	}
	if p.Kind != predictions.KindPrediction {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	k := feedKey{p.Camera, p.Model}
	f := w.feeds[k]
	if f == nil {
		f = &feed{}
		w.feeds[k] = f
	}
	f.inView = len(p.Detections)
	f.at = append(f.at, now)
	f.age = append(f.age, now.Sub(p.CapturedAt))
	f.trim(now)
	return nil
}

func (f *feed) trim(now time.Time) {
	i := 0
	for i < len(f.at) && now.Sub(f.at[i]) > window {
		i++
	}
	f.at, f.age = f.at[i:], f.age[i:]
}

func (w *Watcher) takeState(m jetstream.Msg) error {
	e, err := events.Decode(m.Data())
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.states[e.Name].State != e.State || w.states[e.Name].Cause != e.Cause {
		w.note(e.Name, e)
	}
	w.states[e.Name] = e
	return nil
}

func (w *Watcher) takeRefusal(m jetstream.Msg) error {
	e, err := events.Decode(m.Data())
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("model "+e.Name, e)
	return nil
}

// Seed says what was told of cameras before the start.
func (w *Watcher) Seed(told []events.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range told {
		if _, known := w.states[e.Name]; !known {
			w.states[e.Name] = e
		}
	}
}

// note keeps a line for people. The caller holds mu.
func (w *Watcher) note(who string, e events.Event) {
	text := who + " is " + e.State
	if e.Cause != "" {
		text += ": " + e.Cause
	}
	if e.Detail != "" {
		text += " (" + Printable(e.Detail) + ")"
	}
	w.notes = append(w.notes, e.At.Local().Format(time.TimeOnly)+"  "+text)
	w.notes = w.notes[max(0, len(w.notes)-notesKept):]
}

const notesKept = 100

// Printable takes control characters out of a text that a camera's server had a part in: it goes to a terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// Notes returns and forgets what happened to cameras since the last call.
func (w *Watcher) Notes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.notes
	w.notes = nil
	return out
}

// Pace is how often the ledger's reporters report.
func (w *Watcher) Pace() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.books.Pace()
}

// Cameras is the picture now. held may be nil.
func (w *Watcher) Cameras(now time.Time, held ledger.Held) []Camera {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rows(now, w.books.Lines(now, held))
}

// CamerasOf is the picture now, with books that come from elsewhere.
func (w *Watcher) CamerasOf(now time.Time, lines []ledger.Line) []Camera {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rows(now, lines)
}

// rows is the picture with some books. The caller holds mu.
func (w *Watcher) rows(now time.Time, lines []ledger.Line) []Camera {
	var rows []Camera
	seen := map[string]bool{}
	for _, line := range lines {
		k := feedKey{line.Camera, line.Model}
		row := Camera{Camera: line.Camera, Model: line.Model, Books: line, FPSIn: w.rate(k, now, line.Captured)}
		if f := w.feeds[k]; f != nil {
			f.trim(now)
			row.FPSOut, row.InView = perSecond(f.at, now), f.inView
			row.AgeP50, row.AgeP99 = quantile(f.age, .5), quantile(f.age, .99)
		}
		e := w.states[line.Camera]
		row.State, row.Cause = e.State, e.Cause
		seen[line.Camera] = true
		rows = append(rows, row)
	}
	for name, e := range w.states { // cameras that never delivered a frame are shown too
		if !seen[name] {
			rows = append(rows, Camera{Camera: name, State: e.State, Cause: e.Cause, Books: ledger.Line{Camera: name}})
		}
	}
	slices.SortFunc(rows, func(a, b Camera) int {
		return cmp.Or(cmp.Compare(a.Camera, b.Camera), cmp.Compare(a.Model, b.Model))
	})
	return rows
}

// rate is captured frames per second over the window. The ledger tells in steps of half a second, or of some seconds when
// there are very many cameras.
func (w *Watcher) rate(k feedKey, now time.Time, captured uint64) float64 {
	h := w.rates[k]
	h = append(h, count{now, captured})
	for len(h) > 2 && now.Sub(h[0].at) > window {
		h = h[1:]
	}
	w.rates[k] = h
	took := now.Sub(h[0].at).Seconds()
	if took < 0.5 {
		return 0
	}
	return float64(captured-h[0].n) / took
}

func perSecond(at []time.Time, now time.Time) float64 {
	if len(at) < 2 {
		return 0
	}
	took := max(now.Sub(at[0]).Seconds(), 0.5)
	return float64(len(at)-1) / took
}

// quantile is in milliseconds, by the nearest rank.
func quantile(d []time.Duration, q float64) float64 {
	if len(d) == 0 {
		return 0
	}
	s := slices.Clone(d)
	slices.Sort(s)
	i := min(int(q*float64(len(s))), len(s)-1)
	return float64(s[i].Microseconds()) / 1000
}

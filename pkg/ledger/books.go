package ledger

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// settleAfter is added to a camera's max_age before the books conclude anything: two flush intervals of two
	// stages, and room for a slow broker.
	settleAfter = 3 * time.Second
	// everySettle is when an every_frame frame that no stream holds any more counts as lost.
	everySettle = 15 * time.Second
	// closeAfter is when the books close on what they had to conclude themselves: until then a reporter that was
	// cut off may still tell better.
	closeAfter = 2 * time.Minute
)

// Line is one row of the books: a camera as seen by one model.
type Line struct {
	Camera      string            `json:"camera"`
	Model       string            `json:"model"`
	Delivery    streams.Delivery  `json:"delivery"`
	Captured    uint64            `json:"captured"`
	Predicted   uint64            `json:"predicted"`
	Superseded  uint64            `json:"superseded"`
	Expired     uint64            `json:"expired"`
	Quarantined uint64            `json:"quarantined"`
	InFlight    uint64            `json:"in_flight"`
	Lost        uint64            `json:"lost"`
	Reasons     map[string]uint64 `json:"reasons,omitempty"` // "expired/max_age": 3
}

// Balanced reports whether every captured frame is accounted for.
func (l Line) Balanced() bool {
	return l.Lost == 0 && l.Captured == l.Predicted+l.Superseded+l.Expired+l.Quarantined+l.InFlight
}

// Held tells how many messages the every_frame streams still hold for a camera and model. Nil means unknown:
// then nothing of an every_frame camera is called lost. The figures must be older than the records by a few flush
// intervals: what left a stream since then has its fate in the books, so nothing is called lost too early.
type Held func(camera, model string) uint64

// Books are the fold over ledger records. The zero value is ready.
type Books struct {
	// Unreadable counts the records that Read had to skip.
	Unreadable uint64

	cameras map[string]*camera
}

type camera struct {
	epochs map[uint64]*epoch
	closed map[string]*Line // per model: what is final
}

// epoch holds what is not final yet.
type epoch struct {
	route                      *Route // nil while nobody has said it
	routeAt                    time.Time
	captured, published, taken Ranges
	fates                      map[entryKey]*Ranges // those that concern every model
	models                     map[string]*modelMarks
	clock                      clock
	final                      uint64 // everything up to here is in camera.closed
}

type modelMarks struct {
	forwarded, taken Ranges
	fates            map[entryKey]*Ranges
}

// Apply adds a record. Records may come in any order and more than once.
func (b *Books) Apply(r Record) {
	e := b.epoch(r)
	for _, entry := range r.Entries {
		e.add(entry, r.At)
	}
}

// begin adds a record from the edge of what is still known: the frames that it tells of may have had their captured
// or their fate in records that are gone, so the books begin behind them.
func (b *Books) begin(r Record) {
	e := b.epoch(r)
	for _, entry := range r.Entries {
		e.final = max(e.final, entry.Frames.Last())
	}
}

// epoch is what is kept of a record's epoch.
func (b *Books) epoch(r Record) *epoch {
	if b.cameras == nil {
		b.cameras = map[string]*camera{}
	}
	c := b.cameras[r.Camera]
	if c == nil {
		c = &camera{epochs: map[uint64]*epoch{}, closed: map[string]*Line{}}
		b.cameras[r.Camera] = c
	}
	e := c.epochs[r.Epoch]
	if e == nil {
		e = &epoch{fates: map[entryKey]*Ranges{}, models: map[string]*modelMarks{}}
		c.epochs[r.Epoch] = e
	}
	if r.Route != nil && (e.route == nil || r.At.After(e.routeAt)) {
		e.route, e.routeAt = r.Route, r.At
	}
	return e
}

func (e *epoch) add(entry Entry, at time.Time) {
	frames := entry.Frames.Minus(Ranges{{0, e.final}})
	if len(frames) == 0 {
		return
	}
	// A frame that anybody saw was captured, even when the ingest that captured it died before it said so.
	e.clock.add(frames.Last(), at)
	e.captured.AddAll(frames)
	marks := &e.taken
	switch entry.Mark {
	case Captured:
		return
	case Published:
		marks = &e.published
	case Taken:
		if entry.Model != "" {
			marks = &e.model(entry.Model).taken
		}
	case Forwarded:
		marks = &e.model(entry.Model).forwarded
	case Predicted, Superseded, Expired, Quarantined:
		fates := e.fates
		if entry.Model != "" {
			fates = e.model(entry.Model).fates
		}
		k := entryKey{mark: entry.Mark, reason: entry.Reason}
		if fates[k] == nil {
			fates[k] = &Ranges{}
		}
		marks = fates[k]
	default: // from a newer version
		return
	}
	marks.AddAll(frames)
}

func (e *epoch) model(name string) *modelMarks {
	m := e.models[name]
	if m == nil {
		m = &modelMarks{fates: map[entryKey]*Ranges{}}
		e.models[name] = m
	}
	return m
}

// Lines are the books at a time, one line per camera and model, sorted. Time must not go backwards from one call
// to the next: what is old enough is made final.
func (b *Books) Lines(now time.Time, held Held) []Line {
	var lines []Line
	for name, c := range b.cameras {
		for _, model := range c.modelNames() {
			lines = append(lines, c.line(name, model, now, held))
		}
	}
	b.close(now, held, false)
	slices.SortFunc(lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(a.Camera, b.Camera), cmp.Compare(a.Model, b.Model))
	})
	return lines
}

func (c *camera) modelNames() []string {
	names := slices.Collect(maps.Keys(c.closed))
	for id, e := range c.epochs {
		route, _ := c.routeOf(id)
		names = append(names, e.modelNames(route)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// modelNames are the models that look at this epoch's frames.
func (e *epoch) modelNames(route Route) []string {
	names := slices.AppendSeq(slices.Clone(route.Models), maps.Keys(e.models))
	slices.Sort(names)
	return slices.Compact(names)
}

// routeOf is how an epoch's frames are judged. An ingest that died before it said so leaves its frames to the
// camera's nearest earlier route, or else the nearest later one.
func (c *camera) routeOf(id uint64) (Route, bool) {
	var best uint64
	for other, e := range c.epochs {
		switch {
		case e.route == nil:
		case best == 0, other <= id && (best > id || other > best), other > id && best > id && other < best:
			best = other
		}
	}
	if best == 0 {
		return Route{}, false
	}
	return *c.epochs[best].route, true
}

// last is the newest epoch that has a frame.
func (c *camera) last() uint64 {
	var last uint64
	for id, e := range c.epochs {
		if id > last && (len(e.captured) > 0 || e.final > 0) {
			last = id
		}
	}
	return last
}

func (c *camera) line(name, model string, now time.Time, held Held) Line {
	l := Line{Camera: name, Model: model, Reasons: map[string]uint64{}}
	last := c.last()
	route, _ := c.routeOf(last)
	l.Delivery = route.Delivery
	if done := c.closed[model]; done != nil {
		l.addCounts(*done)
	}
	var stale uint64 // of every_frame: older than everySettle and without a fate
	for id, e := range c.epochs {
		if route, _ := c.routeOf(id); len(e.captured) == 0 || !slices.Contains(e.modelNames(route), model) {
			continue
		}
		v := c.judge(id, last, model, now)
		v.count(&l)
		stale += v.waiting.Count()
	}
	if stale > 0 { // every_frame only: what a stream still holds is in flight, the rest is lost
		lost := uint64(0)
		if held != nil {
			lost = stale - min(stale, held(name, model))
		}
		l.Lost += lost
		l.InFlight += stale - lost
	}
	return l
}

func (l *Line) addFate(mark Mark, reason string, n uint64) {
	switch mark {
	case Predicted:
		l.Predicted += n
	case Superseded:
		l.Superseded += n
	case Expired:
		l.Expired += n
	case Quarantined:
		l.Quarantined += n
	default:
		return
	}
	if reason != "" && n > 0 {
		l.Reasons[string(mark)+"/"+reason] += n
	}
}

func (l *Line) addCounts(o Line) {
	l.Captured += o.Captured
	l.Predicted += o.Predicted
	l.Superseded += o.Superseded
	l.Expired += o.Expired
	l.Quarantined += o.Quarantined
	l.Lost += o.Lost
	for k, n := range o.Reasons {
		l.Reasons[k] += n
	}
}

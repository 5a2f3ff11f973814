package ledger

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/streams"
)

// closeAfter is when the books close on what they had to conclude themselves: until then a reporter that was
// cut off may still tell better.
const closeAfter = 2 * time.Minute

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
// intervals (HeldBefore): what left a stream since then has its fate in the books, so nothing is called lost too early.
type Held func(camera, model string) uint64

// Books are the fold over ledger records. The zero value is ready.
type Books struct {
	// Unreadable counts the records that Read had to skip.
	Unreadable uint64

	cameras   map[string]*camera
	incidents []Incident
	runs      map[process]run // of workers: the newest of each name
	newest    time.Time       // of what was told
	paces     paces
	audited   bool // somebody explains: nothing becomes final before it was looked up
	breaks    int  // how often the records broke off; a camera with as many has been closed for the last one
}

type camera struct {
	name    string
	epochs  map[uint64]*epoch
	retired uint64            // epochs up to this one are in closed altogether
	closed  map[string]*Line  // per model: what is final
	told    map[string]uint64 // per model: how many are known to be lost, see Auditor
	breaks  int               // see Books
	changed bool              // since the last checkpoint
}

// moment is what a look at the books needs beside them.
type moment struct {
	now       time.Time
	held      Held
	pace      pace
	incidents []Incident
	audited   bool
}

func (b *Books) at(now time.Time, held Held) moment {
	return moment{now, held, b.paces.pace(), b.incidents, b.audited}
}

// epoch holds what is not final yet.
type epoch struct {
	route               *Route // nil while nobody has said it
	routeAt             time.Time
	heard               time.Time // of the newest record
	captured, published Ranges
	work                work                 // preprocess's
	fates               map[entryKey]*Ranges // those that concern every model
	models              map[string]*modelMarks
	clock               clock
	asked               map[string]asked   // by model: what was looked up
	reach               map[Incident]reach // which frames an incident may concern
	final               uint64             // everything up to here is in camera.closed
}

type modelMarks struct {
	forwarded Ranges
	work      work // infer's
	fates     map[entryKey]*Ranges
}

// Take adds a message of LEDGER, a record or an incident.
func (b *Books) Take(m Message) {
	if m.Record != nil {
		b.Apply(*m.Record)
	}
	if m.Incident != nil {
		b.Befall(*m.Incident)
	}
}

// Apply adds a record. Records may come in any order and more than once.
func (b *Books) Apply(r Record) {
	e := b.epoch(r)
	if e == nil {
		return
	}
	for _, entry := range r.Entries {
		e.add(entry, r)
		if entry.Mark == Taken {
			b.began(process{r.Stage, r.Instance}, run{r.Run, r.At})
		}
	}
}

// begin adds a record from the edge of what is still known: the frames that it tells of may have had their captured
// or their fate in records that are gone, so the books begin behind them.
func (b *Books) begin(r Record) {
	e := b.epoch(r)
	if e == nil {
		return
	}
	for _, entry := range r.Entries {
		e.final = max(e.final, entry.Frames.Last())
	}
}

// epoch is what is kept of a record's epoch, nil when that is final altogether.
func (b *Books) epoch(r Record) *epoch {
	if b.cameras == nil {
		b.cameras = map[string]*camera{}
	}
	b.newest = later(b.newest, r.At)
	b.paces.add(r)
	c := b.cameras[r.Camera]
	if c == nil {
		c = &camera{name: r.Camera, breaks: b.breaks, epochs: map[uint64]*epoch{}, closed: map[string]*Line{}}
		b.cameras[r.Camera] = c
	}
	if r.Epoch <= c.retired {
		return nil
	}
	c.changed = true
	e := c.epochs[r.Epoch]
	if e == nil {
		e = &epoch{fates: map[entryKey]*Ranges{}, models: map[string]*modelMarks{}}
		c.epochs[r.Epoch] = e
	}
	e.heard = later(e.heard, r.At)
	if r.Route != nil && (e.route == nil || r.At.After(e.routeAt)) {
		e.route, e.routeAt = r.Route, r.At
	}
	return e
}

func (e *epoch) add(entry Entry, r Record) {
	frames := entry.Frames.Minus(Ranges{{0, e.final}})
	if len(frames) == 0 {
		return
	}
	// A frame that anybody saw was captured, even when the ingest that captured it died before it said so.
	e.clock.add(frames.Last(), r.At)
	e.captured.AddAll(frames)
	w := &e.work
	if entry.Model != "" && (entry.Mark == Taken || entry.Mark == Returned) {
		w = &e.model(entry.Model).work
	}
	h := hand{r.Stage, r.Instance, r.Run, entry.Again}
	var marks *Ranges
	switch entry.Mark {
	case Captured:
		return
	case Published:
		marks = &e.published
	case Taken:
		w.taken.AddAll(frames)
		marks = &w.of(h).taken
	case Returned: // so it had been taken, whether that was told or not
		w.taken.AddAll(frames)
		marks = &w.of(h).returned
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

// Pace is how often reporters report, as they told lately.
func (b *Books) Pace() time.Duration { return time.Duration(b.paces.pace()) }

// Lines are the books at a time, one line per camera and model, sorted. Time must not go backwards from one call
// to the next: what is old enough is made final.
func (b *Books) Lines(now time.Time, held Held) []Line {
	var lines []Line
	at := b.at(now, held)
	for _, c := range b.cameras {
		all := c.verdicts(at)
		for _, model := range c.modelNames() {
			lines = append(lines, c.line(model, all, at))
		}
		c.close(all, at, false)
	}
	b.forgetIncidents()
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

func (c *camera) line(model string, all verdicts, at moment) Line {
	l := Line{Camera: c.name, Model: model, Reasons: map[string]uint64{}}
	route, _ := c.routeOf(c.last())
	l.Delivery = route.Delivery
	if done := c.closed[model]; done != nil {
		l.addCounts(*done)
	}
	var stale, purged uint64 // of every_frame: without a fate for too long
	for _, verdicts := range all {
		v := verdicts[model] // nothing where the epoch's frames are not for it
		v.count(&l)
		stale += v.waiting.Count()
		purged += v.purged.Count()
	}
	if stale > 0 { // every_frame only: what a stream still holds is in flight, the rest was purged or is lost
		missing := uint64(0)
		if at.held != nil {
			missing = stale - min(stale, at.held(c.name, model))
		}
		purged = min(purged, missing)
		l.addFate(Expired, reasonPurged, purged)
		l.Lost += missing - purged
		l.InFlight += stale - missing
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

package ledger

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/streams"
)

// verdict is what is known of one epoch's frames for one model: disjoint sets that add up to captured.
type verdict struct {
	captured Ranges
	fates    []fated
	inFlight Ranges
	waiting  Ranges // every_frame: long on its way
	lost     Ranges
}

type fated struct {
	entryKey
	frames    Ranges
	concluded bool // by the books: nobody reported it
}

// precedence decides when two fates were reported for one frame: what reached the application wins.
var precedence = [...]Mark{Predicted, Quarantined, Expired, Superseded}

func byPrecedence(a, b entryKey) int {
	return cmp.Or(cmp.Compare(slices.Index(precedence[:], a.mark), slices.Index(precedence[:], b.mark)), cmp.Compare(a.reason, b.reason))
}

// judge gives every frame of an epoch its column, for one model.
func (c *camera) judge(id, last uint64, model string, now time.Time) verdict {
	e := c.epochs[id]
	m := e.models[model]
	if m == nil {
		m = &modelMarks{}
	}
	route, known := c.routeOf(id)
	v := verdict{captured: e.captured}
	if known && !slices.Contains(route.Models, model) { // it was taken off the camera: only what still reached it
		v.captured = m.seen()
	}
	open := v.captured
	for _, fates := range []map[entryKey]*Ranges{m.fates, e.fates} {
		for k := range fates {
			v.fates = append(v.fates, fated{entryKey: k})
		}
	}
	slices.SortFunc(v.fates, func(a, b fated) int { return byPrecedence(a.entryKey, b.entryKey) })
	v.fates = slices.CompactFunc(v.fates, func(a, b fated) bool { return a.entryKey == b.entryKey })
	for i, f := range v.fates {
		for _, fates := range []map[entryKey]*Ranges{m.fates, e.fates} {
			if frames := fates[f.entryKey]; frames != nil {
				hit := open.And(*frames)
				v.fates[i].frames.AddAll(hit)
				open = open.Minus(hit)
			}
		}
	}
	if !known { // nobody has said what to expect of these frames
		v.inFlight = open
		return v
	}
	settle := route.MaxAge + settleAfter
	if route.Delivery == streams.EveryFrame {
		settle = everySettle
	}
	stale := open.And(Ranges{{1, e.clock.by(now.Add(-settle))}})
	v.inFlight = open.Minus(stale)
	switch {
	case len(stale) == 0:
	case route.Delivery == streams.EveryFrame:
		v.waiting = stale
	default:
		v.judgeLive(stale, e, m, last > id, now)
	}
	return v
}

// seen are the frames of which anything was said.
func (m *modelMarks) seen() Ranges {
	var seen Ranges
	seen.AddAll(m.forwarded)
	seen.AddAll(m.taken)
	for _, r := range m.fates {
		seen.AddAll(*r)
	}
	return seen
}

// judgeLive explains the frames that a live stream dropped without telling anybody. restarted says that a newer
// epoch has frames: they took the place of whatever had not reached a worker.
func (v *verdict) judgeLive(stale Ranges, e *epoch, m *modelMarks, restarted bool, now time.Time) {
	conclude := func(mark Mark, reason string, frames Ranges) {
		if len(frames) > 0 {
			v.fates = append(v.fates, fated{entryKey{mark: mark, reason: reason}, frames, true})
			stale = stale.Minus(frames)
		}
	}
	for _, ring := range []struct {
		name    string
		waiting Ranges // acknowledged by the stream, never received by a worker
		newest  uint64
	}{
		{"frame_ring", e.published.Minus(e.taken), e.published.Last()},
		{"tensor_ring", m.forwarded.Minus(m.taken), m.forwarded.Last()},
	} {
		evicted := stale.And(ring.waiting)
		if newest := evicted.And(Ranges{{ring.newest, ring.newest}}); len(newest) > 0 && !restarted {
			// Nothing newer came: only age can have taken it, and not before the stream's own limit.
			aged := newest.And(Ranges{{1, e.clock.by(now.Add(-streams.LiveMaxAge - settleAfter))}})
			conclude(Expired, ring.name, aged)
			v.inFlight.AddAll(newest.Minus(aged))
			stale, evicted = stale.Minus(newest), evicted.Minus(newest)
		}
		conclude(Superseded, ring.name, evicted)
	}
	if restarted { // what its ingest never got rid of died with it; what a worker received did not
		conclude(Superseded, "restart", stale.Minus(e.published).Minus(e.taken).Minus(m.forwarded).Minus(m.taken))
	}
	v.lost = stale
}

func (v verdict) count(l *Line) {
	l.Captured += v.captured.Count()
	for _, f := range v.fates {
		l.addFate(f.mark, f.reason, f.frames.Count())
	}
	l.InFlight += v.inFlight.Count()
	l.Lost += v.lost.Count()
}

// close keeps the books small. With keepLost it leaves what is lost open: it may yet be explained.
func (b *Books) close(now time.Time, held Held, keepLost bool) {
	for name, c := range b.cameras {
		c.close(name, now, held, keepLost)
	}
}

// close moves the prefix of every epoch whose frames all have their fate, for every model, into the counts. That
// is what keeps the books small however long they are kept.
func (c *camera) close(name string, now time.Time, held Held, keepLost bool) {
	last := c.last()
	for id, e := range c.epochs {
		route, known := c.routeOf(id)
		if !known || len(e.captured) == 0 {
			continue
		}
		models := e.modelNames(route)
		settled := e.clock.by(now.Add(-route.MaxAge - settleAfter)) // later frames may still be told of differently
		concluded := e.clock.by(now.Add(-closeAfter))
		if e.route == nil { // borrowed from another epoch: its own may yet come
			settled = min(settled, concluded)
		}
		verdicts := make(map[string]verdict, len(models))
		for _, model := range models {
			v := c.judge(id, last, model, now)
			if len(v.waiting) > 0 && held != nil && held(name, model) == 0 {
				v.lost, v.waiting = v.waiting, nil
			}
			final := concluded
			if keepLost {
				final = 0
			}
			settled = min(settled, v.open(concluded, final)-1)
			if keepLost { // the last frames of an epoch too: see explain
				settled = min(settled, e.captured.Last()-min(e.captured.Last(), explainTail))
			}
			verdicts[model] = v
		}
		if settled > e.final && len(models) > 0 {
			for model, v := range verdicts {
				if c.closed[model] == nil {
					c.closed[model] = &Line{Reasons: map[string]uint64{}}
				}
				v.only(Ranges{{1, settled}}).count(c.closed[model])
			}
			e.trim(settled)
		}
		e.clock.forget(e.final, now.Add(-closeAfter-route.MaxAge))
	}
}

// open is the first frame that is not final. What the books concluded themselves is, up to a frame number, and what they
// call lost up to another.
func (v verdict) open(concluded, lost uint64) uint64 {
	first := ^uint64(0)
	see := func(r Ranges) {
		if len(r) > 0 {
			first = min(first, r[0][0])
		}
	}
	late := Ranges{{1, concluded}}
	see(v.inFlight)
	see(v.waiting)
	see(v.lost.Minus(Ranges{{1, lost}}))
	for _, f := range v.fates {
		if f.concluded {
			see(f.frames.Minus(late))
		}
	}
	return first
}

func (v verdict) only(p Ranges) verdict {
	out := verdict{captured: v.captured.And(p), lost: v.lost.And(p)}
	for _, f := range v.fates {
		f.frames = f.frames.And(p)
		out.fates = append(out.fates, f)
	}
	return out
}

func (e *epoch) trim(upTo uint64) {
	e.final = upTo
	cut := Ranges{{0, upTo}}
	keep := func(r *Ranges) { *r = r.Minus(cut) }
	keep(&e.captured)
	keep(&e.published)
	keep(&e.taken)
	trimFates := func(fates map[entryKey]*Ranges) {
		for _, r := range fates {
			keep(r)
		}
		maps.DeleteFunc(fates, func(_ entryKey, r *Ranges) bool { return len(*r) == 0 })
	}
	trimFates(e.fates)
	for _, m := range e.models {
		keep(&m.forwarded)
		keep(&m.taken)
		trimFates(m.fates)
	}
}

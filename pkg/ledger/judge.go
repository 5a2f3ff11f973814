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
	purged   Ranges // those of them that were in a stream that was purged
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
func (c *camera) judge(id, last uint64, model string, at moment) verdict {
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
	e.reached(at, c.name, route.Delivery)
	settle := route.MaxAge + at.pace.settle()
	if route.Delivery == streams.EveryFrame {
		settle = at.pace.everySettle()
	}
	stale := open.And(Ranges{{1, e.clock.by(at.now.Add(-settle))}})
	v.inFlight = open.Minus(stale)
	if len(stale) == 0 {
		return v
	}
	rings := [...]ring{{
		name: reasonFrameRing, stored: e.published, work: &e.work, beyond: [...]Ranges{m.forwarded, m.work.taken}, reach: e.reach,
		purged: e.purged(route.Delivery, c.name, ""),
	}, {
		name: reasonTensorRing, stored: m.forwarded, work: &m.work, reach: e.reach,
		purged: e.purged(route.Delivery, c.name, model),
	}}
	if route.Delivery == streams.EveryFrame {
		v.waiting = stale
		for _, r := range rings {
			v.purged.AddAll(r.gone(stale))
		}
		return v
	}
	aged := e.clock.by(at.now.Add(-streams.LiveMaxAge - at.pace.settle()))
	for _, r := range rings {
		stale = v.judgeLive(stale, r, aged, last > id)
	}
	if last > id { // what its ingest never got rid of died with it; what a worker received did not
		stale = v.conclude(stale, Superseded, reasonRestart, stale.Minus(e.published).Minus(e.work.taken).Minus(m.forwarded).Minus(m.work.taken))
	}
	v.lost = stale
	return v
}

// seen are the frames of which anything was said.
func (m *modelMarks) seen() Ranges {
	var seen Ranges
	seen.AddAll(m.forwarded)
	seen.AddAll(m.work.taken)
	for _, r := range m.fates {
		seen.AddAll(*r)
	}
	return seen
}

// ring is what is known of the frames that one stream has, or had, for one model.
type ring struct {
	name   string
	stored Ranges // acknowledged by the stream
	work   *work
	beyond [2]Ranges // have left it for the next
	reach  map[Incident]reach
	purged uint64 // up to there a purge may have taken them
}

// gone are the frames that a purge took from an every_frame stream: acknowledged by it, and in nobody's hands.
func (r ring) gone(stale Ranges) Ranges {
	if r.purged == 0 {
		return nil
	}
	here := stale.And(Ranges{{1, r.purged}}).Minus(r.beyond[0]).Minus(r.beyond[1])
	held, _ := r.work.held(here, r.reach)
	never := here.Minus(r.stored).Minus(r.work.taken)
	return here.Minus(never).Minus(held)
}

// judgeLive explains the frames that a live stream dropped without telling anybody: those that it acknowledged and that
// are in nobody's hands. It returns the others. Up to aged they are too old for any live stream; restarted says that
// a newer epoch has frames: they took the place of whatever no worker had.
func (v *verdict) judgeLive(stale Ranges, r ring, aged uint64, restarted bool) Ranges {
	here := stale.Minus(r.beyond[0]).Minus(r.beyond[1])
	taken := here.And(r.work.taken)
	held, died := r.work.held(taken, r.reach)
	free := taken.Minus(held)
	newest := max(r.stored.Last(), r.work.taken.Last())
	for _, of := range []struct {
		reason string
		frames Ranges
	}{
		{r.name, here.And(r.stored).Minus(taken)},
		{reasonWorkerDied, free.And(died)},
		{reasonReturned, free.Minus(died)},
	} {
		last := of.frames.And(Ranges{{newest, newest}})
		switch {
		case len(last) == 0 || restarted:
		case newest <= r.purged:
			stale = v.conclude(stale, Expired, reasonPurged, last)
		case newest <= aged: // nothing newer came: only age can have taken it, and not before the stream's own limit
			stale = v.conclude(stale, Expired, of.reason, last)
		default:
			v.inFlight.AddAll(last)
			stale = stale.Minus(last)
		}
		if !restarted {
			of.frames = of.frames.Minus(last)
		}
		stale = v.conclude(stale, Superseded, of.reason, of.frames)
	}
	return stale
}

// conclude gives frames a fate and returns the rest.
func (v *verdict) conclude(stale Ranges, mark Mark, reason string, frames Ranges) Ranges {
	if len(frames) == 0 {
		return stale
	}
	v.fates = append(v.fates, fated{entryKey{mark: mark, reason: reason}, frames, true})
	return stale.Minus(frames)
}

func (v verdict) count(l *Line) {
	l.Captured += v.captured.Count()
	for _, f := range v.fates {
		l.addFate(f.mark, f.reason, f.frames.Count())
	}
	l.InFlight += v.inFlight.Count()
	l.Lost += v.lost.Count()
}

// verdicts are what is known of every epoch's frames, for every model.
type verdicts map[uint64]map[string]verdict

func (c *camera) verdicts(at moment) verdicts {
	last := c.last()
	out := make(verdicts, len(c.epochs))
	for id, e := range c.epochs {
		if len(e.captured) == 0 {
			continue
		}
		route, _ := c.routeOf(id)
		out[id] = map[string]verdict{}
		for _, model := range e.modelNames(route) {
			out[id][model] = c.judge(id, last, model, at)
		}
	}
	return out
}

// close keeps the books small. With keepLost it leaves what is lost open: it may yet be explained.
func (b *Books) close(at moment, keepLost bool) {
	for _, c := range b.cameras {
		c.close(c.verdicts(at), at, keepLost)
	}
	b.forgetIncidents()
}

// close moves the prefix of every epoch whose frames all have their fate, for every model, into the counts. That
// is what keeps the books small however long they are kept.
func (c *camera) close(all verdicts, at moment, keepLost bool) {
	for id, verdicts := range all {
		e := c.epochs[id]
		route, known := c.routeOf(id)
		if !known {
			continue
		}
		settled := e.clock.by(at.now.Add(-route.MaxAge - at.pace.settle())) // later frames may still be told of differently
		concluded := e.clock.by(at.now.Add(-closeAfter))
		if e.route == nil { // borrowed from another epoch: its own may yet come
			settled = min(settled, concluded)
		}
		for model, v := range verdicts {
			if len(v.waiting) > 0 && at.held != nil && at.held(c.name, model) == 0 {
				v.lost = v.conclude(v.waiting, Expired, reasonPurged, v.purged)
				v.waiting, v.purged = nil, nil
			}
			final := concluded
			if keepLost {
				final = 0
			}
			settled = min(settled, v.open(concluded, final)-1)
			if keepLost || at.audited && !e.asked[model].end.Equal(e.clock.last()) { // the last frames of an epoch too: see explain
				settled = min(settled, e.captured.Last()-min(e.captured.Last(), explainTail))
			}
			verdicts[model] = v
		}
		if settled > e.final && len(verdicts) > 0 {
			for model, v := range verdicts {
				v.only(Ranges{{1, settled}}).count(c.total(model))
			}
			e.trim(settled)
			c.changed = true
		}
		e.dropHands(verdicts)
		e.clock.forget(e.final, at.now.Add(-closeAfter-route.MaxAge))
	}
	if !keepLost {
		c.retire(c.last(), at.now)
	}
}

// retire forgets epochs that are over and wholly in the counts: a camera that is taken over every minute must not
// make the books grow. It begins with the oldest and stops before the first that is still needed.
func (c *camera) retire(last uint64, now time.Time) {
	ids := slices.Sorted(maps.Keys(c.epochs))
	for n, id := range ids {
		e := c.epochs[id]
		if id >= last || len(e.captured) > 0 || now.Sub(e.heard) <= closeAfter || c.epochs[ids[n+1]].route == nil { // that would borrow this one's
			return
		}
		delete(c.epochs, id)
		c.retired, c.changed = id, true
	}
}

// breakOff closes the books on what was told so far, because what was told next is gone: frames that were in flight may
// have got their fate there, and are left out.
func (b *Books) breakOff() {
	b.breaks++
	at := b.at(b.newest, nil)
	for _, c := range b.cameras {
		if c.breaks >= b.breaks { // this was written down after the break, and the position was not
			continue
		}
		last := c.last()
		for id, e := range c.epochs {
			route, _ := c.routeOf(id)
			for _, model := range e.modelNames(route) {
				v := c.judge(id, last, model, at)
				v.captured = v.captured.Minus(v.inFlight).Minus(v.waiting)
				v.inFlight = nil
				v.count(c.total(model))
			}
		}
		c.epochs, c.retired = map[uint64]*epoch{}, 0 // epochs may begin again too
		c.breaks, c.changed = b.breaks, true
	}
}

func (c *camera) total(model string) *Line {
	if c.closed[model] == nil {
		c.closed[model] = &Line{Reasons: map[string]uint64{}}
	}
	return c.closed[model]
}

// dropHands forgets who had the frames in hand that are through: of interest is only who had what has no fate.
func (e *epoch) dropHands(models map[string]verdict) {
	all := func(fates map[entryKey]*Ranges) Ranges {
		var frames Ranges
		for _, f := range fates {
			frames.AddAll(*f)
		}
		return frames
	}
	ended := all(e.fates)
	through := e.captured // for every model
	if len(e.work.hands) == 0 && !slices.ContainsFunc(slices.Collect(maps.Values(e.models)), func(m *modelMarks) bool { return len(m.work.hands) > 0 }) {
		return
	}
	for name := range models {
		m := e.models[name]
		if m == nil {
			through = nil
			continue
		}
		done := all(m.fates)
		m.work.drop(ended)
		m.work.drop(done)
		done.AddAll(m.forwarded)
		done.AddAll(m.work.taken)
		through = through.And(done)
	}
	e.work.drop(ended)
	e.work.drop(through)
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

// trim forgets the frames up to a number: they are in the counts.
func (e *epoch) trim(upTo uint64) {
	e.final = upTo
	cut := Ranges{{0, upTo}}
	keep := func(r *Ranges) { *r = r.Minus(cut) }
	maps.DeleteFunc(e.reach, func(_ Incident, n reach) bool { return n.upTo <= upTo })
	keep(&e.captured)
	keep(&e.published)
	keep(&e.work.taken)
	e.work.drop(cut)
	trimFates := func(fates map[entryKey]*Ranges) {
		for _, r := range fates {
			keep(r)
		}
		maps.DeleteFunc(fates, func(_ entryKey, r *Ranges) bool { return len(*r) == 0 })
	}
	trimFates(e.fates)
	for _, m := range e.models {
		keep(&m.forwarded)
		keep(&m.work.taken)
		m.work.drop(cut)
		trimFates(m.fates)
	}
}

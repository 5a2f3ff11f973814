package recovery

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/pkg/fleet"
)

// compare opens a case when a worker is back over another connection: what was on its way over the old one reaches nobody.
// Of a worker that is older than this watch it is not known what befell it. One case does for all workers of a service:
// when the broker restarts they come back together. The caller holds mu.
func (w *watch) compare(s fleet.Seen) {
	before, known := w.seen[s.Key()]
	switch {
	case !ofWork(s.Worker):
		return
	case !known && s.Started.Before(w.began):
		before = s
	case !known, before.Incarnation != s.Incarnation, before.Connection == s.Connection:
		return
	case s.Heard.Sub(before.Heard) > giveUpAfter: // the broker's AckWait brings it back
		return
	}
	d := death{Seen: before, cause: causeReconnected, noticed: s.Heard, at: s.Heard}
	o := w.open[d.id()]
	switch {
	case o == nil: // a new watch may not know everybody yet
		w.open[d.id()] = &opened{death: d, again: w.began.Add(calmFor)}
		w.wake()
	case o.working:
		o.next = &d
	default:
		o.death = d
	}
}

// looking says that whoever has come back until now is part of a case.
func (w *watch) looking(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o := w.open[id]; o != nil {
		o.next = nil
	}
}

// reopen closes a case that was dealt with, unless somebody came back too late for it. The caller holds mu.
func (w *watch) reopen(o *opened) {
	id := o.id()
	delete(w.open, id)
	if o.next != nil {
		w.open[id] = &opened{death: *o.next}
		w.wake()
	}
}

// openFor is how long a case is tried. What reached nobody comes back by the broker's AckWait.
func (o *opened) openFor() time.Duration {
	if o.cause == causeReconnected {
		return giveUpAfter
	}
	return openFor
}

// known are the workers that may have messages in their hands, and the dead until they have been dealt with: what those had
// is handed over by their own case.
func (w *watch) known() []fleet.Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := slices.Collect(maps.Values(w.seen))
	for _, o := range w.open {
		if o.cause != causeReconnected {
			out = append(out, o.Seen)
		}
	}
	return out
}

// reconnected hands back what was on its way to the workers of a service and reached none. Nothing is touched before each of
// them is back, or is dead and dealt with: one that is not back yet may have it.
func (h *handing) reconnected(ctx context.Context) error {
	if err := h.awaitBeats(ctx, h.dead.noticed, judgedWithin); err != nil {
		return err
	}
	h.watch.looking(h.dead.id())
	h.dead.Lanes, h.dead.Claims = nil, nil
	for _, s := range h.watch.known() {
		if s.Service == h.dead.Service {
			h.dead.Lanes = append(h.dead.Lanes, s.Lanes...)
		}
	}
	groups, err := h.groups(ctx)
	return errors.Join(err, h.search(ctx, groups))
}

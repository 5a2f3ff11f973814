package recovery

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/streams"
)

// Causes of a death.
const (
	causeDisconnected = "disconnected"
	causeSilent       = "silent"
	causeReplaced     = "replaced"
	// causeReturned is no death: a worker that was declared dead lives, and let go of everything. What it had taken by then
	// is nobody's.
	causeReturned = "returned"
	// causeReconnected is none either: see watch.compare.
	causeReconnected = "reconnected"
)

const (
	lookEvery = 50 * time.Millisecond
	// silentFor and silentBeats are how long a worker is silent before it counts as dead, by the clock and in beats of this
	// process that came through. The first is no shorter than the lease of a beat: who is dead has no effects any more.
	silentFor   = fleet.FreshFor
	silentBeats = 3
	// calmFor is how long own beats must have come through without a pause before silence says anything: after a
	// restart of the broker not everybody is back at once.
	calmFor = 2 * time.Second
	// reconnectWithin is how long a worker has to come back whose connection was closed.
	reconnectWithin = 250 * time.Millisecond
	// suspectFor is how long it is remembered that a connection ended.
	suspectFor = 5 * time.Second
	// closedFor is how long it is remembered who has been dealt with, and openFor how long it is tried.
	closedFor, openFor = 10 * time.Minute, time.Minute
	// restingFor is how long it is remembered what those who are gone had handed back with a delay.
	restingFor = time.Minute
	// aliveFor is how long nobody is judged again who turned out to be alive.
	aliveFor = time.Second
)

// death is a worker that ended without a leave, or, by its cause, one that lives and that messages did not stay with.
type death struct {
	fleet.Seen // as it was last seen alive
	cause      string
	noticed    time.Time
	// at is until when the worker took messages.
	at time.Time
}

// id is the name of a case.
func (d death) id() string {
	switch d.cause {
	case causeReturned:
		return d.Incarnation + "/" + causeReturned
	case causeReconnected:
		return d.Service + "/" + causeReconnected
	}
	return d.Incarnation
}

// watch is who died and has not been dealt with. Every replica keeps one.
type watch struct {
	view *fleet.View
	self string

	disconnects chan *nats.Msg
	cases       chan *nats.Msg
	subs        []*nats.Subscription
	more        chan struct{} // somebody died

	began time.Time

	mu       sync.Mutex
	seen     map[string]fleet.Seen          // the living, by key
	suspects map[fleet.Connection]time.Time // when it ended
	open     map[string]*opened             // by id
	closed   map[string]time.Time           // by id: until when to remember
	gone     map[string]fleet.Seen          // by incarnation: those that left or died lately
	fenced   map[string]death               // by key: those that were dealt with and may return
	looked   time.Time
	unsure   time.Time // when silence last said nothing
}

type opened struct {
	death
	working bool
	again   time.Time // not to be tried before
	next    *death    // of a reconnected one: somebody else came back meanwhile
}

func newWatch(view *fleet.View, self string) *watch {
	return &watch{
		view: view, self: self, more: make(chan struct{}, 1),
		disconnects: make(chan *nats.Msg, 1024), cases: make(chan *nats.Msg, 256),
		seen: map[string]fleet.Seen{}, suspects: map[fleet.Connection]time.Time{}, open: map[string]*opened{}, closed: map[string]time.Time{}, gone: map[string]fleet.Seen{}, fenced: map[string]death{},
		began: time.Now(), looked: time.Now(), unsure: time.Now(),
	}
}

// listen subscribes to what a watch is told by others. Every message of both kinds can be done without.
func (w *watch) listen(nc *nats.Conn) error {
	for subject, to := range map[string]chan *nats.Msg{
		streams.DisconnectSubject:            w.disconnects,
		streams.EventSubject(area, "*", ">"): w.cases,
	} {
		sub, err := nc.ChanSubscribe(subject, to)
		if err != nil {
			w.close()
			return err
		}
		w.subs = append(w.subs, sub)
	}
	return nil
}

func (w *watch) close() {
	for _, sub := range w.subs {
		_ = sub.Unsubscribe()
	}
}

func (w *watch) run(ctx context.Context) {
	defer w.close()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-w.disconnects:
			w.suspect(m.Data, time.Now())
			continue
		case m := <-w.cases:
			if e, err := events.Decode(m.Data); err == nil {
				w.settle(e.Facts[factCase])
			}
			continue
		case <-w.view.Changed():
		case <-tick.C:
		}
		w.look(time.Now())
	}
}

// disconnect is what a server tells of a connection that ended.
type disconnect struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Client struct {
		ID uint64 `json:"id"`
	} `json:"client"`
	Reason string `json:"reason"`
}

// byKernel says whether a connection ended because the process did, or something between it and the broker. When the server
// closed it for reasons of its own the process comes back, or is silent.
func (d disconnect) byKernel() bool {
	return slices.Contains([]string{"Client Closed", "Read Error", "Write Error"}, d.Reason)
}

// suspect notes whose connection ended. Whose it was is looked up later: beats come another way.
func (w *watch) suspect(data []byte, now time.Time) {
	var d disconnect
	if json.Unmarshal(data, &d) != nil || !d.byKernel() || d.Server.ID == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.suspects[fleet.Connection{Server: d.Server.ID, Client: d.Client.ID}] = now
}

// look compares the fleet with what was last seen of it.
func (w *watch) look(now time.Time) {
	all := w.view.All()
	replaced := w.view.Replaced()
	w.mu.Lock()
	defer w.mu.Unlock()
	echo := all[w.self].Heard
	if now.Sub(echo) > silentFor || now.Sub(w.looked) > silentFor { // the broker was away, or this process stopped
		w.unsure = now
	}
	w.looked = now
	for _, s := range replaced {
		w.note(death{Seen: s, cause: causeReplaced, noticed: now, at: began(all[s.Key()], s, now)})
	}
	for key, s := range w.seen {
		if _, still := all[key]; !still {
			w.gone[s.Incarnation] = s
			delete(w.seen, key)
		}
	}
	for key, s := range all {
		switch {
		case key == w.self:
		case s.State == fleet.Dead:
			w.buried(s, now)
		default:
			w.compare(s)
			w.seen[key] = s
			w.returns(s, now)
			if s.Missed >= silentBeats && now.Sub(s.Heard) > silentFor && now.Sub(w.unsure) > calmFor {
				w.note(death{Seen: s, cause: causeSilent, noticed: now, at: now})
			}
			if at, lost := w.suspects[s.Connection]; lost && now.Sub(at) >= reconnectWithin && echo.After(at) {
				w.note(death{Seen: s, cause: causeDisconnected, noticed: now, at: now})
			}
		}
	}
	w.forget(now)
}

// began is when the successor of a worker started, as far as that can be believed: until then the worker took messages.
func began(successor, worker fleet.Seen, now time.Time) time.Time {
	if successor.Started.After(worker.At) && successor.Started.Before(now) {
		return successor.Started.Add(-time.Millisecond)
	}
	return now
}

// buried opens the case of a worker that somebody declared dead: a leader may not live to close it. The caller holds mu.
func (w *watch) buried(s fleet.Seen, now time.Time) {
	last, known := w.seen[s.Key()]
	if !known || last.Incarnation != s.Incarnation {
		return
	}
	delete(w.seen, s.Key())
	d := death{Seen: last, cause: causeSilent, noticed: now, at: now}
	if s.Epitaph != nil {
		d.cause, d.at = s.Epitaph.Cause, s.Epitaph.At
	}
	if ofWork(d.Worker) {
		w.fenced[d.Key()] = d
	}
	w.note(d)
}

// returns opens the case of a worker that was declared dead and goes on: it is the same process, with a new incarnation. The
// caller holds mu.
func (w *watch) returns(s fleet.Seen, now time.Time) {
	d, known := w.fenced[s.Key()]
	if !known || d.Incarnation == s.Incarnation {
		return
	}
	delete(w.fenced, s.Key())
	if s.Started.Equal(d.Started) {
		w.note(death{Seen: d.Seen, cause: causeReturned, noticed: now, at: now})
	}
}

// note opens a case. The caller holds mu.
func (w *watch) note(d death) {
	if _, known := w.open[d.id()]; known {
		return
	}
	if _, over := w.closed[d.id()]; over {
		return
	}
	w.gone[d.Incarnation] = d.Seen
	w.open[d.id()] = &opened{death: d}
	w.wake()
}

func (w *watch) wake() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

func (w *watch) forget(now time.Time) {
	for id, o := range w.open {
		if now.Sub(o.noticed) > o.openFor() && !o.working {
			delete(w.open, id) // who is still there is judged anew
		}
	}
	maps.DeleteFunc(w.suspects, func(_ fleet.Connection, at time.Time) bool { return now.Sub(at) > suspectFor })
	maps.DeleteFunc(w.closed, func(_ string, until time.Time) bool { return now.After(until) })
	maps.DeleteFunc(w.fenced, func(_ string, d death) bool { return now.Sub(d.noticed) > closedFor })
	maps.DeleteFunc(w.gone, func(_ string, s fleet.Seen) bool { return now.Sub(s.Heard) > restingFor })
}

// due are the cases to work on. Each is the caller's until it is settled, or returned by postpone or acquit.
func (w *watch) due(now time.Time) []death {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []death
	for _, o := range w.open {
		if !o.working && !now.Before(o.again) {
			o.working = true
			out = append(out, o.death)
		}
	}
	return out
}

// settle closes a case: its worker has been dealt with.
func (w *watch) settle(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if id == "" {
		return
	}
	if o := w.open[id]; o != nil && o.cause == causeReconnected {
		w.reopen(o)
		return
	}
	delete(w.open, id)
	w.closed[id] = time.Now().Add(closedFor)
}

// postpone leaves a case for later.
func (w *watch) postpone(id string, after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o := w.open[id]; o != nil {
		o.working, o.again = false, time.Now().Add(after)
	}
}

// acquit closes the case of somebody who is alive.
func (w *watch) acquit(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o := w.open[id]; o != nil {
		delete(w.gone, o.Incarnation)
	}
	delete(w.open, id)
	w.closed[id] = time.Now().Add(aliveFor)
}

// dead says whether the worker of a key is dead: declared so, or about to be.
func (w *watch) dead(key string) bool {
	s, known := w.view.All()[key]
	if !known {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, open := w.open[s.Incarnation]
	return open || s.State == fleet.Dead
}

// living are the workers that are not about to be declared dead, without one incarnation.
func (w *watch) living(but string) []fleet.Seen {
	all := w.view.All()
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []fleet.Seen
	for _, s := range all {
		if _, open := w.open[s.Incarnation]; !open && s.State == fleet.Alive && s.Incarnation != but {
			out = append(out, s)
		}
	}
	return out
}

// departed are those that left or died lately.
func (w *watch) departed() []fleet.Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.gone))
}

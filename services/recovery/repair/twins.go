package repair

import (
	"context"
	"maps"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// awayLimit is how long the node of a live stream may be away before the stream is made anew on another. A node that
	// restarts is back earlier, with the stream, and its messages are gone either way.
	awayLimit = 10 * time.Second
	// A twin that could not be moved is tried again after moveAgain, which doubles up to moveAgainTo.
	moveAgain   = 2 * time.Second
	moveAgainTo = time.Minute
)

// patience paces attempts that fail.
type patience struct {
	next time.Time
	wait time.Duration
}

func (p *patience) due() bool { return !time.Now().Before(p.next) }

func (p *patience) later() {
	p.wait = min(max(2*p.wait, moveAgain), moveAgainTo)
	p.next = time.Now().Add(p.wait)
}

// awayAgain notes that a stream cannot be reached.
func (r *Repair) awayAgain(name string) {
	if _, ok := r.offline[name]; !ok {
		r.offline[name] = time.Now()
	}
}

// sweepTwins sees to it that a live stream and its twin are there, on different nodes of the broker. Of a pair it touches
// one at a time: the other one takes what is published meanwhile.
func (r *Repair) sweepTwins(ctx context.Context, infos map[string]*jetstream.StreamInfo) {
	for _, p := range streams.Pairs() {
		switch live, twin := infos[p.Live], infos[p.Twin]; {
		case r.awayTooLong(p.Live):
			r.replaceAway(ctx, p.Live, twin, infos)
		case r.awayTooLong(p.Twin):
			r.replaceAway(ctx, p.Twin, live, infos)
		case live != nil && twin != nil:
			r.moveApart(ctx, live, twin, infos)
		}
	}
}

func (r *Repair) awayTooLong(name string) bool {
	since, away := r.offline[name]
	return away && time.Since(since) > awayLimit
}

// replaceAway makes a stream anew whose node is gone.
func (r *Repair) replaceAway(ctx context.Context, name string, other *jetstream.StreamInfo, infos map[string]*jetstream.StreamInfo) {
	r.remake(ctx, infos, streams.Node(other), action{
		target: name, cause: "node_away", name: "create_elsewhere", began: r.offline[name],
		detail: "it has had no node of the broker for too long; its messages went with the one it had",
	})
}

// moveApart makes a twin anew elsewhere that is on the node of the stream it stands in for. A twin with messages waits: they
// are short-lived.
func (r *Repair) moveApart(ctx context.Context, live, twin *jetstream.StreamInfo, infos map[string]*jetstream.StreamInfo) {
	name, node := twin.Config.Name, streams.Node(live)
	if node == "" || node != streams.Node(twin) {
		delete(r.apart, name)
		return
	}
	if twin.State.Msgs > 0 {
		return
	}
	p := r.apart[name]
	if p == nil {
		p = &patience{}
		r.apart[name] = p
	}
	if !p.due() {
		return
	}
	p.later()
	r.remake(ctx, infos, node, action{
		target: name, cause: "same_node", name: "create_elsewhere", began: time.Now(), facts: map[string]string{"node": node},
		detail: "it is on the node of the stream whose place it takes when that node is away",
	})
}

// remake makes a live stream anew on another node than away, and takes note of it.
func (r *Repair) remake(ctx context.Context, infos map[string]*jetstream.StreamInfo, away string, a action) {
	name, tried := a.target, false
	a.do = func(ctx context.Context) error {
		tried = true
		return streams.ReplaceLive(ctx, r.js, name, away, r.cfg.Options)
	}
	done := r.act(ctx, a)
	if !tried {
		return
	}
	if done {
		delete(r.offline, name)
	}
	r.remade[name] = time.Now()
	r.wasDeleted(name)
	maps.DeleteFunc(r.known, func(target string, _ seen) bool { // its consumers went with it
		stream, _ := streamOf(target)
		return stream == name
	})
	delete(infos, name)
	if f := r.look(ctx, []string{name})[0]; f.info != nil {
		infos[name] = f.info
		r.remember(name, f.info.Created, f.info.State.Msgs)
	}
}

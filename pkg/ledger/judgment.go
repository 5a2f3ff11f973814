package ledger

import (
	"slices"
	"time"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/streams"
)

// What a Judgment says of a frame that has no fate.
const (
	InFlight Mark = "in_flight" // it may yet get one
	Waiting  Mark = "waiting"   // of an every_frame camera, for longer than usual: its stream still holds it, or it is lost
	Lost     Mark = "lost"      // nothing explains it
)

// Judgment is what the books say of one frame for one model.
type Judgment struct {
	Model  string
	Mark   Mark // a fate, InFlight, Waiting or Lost
	Reason string
	// Concluded says that nobody reported the fate: the books conclude it from evidence.
	Concluded bool
}

// Judge says what the books know of a frame, one judgment for each model that looks at it; none when nobody has told of the
// frame, or when it is final and no longer told apart from others.
func (b *Books) Judge(n frame.Name, now time.Time) []Judgment {
	c := b.cameras[n.Camera]
	if c == nil || c.epochs[n.Epoch] == nil {
		return nil
	}
	e := c.epochs[n.Epoch]
	one := Ranges{{n.Seq, n.Seq}}
	in := func(r Ranges) bool { return len(one.And(r)) > 0 }
	if n.Seq <= e.final || !in(e.captured) {
		return nil
	}
	route, _ := c.routeOf(n.Epoch)
	var out []Judgment
	for _, model := range e.modelNames(route) {
		v := c.judge(n.Epoch, c.last(), model, b.at(now, nil))
		if !in(v.captured) {
			continue
		}
		j := Judgment{Model: model, Mark: Lost}
		switch i := slices.IndexFunc(v.fates, func(f fated) bool { return in(f.frames) }); {
		case i >= 0:
			j.Mark, j.Reason, j.Concluded = v.fates[i].mark, v.fates[i].reason, v.fates[i].concluded
		case in(v.inFlight):
			j.Mark = InFlight
		case in(v.purged):
			j.Mark, j.Reason, j.Concluded = Expired, reasonPurged, true
		case in(v.waiting):
			j.Mark = Waiting
		}
		out = append(out, j)
	}
	return out
}

// RouteOf says how the books judge the frames of a camera's epoch.
func (b *Books) RouteOf(camera string, epoch uint64) (Route, bool) {
	if c := b.cameras[camera]; c != nil {
		return c.routeOf(epoch)
	}
	return Route{Delivery: streams.Freshest}, false
}

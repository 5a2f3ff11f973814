package shed

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/streams"
)

const (
	lookTimeout = time.Second
	lookers     = 8               // requests at a time
	restAfter   = 5 * time.Second // until a stream is asked again that did not answer: its node may be away
)

// probe turns what the broker and the fleet say into samples: a request for each stream and each work group.
type probe struct {
	js      jetstream.JetStream
	fleet   Fleet
	before  look
	resting map[string]time.Time // stream, until when it is not asked
}

func newProbe(js jetstream.JetStream, f Fleet) *probe {
	return &probe{js: js, fleet: f, resting: map[string]time.Time{}}
}

// look is what the broker said at one moment.
type look struct {
	at      time.Time
	streams map[string]streamCount
	groups  map[member]groupCount
}

type streamCount struct {
	created        time.Time
	last, messages uint64
}

type groupCount struct {
	created         time.Time
	delivered       uint64
	held            int
	waiting         uint64
	nobodyHasItMade bool
}

// member is one consumer of a group: that of the live stream, or of its twin.
type member struct{ stream, consumer string }

// group is a work group that is looked at.
type group struct {
	model   string
	lane    streams.Lane
	members []member
}

func (g group) name() string { return g.members[0].consumer }

var errUnknown = errors.New("the broker does not say")

// sample looks at the system. mean is how many models look at a frame, on average. It fails when the broker does not answer,
// when this process hears no beats, or when there is nothing to compare with yet.
func (p *probe) sample(ctx context.Context, cameras []Camera, mean float64) (Sample, error) {
	groups := p.groups(cameras)
	now := p.look(ctx, groups)
	before := p.before
	p.before = now
	if !p.fleet.Hears() || before.at.IsZero() {
		return Sample{}, errUnknown
	}
	d := difference{before, now}
	s := Sample{Cameras: cameras, Arrived: d.published(streams.FramesLive, streams.FramesTwin) / d.seconds()}
	settled := make([]float64, len(groups))
	for i, g := range groups {
		out, ok := d.group(g)
		if !ok {
			return Sample{}, errUnknown
		}
		out.Workers, out.Busy = p.workers(g)
		settled[i] = out.Answered
		s.Groups = append(s.Groups, out)
	}
	d.answers(s.Groups, settled, mean)
	return s, nil
}

// groups are the work groups that these cameras feed.
func (p *probe) groups(cameras []Camera) []group {
	lanes := map[fleet.Lane]bool{}
	for _, c := range cameras {
		for _, m := range c.Models {
			lanes[fleet.Lane{Model: m, Lane: streams.LaneStable}] = true
		}
	}
	for _, w := range p.fleet.Living("infer") { // other lanes are where somebody serves them
		for _, l := range w.Lanes {
			if l.Version = 0; lanes[fleet.Lane{Model: l.Model, Lane: streams.LaneStable}] {
				lanes[l] = true
			}
		}
	}
	out := append(make([]group, 0, 1+len(lanes)), newGroup("", "", streams.PreprocessGroups()))
	for l := range lanes {
		out = append(out, newGroup(l.Model, l.Lane, streams.InferGroups(l.Model, l.Lane)))
	}
	slices.SortFunc(out[1:], func(a, b group) int { return cmp.Or(cmp.Compare(a.model, b.model), cmp.Compare(a.lane, b.lane)) })
	return out
}

// newGroup leaves out what every_frame cameras feed: it is not sampling that waits there.
func newGroup(model string, lane streams.Lane, declared []streams.WorkGroup) group {
	g := group{model: model, lane: lane}
	for _, d := range declared {
		if d.Stream != streams.Frames && d.Stream != streams.Tensors {
			g.members = append(g.members, member{d.Stream, d.Config.Durable})
		}
	}
	return g
}

// workers are those that serve a group, and how busy they are: a large one counts for more.
func (p *probe) workers(g group) (n int, busy float64) {
	service := "preprocess"
	if g.model != "" {
		service = "infer"
	}
	weights := 0.0
	for _, w := range p.fleet.Living(service) {
		if g.model != "" && !slices.ContainsFunc(w.Lanes, func(l fleet.Lane) bool { return l.Model == g.model && l.Lane == g.lane }) {
			continue
		}
		weight := float64(max(w.Capacity, 1))
		n, busy, weights = n+1, busy+weight*w.Load.Busy, weights+weight
	}
	if n == 0 {
		return 0, 0
	}
	return n, busy / weights
}

// look asks for everything at the same time. What does not answer is left out.
func (p *probe) look(ctx context.Context, groups []group) look {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	now := look{at: time.Now(), streams: map[string]streamCount{}, groups: map[member]groupCount{}}
	var mu sync.Mutex
	var asking sync.WaitGroup
	slots := make(chan struct{}, lookers)
	resting := maps.Clone(p.resting)
	ask := func(stream string, request func() error) {
		if now.at.Before(resting[stream]) {
			return
		}
		asking.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := request(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				p.resting[stream] = now.at.Add(restAfter)
			}
		})
	}
	for _, name := range []string{streams.FramesLive, streams.FramesTwin, streams.TensorsLive, streams.TensorsTwin, streams.Tensors, streams.Predictions} {
		ask(name, func() error {
			s, err := p.js.Stream(ctx, name)
			if err != nil {
				return err
			}
			i := s.CachedInfo()
			mu.Lock()
			defer mu.Unlock()
			now.streams[name] = streamCount{i.Created, i.State.LastSeq, i.State.Msgs}
			return nil
		})
	}
	for _, g := range groups {
		for _, m := range g.members {
			ask(m.stream, func() error {
				count := groupCount{nobodyHasItMade: true}
				c, err := p.js.Consumer(ctx, m.stream, m.consumer)
				switch {
				case errors.Is(err, jetstream.ErrConsumerNotFound):
				case err != nil:
					return err
				default:
					i := c.CachedInfo()
					count = groupCount{created: i.Created, delivered: i.Delivered.Consumer, held: i.NumAckPending, waiting: i.NumPending}
				}
				mu.Lock()
				defer mu.Unlock()
				now.groups[m] = count
				return nil
			})
		}
	}
	asking.Wait()
	return now
}

// difference is what happened between two looks.
type difference struct{ before, now look }

func (d difference) seconds() float64 { return d.now.at.Sub(d.before.at).Seconds() }

// published is how many messages these streams took together; NaN when none of them says.
func (d difference) published(names ...string) float64 {
	sum, known := 0.0, false
	for _, name := range names {
		a, knownBefore := d.before.streams[name]
		b, knownNow := d.now.streams[name]
		if knownBefore && knownNow && a.created.Equal(b.created) && b.last >= a.last {
			sum, known = sum+float64(b.last-a.last), true
		}
	}
	if !known {
		return math.NaN()
	}
	return sum
}

// removed is how many messages left a work queue that drops nothing: they were settled.
func (d difference) removed(name string) float64 {
	a, b := d.before.streams[name], d.now.streams[name]
	return d.published(name) + float64(a.messages) - float64(b.messages)
}

// group is what is waiting now and what was settled meanwhile, as Answered. It is not known when no member says.
func (d difference) group(g group) (Group, bool) {
	out, known := Group{Name: g.name(), Model: g.model}, false
	for _, m := range g.members {
		b, ok := d.now.groups[m]
		if !ok {
			continue
		}
		known = true
		out.Waiting += int(b.waiting) //nolint:gosec // three per camera
		out.Held += b.held
		a, ok := d.before.groups[m]
		if !ok || b.nobodyHasItMade || a.nobodyHasItMade || !a.created.Equal(b.created) || b.delivered < a.delivered {
			continue
		}
		// Delivered and no longer held: acknowledged, or evicted under a worker, who answers it all the same.
		out.Answered += max(0, float64(b.delivered-a.delivered)-float64(b.held-a.held)) / d.seconds()
	}
	return out, known
}

// answers takes out of Answered what was dropped because it was too late: that costs workers no time, and would look like
// capacity. What comes out of a service tells how much that is, of all its groups together; it is charged to those that have
// messages waiting.
func (d difference) answers(groups []Group, settled []float64, mean float64) {
	charge := func(which func(Group) bool, unanswered float64) {
		if math.IsNaN(unanswered) {
			return
		}
		sum := 0.0
		for i, g := range groups {
			if which(g) && g.Waiting > 0 {
				sum += settled[i]
			}
		}
		for i, g := range groups {
			if which(g) && g.Waiting > 0 && sum > 0 {
				groups[i].Answered = useful(settled[i], unanswered*settled[i]/sum)
			}
		}
	}
	frames, tensors := 0.0, 0.0
	for i, g := range groups {
		if g.Model == "" {
			frames += settled[i]
		} else {
			tensors += settled[i]
		}
	}
	seconds := d.seconds()
	charge(func(g Group) bool { return g.Model == "" }, frames-d.published(streams.TensorsLive, streams.TensorsTwin)/seconds/max(mean, 1))
	charge(func(g Group) bool { return g.Model != "" }, tensors+d.removed(streams.Tensors)/seconds-d.published(streams.Predictions)/seconds)
}

// useful is what was answered of what was settled, when unanswered many were not. The two are not counted at the same
// moment, so that unanswered may be less than nothing. Errors of handlers count as unanswered too: a part is always taken
// for answered.
func useful(settled, unanswered float64) float64 {
	return min(max(settled-unanswered, settled/4), settled*5/4)
}

// lowerable are the cameras whose sampling may be lowered.
func lowerable(all map[string]catalog.Entry[config.Camera]) []Camera {
	var out []Camera
	for _, e := range all {
		if c := e.Value; c.Enabled && c.Delivery == streams.Freshest {
			out = append(out, Camera{Priority: c.Priority, FPS: float64(c.FPS), MaxAge: c.MaxAge, Models: c.Models})
		}
	}
	return out
}

package recovery

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/streams"
)

// staleAfter is when queues and books that nobody looked at again are told of no more.
const staleAfter = time.Minute

// measure is what a replica says of itself and, while it leads, of the whole system.
type measure struct {
	t      *telemetry.Telemetry
	set    *telemetry.Set
	leader *telemetry.Gauge

	mu     sync.Mutex
	queues []queue
	lines  map[lineKey]map[string]uint64 // fates
	flight map[lineKey]uint64
	looked struct{ queues, books time.Time }
}

type queue struct {
	stream, consumer            string
	waiting, inFlight, repeated int
}

type lineKey struct{ camera, model string }

func newMeasure(t *telemetry.Telemetry) *measure {
	s := t.Set()
	m := &measure{t: t, set: s, leader: s.Gauge(telemetry.Leader, Name)}
	m.leader.Set(0)
	return m
}

// lead tells of the whole system until the function that it returns is called.
func (m *measure) lead(view *fleet.View) func() {
	m.mu.Lock()
	m.queues, m.lines, m.flight = nil, nil, nil
	m.mu.Unlock()
	m.leader.Set(1)
	stops := []func(){
		m.t.Collect(func(g *telemetry.Reading) { tellWorkers(g, view) }),
		m.t.Collect(m.tell),
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
		m.leader.Set(0)
	}
}

func tellWorkers(g *telemetry.Reading, view *fleet.View) {
	n := map[string]map[fleet.State]int{}
	for _, w := range view.All() {
		if n[w.Service] == nil {
			n[w.Service] = map[fleet.State]int{}
		}
		n[w.Service][w.State]++
	}
	for service, states := range n {
		for _, state := range []fleet.State{fleet.Alive, fleet.Dead} {
			g.Set(telemetry.Workers, float64(states[state]), service, string(state))
		}
	}
}

func (m *measure) tell(g *telemetry.Reading) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.looked.queues) < staleAfter {
		for _, q := range m.queues {
			g.Set(telemetry.QueueDepth, float64(q.waiting), q.stream, q.consumer)
			g.Set(telemetry.QueueInFlight, float64(q.inFlight), q.stream, q.consumer)
			g.Set(telemetry.QueueRedelivered, float64(q.repeated), q.stream, q.consumer)
		}
	}
	if time.Since(m.looked.books) < staleAfter {
		for k, fates := range m.lines {
			for fate, n := range fates {
				g.Set(telemetry.FramesFate, float64(n), k.camera, k.model, fate)
			}
			g.Set(telemetry.FramesInFlight, float64(m.flight[k]), k.camera, k.model)
		}
	}
}

// groups notes what work groups are at.
func (m *measure) groups(all []streams.WorkGroup, infos []*jetstream.ConsumerInfo) {
	queues := make([]queue, 0, len(all))
	for i, g := range all {
		if c := infos[i]; c != nil {
			queues = append(queues, queue{g.Stream, g.Config.Durable, int(min(c.NumPending, 1<<40)), c.NumAckPending, c.NumRedelivered})
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queues, m.looked.queues = queues, time.Now()
}

// books notes what the books say. Of a frame that was concluded to have ended in one way and then turned out to have ended in
// another, counters know both: they never go back. A camera that is gone from the books is gone here.
func (m *measure) books(lines []ledger.Line) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all, flight := make(map[lineKey]map[string]uint64, len(lines)), make(map[lineKey]uint64, len(lines))
	for _, l := range lines {
		k := lineKey{l.Camera, l.Model}
		fates := map[string]uint64{
			"captured": l.Captured, string(ledger.Predicted): l.Predicted, string(ledger.Superseded): l.Superseded,
			string(ledger.Expired): l.Expired, string(ledger.Quarantined): l.Quarantined, "lost": l.Lost,
		}
		for fate, n := range m.lines[k] {
			fates[fate] = max(fates[fate], n)
		}
		all[k], flight[k] = fates, l.InFlight
	}
	m.lines, m.flight, m.looked.books = all, flight, time.Now()
}

// teller counts what is told of deeds.
type teller struct {
	*events.Publisher
	measure *measure
}

// Tell implements repair.Teller and shed.Teller.
func (t *teller) Tell(e events.Event) {
	t.measure.deed(e)
	t.Publisher.Tell(e)
}

// deed counts a deed that an event tells of. Not every event tells of one: a frame that is lost, or something that an
// operator did, is none of this service's.
func (m *measure) deed(e events.Event) {
	name := e.Kind
	switch e.Kind {
	case "repair":
		name += "_" + e.Facts["action"]
	case "leader":
		if e.State != "leading" {
			return
		}
	case kindDead, kindReturned, kindReconnected, "leases_freed", "sampling", "reaction":
	default:
		return
	}
	m.set.Counter(telemetry.RecoveryActions, name, outcomeOf(e)).Inc()
	if ms, err := strconv.ParseFloat(e.Facts["duration_ms"], 64); err == nil {
		m.set.Histogram(telemetry.RecoveryDuration, name).Observe(ms / 1000)
	}
}

func outcomeOf(e events.Event) string {
	switch outcome := e.Facts["outcome"]; {
	case strings.HasPrefix(outcome, "in part"):
		return telemetry.OutcomePartial
	case strings.HasPrefix(outcome, "failed"), strings.HasPrefix(outcome, "refused"), outcome == "cannot_be_mended":
		return telemetry.OutcomeFailed
	}
	return telemetry.OutcomeDone
}

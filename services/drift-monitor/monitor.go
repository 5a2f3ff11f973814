package driftmonitor

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/services/drift-monitor/integrity"
	"github.com/sightline-dev/sightline/streams"
)

const (
	inputs = 1024 // that wait to be looked at; the sources wait then
	// lookEvery is how often things are looked at that no message brings.
	lookEvery = time.Second
	// caughtUp is how old a prediction may be when it is read by a monitor that has read all.
	caughtUp = 5 * time.Second
	// lastSave is how long a monitor that is told to stop may take to write down what it knows.
	lastSave = 5 * time.Second
)

// monitor is one reign. What it knows belongs to the goroutine of run.
type monitor struct {
	cfg    Config
	deps   Deps
	events *events.Publisher
	lead   lease.Leadership
	out    *writer
	said   *measure

	declared map[string]config.Camera
	cameras  map[string]*camera
	products map[string]*product // by model
	compared time.Time
	position position
	saving   *saving // the pass of writing everything down that is on its way
	saved    time.Time
	heard    time.Time     // when the last prediction was read
	behind   time.Duration // how long that had been stored
}

// camera is what is known of one camera.
type camera struct {
	integrity *integrity.Camera
	models    map[string]*watched
	changed   bool // since it was written down last
}

func newMonitor(cfg Config, deps Deps, e *events.Publisher, lead lease.Leadership, said *measure) *monitor {
	return &monitor{cfg: cfg, deps: deps, events: e, lead: lead, out: newWriter(deps, lead), said: said, cameras: map[string]*camera{}, products: map[string]*product{}}
}

// run watches until ctx ends.
func (m *monitor) run(ctx context.Context) error {
	var sources sync.WaitGroup
	defer sources.Wait()
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	cameras, err := catalog.FollowCameras(reading, m.deps.JS, m.deps.Log)
	if err != nil {
		return err
	}
	all, changed := cameras.All()
	m.declare(all)
	if err := m.load(ctx); err != nil {
		return err
	}
	m.declare(all) // those that are no more are forgotten
	in := make(chan input, inputs)
	for _, source := range m.sources() {
		sources.Go(func() { source(reading, in) })
	}
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx)) // until the last word is written
	var writes sync.WaitGroup
	defer writes.Wait()
	defer stopWriting()
	writes.Go(func() { m.out.run(writing) })

	if err := m.reconcile(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	m.saved = time.Now()
	for {
		select {
		case <-ctx.Done():
			m.finish(context.WithoutCancel(ctx))
			return nil
		case x := <-in:
			m.take(ctx, x)
		case <-changed:
			all, changed = cameras.All()
			m.declare(all)
		case now := <-tick.C:
			m.look(now)
		}
	}
}

// declare takes over which cameras there are, and forgets the others.
func (m *monitor) declare(all map[string]catalog.Entry[config.Camera]) {
	m.declared = make(map[string]config.Camera, len(all))
	for name, e := range all {
		m.declared[name] = e.Value
	}
	for name := range m.cameras {
		if _, ok := m.declared[name]; !ok {
			models := slices.Collect(maps.Keys(m.cameras[name].models))
			m.out.forget(name, models...)
			m.said.forget(name, models...)
			delete(m.cameras, name)
			m.retire(models)
		}
	}
}

// retire forgets those models of a camera that is no more that no other camera has.
func (m *monitor) retire(models []string) {
	for _, model := range models {
		used := slices.ContainsFunc(slices.Collect(maps.Values(m.cameras)), func(c *camera) bool { return c.models[model] != nil })
		if m.products[model] != nil && !used {
			delete(m.products, model)
			m.out.retire(model)
			m.said.retire(model)
		}
	}
}

// camera is what is known of a declared camera; nil for others.
func (m *monitor) camera(name string) *camera {
	c := m.cameras[name]
	if _, ok := m.declared[name]; c == nil && ok {
		c = &camera{integrity: new(integrity.Camera), models: map[string]*watched{}}
		m.cameras[name] = c
		m.said.say(drift.Record{Integrity: &drift.Integrity{Camera: name}})
	}
	return c
}

// put says something, in DRIFT and in metrics.
func (m *monitor) put(r drift.Record) {
	m.out.put(r)
	m.said.say(r)
}

// reconcile makes DRIFT say what is known: its last writer may have ended before it had written everything down.
func (m *monitor) reconcile(ctx context.Context) error {
	said, _, err := drift.Read(ctx, m.deps.JS)
	if err != nil {
		return err
	}
	for _, s := range said.Statuses {
		if m.camera(s.Camera) == nil {
			m.out.forget(s.Camera, s.Model)
		}
	}
	for _, i := range said.Integrities {
		c := m.camera(i.Camera)
		if c == nil {
			m.out.forget(i.Camera)
			continue
		}
		known := faultsOf(c)
		if len(known) != len(i.Faults) || slices.ContainsFunc(i.Faults, func(r drift.Raised) bool { _, ok := known[r.Fault]; return !ok }) {
			m.say(i.Camera, c, time.Now())
		}
	}
	return nil
}

// take looks at one input.
func (m *monitor) take(ctx context.Context, x input) {
	switch {
	case x.prediction != nil:
		m.position.Predictions = x.sequence
		m.heard = time.Now()
		m.behind = m.heard.Sub(x.stored)
		m.predicted(ctx, x.prediction)
	case x.event != nil:
		m.position.Events = x.sequence
		m.told(x.event)
	case x.labelled != nil:
		m.position.Feedback = x.sequence
		m.label(ctx, x.labelled)
	case x.request != nil:
		m.capture(ctx, *x.request)
	}
}

func (m *monitor) predicted(ctx context.Context, p *predictions.Prediction) {
	if p.Lane != streams.LaneStable { // others are on trial
		return
	}
	c := m.camera(p.Camera)
	if c == nil {
		return
	}
	if o, ok := integrity.FromPrediction(*p); ok {
		before := faultsOf(c)
		c.changed = true
		if c.integrity.Observe(o) {
			m.tellFaults(p.Camera, c, before, o.At)
		}
	}
	if p.Kind == predictions.KindPrediction {
		c.changed = true
		m.observe(ctx, c, p)
	}
}

// told takes what ingest says of a camera's clock and rate.
func (m *monitor) told(e *events.Event) {
	fault := drift.Fault(e.Cause)
	if fault != drift.Clock && fault != drift.FPS {
		return
	}
	c := m.camera(e.Name)
	if c == nil {
		return
	}
	evidence := make(map[string]float64, len(e.Facts))
	for k, v := range e.Facts {
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			evidence[k] = f
		}
	}
	epoch := uint64(evidence["epoch"])
	delete(evidence, "epoch")
	before := faultsOf(c)
	c.changed = true
	if c.integrity.Tell(fault, e.State == stateRaised, e.At, epoch, evidence) {
		m.tellFaults(e.Name, c, before, e.At)
	}
}

// capture makes what is seen from now on the reference, as somebody asked.
func (m *monitor) capture(ctx context.Context, r drift.Request) {
	for name := range m.declared {
		if r.Camera != "" && r.Camera != name {
			continue
		}
		c := m.camera(name)
		before := faultsOf(c)
		c.changed = true
		m.renew(ctx, name, c, r.Model)
		if c.integrity.Relearn() {
			m.tellFaults(name, c, before, time.Now())
		}
	}
	m.out.done(r.Key())
}

func faultsOf(c *camera) map[drift.Fault]drift.Raised {
	out := map[drift.Fault]drift.Raised{}
	for _, r := range c.integrity.Faults() {
		out[r.Fault] = r
	}
	return out
}

// States of the event of a fault.
const (
	stateRaised  = "raised"
	stateCleared = "cleared"
)

// tellFaults tells what has changed, and writes what lasts.
func (m *monitor) tellFaults(name string, c *camera, before map[drift.Fault]drift.Raised, at time.Time) {
	after := faultsOf(c)
	for _, f := range drift.Faults() {
		_, was := before[f]
		now, is := after[f]
		e := events.Event{Area: "drift", Kind: "integrity", Name: name, Cause: string(f), Facts: m.facts()}
		switch {
		case is && !was:
			e.State = stateRaised
			for k := range maps.Keys(now.Evidence) {
				e.Facts[k] = strconv.FormatFloat(now.Evidence[k], 'g', -1, 64)
			}
		case was && !is:
			e.State = stateCleared
			e.Facts["lasted_s"] = strconv.FormatFloat(at.Sub(before[f].Since).Seconds(), 'f', 1, 64)
		default:
			continue
		}
		m.events.Tell(e)
	}
	m.say(name, c, at)
	m.keep(name, c) // so that who comes next does not raise it once more
}

// say says in DRIFT what is wrong with a camera.
func (m *monitor) say(name string, c *camera, at time.Time) {
	m.put(drift.Record{Integrity: &drift.Integrity{Camera: name, Faults: c.integrity.Faults(), At: at, Token: m.lead.Token()}})
}

func (m *monitor) facts() map[string]string {
	return map[string]string{"token": strconv.FormatUint(m.lead.Token(), 10)}
}

// look does what time brings about.
func (m *monitor) look(now time.Time) {
	if m.saving == nil && now.Sub(m.saved) >= m.cfg.SaveEvery {
		m.saved = now
		m.save()
	}
	if m.saving != nil {
		m.saving.step(m)
	}
	if now.Sub(m.compared) >= min(compareEvery, m.cfg.SaveEvery) {
		m.compared = now
		m.compare(now)
	}
	// Who reads what was stored while nobody read must not take the distance for silence.
	if m.behind < caughtUp || now.Sub(m.heard) > caughtUp {
		m.silence(now)
	}
}

// finish writes down what is known. The lease is still held.
func (m *monitor) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, lastSave, fmt.Errorf("not written within %s", lastSave))
	defer cancel()
	m.save()
	for m.saving != nil {
		m.saving.step(m)
	}
	m.compare(time.Now()) // what was counted since the last time is written down with it
	if err := m.out.flush(ctx); err != nil {
		m.deps.Log.WarnContext(ctx, "the next leader reads again what this one saw last", slog.Any("error", err))
	}
}

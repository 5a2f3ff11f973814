// Package react does what can be done about what the drift-monitor finds: it marks the answers about a camera that is frozen,
// black or otherwise unfit to be looked at, and those of a model whose accuracy is suspected to be lost there. Applications see
// it as `status: degraded` with `reasons`.
//
// # What it promises
//
// Data drift alone has no consequences: only faults of the camera and suspected loss have. Nothing is withheld and nothing is
// stopped: a still scene may look frozen.
//
// Every reaction is bounded: at most a share of the cameras is marked at a time ([Config.MaxShare]), those that nobody can see
// through first, then those that have been so for longest. What goes beyond is told, not done. Every reaction is reversible: it
// ends with its cause, with the operator's switch, and by itself when nobody renews it. And every reaction is an event, with cause,
// what was done, how long it took or lasted, and its outcome.
//
// # When nobody watches
//
// What the drift-monitor said stays in DRIFT when it dies. Nobody relies on it for longer than [Config.Trust]: then what was marked
// is no longer renewed, and told as lapsed.
package react

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/conditions"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/streams"
)

const (
	lookEvery  = 500 * time.Millisecond
	putTimeout = 2 * time.Second
	// DefaultMaxShare is the share of cameras that may be marked at a time.
	DefaultMaxShare = 0.5
	// DefaultTrust is how long what was said counts while nobody watches: a restart takes that long.
	DefaultTrust = streams.ConditionsTTL
)

// Teller takes events; *events.Publisher is one.
type Teller interface{ Tell(e events.Event) }

// Config describes a Reactor.
type Config struct {
	JS         jetstream.JetStream
	Instance   string
	Leadership lease.Leadership
	Events     Teller
	Log        *slog.Logger
	// Off is the operator's switch: what is marked is cleared, and nothing else is done.
	Off bool
	// MaxShare is the largest share of cameras that is marked at a time; 0 is DefaultMaxShare. One camera always may be.
	MaxShare float64
	// Watched says whether a drift-monitor is at work; nil is always.
	Watched func() bool
	// Trust is how long what was said counts while nobody watches; 0 is DefaultTrust.
	Trust time.Duration
	// Every is how often the system is looked at; 0 means twice a second.
	Every time.Duration
}

// Reactor is a leader's duty.
type Reactor struct {
	cfg     Config
	marked  map[string]conditions.Condition // what CONDITIONS holds of this leader, by camera
	written map[string]time.Time            // when it was last written
	refused map[string]bool                 // cameras of which it was told that they are beyond the bound
	watched time.Time                       // when somebody was last seen to watch
}

// New makes a Reactor; Run runs it, once.
func New(cfg Config) *Reactor {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Every = cmp.Or(cfg.Every, lookEvery)
	cfg.MaxShare = cmp.Or(cfg.MaxShare, DefaultMaxShare)
	cfg.Trust = cmp.Or(cfg.Trust, DefaultTrust)
	if cfg.Watched == nil {
		cfg.Watched = func() bool { return true }
	}
	return &Reactor{cfg: cfg, written: map[string]time.Time{}, refused: map[string]bool{}}
}

// Run reacts until ctx ends. What is marked stays: the next leader goes on from there, and without one it expires. It returns an
// error when it cannot begin, or when somebody else leads.
func (r *Reactor) Run(ctx context.Context) error {
	said, err := drift.Follow(ctx, r.cfg.JS, r.cfg.Log)
	if err != nil {
		return fmt.Errorf("react: %w", err)
	}
	cameras, err := catalog.FollowCameras(ctx, r.cfg.JS, r.cfg.Log)
	if err != nil {
		return fmt.Errorf("react: %w", err)
	}
	if r.marked, err = conditions.Read(ctx, r.cfg.JS); err != nil {
		return fmt.Errorf("react: %w", err)
	}
	r.watched = time.Now()
	tick := time.NewTicker(r.cfg.Every)
	defer tick.Stop()
	for {
		report, changed := said.All()
		all, _ := cameras.All()
		if err := r.react(ctx, report, all); err != nil && ctx.Err() == nil {
			return fmt.Errorf("react: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

// react brings what is marked to what should be. While the broker is away it tries again with the next look.
func (r *Reactor) react(ctx context.Context, report drift.Report, cameras map[string]catalog.Entry[config.Camera]) error {
	now := time.Now()
	if r.cfg.Watched() {
		r.watched = now
	}
	want, beyond := map[string]conditions.Condition{}, map[string]conditions.Condition{}
	lapsed := now.Sub(r.watched) > r.cfg.Trust
	if !r.cfg.Off && !lapsed {
		want, beyond = decide(report, cameras, r.cfg.MaxShare)
	}
	for _, camera := range slices.Sorted(maps.Keys(r.marked)) { // first: there are never more than may be
		if _, wanted := want[camera]; wanted {
			continue
		}
		state, why := "cleared", "over"
		switch _, over := beyond[camera]; {
		case r.cfg.Off:
			why = "switched_off"
		case lapsed:
			state, why = "lapsed", "nobody_watches"
		case over:
			why = "max_share"
		}
		if err := r.clear(ctx, camera, state, why); err != nil {
			return err
		}
	}
	for _, camera := range slices.Sorted(maps.Keys(want)) {
		c := want[camera]
		c.By, c.Token = r.cfg.Instance, r.cfg.Leadership.Token()
		if err := r.mark(ctx, camera, c); err != nil {
			return err
		}
	}
	r.tellBeyond(beyond)
	return nil
}

// Reasons of conditions beside the faults of package drift.
const suspectedLoss = string(drift.SuspectedLoss)

// decide says which cameras are marked, and which would be if more might.
func decide(report drift.Report, cameras map[string]catalog.Entry[config.Camera], maxShare float64) (want, beyond map[string]conditions.Condition) {
	all := map[string]*conditions.Condition{}
	blind := map[string]bool{}
	of := func(camera string, since time.Time) *conditions.Condition {
		if c, declared := cameras[camera]; !declared || !c.Value.Enabled {
			return nil
		}
		c := all[camera]
		if c == nil {
			c = &conditions.Condition{Since: since}
			all[camera] = c
		}
		if since.Before(c.Since) {
			c.Since = since
		}
		return c
	}
	for _, i := range report.Integrities {
		for _, f := range i.Faults {
			if !matters(f.Fault) {
				continue
			}
			if c := of(i.Camera, f.Since); c != nil && !slices.Contains(c.Reasons, string(f.Fault)) {
				c.Reasons = append(c.Reasons, string(f.Fault))
				slices.Sort(c.Reasons)
				blind[i.Camera] = blind[i.Camera] || f.Fault.Blinds()
			}
		}
	}
	for _, s := range report.Statuses {
		if s.State != drift.SuspectedLoss {
			continue
		}
		if c := of(s.Camera, s.Since); c != nil {
			if c.Models == nil {
				c.Models = map[string][]string{}
			}
			c.Models[s.Model] = []string{suspectedLoss}
		}
	}
	enabled := 0
	for _, c := range cameras {
		if c.Value.Enabled {
			enabled++
		}
	}
	names := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		if blind[a] != blind[b] {
			return map[bool]int{true: -1, false: 1}[blind[a]]
		}
		return cmp.Or(all[a].Since.Compare(all[b].Since), cmp.Compare(a, b))
	})
	room := max(int(maxShare*float64(enabled)), 1)
	want, beyond = map[string]conditions.Condition{}, map[string]conditions.Condition{}
	for n, name := range names {
		if n < room {
			want[name] = *all[name]
		} else {
			beyond[name] = *all[name]
		}
	}
	return want, beyond
}

// matters reports whether answers are worth less because of a fault: a wrong clock or rate does not change what is seen.
func matters(f drift.Fault) bool { return f != drift.Clock && f != drift.FPS }

// mark writes a camera's condition when it is new, another one, or about to expire.
func (r *Reactor) mark(ctx context.Context, camera string, c conditions.Condition) error {
	before, was := r.marked[camera]
	same := was && before.Same(c)
	if same && time.Since(r.written[camera]) < conditions.RenewEvery {
		return nil
	}
	if was && before.Since.Before(c.Since) { // it has been marked for longer, if for something else
		c.Since = before.Since
	}
	began := time.Now()
	done, err := r.do(ctx, func(ctx context.Context) error { return conditions.Put(ctx, r.cfg.JS, camera, c) })
	if done {
		r.marked[camera], r.written[camera] = c, time.Now()
	}
	if same || !done && err == nil {
		return err
	}
	delete(r.refused, camera)
	state := "marked"
	if was {
		state = "changed"
	}
	r.tell(camera, state, strings.Join(words(c), ","), "mark answers degraded", c, time.Since(began), outcome(err))
	return err
}

// clear removes a camera's condition.
func (r *Reactor) clear(ctx context.Context, camera, state, why string) error {
	c, began := r.marked[camera], time.Now()
	done, err := r.do(ctx, func(ctx context.Context) error {
		return conditions.Remove(ctx, r.cfg.JS, camera, r.cfg.Leadership.Token())
	})
	if !done && err == nil {
		return nil
	}
	delete(r.marked, camera)
	delete(r.written, camera)
	r.tell(camera, state, why, "mark answers no longer", c, time.Since(began), outcome(err))
	return err
}

// do does a deed of the leader's. Neither done nor an error means that the broker is away.
func (r *Reactor) do(ctx context.Context, deed func(context.Context) error) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	if err = r.cfg.Leadership.Confirm(ctx); err == nil {
		err = deed(ctx)
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, conditions.ErrStale), errors.Is(err, lease.ErrLost):
		return false, err
	}
	return false, nil
}

// tellBeyond tells once of every camera that is not marked because too many are.
func (r *Reactor) tellBeyond(beyond map[string]conditions.Condition) {
	for _, camera := range slices.Sorted(maps.Keys(beyond)) {
		if !r.refused[camera] {
			r.refused[camera] = true
			r.tell(camera, "withheld", strings.Join(words(beyond[camera]), ","), "none", beyond[camera], 0, "refused: more than the share of cameras that may be marked")
		}
	}
	maps.DeleteFunc(r.refused, func(camera string, _ bool) bool { _, still := beyond[camera]; return !still })
}

func outcome(err error) string {
	if err != nil {
		return "refused: " + err.Error()
	}
	return "done"
}

// words are all reasons of a condition; those of one model with its name.
func words(c conditions.Condition) []string {
	out := slices.Clone(c.Reasons)
	for _, m := range slices.Sorted(maps.Keys(c.Models)) {
		for _, reason := range c.Models[m] {
			out = append(out, reason+":"+m)
		}
	}
	return out
}

func (r *Reactor) tell(camera, state, cause, action string, c conditions.Condition, took time.Duration, outcome string) {
	r.cfg.Events.Tell(events.Event{
		Area: "recovery", Kind: "reaction", Name: camera, State: state, Cause: cause,
		Facts: map[string]string{
			"action": action, "subject": streams.ConditionsBucket + "/" + camera, "reasons": strings.Join(words(c), ","),
			"since": c.Since.UTC().Format(time.RFC3339Nano), "after_ms": strconv.FormatInt(time.Since(c.Since).Milliseconds(), 10), "duration_ms": strconv.FormatInt(took.Milliseconds(), 10),
			"outcome": outcome, "token": strconv.FormatUint(r.cfg.Leadership.Token(), 10),
		},
	})
}

//go:build e2e

package e2e_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/chaos/report"
	"github.com/sightline-dev/sightline/e2e/engine"
	"github.com/sightline-dev/sightline/e2e/trial"
	"github.com/sightline-dev/sightline/e2e/watch"
	"github.com/sightline-dev/sightline/e2e/world"
	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// mainWithin is how long after the last container's start predictions must arrive.
	mainWithin = 60 * time.Second
	// orchestrator is how long whoever looks after containers takes to start one again.
	orchestrator = 300 * time.Millisecond
	pauseFor     = 10 * time.Second
	cutFor       = 5 * time.Second
	// returnsIn bounds how long somebody stays dead whose return is a phase of its own.
	returnsIn = 20 * time.Second

	leaseOf = "service." // whose holder leads
)

// mainJob waits for the first prediction of every camera.
func (b *bound) mainJob(ctx context.Context, t *testing.T, last time.Time) {
	t.Helper()
	row := &report.Row{Name: "main", Title: "predictions after the start", From: "the last container's start", Target: mainWithin}
	x := &report.Round{Number: 1, Began: last, Figures: map[string]time.Duration{}}
	fail := func(err error) {
		if err != nil {
			x.Failures = append(x.Failures, err.Error())
			t.Error(err)
		}
	}
	fail(watch.Until(ctx, "predictions", mainWithin, func() []string { _, silent := b.w.Answered(); return silent }))
	at, _ := b.w.Answered()
	x.Recovery = max(0, at.Sub(last))
	fail(b.Steady(ctx, mainWithin))
	fail(b.Begin(ctx))
	row.Rounds = append(row.Rounds, x)
	b.Add(row)
}

// scale grows infer from one to three under load and back again.
func (b *bound) scale() trial.Scenario {
	return trial.Scenario{
		Name: "scale", Title: "infer 1 -> 3 -> 1 under load", Target: 2 * time.Second,
		Run: func(ctx context.Context, r *trial.Round) error {
			r.Mark("two more")
			for range 2 {
				if _, err := b.w.Add(ctx, world.Infer, ""); err != nil {
					return err
				}
			}
			if err := b.complete(ctx); err != nil {
				return err
			}
			r.Aside("sharing") // how long that takes to show is nobody's recovery
			if err := sharing(ctx, b.Watch, r, 3); err != nil {
				return err
			}
			for _, x := range b.w.Of(world.Infer)[1:] {
				r.Mark("stop " + x.Name)
				if err := b.w.Retire(ctx, x); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// grow makes it the two replicas that the rest wants.
func (b *bound) grow(ctx context.Context) error {
	for len(b.w.Of(world.Infer)) < 2 {
		if _, err := b.w.Add(ctx, world.Infer, ""); err != nil {
			return err
		}
	}
	return b.complete(ctx)
}

// complete waits until everybody is in the fleet.
func (b *bound) complete(ctx context.Context) error {
	return watch.Until(ctx, "the fleet", time.Minute, func() []string { return b.w.Absent(b.w.Members()) })
}

// sharing waits until so many infer instances answer, each a tenth of what the busiest does at least.
func sharing(ctx context.Context, w *watch.Watch, r *trial.Round, n int) error {
	before := w.Work()
	var shares []watch.Share
	err := watch.Until(ctx, "members sharing the work", 30*time.Second, func() []string {
		shares = watch.Busiest(before, w.Work())
		if len(shares) == n && shares[n-1].Frames*10 >= shares[0].Frames && shares[n-1].Frames > 2 {
			return nil
		}
		return []string{fmt.Sprint(shares)}
	})
	r.Note("shares %v", shares)
	return err
}

// workers are faults of single containers of services.
func (b *bound) workers() []trial.Scenario {
	var out []trial.Scenario
	add := func(what, title, service string, target time.Duration, rounds int, drops bool, run func(context.Context, *trial.Round, string) error) {
		out = append(out, trial.Scenario{
			Name: what + "-" + service, Title: title + " " + service, Target: target, Rounds: rounds, Drops: drops,
			Run: func(ctx context.Context, r *trial.Round) error { return run(ctx, r, service) },
		})
	}
	for service, rounds := range map[string]int{world.Infer: 3, world.Preprocess: 3, world.Ingest: 1, world.Recovery: 1, world.Drift: 1} {
		add("kill", "kill -9 one of two", service, target(service, time.Second), rounds, service == world.Ingest, b.kill)
		add("pause", "pause for 10 s one of two", service, target(service, 2*time.Second), 1, service == world.Ingest, b.pause)
		add("restart", "restart one of two", service, target(service, time.Second), 1, service == world.Ingest, b.restart)
	}
	slices.SortFunc(out, func(a, c trial.Scenario) int { return cmp.Compare(a.Name, c.Name) })
	add("cut", "cut off the network for 5 s, one of two", world.Infer, 2*time.Second, 1, false, b.cut)
	add("cut", "cut off the network for 5 s, one of two", world.Ingest, 3*time.Second, 3, true, b.cut)
	return out
}

// target is that of docs/chaos.md: a camera changes hands within three seconds.
func target(service string, others time.Duration) time.Duration {
	if service == world.Ingest {
		return 3 * time.Second
	}
	return others
}

// victim is a replica whose loss costs something: it captures, it leads, or it works.
func (b *bound) victim(ctx context.Context, r *trial.Round, service string) (*world.Replica, error) {
	all := b.w.Of(service)
	name := all[r.Number%len(all)].Name
	switch service {
	case world.Recovery, world.Drift:
		holder, err := b.w.Holder(ctx, leaseOf+service)
		if err != nil {
			return nil, err
		}
		name = holder
	case world.Ingest:
		captures, err := b.w.Captures(ctx)
		if err != nil {
			return nil, err
		}
		most := 0
		for holder, n := range captures {
			if n > most {
				name, most = holder, n
			}
		}
		r.Note("%s captured %d of %d cameras", name, most, len(b.w.Watch.Cameras))
	}
	x, ok := b.w.Replica(name)
	if !ok {
		return nil, fmt.Errorf("there is no %s %q", service, name)
	}
	return x, nil
}

// struck chooses a victim and freezes it, a worker at a moment at which it holds a message of an every_frame camera.
func (b *bound) struck(ctx context.Context, r *trial.Round, service string) (*world.Replica, time.Time, error) {
	x, err := b.victim(ctx, r, service)
	if err != nil {
		return nil, time.Time{}, err
	}
	if service == world.Infer || service == world.Preprocess {
		at, err := inHand(ctx, b.Watch, service, x.Container)
		return x, at, err
	}
	at := time.Now()
	return x, at, x.Pause(ctx)
}

const (
	// grasp is how long a victim is frozen before it holds something for sure: the other worker has finished what it had by then.
	grasp  = 30 * time.Millisecond
	looks  = 3
	grasps = 40
)

// inHand freezes a worker while it holds a message of an every_frame camera. It returns when it was frozen.
func inHand(ctx context.Context, w *watch.Watch, service string, x *engine.Container) (time.Time, error) {
	groups := streams.PreprocessGroups()
	if service == world.Infer {
		groups = streams.InferGroups(w.Model, streams.LaneStable)
	}
	i := slices.IndexFunc(groups, func(g streams.WorkGroup) bool { return g.Stream == streams.Frames || g.Stream == streams.Tensors })
	group, err := w.JS.Consumer(ctx, groups[i].Stream, groups[i].Config.Durable)
	if err != nil {
		return time.Time{}, err
	}
	for range grasps {
		if err := passes(ctx, w, groups[i].Config.FilterSubject); err != nil {
			return time.Time{}, err
		}
		at := time.Now()
		if err := x.Pause(ctx); err != nil {
			return time.Time{}, err
		}
		held := true
		for range looks {
			clock.Pause(ctx, grasp/looks)
			info, err := group.Info(ctx)
			if held = held && err == nil && info.NumAckPending > 0; !held {
				break
			}
		}
		if held {
			return at, nil
		}
		if err := x.Continue(ctx); err != nil {
			return time.Time{}, err
		}
	}
	return time.Time{}, fmt.Errorf("%s never holds anything", x.Name)
}

// passes waits until a message on a subject passes the broker.
func passes(ctx context.Context, w *watch.Watch, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	next := make(chan struct{}, 1)
	sub, err := w.JS.Conn().Subscribe(subject, func(*nats.Msg) {
		select {
		case next <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	select {
	case <-next:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no message on %s: %w", subject, context.Cause(ctx))
	}
}

func (b *bound) kill(ctx context.Context, r *trial.Round, service string) error {
	x, at, err := b.struck(ctx, r, service)
	if err != nil {
		return err
	}
	r.MarkAt("kill "+x.Name, at)
	if err := x.Kill(ctx); err != nil {
		return err
	}
	if service == world.Ingest { // its return is an event of its own: cameras move once more
		b.Borne(ctx, returnsIn)
		r.Mark(x.Name + " returns")
	} else {
		clock.Pause(ctx, orchestrator)
	}
	return errors.Join(x.Again(ctx), b.complete(ctx))
}

func (b *bound) pause(ctx context.Context, r *trial.Round, service string) error {
	x, at, err := b.struck(ctx, r, service)
	if err != nil {
		return err
	}
	r.MarkAt("pause "+x.Name, at)
	clock.Pause(ctx, pauseFor-time.Since(at))
	r.Mark("continue " + x.Name)
	return x.Continue(ctx)
}

func (b *bound) restart(ctx context.Context, r *trial.Round, service string) error {
	x, err := b.victim(ctx, r, service)
	if err != nil {
		return err
	}
	r.Mark("stop " + x.Name)
	began := time.Now()
	if err := x.Stop(ctx); err != nil {
		return err
	}
	r.Note("%s stopped in %d ms", x.Name, time.Since(began).Milliseconds())
	return errors.Join(x.Again(ctx), b.complete(ctx))
}

func (b *bound) cut(ctx context.Context, r *trial.Round, service string) error {
	x, err := b.victim(ctx, r, service)
	if err != nil {
		return err
	}
	r.Mark("cut " + x.Name)
	began := time.Now()
	if err := b.w.Cut(ctx, x); err != nil {
		return err
	}
	clock.Pause(ctx, cutFor-time.Since(began))
	r.Mark("heal " + x.Name)
	return errors.Join(b.w.Heal(ctx, x), b.complete(ctx))
}

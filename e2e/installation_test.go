//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/chaos/report"
	"github.com/sightline-dev/sightline/e2e/engine"
	"github.com/sightline-dev/sightline/e2e/trial"
	"github.com/sightline-dev/sightline/e2e/watch"
	"github.com/sightline-dev/sightline/e2e/world"
	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

// installation are scenarios of the whole: nodes of the broker, upgrades, restarts. Who succeeds a dead leader the broker's
// nodes elect, for five streams and consumers at the same time, each after 4 to 9 s that they draw: chaos holds the median to
// 10 s, a single round may take longer.
func (b *bound) installation() []trial.Scenario {
	live := map[string]time.Duration{trial.LiveGap: time.Second}
	return []trial.Scenario{
		{
			Name: "node", Title: "kill -9 a node of the broker, not the leader", Target: 10 * time.Second, Limits: live,
			Run: func(ctx context.Context, r *trial.Round) error { return b.killNode(ctx, r, false) },
		},
		{
			Name: "leader", Title: "kill -9 a node of the broker, the leader", Target: 15 * time.Second, Limits: live,
			Run: func(ctx context.Context, r *trial.Round) error { return b.killNode(ctx, r, true) },
		},
		{Name: "upgrade", Title: "rolling upgrade, one container after the other", Target: 3 * time.Second, Drops: true, Run: b.upgrade},
		{Name: "full-restart", Title: "everything stops and starts, with its data", Target: mainWithin, From: "the last container's start", Drops: true, Run: b.fullRestart},
	}
}

// A post is something that one node leads: a stream, or a consumer of it.
type post struct{ stream, consumer string }

// pipeline are the posts that a frame of an every_frame camera depends on.
func pipeline() []post {
	out := []post{{streams.Frames, ""}, {streams.Tensors, ""}, {streams.Predictions, ""}}
	for _, g := range streams.WorkGroups(world.Model, streams.LaneStable) {
		if g.Stream == streams.Frames || g.Stream == streams.Tensors {
			out = append(out, post{g.Stream, g.Config.Durable})
		}
	}
	return out
}

// killNode kills the node that leads the whole pipeline, or one that leads nothing of it.
func (b *bound) killNode(ctx context.Context, r *trial.Round, leader bool) error {
	victim, heir := b.w.Nodes[1], b.w.Nodes[0]
	if leader {
		victim, heir = heir, victim
	}
	for _, p := range pipeline() {
		to := victim
		if !leader {
			name, err := b.leaderOf(ctx, p)
			if err != nil {
				return err
			}
			if name != victim.Name {
				continue
			}
			to = heir
		}
		if err := b.lead(ctx, p, to); err != nil {
			return err
		}
	}
	clock.Pause(ctx, 500*time.Millisecond) // a step-down disturbs, too: not what is measured here
	r.Mark("kill " + victim.Name)
	if err := victim.Kill(ctx); err != nil {
		return err
	}
	b.Borne(ctx, returnsIn)
	r.Aside("start " + victim.Name)
	return errors.Join(victim.Again(ctx), b.w.Healthy(ctx))
}

func (b *bound) leaderOf(ctx context.Context, p post) (string, error) {
	var cluster *jetstream.ClusterInfo
	if p.consumer == "" {
		s, err := b.w.JS.Stream(ctx, p.stream)
		if err != nil {
			return "", fmt.Errorf("leader of %s: %w", p.stream, err)
		}
		cluster = s.CachedInfo().Cluster
	} else {
		c, err := b.w.JS.Consumer(ctx, p.stream, p.consumer)
		if err != nil {
			return "", fmt.Errorf("leader of %s of %s: %w", p.consumer, p.stream, err)
		}
		cluster = c.CachedInfo().Cluster
	}
	if cluster == nil {
		return "", nil
	}
	return cluster.Leader, nil
}

// lead makes a node the leader.
func (b *bound) lead(ctx context.Context, p post, node *engine.Container) error {
	request, err := json.Marshal(map[string]any{"placement": map[string]string{"preferred": node.Name}})
	if err != nil {
		return err
	}
	subject := "$JS.API.STREAM.LEADER.STEPDOWN." + p.stream
	if p.consumer != "" {
		subject = "$JS.API.CONSUMER.LEADER.STEPDOWN." + p.stream + "." + p.consumer
	}
	var asked time.Time
	return watch.Until(ctx, fmt.Sprintf("%s leads %v", node.Name, p), 15*time.Second, func() []string {
		name, err := b.leaderOf(ctx, p)
		if err == nil && name == node.Name {
			return nil
		}
		if err == nil && name != "" && time.Since(asked) > time.Second {
			asked = time.Now()
			_, _ = b.w.JS.Conn().RequestWithContext(ctx, subject, request)
		}
		return []string{fmt.Sprintf("led by %q, %v", name, err)}
	})
}

// upgrade replaces every replica of every service by one of another tag: the new one starts when the old one has stopped.
func (b *bound) upgrade(ctx context.Context, r *trial.Round) error {
	n := 0
	for _, service := range world.Services() {
		image := b.file.Services[service].Image
		next := image + engine.TagSuffix
		if err := b.engine.Tag(ctx, image, next); err != nil {
			return err
		}
		for _, old := range b.w.Of(service) {
			r.Mark("stop " + old.Name)
			if err := b.w.Retire(ctx, old); err != nil {
				return err
			}
			if _, err := b.w.Add(ctx, service, next); err != nil {
				return err
			}
			if err := b.complete(ctx); err != nil {
				return err
			}
			n++
		}
	}
	r.Note("%d containers replaced", n)
	return nil
}

// keptWithin bounds one look at it.
const keptWithin = 10 * time.Second

// kept is what must survive a restart.
type kept struct {
	books     map[string][2]uint64 // captured and predicted, by camera
	stream    jetstream.StreamState
	consumers map[string]jetstream.SequenceInfo // of what was acknowledged, by stream and consumer
}

func (b *bound) kept(ctx context.Context) (kept, error) {
	ctx, cancel := context.WithTimeout(ctx, keptWithin) // a watch that begins while nobody leads may never answer
	defer cancel()
	k := kept{books: map[string][2]uint64{}, consumers: map[string]jetstream.SequenceInfo{}}
	lines, _, err := ledger.Balance(ctx, b.w.JS)
	if err != nil {
		return k, err
	}
	for _, l := range lines {
		k.books[l.Camera] = [2]uint64{l.Captured, l.Predicted}
	}
	s, err := b.w.JS.Stream(ctx, streams.Predictions)
	if err != nil {
		return k, err
	}
	k.stream = s.CachedInfo().State
	for _, p := range append(pipeline(), post{streams.Predictions, "app-" + awayName}) {
		if p.consumer == "" {
			continue
		}
		c, err := b.w.JS.Consumer(ctx, p.stream, p.consumer)
		if err != nil {
			return k, fmt.Errorf("consumer %s of %s: %w", p.consumer, p.stream, err)
		}
		k.consumers[p.stream+"."+p.consumer] = c.CachedInfo().AckFloor
	}
	return k, nil
}

// lacks says what of an earlier state is not there any more.
func (k kept) lacks(before kept) []string {
	var out []string
	for camera, n := range before.books {
		if have := k.books[camera]; have[0] < n[0] || have[1] < n[1] {
			out = append(out, fmt.Sprintf("books of %s: %v captured and predicted, were %v", camera, have, n))
		}
	}
	if k.stream.FirstSeq != before.stream.FirstSeq || k.stream.LastSeq < before.stream.LastSeq || k.stream.Msgs < before.stream.Msgs {
		out = append(out, fmt.Sprintf("PREDICTIONS: %+v, was %+v", k.stream, before.stream))
	}
	for name, floor := range before.consumers {
		if have := k.consumers[name]; have.Stream < floor.Stream || have.Consumer < floor.Consumer {
			out = append(out, fmt.Sprintf("consumer %s at %+v, was at %+v", name, have, floor))
		}
	}
	return out
}

// fullRestart stops everything in the order of the compose file, backwards, and starts it again.
func (b *bound) fullRestart(ctx context.Context, r *trial.Round) error {
	everybody := b.w.Everybody()
	stop := func(c *engine.Container) error { return c.Stop(ctx) }
	again := func(c *engine.Container) error { return c.Again(ctx) }
	services := everybody[len(b.w.Nodes):]
	if err := world.Each(services, stop); err != nil {
		return err
	}
	before, err := b.kept(ctx)
	if err != nil {
		return err
	}
	if err := world.Each(b.w.Nodes, stop); err != nil {
		return err
	}
	if err := errors.Join(world.Each(b.w.Nodes, again), b.w.Healthy(ctx)); err != nil {
		return err
	}
	err = watch.Until(ctx, "the data of before", time.Minute, func() []string {
		now, err := b.kept(ctx)
		if err != nil {
			return []string{err.Error()}
		}
		return now.lacks(before)
	})
	if err != nil {
		return err
	}
	b.w.Forget()
	if err := errors.Join(b.w.Apply(ctx), world.Each(services, again)); err != nil {
		return err
	}
	r.Mark("everything started")
	r.Note("%d predictions and the positions of %d consumers are as they were", before.stream.Msgs, len(before.consumers))
	return watch.Until(ctx, "predictions", mainWithin, func() []string { _, silent := b.w.Answered(); return silent })
}

// books ends capturing and holds the books against PREDICTIONS, when nothing is in flight any more.
func (b *bound) books(ctx context.Context, t *testing.T) {
	t.Helper()
	row := &report.Row{Name: "books", Title: "nothing in flight, books and PREDICTIONS agree"}
	x := &report.Round{Number: 1, Began: time.Now().UTC()}
	row.Rounds = append(row.Rounds, x)
	var err error
	for _, in := range b.w.Of(world.Ingest) {
		err = errors.Join(err, in.Stop(ctx))
	}
	if err = errors.Join(err, b.End(ctx, time.Minute)); err != nil {
		x.Failures = append(x.Failures, err.Error())
		t.Error(err)
	}
	b.Add(row)
	for _, c := range b.w.Everybody() { // a process that ended by itself was started again by the engine
		if s, err := c.State(ctx); err == nil && strings.EqualFold(string(s.Status), "restarting") {
			t.Errorf("%s ends again and again: %s", c.Name, c.Tail(ctx, 5))
		}
	}
}

package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/chaos/nodes"
	"github.com/sightline-dev/sightline/chaos/world"
	"github.com/sightline-dev/sightline/streams"
)

func brokers() []Fault {
	live := map[string]time.Duration{LiveGap: time.Second}
	return []Fault{
		{Name: "restart-nats", Title: "restart the only NATS node (file storage)", World: world.Single, Rounds: 3, Target: 5 * time.Second, Weight: 1, Inject: restartNATS},
		{
			Name: "kill-node", Title: "kill -9 a NATS node of three, not the leader", World: world.Cluster, Rounds: 3, Target: 10 * time.Second, Limits: live, Weight: 2,
			Inject: func(ctx context.Context, r *Round) error { return killNode(ctx, r, false) },
		},
		{
			Name: "kill-node-leader", Title: "kill -9 a NATS node of three, the leader", World: world.Cluster, Rounds: 3, Target: 10 * time.Second, Limits: live, Weight: 2,
			Inject: func(ctx context.Context, r *Round) error { return killNode(ctx, r, true) },
		},
	}
}

// restartNATS ends the only node, by force or in order; it is started again as any process is.
func restartNATS(_ context.Context, r *Round) error {
	node := r.World.Nodes.Nodes[0]
	if r.Rand.IntN(2) == 0 {
		r.Mark("kill -9 " + node.Name)
		return node.Kill()
	}
	r.Mark("terminate " + node.Name)
	return node.Terminate()
}

// A post is something that one node of a cluster leads: a stream, or a consumer of it.
type post struct{ stream, consumer string }

// pipeline are the posts that a frame of an every_frame camera depends on.
func pipeline() []post {
	return []post{{streams.Frames, ""}, {streams.Tensors, ""}, {streams.Predictions, ""}, {streams.Frames, "preprocess"}, {streams.Tensors, inferGroup}}
}

// killNode kills the node that leads the whole pipeline, or one that leads nothing of it. Who leads the other streams, the
// buckets and the cluster itself is left as it is.
func killNode(ctx context.Context, r *Round, leader bool) error {
	victim := pick(r, r.World.Nodes.Nodes)
	for _, p := range pipeline() {
		name, err := leaderOf(ctx, r.World, p)
		if err != nil {
			return err
		}
		to := victim
		if !leader {
			if name != victim.Name {
				continue
			}
			for to == victim {
				to = pick(r, r.World.Nodes.Nodes)
			}
		}
		if err := lead(ctx, r.World, p, to); err != nil {
			return err
		}
	}
	var holds []string
	for _, stream := range []string{streams.FramesLive, streams.TensorsLive, streams.FramesTwin, streams.TensorsTwin} {
		if name, err := leaderOf(ctx, r.World, post{stream, ""}); err == nil && name == victim.Name {
			holds = append(holds, stream)
		}
	}
	r.Note("%s holds the only copy of %v", victim.Name, holds)
	if err := last(ctx, 500*time.Millisecond); err != nil { // a step-down disturbs, too: not what is measured here
		return err
	}
	victim.Hold()
	defer victim.Release()
	r.Mark("kill " + victim.Name)
	if err := victim.Kill(); err != nil {
		return err
	}
	waited := r.borne(ctx)
	r.Aside("start " + victim.Name)
	victim.Release()
	healthy, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return errors.Join(waited, r.World.Nodes.Healthy(healthy))
}

func leaderOf(ctx context.Context, w *world.World, p post) (string, error) {
	var cluster *jetstream.ClusterInfo
	if p.consumer == "" {
		s, err := w.JS.Stream(ctx, p.stream)
		if err != nil {
			return "", fmt.Errorf("leader of %s: %w", p.stream, err)
		}
		cluster = s.CachedInfo().Cluster
	} else {
		c, err := w.JS.Consumer(ctx, p.stream, p.consumer)
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
func lead(ctx context.Context, w *world.World, p post, node *nodes.Node) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	request, err := json.Marshal(map[string]any{"placement": map[string]string{"preferred": node.Name}})
	if err != nil {
		return fmt.Errorf("make %s lead: %w", node.Name, err)
	}
	subject := "$JS.API.STREAM.LEADER.STEPDOWN." + p.stream
	if p.consumer != "" {
		subject = "$JS.API.CONSUMER.LEADER.STEPDOWN." + p.stream + "." + p.consumer
	}
	var asked time.Time
	for {
		name, err := leaderOf(ctx, w, p)
		if err == nil && name == node.Name {
			return nil
		}
		if err == nil && name != "" && time.Since(asked) > time.Second {
			asked = time.Now()
			_, _ = w.JS.Conn().RequestWithContext(ctx, subject, request)
		}
		if waited := last(ctx, 50*time.Millisecond); waited != nil {
			return fmt.Errorf("make %s lead %v, led by %q: %w", node.Name, p, name, errors.Join(waited, err))
		}
	}
}

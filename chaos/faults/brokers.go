package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sightline-dev/sightline/chaos/nodes"
	"github.com/sightline-dev/sightline/chaos/world"
	"github.com/sightline-dev/sightline/streams"
)

func brokers() []Fault {
	live := map[string]time.Duration{LiveGap: time.Second}
	return []Fault{
		{Name: "restart-nats", Title: "restart the only NATS node (file storage)", World: world.Single, Rounds: 4, Target: 5 * time.Second, Weight: 1, Inject: restartNATS},
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

// away is how long a node of a cluster stays dead.
const away = 12 * time.Second

// pipeline are the streams that a frame of an every_frame camera passes through.
func pipeline() []string { return []string{streams.Frames, streams.Tensors, streams.Predictions} }

// killNode kills the node that leads all streams of the pipeline, or one that leads none of them. Who leads the other
// streams, the buckets and the cluster itself is left as it is.
func killNode(ctx context.Context, r *Round, leader bool) error {
	victim := pick(r, r.World.Nodes.Nodes)
	for _, stream := range pipeline() {
		name, err := leaderOf(ctx, r.World, stream)
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
		if err := lead(ctx, r.World, stream, to); err != nil {
			return err
		}
	}
	holds := ""
	for _, stream := range []string{streams.FramesLive, streams.TensorsLive, streams.FramesTwin, streams.TensorsTwin} {
		if name, err := leaderOf(ctx, r.World, stream); err == nil && name == victim.Name {
			holds += " " + stream
		}
	}
	r.Note("%s holds the only copy of%s", victim.Name, holds)
	if err := last(ctx, 500*time.Millisecond); err != nil { // a step-down disturbs, too: not what is measured here
		return err
	}
	victim.Hold()
	defer victim.Release()
	r.Mark("kill " + victim.Name)
	if err := victim.Kill(); err != nil {
		return err
	}
	waited := last(ctx, away)
	r.Aside("start " + victim.Name)
	victim.Release()
	healthy, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return errors.Join(waited, r.World.Nodes.Healthy(healthy))
}

func leaderOf(ctx context.Context, w *world.World, stream string) (string, error) {
	s, err := w.JS.Stream(ctx, stream)
	if err != nil {
		return "", fmt.Errorf("leader of %s: %w", stream, err)
	}
	if c := s.CachedInfo().Cluster; c != nil {
		return c.Leader, nil
	}
	return "", nil
}

// lead makes a node the leader of a stream.
func lead(ctx context.Context, w *world.World, stream string, node *nodes.Node) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	request, err := json.Marshal(map[string]any{"placement": map[string]string{"preferred": node.Name}})
	if err != nil {
		return fmt.Errorf("make %s lead %s: %w", node.Name, stream, err)
	}
	var asked time.Time
	for {
		name, err := leaderOf(ctx, w, stream)
		if err == nil && name == node.Name {
			return nil
		}
		if err == nil && name != "" && time.Since(asked) > time.Second {
			asked = time.Now()
			_, _ = w.JS.Conn().RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+stream, request)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("make %s lead %s: it is led by %q: %w", node.Name, stream, name, err)
		}
		if err := last(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("make %s lead %s, led by %q: %w", node.Name, stream, name, err)
		}
	}
}

package faults

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/chaos/world"
	"github.com/sightline-dev/sightline/streams"
)

// recoveryLease is the lease under which recovery's leader acts.
const recoveryLease = "service.recovery"

func workers() []Fault {
	return []Fault{
		{
			Name: "kill-infer", Title: "kill -9 one infer worker of two", World: world.Single, Rounds: 4, Target: time.Second, Weight: 4,
			Inject: func(ctx context.Context, r *Round) error { return killAtWork(ctx, r, world.Infer) },
		},
		{
			Name: "kill-preprocess", Title: "kill -9 one preprocess worker of two", World: world.Single, Rounds: 4, Target: time.Second, Weight: 4,
			Inject: func(ctx context.Context, r *Round) error { return killAtWork(ctx, r, world.Preprocess) },
		},
		{Name: "stop-infer", Title: "SIGSTOP an infer worker 10 s, then SIGCONT", World: world.Single, Rounds: 3, Target: 2 * time.Second, Weight: 2, Inject: stopInfer},
		{Name: "kill-ingest", Title: "kill -9 one ingest of two", World: world.Single, Rounds: 3, Target: 3 * time.Second, Weight: 2, Drops: true, Inject: killIngest},
		{Name: "kill-leader", Title: "kill -9 the recovery leader, then an infer worker", World: world.Single, Rounds: 3, Target: 6 * time.Second, Weight: 2, Inject: killLeader},
	}
}

// A job is a work group of a service and the subject of what it takes.
type job struct{ stream, group, subject string }

// jobs of the workers, that of every_frame cameras first.
func jobs(service string) []job {
	if service == world.Preprocess {
		return []job{
			{streams.Frames, "preprocess", streams.FrameSubject(streams.EveryFrame, "*")},
			{streams.FramesLive, "preprocess", streams.FrameSubject(streams.Freshest, "*")},
		}
	}
	return []job{
		{streams.Tensors, inferGroup, streams.TensorSubject(streams.EveryFrame, "*", "*", "*")},
		{streams.TensorsLive, inferGroup, streams.TensorSubject(streams.Freshest, "*", "*", "*")},
	}
}

const (
	// grasp is how long a victim is stopped before it is looked whether it holds something: the other worker has finished
	// what it had by then.
	grasp = 30 * time.Millisecond
	// looks is how often within that time it is looked: what the other worker holds is gone at the next look.
	looks = 3
	// grasps is how often that is tried.
	grasps = 40
)

// inHand stops a worker at a moment at which it holds a message of an every_frame camera, so that its death costs
// something. Killed while nothing is in its hands it would prove nothing. It returns when the worker was stopped.
func inHand(ctx context.Context, r *Round, victim *world.Worker) (time.Time, error) {
	j := jobs(victim.Service)[0]
	group, err := r.World.JS.Consumer(ctx, j.stream, j.group)
	if err != nil {
		return time.Time{}, err
	}
	for range grasps {
		if err := passes(ctx, r, j.subject); err != nil {
			return time.Time{}, err
		}
		stopped := time.Now()
		if err := victim.Signal(syscall.SIGSTOP); err != nil {
			return time.Time{}, err
		}
		held := true
		for i := 0; i < looks && held && err == nil; i++ {
			if err = last(ctx, grasp/looks); err == nil {
				var info *jetstream.ConsumerInfo
				if info, err = group.Info(ctx); err == nil {
					held = info.NumAckPending > 0
				}
			}
		}
		if held && err == nil {
			return stopped, nil
		}
		if err := errors.Join(err, victim.Signal(syscall.SIGCONT)); err != nil {
			return time.Time{}, err
		}
	}
	return time.Time{}, fmt.Errorf("%s never holds anything", victim.Instance)
}

// passes waits until a message on a subject has just been stored.
func passes(ctx context.Context, r *Round, subject string) error {
	next, err := r.World.Next(ctx, subject)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	select {
	case <-next:
		return last(ctx, r.between(200*time.Microsecond, 2*time.Millisecond))
	case <-ctx.Done():
		return fmt.Errorf("no message on %s: %w", subject, context.Cause(ctx))
	}
}

func killAtWork(ctx context.Context, r *Round, service string) error {
	victim := pick(r, r.World.Of(service))
	stopped, err := inHand(ctx, r, victim)
	if err != nil {
		return err
	}
	r.MarkAt("kill "+victim.Instance, stopped)
	return victim.Kill()
}

func stopInfer(ctx context.Context, r *Round) error {
	victim := pick(r, r.World.Of(world.Infer))
	stopped, err := inHand(ctx, r, victim)
	if err != nil {
		return err
	}
	r.MarkAt("stop "+victim.Instance, stopped)
	waited := last(ctx, 10*time.Second)
	r.Mark("continue " + victim.Instance)
	return errors.Join(waited, victim.Signal(syscall.SIGCONT))
}

// killIngest kills one that captures something.
func killIngest(ctx context.Context, r *Round) error {
	owned := map[string]int{}
	for _, c := range r.World.Cameras {
		holder, err := r.World.Holder(ctx, c.Name)
		if err != nil {
			return err
		}
		owned[holder]++
	}
	var victims []*world.Worker
	for _, x := range r.World.Of(world.Ingest) {
		if owned[x.Instance] > 0 {
			victims = append(victims, x)
		}
	}
	if len(victims) == 0 {
		return errors.New("no ingest captures anything")
	}
	victim := pick(r, victims)
	r.Note("%s captured %d of %d cameras", victim.Instance, owned[victim.Instance], len(r.World.Cameras))
	if err := last(ctx, r.between(0, 200*time.Millisecond)); err != nil {
		return err
	}
	victim.Hold()
	defer victim.Release()
	r.Mark("kill " + victim.Instance)
	if err := victim.Kill(); err != nil {
		return err
	}
	// The others must bear it alone. Its return is an event of its own: cameras move once more.
	waited := r.borne(ctx)
	r.Mark(victim.Instance + " returns")
	return waited
}

func killLeader(ctx context.Context, r *Round) error {
	name, err := r.World.Holder(ctx, recoveryLease)
	if err != nil {
		return err
	}
	leader, ok := r.World.Worker(name)
	if !ok {
		return fmt.Errorf("recovery is led by %q", name)
	}
	victim := pick(r, r.World.Of(world.Infer))
	stopped, err := inHand(ctx, r, victim)
	if err != nil {
		return err
	}
	r.MarkAt("kill "+name+" and "+victim.Instance, stopped)
	return errors.Join(leader.Kill(), victim.Kill())
}

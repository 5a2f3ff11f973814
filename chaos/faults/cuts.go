package faults

import (
	"context"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/chaos/world"
)

func cuts() []Fault {
	cut := func(d time.Duration) func(context.Context, *Round) error {
		return func(ctx context.Context, r *Round) error { return cutIngest(ctx, r, d) }
	}
	return []Fault{
		{Name: "cut-5s", Title: "cut ingest from NATS for 5 s", World: world.Single, Rounds: 3, Target: 2 * time.Second, From: "heal", Weight: 2, Drops: true, Inject: cut(5 * time.Second)},
		{Name: "cut-60s", Title: "cut ingest from NATS for 60 s", World: world.Single, Rounds: 2, Target: 2 * time.Second, From: "heal", Drops: true, Inject: cut(time.Minute)},
	}
}

// cutIngest cuts off one ingest, whose cameras the other one takes over, or, every second time, both. It heals with or
// without a reset.
func cutIngest(ctx context.Context, r *Round, d time.Duration) error {
	victims := r.World.Of(world.Ingest)
	if one := pick(r, victims); r.Number%2 == 1 || r.Random { // all of them takes every camera away: nobody could answer
		victims = []*world.Worker{one}
	}
	reset := r.Rand.IntN(2) == 0
	names := make([]string, len(victims))
	for i, v := range victims {
		names[i] = v.Instance
	}
	name := strings.Join(names, " and ")
	r.Note("cut off %s, connections reset at the end: %t", name, reset)
	r.Aside("cut off " + name)
	for _, v := range victims {
		for _, w := range v.Wires {
			w.Cut()
		}
	}
	waited := last(ctx, d)
	r.Mark("heal " + name)
	for _, v := range victims {
		for _, w := range v.Wires {
			w.Heal(reset)
		}
	}
	return waited
}

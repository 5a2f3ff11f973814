package faults

import (
	"context"
	"time"

	"github.com/sightline-dev/sightline/chaos/poison"
	"github.com/sightline-dev/sightline/chaos/world"
	"github.com/sightline-dev/sightline/pkg/frame"
)

func poisons() []Fault {
	inject := func(kind poison.Kind, within time.Duration) func(context.Context, *Round) error {
		return func(ctx context.Context, r *Round) error { return sendPoison(ctx, r, kind, within) }
	}
	return []Fault{
		{Name: "poison-error", Title: "poison frame: the run fails", World: world.Single, Rounds: 3, Target: time.Second, Weight: 2, Inject: inject(poison.Error, 20*time.Second)},
		{Name: "poison-crash", Title: "poison frame: the worker gets SIGSEGV", World: world.Single, Rounds: 3, Target: 5 * time.Second, Weight: 1, Inject: inject(poison.Crash, 60*time.Second)},
		{Name: "poison-hang", Title: "poison frame: the run hangs", World: world.Single, Rounds: 2, Inject: inject(poison.Hang, 90*time.Second)},
	}
}

// neighbours are how many harmless frames come right before and right after a poison frame.
const neighbours = 4

// sendPoison publishes a poison frame among harmless ones. It alone must end in DLQ; they must be answered.
func sendPoison(ctx context.Context, r *Round, kind poison.Kind, within time.Duration) error {
	var bad frame.Name
	var good []frame.Name
	var marked time.Time
	for i := range 2*neighbours + 1 {
		what := poison.Harmless
		if i == neighbours {
			what = kind
			marked = r.Mark("poison: " + string(kind))
		}
		data, err := poison.Picture(what, r.World.Stranger.Width, r.World.Stranger.Height, r.Rand)
		if err != nil {
			return err
		}
		name, err := r.World.Stranger.Send(ctx, data)
		if err != nil {
			return err
		}
		if what == kind {
			bad = name
		} else {
			good = append(good, name)
		}
	}
	r.Expect(Expectation{
		What: bad.String() + " is in DLQ", Within: within, Since: marked, Extends: true, Always: true, Figure: "quarantined",
		Met: func() (time.Time, bool) { return r.World.Seen.Buried(bad) },
	})
	r.Expect(Expectation{
		What: "its neighbours are answered", Within: within, Since: marked, Extends: true, Always: true, Figure: "neighbours answered",
		Met: func() (latest time.Time, all bool) {
			for _, n := range good {
				at, ok := r.World.Seen.Answered(n)
				if !ok {
					return time.Time{}, false
				}
				if at.After(latest) {
					latest = at
				}
			}
			return latest, true
		},
	})
	r.Expect(Expectation{
		What: "nothing but " + bad.String() + " is in DLQ", Within: within, Since: marked, Always: true,
		Met: func() (time.Time, bool) {
			if _, there := r.World.Seen.Buried(bad); !there {
				return time.Time{}, false
			}
			for _, n := range good {
				if _, there := r.World.Seen.Buried(n); there {
					r.Note("%s is in DLQ, too", n)
					return time.Time{}, false
				}
			}
			return time.Now(), true
		},
	})
	return nil
}

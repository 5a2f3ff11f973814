package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/chaos/world"
	"github.com/sightline-dev/sightline/services/ingest"
)

// stallSeen is the figure of how long it took until applications were told that a camera sends nothing.
const stallSeen = "seen"

func cameras() []Fault {
	seen := map[string]time.Duration{stallSeen: 3 * time.Second}
	return []Fault{
		{
			Name: "camera-refuse", Title: "camera refuses connections", World: world.Single, Rounds: 3, Target: 5 * time.Second, From: "back", Weight: 2,
			Limits: seen,
			Inject: func(ctx context.Context, r *Round) error {
				away := func(c *world.Camera) error { c.Kill(); return c.Wire.Refuse() }
				back := func(c *world.Camera) error { return errors.Join(c.Restart(), c.Wire.Accept(ctx)) }
				return cameraAway(ctx, r, away, back, ingest.CauseRefused)
			},
		},
		{
			Name: "camera-stall", Title: "camera stalls, its connection stays", World: world.Single, Rounds: 3, Target: 5 * time.Second, From: "back", Weight: 2,
			Limits: seen,
			Inject: func(ctx context.Context, r *Round) error {
				away := func(c *world.Camera) error { c.Stall(); return nil }
				back := func(c *world.Camera) error { c.Resume(); return nil }
				return cameraAway(ctx, r, away, back, ingest.CauseStalled)
			},
		},
		{
			Name: "camera-vanish", Title: "camera vanishes without a FIN", World: world.Single, Rounds: 3, Target: 5 * time.Second, From: "back", Weight: 2,
			Limits: seen,
			Inject: func(ctx context.Context, r *Round) error {
				away := func(c *world.Camera) error { c.Wire.Cut(); return nil }
				back := func(c *world.Camera) error { c.Wire.Heal(true); return nil }
				return cameraAway(ctx, r, away, back, ingest.CauseStalled, ingest.CauseTimeout)
			},
		},
	}
}

// cameraAway takes a camera away for a while. Applications must be told with one of the causes while it is away, and that
// it is over once it is back.
func cameraAway(ctx context.Context, r *Round, away, back func(*world.Camera) error, causes ...ingest.Cause) error {
	c := pick(r, r.World.Cameras)
	began := r.Aside("away: " + c.Name)
	if err := away(c); err != nil {
		return err
	}
	r.Expect(Expectation{
		What: fmt.Sprintf("a gap record of %s with reason %v", c.Name, causes), Within: 8 * time.Second, Since: began, Figure: stallSeen,
		Met: func() (time.Time, bool) {
			for _, g := range r.World.Seen.Gaps(began) {
				if g.Camera == c.Name && g.To.IsZero() && slices.Contains(causes, ingest.Cause(g.Reason)) {
					return g.At, true
				}
			}
			return time.Time{}, false
		},
	})
	waited := last(ctx, r.between(3200*time.Millisecond, 4*time.Second))
	returned := r.Mark("back: " + c.Name)
	r.Away = append(r.Away, Absence{Camera: c.Name, From: began, To: returned})
	if err := back(c); err != nil {
		return err
	}
	r.Expect(Expectation{
		What: "the gap of " + c.Name + " is closed", Within: 15 * time.Second, Since: returned,
		Met: func() (time.Time, bool) {
			for _, g := range r.World.Seen.Gaps(returned) {
				if g.Camera == c.Name && !g.To.IsZero() {
					return g.At, true
				}
			}
			return time.Time{}, false
		},
	})
	return waited
}

package recovery

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/services/recovery/react"
	"github.com/sightline-dev/sightline/services/recovery/repair"
	"github.com/sightline-dev/sightline/services/recovery/shed"
	"github.com/sightline-dev/sightline/streams"
)

// duty is something that only the leader does, until ctx ends.
type duty struct {
	name string
	run  func(ctx context.Context, lead lease.Leadership) error
}

// duties are what the leader does beside handing over.
func (s *Service) duties(w *watch) []duty {
	return []duty{
		{"audit", s.audit},
		{"repair", func(ctx context.Context, lead lease.Leadership) error {
			return repair.New(repair.Config{
				JS: s.deps.JS, Options: streams.Options{Replicas: s.cfg.Replicas}, Leadership: lead, Events: s.events, Log: s.deps.Log,
				Purges:  s.purges,
				Workers: func(stage, model string) int { return serving(w.view, stage, model) }, OnGroups: s.measure.groups,
			}).Run(ctx)
		}},
		{"shed", func(ctx context.Context, lead lease.Leadership) error {
			return shed.New(shed.Config{JS: s.deps.JS, Fleet: w.view, Leadership: lead, Events: s.events, Log: s.deps.Log}).Run(ctx)
		}},
		{"react", func(ctx context.Context, lead lease.Leadership) error {
			return react.New(react.Config{
				JS: s.deps.JS, Instance: s.cfg.Instance, Leadership: lead, Events: s.events, Log: s.deps.Log, Off: s.cfg.ReactOff, MaxShare: s.cfg.ReactMaxShare,
				Watched: func() bool { return len(w.view.Living("drift-monitor")) > 0 },
			}).Run(ctx)
		}},
	}
}

// audit keeps the books, and tells of frames that nothing explains.
func (s *Service) audit(ctx context.Context, lead lease.Leadership) error {
	a := ledger.NewAuditor(s.deps.JS, s.deps.Log)
	a.OnBooks = s.measure.books
	a.OnLost = func(l ledger.Line) {
		s.tell("lost", l.Camera, lead, func(e *events.Event) {
			e.Detail = "frames were captured and have no fate"
			e.Facts["model"] = l.Model
			e.Facts["lost"] = strconv.FormatUint(l.Lost, 10)
		})
	}
	return a.Run(ctx)
}

// serving is how many living workers serve a stage, or a model of it.
func serving(view *fleet.View, stage, model string) int {
	n := 0
	for _, s := range view.Living(stage) {
		if model == "" || slices.ContainsFunc(s.Lanes, func(l fleet.Lane) bool { return l.Model == model }) {
			n++
		}
	}
	return n
}

// perform does a duty for as long as the reign lasts.
func (s *Service) perform(ctx context.Context, d duty, lead lease.Leadership) {
	for ctx.Err() == nil {
		if err := d.run(ctx, lead); err != nil && ctx.Err() == nil {
			s.deps.Log.WarnContext(ctx, "a duty ended, beginning again", slog.String("duty", d.name), slog.Any("error", err))
		}
		clock.Pause(ctx, time.Second)
	}
}

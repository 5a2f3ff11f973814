package repair

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/streams"
)

// sweepGroups brings the consumers of all work groups back to their declaration, and those to work that have stopped.
func (r *Repair) sweepGroups(ctx context.Context, began time.Time, infos map[string]*jetstream.StreamInfo) {
	var groups []streams.WorkGroup
	for _, g := range streams.Groups(r.modelNames(ctx)...) {
		if infos[g.Stream] != nil {
			groups = append(groups, g)
		}
	}
	found := make([]*jetstream.ConsumerInfo, len(groups))
	errs := make([]error, len(groups))
	each(len(groups), func(i int) { found[i], errs[i] = r.lookGroup(ctx, groups[i]) })
	if r.cfg.OnGroups != nil {
		r.cfg.OnGroups(groups, found)
	}
	now := time.Now()
	served := map[string]*load{}
	for i, g := range groups {
		if ctx.Err() != nil {
			return
		}
		switch {
		case errors.Is(errs[i], jetstream.ErrConsumerNotFound):
			r.createGroup(ctx, g, began)
		case errs[i] == nil:
			if r.compareGroup(ctx, g, found[i], began) {
				r.watch(ctx, g, found[i], now)
			}
			if served[g.Config.Durable] == nil {
				served[g.Config.Durable] = newLoad(g)
			}
			served[g.Config.Durable].add(found[i])
		}
	}
	r.judge(ctx, served, now)
}

func (r *Repair) lookGroup(ctx context.Context, g streams.WorkGroup) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	c, err := r.js.Consumer(ctx, g.Stream, g.Config.Durable)
	if err != nil {
		return nil, err
	}
	return c.CachedInfo(), nil
}

func targetOf(g streams.WorkGroup) string { return g.Stream + "." + g.Config.Durable }

// modelNames are the models that are declared. When the bucket was deleted, it is those of before.
func (r *Repair) modelNames(ctx context.Context) []string {
	if r.models.View == nil {
		models, err := catalog.FollowModels(ctx, r.js, r.log)
		if err != nil {
			return nil // the bucket is being made
		}
		r.models = models
	}
	all, _ := r.models.All()
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// createGroup creates a missing consumer. A new model's workers do that themselves; it is not told of.
func (r *Repair) createGroup(ctx context.Context, g streams.WorkGroup, began time.Time) {
	target := targetOf(g)
	_, known := r.known[target]
	deleted := r.wasDeleted(target)
	if !known && (!deleted || time.Since(r.remade[g.Stream]) < deedFor) {
		if r.confirmed(ctx) {
			try, cancel := context.WithTimeout(ctx, actTimeout)
			defer cancel()
			if err := streams.MendGroup(try, r.js, g); err != nil && ctx.Err() == nil {
				r.tellOnce(action{target: target, cause: "missing", name: "create", began: began, detail: err.Error()}, failed)
			}
		}
		return
	}
	cause := "missing" // with its stream
	if deleted {
		cause = "deleted"
	}
	r.act(ctx, action{
		target: target, cause: cause, name: "create", began: began,
		detail: "what was not acknowledged is delivered again",
		do:     func(ctx context.Context) error { return streams.MendGroup(ctx, r.js, g) },
	})
	r.known[target] = seen{} // its next incarnation is ours
}

// compareGroup brings a consumer back to its declaration. It reports whether it was as declared.
func (r *Repair) compareGroup(ctx context.Context, g streams.WorkGroup, info *jetstream.ConsumerInfo, began time.Time) bool {
	target := targetOf(g)
	before := r.known[target]
	if r.wasDeleted(target) && !before.created.IsZero() && !before.created.Equal(info.Created) && r.confirmed(ctx) {
		r.tell(action{target: target, cause: "deleted", name: "none", began: began, detail: "a worker has bound again; what was not acknowledged is delivered again"}, already)
	}
	r.remember(target, info.Created, 0)
	differ := streams.ConsumerDifferences(g.Config, info.Config)
	if len(differ) == 0 {
		r.sound(target)
		return true
	}
	var texts []string
	a := action{target: target, cause: "altered", name: "update", began: began}
	a.do = func(ctx context.Context) error { return streams.MendGroup(ctx, r.js, g) }
	for _, d := range differ {
		texts = append(texts, d.String())
		if d.Field == "pause_until" {
			a.cause = "paused"
		}
		if d.Fixed {
			a.name = "delete_and_create"
			a.do = func(ctx context.Context) error { return streams.ReplaceGroup(ctx, r.js, g) }
		}
	}
	a.detail = strings.Join(texts, "; ")
	paused := a.cause == "paused"
	if !r.mendAltered(ctx, a) {
		return !paused
	}
	r.known[target] = seen{}
	return false
}

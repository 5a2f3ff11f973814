package repair

import (
	"context"
	"log/slog"
	"maps"
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/pkg/events"
)

// Outcomes of an action.
const (
	mended = "mended"
	// already says that somebody else brought it back: a worker binds again, a member makes its bucket anew.
	already = "back_already"
	failed  = "failed"
	// beyond says that an operator has to do something.
	beyond = "cannot_be_mended"
)

// action is something to be done, and what will be told of it.
type action struct {
	target string // stream, or stream.consumer
	cause  string
	name   string // what is done, in a word or two
	detail string
	facts  map[string]string
	began  time.Time // of the trouble, as far as it is known
	// unconfirmed is for the one thing that leadership itself rests on.
	unconfirmed bool
	do          func(ctx context.Context) error
}

// act does an action if leadership is confirmed, and tells of it.
func (r *Repair) act(ctx context.Context, a action) bool {
	if !a.unconfirmed && !r.confirmed(ctx) {
		return false
	}
	try, cancel := context.WithTimeout(ctx, actTimeout)
	err := a.do(try)
	cancel()
	if ctx.Err() != nil && err != nil {
		return false
	}
	if err != nil {
		a.detail = err.Error()
		r.tellOnce(a, failed)
		return false
	}
	delete(r.told, failed+a.target)
	r.tell(a, mended)
	return true
}

// tellOnce tells of what did not work, unless that is what was told last.
func (r *Repair) tellOnce(a action, outcome string) {
	if reason := a.cause + ": " + a.detail; r.told[outcome+a.target] != reason {
		r.told[outcome+a.target] = reason
		r.tell(a, outcome)
	}
}

// sound notes that a target is as declared: what goes wrong from now on is news.
func (r *Repair) sound(target string) {
	delete(r.told, failed+target)
	delete(r.told, beyond+target)
}

func (r *Repair) tell(a action, outcome string) {
	facts := map[string]string{
		"cause": a.cause, "action": a.name, "subject": a.target, "outcome": outcome,
		"duration_ms": strconv.FormatInt(time.Since(a.began).Milliseconds(), 10),
		"token":       r.token(),
	}
	maps.Copy(facts, r.by(a.target))
	maps.Copy(facts, a.facts)
	r.log.Info("repair", slog.String("target", a.target), slog.String("cause", a.cause), slog.String("action", a.name), slog.String("outcome", outcome))
	r.cfg.Events.Tell(events.Event{Area: "recovery", Kind: "repair", Name: a.target, State: outcome, Cause: a.cause, Detail: a.detail, Facts: facts})
}

// confirmed reports whether this process still leads.
func (r *Repair) confirmed(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err := r.cfg.Leadership.Confirm(ctx)
	if err != nil && !r.doubted {
		r.log.WarnContext(ctx, "nothing is mended: leadership is not confirmed", slog.Any("error", err))
	}
	r.doubted = err != nil
	return err == nil
}

func (r *Repair) token() string { return strconv.FormatUint(r.cfg.Leadership.Token(), 10) }

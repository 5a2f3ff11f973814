package recovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// casesAtOnce bounds how many deaths are dealt with at the same time.
	casesAtOnce = 8
	// againAfter is when a case is taken up again that something stood in the way of, and giveUpAfter until when: the
	// broker's AckWait is about to do it.
	againAfter, giveUpAfter = 250 * time.Millisecond, 8 * time.Second
)

// handOver deals with the dead for as long as the reign lasts.
func (s *Service) handOver(ctx context.Context, w *watch, lead lease.Leadership) {
	var cases sync.WaitGroup
	defer s.booking.Wait()
	defer cases.Wait()
	free := make(chan struct{}, casesAtOnce)
	tick := time.NewTicker(againAfter)
	defer tick.Stop()
	for {
		for _, d := range w.due(time.Now()) {
			select {
			case free <- struct{}{}:
			case <-ctx.Done():
				w.postpone(d.id(), 0)
				continue
			}
			cases.Go(func() {
				defer func() { <-free }()
				s.deal(ctx, w, d, lead)
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-w.more:
		case <-tick.C:
		}
	}
}

// deal deals with one case and tells of it.
func (s *Service) deal(ctx context.Context, w *watch, d death, lead lease.Leadership) {
	began := time.Now()
	h := &handing{s: s, watch: w, dead: d, lead: lead, facts: map[string]string{}}
	err := h.run(ctx)
	switch {
	case err == nil:
	case errors.Is(err, fleet.ErrAlive):
		w.acquit(d.id())
		return
	case ctx.Err() != nil, errors.Is(err, lease.ErrLost), !h.buried, time.Since(d.noticed) < giveUpAfter:
		if ctx.Err() == nil && !errors.Is(err, errEarly) && !errors.Is(err, errUntold) {
			s.deps.Log.WarnContext(ctx, "a case could not be dealt with, trying again", slog.String("worker", d.Key()), slog.Any("error", err))
		}
		w.postpone(d.id(), againAfter)
		return
	}
	defer w.settle(d.id())
	if d.cause == causeReconnected && err == nil && len(h.facts) == 0 { // nothing was on its way
		return
	}
	kind, state, action := d.telling()
	s.tell(kind, d.Instance, lead, func(e *events.Event) {
		e.State, e.Cause, e.Detail = string(state), h.dead.cause, d.Key()
		maps.Copy(e.Facts, h.facts)
		e.Facts["service"] = d.Service
		e.Facts["incarnation"] = d.Incarnation
		if d.cause != causeReconnected { // to others it may be another case by the time that they hear of it
			e.Facts[factCase] = d.id()
		}
		e.Facts["action"] = action
		e.Facts["detect_ms"] = millis(d.noticed.Sub(d.Heard))
		e.Facts["duration_ms"] = millis(time.Since(began))
		e.Facts["outcome"] = "done"
		if err != nil {
			e.Facts["outcome"] = "in part: " + err.Error()
		}
	})
	s.deps.Log.InfoContext(ctx, "dealt with a worker", slog.String("worker", d.Key()), slog.String("state", string(state)), slog.String("cause", h.dead.cause), slog.Any("error", err))
}

// handing is the handing over of what one dead worker held, or of what the living of its service never got.
type handing struct {
	s     *Service
	watch *watch
	dead  death
	lead  lease.Leadership
	facts map[string]string
	// buried is whether there is a tombstone, or need be none: without one the worker may still come to be judged again.
	buried bool
	// looked is when it was asked how far the work groups had got.
	looked time.Time
}

func (h *handing) run(ctx context.Context) error {
	if err := h.lead.Confirm(ctx); err != nil {
		return err
	}
	switch h.dead.cause {
	case causeReturned:
		h.buried = true
		groups, err := h.groups(ctx)
		return errors.Join(err, h.search(ctx, groups))
	case causeReconnected:
		h.buried = true
		return h.reconnected(ctx)
	case causeReplaced:
		if err := h.reallyReplaced(ctx); err != nil {
			return err
		}
	}
	burying, cancel := context.WithTimeout(ctx, apiTimeout)
	err := fleet.Bury(burying, h.s.deps.JS, h.dead.Worker, fleet.Epitaph{By: h.s.cfg.Instance, Token: h.lead.Token(), Cause: h.dead.cause, At: time.Now().UTC()})
	cancel()
	if err != nil {
		return err
	}
	h.buried = true
	errs := []error{h.freeCameras(ctx)}
	groups, err := h.groups(ctx)
	errs = append(errs, err)
	for _, g := range groups {
		errs = append(errs, h.handBack(ctx, g, "handed_over", h.claimed(g)))
	}
	if ofWork(h.dead.Worker) {
		h.s.book(ctx, ledger.Incident{Kind: ledger.WorkerEnded, Stage: h.dead.Service, Instance: h.dead.Instance, At: h.dead.at}, h.lead)
	}
	return errors.Join(append(errs, h.search(ctx, groups))...)
}

// book tells the books of a death, however long they take no word: LEDGER may elect a leader for longer than a case is tried,
// and what the dead had in hand would be lost to them. Nobody waits for it.
func (s *Service) book(ctx context.Context, i ledger.Incident, lead lease.Leadership) {
	s.booking.Go(func() {
		for ; ctx.Err() == nil; clock.Pause(ctx, againAfter) {
			try, cancel := context.WithTimeout(ctx, apiTimeout)
			err := lead.Confirm(try)
			if err == nil {
				err = ledger.TellIncident(try, s.deps.JS, i)
			}
			cancel()
			if err == nil || errors.Is(err, lease.ErrLost) {
				return
			}
		}
	})
}

// ofWork says whether a worker takes messages from work groups.
func ofWork(w fleet.Worker) bool {
	return w.Service == "preprocess" || w.Service == "infer" || len(w.Claims) > 0
}

// reallyReplaced asks the bucket: somebody who only tries for a worker's name beats under it too. Then the worker is alive,
// or it is silent.
func (h *handing) reallyReplaced(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	kv, err := h.s.deps.JS.KeyValue(ctx, streams.WorkersBucket)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", streams.WorkersBucket, err)
	}
	e, err := kv.Get(ctx, h.dead.Key())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("entry of %s: %w", h.dead.Key(), err)
	}
	w, err := fleet.Decode(e.Value())
	switch {
	case err != nil:
		return nil
	case w.Incarnation != h.dead.Incarnation && w.Started.Before(h.dead.Started): // it only tried, and gave up
		return fmt.Errorf("%s: %w", h.dead.Key(), fleet.ErrAlive)
	case w.Incarnation != h.dead.Incarnation, w.State == fleet.Dead:
		return nil
	case w.At.After(h.dead.At):
		return fmt.Errorf("%s: %w", h.dead.Key(), fleet.ErrAlive)
	case time.Since(h.dead.Heard) <= silentFor:
		return fmt.Errorf("%s: %w", h.dead.Key(), errEarly)
	}
	h.dead.cause = causeSilent
	return nil
}

// errEarly means that it cannot be said yet whether a worker is dead.
var errEarly = errors.New("it may be alive")

// group is a work group as it was right after the death, or once everybody was back.
type group struct {
	stream, consumer string
	info             *jetstream.ConsumerInfo
}

func (g group) name() string { return g.stream + "/" + g.consumer }

// groups are the work groups that the worker took from, and how far they had got. Those that do not exist hold nothing.
func (h *handing) groups(ctx context.Context) ([]group, error) {
	var names [][2]string
	add := func(groups []streams.WorkGroup) {
		for _, g := range groups {
			names = append(names, [2]string{g.Stream, g.Config.Durable})
		}
	}
	if h.dead.Service == "preprocess" {
		add(streams.PreprocessGroups())
	}
	for _, l := range h.dead.Lanes {
		add(streams.InferGroups(l.Model, l.Lane))
	}
	for _, claim := range h.dead.Claims {
		names = append(names, [2]string{claim.Stream, claim.Consumer})
	}
	slices.SortFunc(names, func(a, b [2]string) int { return strings.Compare(a[0]+"/"+a[1], b[0]+"/"+b[1]) })
	names = slices.Compact(names)

	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	found, errs := make([]*group, len(names)), make([]error, len(names))
	var asking sync.WaitGroup
	for i, n := range names {
		asking.Go(func() {
			consumer, err := h.s.deps.JS.Consumer(ctx, n[0], n[1])
			switch {
			case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
			case err != nil:
				errs[i] = fmt.Errorf("consumer %s of %s: %w", n[1], n[0], err)
			default:
				found[i] = &group{stream: n[0], consumer: n[1], info: consumer.CachedInfo()}
			}
		})
	}
	asking.Wait()
	h.looked = time.Now()
	var out []group
	for _, g := range found {
		if g != nil {
			out = append(out, *g)
		}
	}
	return out, errors.Join(errs...)
}

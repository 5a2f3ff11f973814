package recovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

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
	// beatsWithin is how long the beats of the living are waited for that tell what they hold: who is silent for so long is
	// none of them.
	beatsWithin  = silentFor + 300*time.Millisecond
	lookForBeats = 20 * time.Millisecond
	// onTheWay is how long a message may take to a worker and into its beat.
	onTheWay = 50 * time.Millisecond
)

// handOver deals with the dead for as long as the reign lasts.
func (s *Service) handOver(ctx context.Context, w *watch, lead lease.Leadership) {
	var cases sync.WaitGroup
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

// deal deals with one death and tells of it.
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
		if ctx.Err() == nil && !errors.Is(err, errEarly) {
			s.deps.Log.WarnContext(ctx, "a dead worker could not be dealt with, trying again", slog.String("worker", d.Key()), slog.Any("error", err))
		}
		w.postpone(d.id(), againAfter)
		return
	}
	kind, state, action := kindDead, fleet.Dead, "handed over what it held"
	if d.cause == causeReturned {
		kind, state, action = kindReturned, fleet.Alive, "handed over what it let go of"
	}
	s.tell(kind, d.Instance, lead, func(e *events.Event) {
		e.State, e.Cause, e.Detail = string(state), h.dead.cause, d.Key()
		maps.Copy(e.Facts, h.facts)
		e.Facts["service"] = d.Service
		e.Facts["incarnation"] = d.Incarnation
		e.Facts[factCase] = d.id()
		e.Facts["action"] = action
		e.Facts["detect_ms"] = millis(d.noticed.Sub(d.Heard))
		e.Facts["duration_ms"] = millis(time.Since(began))
		e.Facts["outcome"] = "done"
		if err != nil {
			e.Facts["outcome"] = "in part: " + err.Error()
		}
	})
	s.deps.Log.InfoContext(ctx, "dealt with a worker", slog.String("worker", d.Key()), slog.String("state", string(state)), slog.String("cause", h.dead.cause), slog.Any("error", err))
	w.settle(d.id())
}

// handing is the handing over of what one dead worker held.
type handing struct {
	s     *Service
	watch *watch
	dead  death
	lead  lease.Leadership
	facts map[string]string
	// buried is whether there is a tombstone: without one the worker may still come to be judged again.
	buried bool
	// looked is when it was asked how far the work groups had got.
	looked time.Time
}

func (h *handing) run(ctx context.Context) error {
	if err := h.lead.Confirm(ctx); err != nil {
		return err
	}
	if h.dead.cause == causeReturned {
		h.buried = true
		groups, err := h.groups(ctx)
		return errors.Join(err, h.search(ctx, groups))
	}
	if h.dead.cause == causeReplaced {
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
		errs = append(errs, ledger.TellIncident(ctx, h.s.deps.JS, ledger.Incident{Kind: ledger.WorkerEnded, Stage: h.dead.Service, Instance: h.dead.Instance, At: h.dead.at}))
	}
	return errors.Join(append(errs, h.search(ctx, groups))...)
}

// search hands back what was with somebody when the groups were looked at, and is with nobody.
func (h *handing) search(ctx context.Context, groups []group) error {
	if len(groups) == 0 {
		return nil
	}
	h.awaitBeats(ctx)
	if err := h.lead.Confirm(ctx); err != nil {
		return err
	}
	var errs []error
	for _, g := range groups {
		errs = append(errs, h.handBack(ctx, g, "searched", h.unclaimed(g)))
	}
	return errors.Join(errs...)
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

// group is a work group as it was right after the death.
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

// claimed are the messages of a group that the worker's last entry claims and nobody got after it.
func (h *handing) claimed(g group) []uint64 {
	others := claims(h.watch.living(h.dead.Incarnation), g)
	var out []uint64
	for _, claim := range h.dead.Claims {
		if claim.Stream != g.stream || claim.Consumer != g.consumer {
			continue
		}
		for _, d := range claim.Held {
			if others[d[0]] <= d[1] {
				out = append(out, d[0])
			}
		}
	}
	return out
}

// searchAtMost bounds how far back messages are searched that the worker took after its last beat.
const searchAtMost = 4096

// unclaimed are the messages of a group that were with somebody when the worker died, and that nobody claims. Most of them
// are answered, and to hand those back does nothing.
func (h *handing) unclaimed(g group) []uint64 {
	if g.info.NumAckPending == 0 {
		return nil
	}
	others := claims(h.watch.living(h.dead.Incarnation), g)
	resting := resting(append(h.watch.departed(), h.dead.Seen), g)
	last := g.info.Delivered.Stream
	first := g.info.AckFloor.Stream + 1
	if last >= searchAtMost {
		first = max(first, last-searchAtMost+1)
	}
	var out []uint64
	for n := first; n <= last; n++ {
		if others[n] == 0 && !resting[n] {
			out = append(out, n)
		}
	}
	return out
}

// claims are the messages of a group that workers claim, and how often those had been delivered.
func claims(workers []fleet.Seen, g group) map[uint64]uint64 {
	out := map[uint64]uint64{}
	for _, w := range workers {
		for _, claim := range w.Claims {
			if claim.Stream != g.stream || claim.Consumer != g.consumer {
				continue
			}
			for _, d := range slices.Concat(claim.Held, claim.Resting) {
				out[d[0]] = max(out[d[0]], d[1], 1)
			}
		}
	}
	return out
}

// resting are the messages of a group that workers handed back with a delay.
func resting(workers []fleet.Seen, g group) map[uint64]bool {
	out := map[uint64]bool{}
	for _, w := range workers {
		for _, claim := range w.Claims {
			if claim.Stream == g.stream && claim.Consumer == g.consumer {
				for _, d := range claim.Resting {
					out[d[0]] = true
				}
			}
		}
	}
	return out
}

// awaitBeats returns when every living worker of the service has told what it held after the groups were looked at, or
// could have.
func (h *handing) awaitBeats(ctx context.Context) {
	after := h.looked.Add(onTheWay)
	limit := time.NewTimer(beatsWithin)
	defer limit.Stop()
	look := time.NewTicker(lookForBeats)
	defer look.Stop()
	for {
		if !slices.ContainsFunc(h.watch.living(h.dead.Incarnation), func(s fleet.Seen) bool {
			return s.Service == h.dead.Service && !s.Heard.After(after)
		}) {
			return
		}
		select {
		case <-look.C:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// handBack hands messages of a group back to its stream, but for those that were since the worker's death was noticed.
func (h *handing) handBack(ctx context.Context, g group, fact string, sequences []uint64) error {
	sequences = h.s.handed.since(g.name(), h.dead.noticed, sequences)
	done, err := nak(ctx, h.s.deps.JS.Conn(), g, sequences)
	h.s.handed.add(g.name(), done, time.Now())
	if n := len(done); n > 0 {
		key := fact + "." + g.stream
		before, _ := strconv.Atoi(h.facts[key])
		h.facts[key] = strconv.Itoa(before + n)
	}
	return err
}

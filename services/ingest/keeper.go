package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// claimEvery is how often an instance tries for a lease that another one seems to hold: whoever watches leases can be
	// blind for a while.
	claimEvery = streams.LeaseTTL / 3
	// claimAgain is when it tries again for one that seems to be free.
	claimAgain = 50 * time.Millisecond
)

// keep captures one camera whenever its lease can be had. It connects to it before when it is to be handed over.
func (s *Service) keep(ctx context.Context, k *keeper) {
	cfg := k.camera
	if f := s.waiting()[cfg.Name]; f != nil && !reflect.DeepEqual(f.camera, cfg) { // it stood by with other settings
		s.cool(cfg.Name)
	}
	defer s.cool(cfg.Name)
	gaps := newGapTeller(s.deps.JS, s.cfg.Instance, cfg.Name, cfg.Models)
	tell, stopTelling := context.WithCancel(context.WithoutCancel(ctx))
	var telling sync.WaitGroup
	telling.Go(func() { gaps.run(tell) })
	defer telling.Wait()
	defer stopTelling()
	told := false
	for ctx.Err() == nil {
		models, ok := s.awaitModels(ctx, cfg)
		if !ok {
			return
		}
		if !s.awaitFree(ctx, k, models) {
			s.cool(cfg.Name)
			continue
		}
		held, err := s.claim(ctx, cfg.Name)
		if err != nil {
			if !errors.Is(err, lease.ErrHeld) && ctx.Err() == nil && !told { // once for each outage
				told = true
				s.deps.Log.WarnContext(ctx, "cannot claim camera", slog.String("camera", cfg.Name), slog.Any("error", err))
			}
			if _, taken := s.holders.Holder(cfg.Name); !taken || !errors.Is(err, lease.ErrHeld) { // else there is news when it is free
				clock.Pause(ctx, claimAgain)
			}
			continue
		}
		told = false
		k.holding.Store(true)
		s.held.Add(1)
		predecessor := k.predecessor
		k.predecessor = lease.Holder{}
		s.hold(ctx, cfg, held, predecessor, models, gaps, s.take(cfg))
		s.held.Add(-1)
		k.holding.Store(false)
		select {
		case <-k.successor: // of before
		default:
		}
	}
}

// awaitFree returns when a camera's lease seems to be free, or it is time to try. It returns false when ctx ends or the
// models are not as they were. Meanwhile the session is opened if its owner is to hand the camera over.
func (s *Service) awaitFree(ctx context.Context, k *keeper, models []model.Declaration) bool {
	late := time.NewTimer(claimEvery)
	defer late.Stop()
	for {
		changed := s.holders.Changed()
		same, declared := s.unchanged(k.camera, models)
		if !same || ctx.Err() != nil {
			return false
		}
		h, held := s.holders.Holder(k.camera.Name)
		if !held {
			return true
		}
		if h.Instance != s.cfg.Instance { // else our own claim, whose answer was lost
			k.predecessor = h
		}
		select {
		case <-changed:
		case <-declared:
		case <-k.successor:
			if f := s.warmUp(ctx, k.camera); f != nil {
				f.offered.Store(true)
			}
		case <-late.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// claim takes the lease of a camera under an epoch that the ledger does not know yet: revisions start again when somebody
// makes the bucket anew, and a frame's name must never come twice.
func (s *Service) claim(ctx context.Context, camera string) (*tenure, error) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	stream, err := s.deps.JS.Stream(ctx, streams.Ledger)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", streams.Ledger, err)
	}
	var known uint64
	switch m, err := stream.GetLastMsgForSubject(ctx, streams.LedgerSubject(camera)); {
	case errors.Is(err, jetstream.ErrMsgNotFound):
	case err != nil:
		return nil, fmt.Errorf("last epoch of %s: %w", camera, err)
	default:
		if r, err := ledger.Decode(m.Data); err == nil {
			known = r.Epoch
		}
	}
	connection := s.connection()
	l, err := lease.Acquire(ctx, s.leases, camera, s.cfg.Instance, known)
	if err != nil {
		return nil, err
	}
	return newTenure(l, connection, s.connection, s.inTouch), nil
}

// connection tells one connection to the broker from the next.
func (s *Service) connection() uint64 { return s.deps.JS.Conn().Stats().Reconnects }

func (s *Service) inTouch(running, sent time.Time) bool {
	return s.deps.Member != nil && s.deps.Member.InTouch(running, sent)
}

const claimTimeout = 2 * time.Second

// hold captures until ctx ends or another instance has the camera. warm is a session that is open already, or nil.
func (s *Service) hold(ctx context.Context, cfg config.Camera, t *tenure, predecessor lease.Holder, models []model.Declaration, gaps *gapTeller, warm *feed) {
	capture, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	holding, giveBack := context.WithCancel(context.WithoutCancel(ctx)) // the lease outlives the last frame
	defer giveBack()

	c := s.newCamera(cfg, models, gaps)
	defer c.measure.close()
	c.begin(t)
	gaps.begin(t.Await)
	s.tellLease(cfg.Name, leaseAcquired, "", t)
	var keeping sync.WaitGroup
	keeping.Go(func() { stop(s.defend(holding, capture, c, t)) })
	keeping.Go(func() { s.watchModels(capture, cfg, models, stop) })
	keeping.Go(func() { s.adopt(capture, cfg, predecessor, gaps) })
	f, err := s.carryOn(ctx, cfg, warm, t.lease.Renewed())
	if err == nil {
		c.run(capture, f)
	} else if ctx.Err() == nil {
		s.events.Tell(events.Event{Area: "camera", Kind: "state", Name: cfg.Name, State: string(PhaseDown), Cause: string(CauseOf(err)), Detail: NewRedactor(cfg.URL.Reveal()).Redact(err.Error()), Facts: c.epochFact()})
		gaps.down(CauseOf(err), time.Now())
		<-capture.Done() // no attempt with these settings will do better
	}
	if errors.Is(context.Cause(capture), lease.ErrLost) { // somebody else looks
		gaps.forget()
	} else {
		gaps.down(causeReleased, c.lastPicture(time.Now()))
		last, cancel := context.WithTimeout(holding, flushTimeout)
		gaps.settle(last) // who comes next must know of it
		cancel()
		gaps.under(nil)
	}
	giveBack()
	keeping.Wait()
}

// carryOn is the session that is open already, or a new one if that one is of no use. The lease is had since then.
func (s *Service) carryOn(ctx context.Context, cfg config.Camera, warm *feed, since time.Time) (*feed, error) {
	if warm.useful() {
		warm.reserve(since)
		return warm, nil
	}
	warm.close()
	return s.open(ctx, cfg, true)
}

func (s *Service) newCamera(cfg config.Camera, models []model.Declaration, gaps *gapTeller) *camera {
	return &camera{
		cfg: cfg, models: models, js: s.frames, marks: s.marks, events: s.events, gaps: gaps,
		share: shareOf(s.sampling, cfg), measure: s.measure.camera(cfg),
		more: make(chan struct{}, 1), stored: make(chan struct{}, 1),
	}
}

// tellLease tells of a lease that was acquired or lost. An owner that was away judges by the time of the former what it
// captured meanwhile.
func (s *Service) tellLease(camera, state, detail string, t *tenure) {
	e := events.Event{Area: "camera", Kind: "lease", Name: camera, State: state, Detail: detail, Facts: epochFact(t.lease.Epoch)}
	if state == leaseAcquired {
		e.At = t.lease.Since
	}
	s.events.Tell(e)
}

// The states of a lease's event.
const (
	leaseAcquired = "acquired"
	leaseLost     = "lost"
)

// defend keeps a camera's lease until ctx ends, and then gives it back. Should it be lost and nobody else have the camera,
// it is claimed anew, and capturing goes on under the next epoch. It returns lease.ErrLost when somebody else has it.
func (s *Service) defend(ctx, capture context.Context, c *camera, t *tenure) error {
	for {
		watching, stop := context.WithCancel(ctx)
		var watch sync.WaitGroup
		watch.Go(func() { s.watchHolder(watching, c.cfg.Name, t) })
		watch.Go(func() { s.mark(watching, t) })
		err := t.keep(ctx)
		stop()
		watch.Wait()
		if err == nil {
			err := t.lease.Release(context.WithoutCancel(ctx))
			t.end(time.Time{})
			return err
		}
		next, taken := s.reclaim(ctx, capture, c.cfg.Name, t)
		if next != nil { // first of all: frames bear the new epoch from its beginning
			c.begin(next)
			c.gaps.under(next.Await)
		}
		// Who has the camera now may not be the first that had it since.
		if first, sure := s.successor(ctx, c.cfg.Name, t); taken.IsZero() || sure && !first.IsZero() && first.Before(taken) {
			taken = first
		}
		s.tellLease(c.cfg.Name, leaseLost, err.Error(), t)
		t.end(taken)
		if next == nil {
			return err
		}
		s.tellLease(c.cfg.Name, leaseAcquired, "", next)
		t = next
	}
}

// mark notes how far EVENTS had come while this instance had a lease: who gets it next tells so later.
func (s *Service) mark(ctx context.Context, t *tenure) {
	for ; ctx.Err() == nil; clock.Pause(ctx, renewEvery) {
		try, cancel := context.WithTimeout(ctx, claimTimeout)
		stream, err := s.deps.JS.Stream(try, streams.Events)
		if err == nil {
			err = t.lease.Confirm(try)
		}
		cancel()
		if err == nil {
			t.told.Store(stream.CachedInfo().State.LastSeq)
			return
		}
	}
}

// watchHolder asks at once when somebody else seems to have the lease, or nobody.
func (s *Service) watchHolder(ctx context.Context, camera string, t *tenure) {
	for {
		changed := s.holders.Changed()
		if h, held := s.holders.Holder(camera); !held || h.Instance != s.cfg.Instance {
			t.check()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// reclaim finds out who has a camera whose lease was lost. When nobody does, it claims it anew, unless nothing is captured
// any more. taken is when another instance began that has it; zero when none has.
func (s *Service) reclaim(ctx, capture context.Context, camera string, lost *tenure) (next *tenure, taken time.Time) {
	for ctx.Err() == nil {
		if capture.Err() == nil {
			if next, err := s.claim(ctx, camera); err == nil {
				return next, time.Time{}
			}
		}
		e, err := s.leases.Get(ctx, camera)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound) && capture.Err() != nil:
			return nil, time.Time{}
		case err == nil:
			h, err := lease.Decode(e.Value())
			if err != nil { // of a newer version: it may have been there from the beginning
				return nil, lost.unsure()
			}
			if h.Instance != s.cfg.Instance { // else our own claim, whose answer was lost: it expires
				return nil, h.Since
			}
		}
		clock.Pause(ctx, claimAgain)
	}
	return nil, lost.unsure()
}

// successor is when another instance first had a camera since; zero when none did. Whoever gets a lease tells so with an event.
// What this instance told itself may be stored after that. When it cannot be found out, it is not sure.
func (s *Service) successor(ctx context.Context, camera string, lost *tenure) (first time.Time, sure bool) {
	ctx, cancel := context.WithTimeout(ctx, successorTimeout)
	defer cancel()
	subject := streams.EventSubject("camera", "lease", camera)
	for told, next := lost.told.Load(), lost.told.Load()+1; ctx.Err() == nil; {
		stream, err := s.deps.JS.Stream(ctx, streams.Events)
		if err == nil && stream.CachedInfo().State.LastSeq < told { // somebody made it anew
			break
		}
		var msg *jetstream.RawStreamMsg
		if err == nil {
			msg, err = stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subject))
		}
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return time.Time{}, true
		}
		if err != nil {
			clock.Pause(ctx, claimAgain)
			continue
		}
		next = msg.Sequence + 1
		e, err := events.Decode(msg.Data)
		if err != nil {
			break
		}
		epoch, err := strconv.ParseUint(e.Facts[factEpoch], 10, 64)
		if err != nil {
			break
		}
		if epoch > lost.lease.Epoch && e.State == leaseAcquired {
			return e.At, true
		}
	}
	return lost.unsure(), false
}

const successorTimeout = 5 * time.Second

// causeReleased is the reason of a gap that begins because nobody captures the camera any more: it was removed or disabled,
// its settings change, or the instance stops.
const causeReleased Cause = "released"

// causeIngestLost is the reason of a gap that an instance left that ended or was cut off: its successor tells it.
const causeIngestLost Cause = "ingest_lost"

package stage

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// abortGrace is how long cancelled handlers get to end by themselves.
const abortGrace = 2 * time.Second

// Stage is one running worker.
type Stage struct {
	cfg      Config
	handle   Handler
	pressure pressure
	held     held
	queue    chan *item // has room for everything that the sources' places allow
	alone    alone
	strikes  strikes
	hangs    hangs
	measure  *measure
	pulled   chan struct{} // closed when no message will come any more

	settling sync.WaitGroup // messages whose fate is being written down

	unsettled atomic.Int64 // bytes of live messages whose places were given away

	taken, done, dropped, retried, quarantined, batches, bindErrors, publishErrors, abandoned atomic.Uint64
	busy                                                                                      atomic.Int64 // nanoseconds
}

// New makes a stage; Run runs it, once.
func New(cfg Config, h Handler) *Stage {
	cfg = cfg.withDefaults()
	return &Stage{
		cfg: cfg, handle: h,
		held:  held{items: map[*item]struct{}{}, pace: make(chan time.Duration, 1), beat: beatEvery},
		queue: make(chan *item, cfg.MaxInFlight*max(len(cfg.Sources), 1)),
		alone: alone{next: make(chan *item), wake: make(chan struct{}, 1)}, strikes: strikes{js: cfg.Strikes}, pulled: make(chan struct{}),
		measure: newMeasure(cfg),
	}
}

// Stats returns the counts so far.
func (s *Stage) Stats() Stats {
	return Stats{
		Taken: s.taken.Load(), Done: s.done.Load(), Dropped: s.dropped.Load(), Retried: s.retried.Load(),
		Quarantined: s.quarantined.Load(), Batches: s.batches.Load(), BindErrors: s.bindErrors.Load(),
		PublishErrors: s.publishErrors.Load(), Hung: s.hangs.count(), Abandoned: s.abandoned.Load(), Busy: time.Duration(s.busy.Load()),
	}
}

// Run pulls until ctx ends, then drains. It returns nil after a clean drain and ErrDrainTimeout otherwise; a
// handler that does not even listen to its cancelled context is then left behind, but its messages are not.
func (s *Stage) Run(ctx context.Context) error {
	work, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(nil)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.run(ctx, work)
	}()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
	}
	if within(drained, s.cfg.DrainTimeout) {
		return nil
	}
	abort(ErrDrainTimeout)
	within(s.pulled, fetchWait+time.Second) // a pull that is still open would get back what is handed back
	for _, it := range s.held.close() {
		s.handBack(it)
	}
	within(drained, abortGrace)
	return fmt.Errorf("stage %s: %w", s.cfg.Name, ErrDrainTimeout)
}

func within(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// run owns every goroutine of the stage. Only the pullers listen to ctx; the rest ends because its input does.
func (s *Stage) run(ctx, work context.Context) {
	var alive, pulls, handlers sync.WaitGroup
	beat, stopBeat := context.WithCancel(work)
	defer stopBeat()
	alive.Go(func() { s.held.keepAlive(beat) })
	defer s.cfg.Member.Hold(s)()
	defer s.measure.cameras.Close()
	for _, bind := range s.cfg.Sources {
		pulls.Go(func() { s.pull(ctx, work, bind) })
	}
	noMore := make(chan struct{})
	handlers.Go(func() { s.offerAlone(work, noMore) })
	for range s.cfg.Workers {
		handlers.Go(func() { s.work(work) })
	}
	pulls.Wait()
	close(s.pulled)
	close(s.queue)
	close(noMore)
	handlers.Wait()
	s.settling.Wait()
	stopBeat()
	alive.Wait()
}

// work takes batches until there are no more.
func (s *Stage) work(ctx context.Context) {
	queue, solo := s.queue, s.alone.next
	for queue != nil || solo != nil {
		select {
		case first, ok := <-queue:
			if !ok {
				queue = nil
				continue
			}
			batch, apart := s.fill(first)
			s.attempt(ctx, batch)
			if apart != nil {
				s.attempt(ctx, []*item{apart})
			}
		case it, ok := <-solo:
			if !ok {
				solo = nil
				continue
			}
			s.try(ctx, it)
		}
	}
}

// fill completes a batch with what is waiting, and with what comes within MaxQueueDelay. What has been delivered before
// shares no batch: it may be what made that one fail, hang or die. One that comes along is returned apart.
func (s *Stage) fill(first *item) (batch []*item, apart *item) {
	batch = []*item{first}
	if s.cfg.MaxBatch == 1 || first.msg.Attempt > 1 {
		return batch, nil
	}
	var late <-chan time.Time
	for len(batch) < s.cfg.MaxBatch {
		var it *item
		var ok bool
		select {
		case it, ok = <-s.queue:
		default:
			if s.cfg.MaxQueueDelay <= 0 {
				return batch, nil
			}
			if late == nil {
				t := time.NewTimer(s.cfg.MaxQueueDelay)
				defer t.Stop()
				late = t.C
			}
			select {
			case it, ok = <-s.queue:
			case <-late:
				return batch, nil
			}
		}
		switch {
		case !ok:
			return batch, nil
		case it.msg.Attempt > 1:
			return batch, it
		}
		batch = append(batch, it)
	}
	return batch, nil
}

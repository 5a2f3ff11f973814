package stage

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// fetchWait is how long one pull request waits at the server; it also bounds how long draining takes when idle.
	fetchWait = 500 * time.Millisecond
	// fetchAgain is the pause after a first failure, rebindDelay paces attempts to bind to a consumer, and rebindWithin
	// bounds one while there is another consumer to go on with.
	fetchAgain   = 50 * time.Millisecond
	rebindDelay  = 250 * time.Millisecond
	rebindWithin = 500 * time.Millisecond
)

// pull fetches from one source until ctx ends. It fetches only what it has places for. A consumer that was deleted, or a
// broker that went away, is bound again; while that cannot be done, say because the broker elects a leader, the consumer
// that was bound before may well be there.
func (s *Stage) pull(ctx, work context.Context, bind streams.Binder) {
	places := make(chan struct{}, s.cfg.MaxInFlight)
	for range s.cfg.MaxInFlight {
		places <- struct{}{}
	}
	release := func() { places <- struct{}{} }
	consumer, ok := s.bind(ctx, bind)
	if !ok {
		return
	}
	for failures := 0; ctx.Err() == nil; {
		n := take(ctx, places)
		if n == 0 || !s.hangs.wait(ctx, s.cfg.Workers) || s.cfg.Member.Await(ctx) != nil { // who may be dead gets nothing
			return
		}
		got, err := s.fetch(work, consumer, n, release)
		for range n - got {
			release()
		}
		if err == nil || ctx.Err() != nil {
			failures = 0
			continue
		}
		if failures++; failures == 1 { // a reconnect
			clock.Pause(ctx, fetchAgain)
			continue
		}
		s.complain(ctx, err)
		within, cancel := context.WithTimeout(ctx, rebindWithin)
		if c, err := bind(within); err == nil {
			consumer = c
		}
		cancel()
		clock.Pause(ctx, rebindDelay)
	}
}

// bind binds for the first time, however long that takes. It reports false when ctx ended.
func (s *Stage) bind(ctx context.Context, bind streams.Binder) (jetstream.Consumer, bool) {
	for {
		c, err := bind(ctx)
		if err == nil {
			if info := c.CachedInfo(); info != nil {
				s.held.atLeast(info.Config.AckWait)
			}
			return c, true
		}
		s.complain(ctx, err)
		if !clock.Pause(ctx, rebindDelay) {
			return nil, false
		}
	}
}

// take waits for one place and takes all that are free.
func take(ctx context.Context, places <-chan struct{}) int {
	select {
	case <-places:
	case <-ctx.Done():
		return 0
	}
	n := 1
	for {
		select {
		case <-places:
			n++
		default:
			return n
		}
	}
}

// fetch pulls up to n messages and queues them. A Fetch loop, not Consume or Messages: those can stall silently
// with a small prefetch (a lost wake-up in nats.go 1.55).
func (s *Stage) fetch(ctx context.Context, c jetstream.Consumer, n int, release func()) (int, error) {
	batch, err := c.Fetch(n, jetstream.FetchMaxWait(fetchWait))
	if err != nil {
		return 0, err
	}
	got := 0
	for raw := range batch.Messages() {
		got++
		s.accept(ctx, raw, release)
	}
	if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) {
		return got, err
	}
	return got, nil
}

// accept queues a message. The queue has room: every message in it holds one of its source's places.
func (s *Stage) accept(ctx context.Context, raw jetstream.Msg, release func()) {
	it := &item{raw: raw, release: sync.OnceFunc(release)}
	it.msg = Message{Subject: raw.Subject(), Header: raw.Headers(), Data: raw.Data(), Stored: time.Now(), Attempt: 1}
	if meta, err := raw.Metadata(); err == nil {
		it.msg.Stream, it.msg.Sequence, it.msg.Stored = meta.Stream, meta.Sequence.Stream, meta.Timestamp
		it.consumer, it.delivered = meta.Consumer, meta.NumDelivered
		it.msg.Attempt = int(min(meta.NumDelivered-min(s.pressure.excused(it.msg), meta.NumDelivered-1), 1<<20))
	}
	if s.suspect(it) {
		it.settled = make(chan struct{})
	}
	s.taken.Add(1)
	if it.delivered > 1 {
		s.measure.redeliveries.Inc()
	}
	s.cfg.Observer.Taken(it.msg)
	switch {
	case !s.held.add(it):
		s.handBack(it)
	case it.msg.Attempt > s.cfg.MaxAttempts && (s.cfg.Strikes == nil || it.settled == nil): // it has taken its workers with it before
		it.begin()
		s.convict(ctx, it)
	case it.settled != nil:
		s.alone.add(it)
	default:
		s.queue <- it
	}
	if s.hangs.stuck(s.cfg.Workers) {
		s.handBackWaiting()
	}
}

// complain counts, and logs once per about five seconds.
func (s *Stage) complain(ctx context.Context, err error) {
	if s.bindErrors.Add(1)%20 == 1 && ctx.Err() == nil {
		s.cfg.Log.WarnContext(ctx, "cannot pull, binding again", slog.String("stage", s.cfg.Name), slog.Any("error", err))
	}
}

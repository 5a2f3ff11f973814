package stage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// convicting is how many strikes quarantine a message that has had its deliveries.
	convicting = 2
	// strikeWithin bounds what a strike may take to be written down, strikeAgain is when a message comes back whose strike
	// could not be.
	strikeWithin = time.Second
	strikeAgain  = 500 * time.Millisecond
	forgetStrike = time.Second
)

// A strike is an attempt of a suspect, alone, that did not end well: the handler failed, or never returned. Deliveries say
// less: a message is delivered again because its camera's queue is full, because another worker knows that and this one
// does not, because a process was restarted or killed while it waited there. Strikes are written down before the handler
// sees the message, so that they outlive the process.
type strikes struct {
	js jetstream.JetStream

	mu sync.Mutex
	kv jetstream.KeyValue // bound once: the handle is good for a bucket that is made anew, too
}

func (s *strikes) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kv != nil {
		return s.kv, nil
	}
	kv, err := s.js.KeyValue(ctx, streams.StrikesBucket)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", streams.StrikesBucket, err)
	}
	s.kv = kv
	return kv, nil
}

func (s *strikes) key(m Message) string {
	return m.Stream + "." + strconv.FormatUint(m.Sequence, 10) + "." + strconv.FormatInt(m.Stored.UnixNano(), 10) // sequences start again when a stream is made anew
}

// count is how many strikes a message has.
func (s *strikes) count(ctx context.Context, m Message) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, strikeWithin)
	defer cancel()
	kv, err := s.bucket(ctx)
	if err != nil {
		return 0, err
	}
	e, err := kv.Get(ctx, s.key(m))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("strikes of %s: %w", s.key(m), err)
	}
	n, _ := strconv.Atoi(string(e.Value())) // 0 when it is not a number
	return n, nil
}

// note writes down how many strikes a message has; 0 takes all back.
func (s *strikes) note(ctx context.Context, m Message, n int) error {
	ctx, cancel := context.WithTimeout(ctx, strikeWithin)
	defer cancel()
	kv, err := s.bucket(ctx)
	if err == nil && n == 0 {
		err = kv.Purge(ctx, s.key(m), jetstream.PurgeTTL(forgetStrike))
	} else if err == nil {
		_, err = kv.PutString(ctx, s.key(m), strconv.Itoa(n))
	}
	if err != nil {
		return fmt.Errorf("note strikes of %s: %w", s.key(m), err)
	}
	return nil
}

// try runs a suspect.
func (s *Stage) try(ctx context.Context, it *item) {
	if it.gone() { // it was handed back, or taken away, while it waited: that was no attempt
		return
	}
	if s.cfg.Strikes == nil {
		s.attempt(ctx, []*item{it})
		return
	}
	spent := it.msg.Attempt > s.cfg.MaxAttempts
	n, err := s.strikes.count(ctx, it.msg)
	if err == nil && spent && n >= convicting {
		if it.begin() {
			s.convict(ctx, it)
		}
		return
	}
	if err == nil {
		it.strikes = n + 1
		err = s.strikes.note(ctx, it.msg, it.strikes)
	}
	if err != nil && ctx.Err() == nil {
		s.cfg.Log.DebugContext(ctx, "cannot note an attempt", slog.String("stage", s.cfg.Name), slog.Any("error", err))
		if spent { // nobody would know if it killed this process, too
			s.nak(it, strikeAgain)
			return
		}
	}
	s.attempt(ctx, []*item{it})
}

// acquit takes back the strikes of a suspect whose handler returned. Whether this process still has the message makes no
// difference to that.
func (s *Stage) acquit(ctx context.Context, it *item, err error) {
	if s.cfg.Strikes == nil || it.strikes == 0 {
		return
	}
	if _, dropped := errors.AsType[*dropError](err); err != nil && !dropped && ctx.Err() == nil {
		return
	}
	it.strikes = 0
	_ = s.strikes.note(context.WithoutCancel(ctx), it.msg, 0) // one strike too many convicts nobody
}

// convict quarantines a message that has taken its workers with it before.
func (s *Stage) convict(ctx context.Context, it *item) {
	s.settling.Go(func() {
		s.settle(ctx, it, Result{Err: Poison(fmt.Errorf("delivered %d times without an answer", it.msg.Attempt))})
	})
}

// exhausted reports whether a message that fails has had its attempts.
func (s *Stage) exhausted(it *item) bool {
	if it.msg.Attempt < s.cfg.MaxAttempts {
		return false
	}
	return s.cfg.Strikes == nil || it.strikes == 0 || it.strikes >= convicting
}

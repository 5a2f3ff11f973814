package stage

import (
	"errors"
	"fmt"
	"time"

	"github.com/sightline-dev/sightline/pkg/ledger"
)

// dropError, poisonError and retryError are the errors that mean "do something different".
type (
	dropError struct {
		fate   ledger.Mark
		reason string
	}
	poisonError struct{ err error }
	retryError  struct {
		delay time.Duration
		err   error
	}
)

func (e *dropError) Error() string   { return fmt.Sprintf("%s: %s", e.fate, e.reason) }
func (e *poisonError) Error() string { return e.err.Error() }
func (e *poisonError) Unwrap() error { return e.err }
func (e *retryError) Error() string  { return e.err.Error() }
func (e *retryError) Unwrap() error  { return e.err }

// Drop ends a message without outputs. The fate is ledger.Expired or ledger.Superseded; the reason is a label.
func Drop(fate ledger.Mark, reason string) error { return &dropError{fate, reason} }

// IsDrop reports whether err ends a message without outputs, as [Drop] does.
func IsDrop(err error) bool {
	_, drop := errors.AsType[*dropError](err)
	return drop
}

// Poison quarantines a message at once: trying again would not help.
func Poison(err error) error { return &poisonError{err} }

// RetryIn hands a message back for the delay. It counts as an attempt.
func RetryIn(delay time.Duration, err error) error { return &retryError{delay, err} }

// backoff is the delay before attempt+1 of a message that failed for no stated reason.
func backoff(attempt int) time.Duration {
	return min(20*time.Millisecond<<min(attempt-1, 10), 2*time.Second)
}

func retryDelay(err error, attempt int) time.Duration {
	if r, ok := errors.AsType[*retryError](err); ok {
		return r.delay
	}
	return backoff(attempt)
}

// deliberate reports a verdict that means every message of its batch.
func deliberate(err error) bool {
	_, retry := errors.AsType[*retryError](err)
	_, drop := errors.AsType[*dropError](err)
	return retry || drop
}

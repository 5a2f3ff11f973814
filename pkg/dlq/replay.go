package dlq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// sweepBatch is small: what has been read of a sweep may wait for a full queue, message by message.
	sweepBatch = 32
	// fullFor is how long a sweep waits for room for a message, fullRetry how often it tries.
	fullFor   = 10 * time.Second
	fullRetry = 100 * time.Millisecond

	deleteWithin = 5 * time.Second
)

// Replay puts a message back to where a worker takes it again, and then deletes it from DLQ. It returns the message, with
// the subject that it was taken from. After an error it still is in DLQ, unless the error is ErrGone.
func Replay(ctx context.Context, js jetstream.JetStream, seq uint64) (Entry, error) {
	return act(ctx, js, seq, putBack)
}

// Drop deletes a message from DLQ for good, and returns it.
func Drop(ctx context.Context, js jetstream.JetStream, seq uint64) (Entry, error) {
	return act(ctx, js, seq, nil)
}

// deed is what happens to a message before it is deleted.
type deed func(ctx context.Context, js jetstream.JetStream, e Entry) error

func act(ctx context.Context, js jetstream.JetStream, seq uint64, do deed) (Entry, error) {
	s, err := js.Stream(ctx, streams.DLQ)
	if err != nil {
		return Entry{}, fmt.Errorf("stream %s: %w", streams.DLQ, err)
	}
	e, err := get(ctx, s, seq)
	if err != nil {
		return e, err
	}
	if err := tell(ctx, js, e); err != nil {
		return e, err
	}
	return e, finish(ctx, js, s, e, do)
}

// finish does what is to be done with a message, and deletes it.
func finish(ctx context.Context, js jetstream.JetStream, s jetstream.Stream, e Entry, do deed) error {
	if do != nil {
		if err := do(ctx, js, e); err != nil {
			return fmt.Errorf("message %d: %w", e.Sequence, err)
		}
		// From here on it is in two places: who interrupts that must not leave it there.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), deleteWithin)
		defer cancel()
	}
	err := s.DeleteMsg(ctx, e.Sequence)
	if err == nil {
		return nil
	}
	if _, missing := s.GetMsg(ctx, e.Sequence); errors.Is(missing, jetstream.ErrMsgNotFound) { // somebody else was faster
		if do != nil {
			return nil // the work queue took one of the two: they have one id
		}
		err = ErrGone
	} else if do != nil {
		err = fmt.Errorf("it was put back but is still in DLQ, drop it: %w", err)
	}
	return fmt.Errorf("message %d: %w", e.Sequence, err)
}

// tell makes LEDGER know of the fate, as the stage does when it lives long enough.
func tell(ctx context.Context, js jetstream.JetStream, entries ...Entry) error {
	r := ledger.NewReporter(js, "dlq", "dlq")
	for _, e := range entries {
		name, err := frame.ParseName(e.Frame)
		if err != nil {
			continue // a message without a frame's name is in no books
		}
		model := e.Model
		if !strings.HasPrefix(e.Subject, tensorSubjects) {
			model = "" // a frame concerns all of its models
		}
		r.Add(name, ledger.Quarantined, model, e.Stage)
	}
	if err := r.Flush(ctx); err != nil {
		return fmt.Errorf("tell the ledger: %w", err)
	}
	return nil
}

func putBack(ctx context.Context, js jetstream.JetStream, e Entry) error {
	msg, err := e.message()
	if err != nil {
		return err
	}
	_, err = js.PublishMsg(ctx, msg)
	const storeFailed = 10077 // for want of room, of whatever kind
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.ErrorCode == storeFailed {
		return fmt.Errorf("publish %s: %w (%s)", msg.Subject, ErrFull, api.Description)
	}
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		return fmt.Errorf("publish %s: no stream takes it, it stays in DLQ: is the system running? %w", msg.Subject, err)
	}
	if err != nil {
		return fmt.Errorf("publish %s: %w", msg.Subject, err)
	}
	return nil
}

// message is what goes back.
func (e Entry) message() (*nats.Msg, error) {
	if e.OmittedBytes > 0 {
		return nil, fmt.Errorf("%w: its payload of %d bytes did not fit into DLQ", ErrNotReplayable, e.OmittedBytes)
	}
	subject, err := e.Target()
	if err != nil {
		return nil, err
	}
	h := make(nats.Header, len(e.Header)+2)
	maps.Copy(h, e.Header)
	delete(h, frame.HeaderDeadline)
	// Sequences begin again in a stream that is made anew, and what has the id of another is swallowed: the time tells them
	// apart.
	id := "dlq/" + strconv.FormatUint(e.Sequence, 10) + "/" + strconv.FormatInt(e.At.UnixNano(), 36) + "/" + strconv.Itoa(e.Attempts)
	h[jetstream.MsgIDHeader] = []string{id}
	h[stage.HeaderReplay] = []string{id}
	return &nats.Msg{Subject: subject, Header: h, Data: e.Data}, nil
}

const (
	frameSubjects  = "frames."
	tensorSubjects = "tensors."
)

// Target is the subject that a message goes back to: on disk, whichever delivery its camera has.
func (e Entry) Target() (string, error) {
	parts := strings.Split(e.Subject, ".")
	switch {
	case strings.HasPrefix(e.Subject, frameSubjects) && len(parts) == 3:
		return streams.FrameSubject(streams.EveryFrame, parts[2]), nil
	case strings.HasPrefix(e.Subject, tensorSubjects) && len(parts) == 5:
		return streams.TensorSubject(streams.EveryFrame, parts[2], streams.Lane(parts[3]), parts[4]), nil
	default:
		return "", fmt.Errorf("%w: %q, where it came from, is not the subject of a frame or tensor", ErrNotReplayable, e.Subject)
	}
}

// Sweep counts what became of all messages that a filter chose.
type Sweep struct {
	Done uint64 `json:"done"`
	// Left are those that cannot be replayed. They stay.
	Left uint64 `json:"left"`
}

// ReplayAll replays what a filter chooses, oldest first, and tells done of each. It waits a while for a queue that is full,
// leaves what cannot be replayed, and stops at the first other error. What is quarantined again meanwhile is not replayed
// again.
func ReplayAll(ctx context.Context, js jetstream.JetStream, f Filter, done func(Entry)) (Sweep, error) {
	return sweep(ctx, js, f, done, func(ctx context.Context, s jetstream.Stream, e Entry) (Entry, error) {
		if e.OmittedBytes > 0 {
			return e, ErrNotReplayable
		}
		e, err := get(ctx, s, e.Sequence)
		if err != nil {
			return e, err
		}
		return e, finish(ctx, js, s, e, patient(putBack))
	})
}

// DropAll drops what a filter chooses, oldest first, and tells done of each. It stops at the first error.
func DropAll(ctx context.Context, js jetstream.JetStream, f Filter, done func(Entry)) (Sweep, error) {
	return sweep(ctx, js, f, done, func(ctx context.Context, s jetstream.Stream, e Entry) (Entry, error) {
		return e, finish(ctx, js, s, e, nil)
	})
}

func sweep(ctx context.Context, js jetstream.JetStream, f Filter, done func(Entry), one func(context.Context, jetstream.Stream, Entry) (Entry, error)) (Sweep, error) {
	var swept Sweep
	stream, err := js.Stream(ctx, streams.DLQ)
	if err != nil {
		return swept, fmt.Errorf("stream %s: %w", streams.DLQ, err)
	}
	if f.Through == 0 {
		f.Through = stream.CachedInfo().State.LastSeq
	}
	s, err := open(ctx, js, f, 0)
	if err != nil {
		return swept, err
	}
	defer s.close(ctx)
	err = s.read(ctx, sweepBatch, func(batch []Entry) error {
		if err := tell(ctx, js, batch...); err != nil {
			return err
		}
		for _, e := range batch {
			e, err := one(ctx, stream, e)
			switch {
			case errors.Is(err, ErrNotReplayable):
				swept.Left++
				continue
			case errors.Is(err, ErrGone): // somebody else was faster
				continue
			case err != nil:
				return err
			}
			swept.Done++
			done(e)
		}
		return nil
	})
	return swept, err
}

// patient tries again for a while when a queue is full.
func patient(do deed) deed {
	return func(ctx context.Context, js jetstream.JetStream, e Entry) error {
		full := time.NewTimer(fullFor)
		defer full.Stop()
		retry := time.NewTicker(fullRetry)
		defer retry.Stop()
		for {
			err := do(ctx, js, e)
			if !errors.Is(err, ErrFull) {
				return err
			}
			select {
			case <-retry.C:
			case <-full.C:
				return err
			case <-ctx.Done():
				return err
			}
		}
	}
}

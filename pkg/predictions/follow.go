package predictions

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

// Subscribe follows what is stored from now on, where now is the moment at which the loop reaches the broker.
func (c *Client) Subscribe(ctx context.Context, f Filter) iter.Seq2[Message, error] {
	return c.follow(ctx, f, position{now: true})
}

// SubscribeSince delivers what was stored at since or later, and then follows.
func (c *Client) SubscribeSince(ctx context.Context, since time.Time, f Filter) iter.Seq2[Message, error] {
	return c.follow(ctx, f, position{since: since})
}

// SubscribeAfter delivers what was stored after the message with this Seq, and then follows. An application that
// keeps the Seq with its own results, in one transaction, handles every message exactly once. 0 is the beginning.
func (c *Client) SubscribeAfter(ctx context.Context, seq uint64, f Filter) iter.Seq2[Message, error] {
	return c.follow(ctx, f, position{next: seq + 1})
}

// Replay delivers what was stored at since or later, up to the last message that is stored when the loop begins,
// and ends.
func (c *Client) Replay(ctx context.Context, since time.Time, f Filter) iter.Seq2[Message, error] {
	return c.follow(ctx, f, position{since: since, finite: true})
}

// position is where a follower reads next.
type position struct {
	now    bool
	since  time.Time
	next   uint64    // stream sequence; decides once it is known
	stream time.Time // when the stream was created, zero until it was first seen
	finite bool
	end    uint64 // last sequence to deliver, if finite
}

func (c *Client) follow(ctx context.Context, f Filter, p position) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		subject, err := f.subject()
		if err != nil {
			yield(Message{}, err)
			return
		}
		at := p // each range starts anew
		session := func(ctx context.Context, status <-chan nats.Status) error {
			return c.followOnce(ctx, status, subject, &at, yield)
		}
		c.persist(ctx, "follow "+subject, session, func(err error) bool { return yield(Message{}, err) })
	}
}

// followOnce reads with one consumer for as long as that works.
func (c *Client) followOnce(ctx context.Context, status <-chan nats.Status, subject string, at *position, yield func(Message, error) bool) error {
	if missed, err := c.locate(ctx, at); err != nil {
		return err
	} else if missed != nil && !yield(Message{}, missed) {
		return errEnd
	}
	r, err := c.bind(ctx, subject, at.config())
	if err != nil {
		return err
	}
	defer r.close(ctx)
	if at.finite && r.pending == 0 {
		return errEnd
	}
	fetch := r.waiting
	if at.finite {
		fetch = r.stored
	}
	for {
		before := r.got
		err := r.receive(ctx, status, fetch, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
			return at.deliver(msg, meta, yield)
		})
		if err != nil {
			return err
		}
		if r.got > before {
			continue
		}
		if err := c.checkpoint(ctx, r, at); err != nil {
			return err
		}
	}
}

// locate turns the position into a sequence where it must, and compares it with what the stream still has.
func (c *Client) locate(ctx context.Context, at *position) (*MissedError, error) {
	s, err := c.js.Stream(ctx, streams.Predictions)
	if err != nil {
		return nil, fmt.Errorf("stream: %w", err)
	}
	info := s.CachedInfo()
	first, last := info.State.FirstSeq, info.State.LastSeq
	var missed *MissedError
	switch {
	case at.now && at.next == 0:
		at.next = last + 1
	case at.next > last+1, at.next > 0 && !at.stream.IsZero() && !info.Created.Equal(at.stream):
		missed = &MissedError{First: at.next, Recreated: true}
		at.next, at.end = max(first, 1), last
	case (at.next > 1 || !at.stream.IsZero()) && at.next > 0 && first > at.next:
		missed = &MissedError{First: at.next, Last: first - 1}
		at.next = first
	}
	if at.finite && at.stream.IsZero() {
		at.end = last
	}
	at.stream = info.Created
	return missed, nil
}

func (at *position) config() jetstream.ConsumerConfig {
	if at.next == 0 {
		return jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &at.since}
	}
	return jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: at.next}
}

func (at *position) deliver(msg jetstream.Msg, meta *jetstream.MsgMetadata, yield func(Message, error) bool) error {
	seq := meta.Sequence.Stream
	if at.finite && seq > at.end {
		return errEnd
	}
	at.next = seq + 1
	if !yield(open(msg, meta)) {
		return errEnd
	}
	if at.finite && (seq == at.end || meta.NumPending == 0) {
		return errEnd
	}
	return nil
}

// checkpoint is called when nothing came for a while. It finds out whether that is because there is nothing, and
// if so moves on: what is removed from the stream while nothing matches has not been missed.
func (c *Client) checkpoint(ctx context.Context, r *reader, at *position) error {
	s, err := c.js.Stream(ctx, streams.Predictions)
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	drained, err := r.drained(ctx)
	switch {
	case err != nil:
		return err
	case drained && at.finite:
		return errEnd
	case drained && at.next > 0:
		at.next = max(at.next, s.CachedInfo().State.LastSeq+1)
	}
	return nil
}

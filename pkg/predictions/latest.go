package predictions

import (
	"context"
	"iter"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Latest delivers the newest stored message of every model and camera, oldest first, and ends. The newest message
// may be a gap: then nobody knows what is in view. It may also be hours old, when the camera is no longer there:
// look at Time.
func (c *Client) Latest(ctx context.Context, f Filter) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		subject, err := f.subject()
		if err != nil {
			yield(Message{}, err)
			return
		}
		seen := map[string]bool{} // subjects: a second attempt must not repeat them
		session := func(ctx context.Context, status <-chan nats.Status) error {
			return c.latestOnce(ctx, status, subject, seen, yield)
		}
		c.persist(ctx, "latest of "+subject, session, func(err error) bool { return yield(Message{}, err) })
	}
}

func (c *Client) latestOnce(ctx context.Context, status <-chan nats.Status, subject string, seen map[string]bool, yield func(Message, error) bool) error {
	r, err := c.bind(ctx, subject, jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy})
	if err != nil {
		return err
	}
	defer r.close(ctx)
	for r.got < r.pending { // the consumer would go on with what is stored from now on
		before := r.got
		err := r.receive(ctx, status, r.stored, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
			if !seen[msg.Subject()] {
				seen[msg.Subject()] = true
				if !yield(open(msg, meta)) {
					return errEnd
				}
			}
			if r.got == r.pending || meta.NumPending == 0 {
				return errEnd
			}
			return nil
		})
		if err != nil {
			return err
		}
		if r.got > before {
			continue
		}
		if drained, err := r.drained(ctx); err != nil {
			return err
		} else if drained { // the rest was replaced or removed meanwhile
			return errEnd
		}
	}
	return errEnd
}

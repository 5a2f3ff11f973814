package predictions

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// AckWait is how long an application may take over one delivery before it is delivered again.
	AckWait = 30 * time.Second
	// MaxUnacknowledged bounds the deliveries of one durable that are not acknowledged, over all processes; more
	// are delivered when some are.
	MaxUnacknowledged = 256

	// durablePrefix keeps applications' consumers apart from the platform's.
	durablePrefix = "app-"
)

// Delivery is a message that is the receiver's to acknowledge: whoever forgets gets it again after AckWait.
type Delivery struct {
	Message
	// Attempt is 1 for the first delivery.
	Attempt int

	msg jetstream.Msg
}

// Ack says that the message has been handled. When it returns nil the broker knows; otherwise the message may
// come again, with the same ID. It takes its time, at most 5 s, even when ctx has ended: what was handled should
// not come again because of a shutdown.
func (d Delivery) Ack(ctx context.Context) error {
	if d.msg == nil {
		return nil // it came with an error and is settled
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiTimeout)
	defer cancel()
	if err := d.msg.DoubleAck(ctx); err != nil {
		return fmt.Errorf("predictions: acknowledge %s: %w", d.ID, err)
	}
	return nil
}

// Retry says that the message could not be handled now: it is delivered again, to any process, after the pause.
func (d Delivery) Retry(after time.Duration) error {
	if d.msg == nil {
		return nil
	}
	if err := d.msg.NakWithDelay(after); err != nil {
		return fmt.Errorf("predictions: give back %s: %w", d.ID, err)
	}
	return nil
}

// Durable follows under a name that the broker remembers. The first use of a name begins with what is stored from
// then on; later uses, by any number of processes, continue with what nobody has acknowledged. Processes that use
// the name at the same time share the messages.
//
// Each delivery must be acknowledged. A process that ends without doing so, by crash or by leaving the loop, has
// its messages delivered again after AckWait: at least once, so compare IDs where twice would be wrong. What the
// stream removes before it is read, after 24 hours, is not delivered. A malformed message is reported once and
// never comes again.
//
// When ctx ends the loop ends within two seconds. RemoveDurable ends what the broker remembers.
func (c *Client) Durable(ctx context.Context, name string, f Filter) iter.Seq2[Delivery, error] {
	return func(yield func(Delivery, error) bool) {
		subject, err := f.subject()
		if err == nil {
			err = checkDurable(name)
		}
		if err != nil {
			yield(Delivery{}, err)
			return
		}
		var last uint64 // stream sequence: where to begin if somebody removes the durable under our feet
		session := func(ctx context.Context, _ <-chan nats.Status) error {
			return c.durableOnce(ctx, name, subject, &last, yield)
		}
		c.persist(ctx, "durable "+name, session, func(err error) bool { return yield(Delivery{}, err) })
	}
}

// RemoveDurable makes the broker forget the name. Removing what does not exist is no error.
func (c *Client) RemoveDurable(ctx context.Context, name string) error {
	if err := checkDurable(name); err != nil {
		return err
	}
	err := c.js.DeleteConsumer(ctx, streams.Predictions, durablePrefix+name)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("predictions: remove durable %s: %w", name, err)
	}
	return nil
}

func checkDurable(name string) error {
	if err := streams.CheckToken(name); err != nil {
		return fmt.Errorf("%w: durable: %w", ErrFilter, err)
	}
	return nil
}

func (c *Client) durableOnce(ctx context.Context, name, subject string, last *uint64, yield func(Delivery, error) bool) error {
	consumer, err := c.bindDurable(ctx, name, subject, *last)
	if err != nil {
		return err
	}
	for {
		msg, err := nextOf(ctx, consumer)
		if err != nil {
			return err
		}
		if msg == nil {
			continue
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
		*last = max(*last, meta.Sequence.Stream)
		d := Delivery{Attempt: int(min(meta.NumDelivered, 1<<30)), msg: msg}
		if d.Message, err = open(msg, meta); err != nil {
			d.msg = nil
			_ = msg.TermWithReason("malformed") // or it comes and is reported once more
		}
		if !yield(d, err) {
			return errEnd
		}
	}
}

// nextOf waits for one message, for nil at most two seconds. One at a time: what this process would hold and not get
// to is late for everybody. When ctx ends it waits for the request to end, and gives back what still came.
func nextOf(ctx context.Context, consumer jetstream.Consumer) (jetstream.Msg, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	msgs, err := consumer.Fetch(1, jetstream.FetchMaxWait(time.Second))
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	msg := <-msgs.Messages()
	switch {
	case msg != nil && ctx.Err() != nil:
		_ = msg.Nak() // or AckWait does it
		return nil, ctx.Err()
	case msg == nil && msgs.Error() != nil:
		return nil, fmt.Errorf("fetch: %w", msgs.Error())
	}
	return msg, nil
}

func (c *Client) bindDurable(ctx context.Context, name, subject string, last uint64) (jetstream.Consumer, error) {
	durable := durablePrefix + name
	consumer, err := c.js.Consumer(ctx, streams.Predictions, durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		cfg := jetstream.ConsumerConfig{
			Durable: durable, Description: "an application's", FilterSubject: subject, DeliverPolicy: jetstream.DeliverNewPolicy,
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: AckWait, MaxDeliver: -1, MaxAckPending: MaxUnacknowledged,
		}
		if last > 0 {
			cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, last+1
		}
		consumer, err = c.js.CreateConsumer(ctx, streams.Predictions, cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	if have := consumer.CachedInfo().Config.FilterSubject; have != subject {
		return nil, fmt.Errorf("%w: %q, want %q", ErrDurableDiffers, have, subject)
	}
	return consumer, nil
}

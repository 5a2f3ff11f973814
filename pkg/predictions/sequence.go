package predictions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

const (
	batch         = 256              // messages per request; the broker pushes back by itself
	heartbeat     = 2 * time.Second  // two missed ones mean that the consumer is gone
	idleConsumer  = 30 * time.Second // the broker forgets a reader that asks for nothing
	firstPause    = 250 * time.Millisecond
	longestPause  = 5 * time.Second
	cleanupPeriod = time.Second
)

var (
	errEnd   = errors.New("sequence ended")     // there is nothing more to yield
	errAgain = errors.New("bind again at once") // deliveries may have got lost: ask for them again
)

// persist calls session until it returns errEnd, its context ends or the connection is closed, and tells report
// what went wrong in between. report returns false when the loop was left.
func (c *Client) persist(ctx context.Context, what string, session func(context.Context, <-chan nats.Status) error, report func(error) bool) {
	status := c.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer c.nc.RemoveStatusListener(status)
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := session(ctx, status)
		switch {
		case errors.Is(err, errEnd) || ctx.Err() != nil:
			return
		case c.nc.IsClosed():
			report(fmt.Errorf("predictions: %s: %w", what, nats.ErrConnectionClosed))
			return
		case errors.Is(err, ErrFilter) || errors.Is(err, ErrDurableDiffers):
			report(fmt.Errorf("predictions: %s: %w", what, err))
			return
		case errors.Is(err, errAgain):
			continue
		}
		if !report(fmt.Errorf("predictions: %s: %w", what, err)) {
			return
		}
		if time.Since(began) > longestPause {
			pause = firstPause
		}
		wait(ctx, pause, status)
		pause = min(2*pause, longestPause)
	}
}

func wait(ctx context.Context, d time.Duration, wake <-chan nats.Status) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
}

// reader is an ephemeral consumer: the broker forgets what it sent, so the reader notices when some of it did not
// arrive.
type reader struct {
	c        *Client
	consumer jetstream.Consumer
	got      uint64 // deliveries, as the consumer counts them
	pending  uint64 // messages that matched when the consumer was made
}

// bind makes the consumer that cfg describes. The caller closes it.
func (c *Client) bind(ctx context.Context, subject string, cfg jetstream.ConsumerConfig) (*reader, error) {
	cfg.FilterSubject, cfg.AckPolicy = subject, jetstream.AckNonePolicy
	cfg.MemoryStorage, cfg.Replicas, cfg.InactiveThreshold = true, 1, idleConsumer
	consumer, err := c.js.CreateConsumer(ctx, streams.Predictions, cfg)
	if err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	return &reader{c: c, consumer: consumer, pending: consumer.CachedInfo().NumPending}, nil
}

// close removes the consumer, if that is quickly done; the broker forgets it anyway.
func (r *reader) close(ctx context.Context) {
	if !r.c.nc.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupPeriod)
	defer cancel()
	_ = r.c.js.DeleteConsumer(ctx, streams.Predictions, r.consumer.CachedInfo().Name) // best effort, as said
}

// receive hands messages on until f returns an error, the batch is complete, or the connection was renewed.
func (r *reader) receive(ctx context.Context, status <-chan nats.Status, fetch fetcher, f func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	fetching, cancel := detached(ctx)
	defer cancel()
	msgs, err := fetch(fetching)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	for {
		msg, err := next(ctx, status, msgs)
		switch {
		case err != nil && r.got > 0 && (errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrConsumerDeleted)):
			return errAgain // the application took its time, and the broker has forgotten this reader
		case err != nil || msg == nil:
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
		if meta.Sequence.Consumer != r.got+1 {
			return errAgain
		}
		r.got++
		if err := f(msg, meta); err != nil {
			return err
		}
	}
}

// fetcher asks the broker for messages.
type fetcher func(context.Context) (jetstream.MessageBatch, error)

// detached ends when ctx ends but has no deadline: Fetch would make one its own, and refuse one that is near.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	return out, func() { stop(); cancel() }
}

// next is the next message of a batch, nil at its end.
func next(ctx context.Context, status <-chan nats.Status, msgs jetstream.MessageBatch) (jetstream.Msg, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-status:
		return nil, errAgain
	case msg, ok := <-msgs.Messages():
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case ok:
			return msg, nil
		case msgs.Error() != nil:
			return nil, fmt.Errorf("fetch: %w", msgs.Error())
		default:
			return nil, nil //nolint:nilnil // as documented
		}
	}
}

// waiting asks for what there is and what will come.
func (r *reader) waiting(ctx context.Context) (jetstream.MessageBatch, error) {
	return r.consumer.Fetch(batch, jetstream.FetchContext(ctx), jetstream.FetchHeartbeat(heartbeat))
}

// stored asks for what there is.
func (r *reader) stored(context.Context) (jetstream.MessageBatch, error) {
	return r.consumer.FetchNoWait(batch)
}

// drained reports whether the reader has received everything that matches, or errAgain when deliveries got lost.
func (r *reader) drained(ctx context.Context) (bool, error) {
	info, err := r.consumer.Info(ctx)
	switch {
	case err != nil:
		return false, fmt.Errorf("consumer: %w", err)
	case info.Delivered.Consumer != r.got:
		return false, errAgain
	}
	return info.NumPending == 0, nil
}

package streams

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	scanWait   = 500 * time.Millisecond // of one pull; a scan that waits for more ends that late
	scanBatch  = 512
	scanForget = time.Minute // until the broker drops the consumer of a reader that is gone
)

// Scan hands the messages of a stream that cfg chooses to take, in order and without a gap, until take returns false, or, when
// it shall not wait, until there are no more. It acknowledges nothing.
func Scan(ctx context.Context, js jetstream.JetStream, stream string, cfg jetstream.ConsumerConfig, wait bool, take func(jetstream.Msg, *jetstream.MsgMetadata) bool) error {
	cfg.AckPolicy, cfg.InactiveThreshold, cfg.MemoryStorage, cfg.Replicas = jetstream.AckNonePolicy, scanForget, true, 1
	c, err := js.CreateConsumer(ctx, stream, cfg)
	if err != nil {
		return err
	}
	name := c.CachedInfo().Name
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = js.DeleteConsumer(ctx, stream, name) // or the broker forgets it by itself
	}()
	if !wait && c.CachedInfo().NumPending == 0 {
		return nil
	}
	for delivered, before := uint64(0), uint64(0); ; before = delivered {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !wait && delivered > 0 && delivered == before { // somebody purged the rest meanwhile, or the broker is slow
			if info, err := c.Info(ctx); err != nil || info.NumPending == 0 {
				return err
			}
		}
		batch, err := c.Fetch(scanBatch, jetstream.FetchMaxWait(scanWait))
		if err != nil {
			return err
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return err
			}
			if delivered++; meta.Sequence.Consumer != delivered {
				return fmt.Errorf("gap before %d", meta.Sequence.Stream)
			}
			if !take(m, meta) || !wait && meta.NumPending == 0 {
				return nil
			}
		}
		if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) {
			return err
		}
	}
}

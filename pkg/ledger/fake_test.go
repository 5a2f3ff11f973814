package ledger

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/frame"
)

func name(camera string, seq uint64) frame.Name {
	return frame.Name{Camera: camera, Epoch: 1, Seq: seq}
}

// records is a Publisher that keeps what it is given, and counts it.
type records struct {
	mu    sync.Mutex
	told  []Message
	at    []time.Time
	bytes int
	// before is called before a message is stored, by as many as publish at the same time.
	before func()
}

func (f *records) PublishMsg(_ context.Context, msg *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if f.before != nil {
		f.before()
	}
	now := time.Now()
	m, err := DecodeMessage(msg.Subject, msg.Data, now)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, m)
	f.at = append(f.at, now)
	f.bytes += len(msg.Data) + len(msg.Subject) + len(msg.Header.Get(jetstream.MsgIDHeader))
	return &jetstream.PubAck{}, err
}

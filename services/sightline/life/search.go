package life

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

// probeAtMost bounds how many records of other stages are passed over to find one of an ingest: many workers tell of a camera.
const probeAtMost = 128

// errFar means that no record of an ingest is near: then everything is read.
var errFar = errors.New("no record of an ingest is near")

// edge is what LEDGER says of a camera's first and last captured frame.
type edge struct {
	known       bool
	first, last capture
	lastOfEpoch uint64 // the last frame of the epoch that was told of, where the search passed it
}

// capture is a record of captured frames.
type capture struct {
	epoch, from, to uint64
	at              time.Time
}

// compare says whether a frame was captured before the record (-1), in it (0) or after it (1).
func (c capture) compare(epoch, seq uint64) int {
	switch before := cmp.Compare(epoch, c.epoch); {
	case before != 0:
		return before
	case seq < c.from:
		return -1
	case seq > c.to:
		return 1
	}
	return 0
}

// locate searches LEDGER for the record that tells of the frame's capture, or for the first one after it. It sets near, and
// edge. Records of one ingest come in order; what an ingest that was cut off told late makes the search miss, which
// readLedger notices.
func (t *teller) locate(ctx context.Context, s jetstream.Stream) error {
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return nil
	}
	first, err := t.probe(ctx, s, state.FirstSeq)
	if err != nil || first == nil {
		return err
	}
	t.edge = edge{known: true, first: *first, last: *first}
	t.near = first.at
	lo, hi := state.FirstSeq, state.LastSeq+1 // the first record not before the frame is in [lo,hi]
	for lo < hi {
		mid := lo + (hi-lo)/2
		c, err := t.probe(ctx, s, mid)
		if err != nil {
			return err
		}
		if c == nil { // none from here on
			hi = mid
			continue
		}
		if c.at.After(t.edge.last.at) {
			t.edge.last = *c
		}
		if c.epoch == t.name.Epoch {
			t.edge.lastOfEpoch = max(t.edge.lastOfEpoch, c.to)
		}
		if c.compare(t.name.Epoch, t.name.Seq) > 0 {
			lo = mid + 1
			if c.at.After(t.near) {
				t.near = c.at
			}
		} else {
			hi, t.near = mid, c.at
		}
	}
	return nil
}

// probe is the camera's first record of captured frames from a sequence on, nil when there is none.
func (t *teller) probe(ctx context.Context, s jetstream.Stream, seq uint64) (*capture, error) {
	for range probeAtMost {
		m, err := s.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(streams.LedgerSubject(t.name.Camera)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, nil //nolint:nilnil // there is none, and nothing went wrong
		}
		if err != nil {
			return nil, fmt.Errorf("search %s: %w", streams.Ledger, err)
		}
		message, err := ledger.DecodeMessage(m.Subject, m.Data, m.Time)
		if err == nil && message.Record != nil {
			if c, ok := captured(*message.Record); ok {
				return &c, nil
			}
		}
		seq = m.Sequence + 1
	}
	return nil, errFar
}

// captured is what a record says of captured frames.
func captured(r ledger.Record) (capture, bool) {
	c := capture{epoch: r.Epoch, at: r.At}
	for _, e := range r.Entries {
		if e.Mark != ledger.Captured || len(e.Frames) == 0 {
			continue
		}
		if c.from == 0 || e.Frames[0][0] < c.from {
			c.from = e.Frames[0][0]
		}
		c.to = max(c.to, e.Frames.Last())
	}
	return c, c.to > 0
}

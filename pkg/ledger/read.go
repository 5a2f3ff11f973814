package ledger

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// closeEvery keeps the books small while they are read.
	closeEvery = time.Minute

	readAgain = 250 * time.Millisecond
)

// Read folds everything that LEDGER holds now. Records that cannot be read are skipped and counted.
func Read(ctx context.Context, js jetstream.JetStream) (*Books, error) {
	f := newFold(js, &checkpoint{books: &Books{}})
	if err := f.catchUp(ctx); err != nil {
		return nil, err
	}
	return f.books, nil
}

// Balance are the books as of now: it begins where an Auditor last wrote them down, if one did, reads, asks what the
// streams hold, and gives the fates of what has just left them time to be told. What a worker that was killed did not get
// round to report is looked up in PREDICTIONS and DLQ.
func Balance(ctx context.Context, js jetstream.JetStream) (lines []Line, unreadable uint64, err error) {
	saved, err := loadCheckpoint(ctx, js)
	if err != nil {
		return nil, 0, err
	}
	f := newFold(js, saved)
	if err := f.catchUp(ctx); err != nil { // only now it is known how often reporters report
		return nil, 0, err
	}
	held := HeldFrom(ctx, js)
	t := time.NewTimer(f.books.paces.pace().held())
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, 0, fmt.Errorf("balance: %w", context.Cause(ctx))
	}
	if err := f.catchUp(ctx); err != nil {
		return nil, 0, err
	}
	now := time.Now()
	if err := f.books.explain(ctx, js, now, held); err != nil {
		return nil, 0, err
	}
	return f.books.Lines(now, held), f.books.Unreadable, nil
}

// fold reads LEDGER into books.
type fold struct {
	*checkpoint
	tail   tail
	closed time.Time // the books were last made smaller then, by the clock of the records
}

func newFold(js jetstream.JetStream, from *checkpoint) *fold {
	f := &fold{checkpoint: from}
	f.tail = tail{js: js, created: from.created, next: from.sequence + 1, at: from.books.newest, take: f.take, missed: f.missed}
	return f
}

// catchUp reads what LEDGER holds now.
func (f *fold) catchUp(ctx context.Context) error {
	state, err := f.tail.find(ctx)
	if err != nil {
		return err
	}
	if f.tail.end = state.LastSeq; f.tail.next > f.tail.end {
		return nil
	}
	if err := f.tail.read(ctx); err != nil {
		return fmt.Errorf("read %s: %w", streams.Ledger, err)
	}
	return nil
}

// missed is called when LEDGER goes on in the middle: what was said before is gone. Of the frames in its first records
// something may be forgotten, so the books begin behind them.
func (f *fold) missed() {
	f.books.breakOff()
	f.middle, f.began = true, time.Time{}
}

func (f *fold) take(m Message, err error) {
	f.created, f.sequence = f.tail.created, m.Sequence
	r := m.Record
	switch {
	case err != nil:
		f.books.Unreadable++
		return
	case r == nil:
		f.books.Take(m)
		return
	}
	if f.began.IsZero() {
		f.began = r.At
	}
	if f.middle && r.At.Sub(f.began) < f.books.paces.pace().warmUp() {
		f.books.begin(*r)
		return
	}
	f.middle = false
	f.books.Take(m)
	if f.closed.IsZero() {
		f.closed = r.At
	}
	if r.At.Sub(f.closed) > closeEvery {
		f.closed = r.At
		f.books.close(f.books.at(r.At, nil), true)
	}
}

// Follow hands every record and incident from a stream sequence on (0 is the beginning) to take, in order, until ctx
// ends. It survives restarts of the broker; when the stream was made anew it begins again, which does the books no harm.
// What cannot be read is skipped and counted.
func Follow(ctx context.Context, js jetstream.JetStream, from uint64, take func(Message)) (unreadable uint64, err error) {
	t := tail{js: js, next: max(from, 1), missed: func() {}, take: func(m Message, err error) {
		if err != nil {
			unreadable++
			return
		}
		take(m)
	}}
	t.follow(ctx)
	return unreadable, nil
}

// tail reads LEDGER in order. Where something is missing it says so before it goes on.
type tail struct {
	js      jetstream.JetStream
	created time.Time // of the stream that next belongs to
	next    uint64    // stream sequence
	end     uint64    // the last to read; 0: until ctx ends
	at      time.Time // when the last that was read had been stored
	known   time.Time // what was stored up to then was read before
	take    func(Message, error)
	missed  func()
}

// follow reads until ctx ends.
func (t *tail) follow(ctx context.Context) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
		}
		// What went wrong is the broker's absence; the next attempt says whether it is over.
		if _, err := t.find(ctx); err == nil {
			_ = t.read(ctx)
		}
		retry.Reset(readAgain)
	}
}

// find looks where the stream stands. One that was made anew is read from its beginning; of one that
// lost its end, only what was stored after everything that was read: the rest would be counted twice.
func (t *tail) find(ctx context.Context) (jetstream.StreamState, error) {
	stream, err := t.js.Stream(ctx, streams.Ledger)
	if err != nil {
		return jetstream.StreamState{}, fmt.Errorf("stream %s: %w", streams.Ledger, err)
	}
	info := stream.CachedInfo()
	switch known := !t.created.IsZero(); {
	case known && !t.created.Equal(info.Created), !known && info.State.LastSeq+1 < t.next:
		t.next, t.known = 1, time.Time{}
		t.missed()
	case info.State.LastSeq+1 < t.next: // it lost its end, say in a power cut
		t.next, t.known = max(info.State.FirstSeq, 1), t.at
	}
	t.created = info.Created
	return info.State, nil
}

// read goes on until the end, an error, or ctx's end, which is an error only when an end was asked for. Records come
// with the broker's time: one clock for all.
func (t *tail) read(ctx context.Context) error {
	cfg := jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: t.next}
	return streams.Scan(ctx, t.js, streams.Ledger, cfg, t.end == 0, func(m jetstream.Msg, meta *jetstream.MsgMetadata) bool {
		message, err := DecodeMessage(m.Subject(), m.Data(), meta.Timestamp)
		message.Sequence = meta.Sequence.Stream
		if message.Sequence > t.next { // nothing is ever taken from LEDGER's middle
			t.missed()
		}
		if meta.Timestamp.After(t.known) {
			t.at = meta.Timestamp
			t.take(message, err)
		}
		t.next = meta.Sequence.Stream + 1
		return t.end == 0 || t.next <= t.end && meta.NumPending > 0
	})
}

// HeldBefore are figures of what the every_frame streams held a while ago: what left them since then has its fate in the
// books.
type HeldBefore struct {
	JS jetstream.JetStream

	old, new heldAt
}

type heldAt struct {
	held Held
	at   time.Time
}

// At are figures that are old enough for books of that Pace, and not so old that they lack a frame that the books wait
// for; nil, that is unknown, when there are none. It is called at every look at the books.
func (h *HeldBefore) At(ctx context.Context, now time.Time, every time.Duration) Held {
	p := pace(every)
	if now.Sub(h.new.at) >= p.held() {
		h.old, h.new = h.new, heldAt{HeldFrom(ctx, h.JS), now}
	}
	if now.Sub(h.old.at) >= p.everySettle() {
		return nil
	}
	return h.old.held
}

// HeldFrom asks the every_frame streams what they hold. It is nil, that is unknown, when they do not answer.
func HeldFrom(ctx context.Context, js jetstream.JetStream) Held {
	counts := map[string]uint64{}
	for stream, filter := range map[string]string{
		streams.Frames:  streams.FrameSubject(streams.EveryFrame, "*"),
		streams.Tensors: streams.TensorSubject(streams.EveryFrame, "*", "*", "*"),
	} {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return nil
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
		if err != nil {
			return nil
		}
		maps.Copy(counts, info.State.Subjects)
	}
	return func(camera, model string) uint64 {
		n := counts[streams.FrameSubject(streams.EveryFrame, camera)]
		for _, lane := range []streams.Lane{streams.LaneStable, streams.LaneCanary, streams.LaneShadow} {
			n += counts[streams.TensorSubject(streams.EveryFrame, model, lane, camera)]
		}
		return n
	}
}

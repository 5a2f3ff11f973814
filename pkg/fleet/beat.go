package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/streams"
)

// beat rewrites the entry.
func (m *Member) beat(ctx context.Context) error {
	m.beating.Lock()
	defer m.beating.Unlock()
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	m.asked = time.Time{}
	err := m.write(ctx)
	defer m.tell()
	defer func() { m.complain(ctx, err) }()
	switch {
	case streams.Conflict(err):
		if err = m.recheck(ctx); err == nil {
			err = m.write(ctx)
		}
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		// Somebody deleted the bucket, or the broker has just started. Who makes it first does not matter.
		if m.anew(ctx) {
			m.revision = 0
			m.lapse()
			err = m.write(ctx)
		}
	}
	if err != nil {
		if !errors.Is(err, ErrNameTaken) && !m.asked.IsZero() {
			m.doubt(m.asked)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			m.restore(context.WithoutCancel(ctx))
		}
		return fmt.Errorf("beat of %s: %w", m.Key(), err)
	}
	return nil
}

// complain says once that beats are not stored: who cannot beat does nothing, and should not do so in silence.
func (m *Member) complain(ctx context.Context, err error) {
	switch {
	case err == nil:
		if m.told {
			m.cfg.Log.InfoContext(ctx, "beats are stored again", slog.String("worker", m.Key()))
		}
		m.began, m.told = time.Time{}, false
	case m.began.IsZero():
		m.began = time.Now()
	case !m.told && time.Since(m.began) > complainAfter:
		m.told = true
		m.cfg.Log.WarnContext(ctx, "beats are not stored: nothing is done until one is", slog.String("worker", m.Key()), slog.Any("error", err))
	}
}

// doubt notes that a beat was neither stored nor turned down.
func (m *Member) doubt(sent time.Time) {
	m.mu.Lock()
	m.refused = sent
	m.mu.Unlock()
	m.tell()
}

func (m *Member) tell() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.tried)
	m.tried = make(chan struct{})
}

// restore makes the bucket anew if it is not there. The broker says so to a beat only when nobody listens to beats.
func (m *Member) restore(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	if _, err := m.js.KeyValue(ctx, streams.WorkersBucket); errors.Is(err, jetstream.ErrBucketNotFound) && m.anew(ctx) {
		m.revision = 0
		m.lapse()
	}
}

// anew makes the bucket, if that is for this worker to do. When somebody else has, the next beat finds that its entry is
// not there.
func (m *Member) anew(ctx context.Context) bool {
	return m.cfg.Declares && streams.EnsureBucket(ctx, m.js, streams.WorkersBucket, streams.Options{Replicas: m.cfg.Replicas}) == nil
}

// lapse is called when the bucket knows nothing of this worker. Was that long ago, a tombstone may have expired, too.
func (m *Member) lapse() {
	m.mu.Lock()
	last := m.last
	m.mu.Unlock()
	if m.joined && clock.Since(last) > overdueFor {
		m.fenced(Worker{Epitaph: &Epitaph{By: "nobody", Cause: "expired"}})
	}
}

// write publishes the entry on condition that nobody has changed it.
func (m *Member) write(ctx context.Context) error {
	sent := time.Now()
	w := m.self
	w.At = sent.UTC()
	w.Claims = m.claims()
	w.Connection.Server = m.js.Conn().ConnectedServerId()
	w.Connection.Client, _ = m.js.Conn().GetClientID()
	m.mu.Lock()
	describe := m.describe
	m.mu.Unlock()
	for _, fill := range describe {
		fill(&w)
	}
	m.written.Store(&w)
	data, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	asked := time.Now()
	ack, err := m.js.PublishMsg(ctx, &nats.Msg{Subject: subject(m.Key()), Header: nats.Header{}, Data: data},
		jetstream.WithExpectLastSequencePerSubject(m.revision), jetstream.WithMsgTTL(streams.WorkerTTL), jetstream.WithRetryAttempts(0))
	if err != nil {
		// An attempt that had no time left says nothing of the bucket: it is this process that was slow.
		if timely := !errors.Is(err, context.DeadlineExceeded) || time.Since(asked) >= storeTimeout/2; timely && !streams.Conflict(err) {
			m.asked = asked
		}
		return err
	}
	m.revision, m.joined = ack.Sequence, true
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = sent
	return nil
}

// recheck finds out why the entry is not the one that was written last.
func (m *Member) recheck(ctx context.Context) error {
	e, err := m.entry(ctx)
	if errors.Is(err, jetstream.ErrKeyNotFound) { // it expired, but nobody declared it dead
		m.revision = 0
		if e, err := m.marker(ctx); err == nil {
			m.revision = e
		}
		m.lapse()
		return nil
	}
	if err != nil {
		return err
	}
	w, unreadable := Decode(e.Value())
	if unreadable == nil && w.State == Alive && w.Incarnation != m.self.Incarnation {
		if m.joined { // it was silent for so long that another process took its name
			m.cfg.Log.ErrorContext(ctx, "another process has this name: give every replica a name of its own", slog.String("worker", m.Key()))
			m.fenced(Worker{Epitaph: &Epitaph{By: w.Incarnation, Cause: "replaced"}})
		}
		return ErrNameTaken
	}
	m.revision = e.Revision() // a tombstone, our own beat whose acknowledgement was lost, or not from a worker at all
	if unreadable == nil && w.State == Dead && w.Incarnation == m.self.Incarnation {
		m.fenced(w)
	}
	return nil
}

// fenced lets go of everything: somebody else has it.
func (m *Member) fenced(tombstone Worker) {
	m.mu.Lock()
	holders := make([]Holder, 0, len(m.holders))
	for k := range m.holders {
		holders = append(holders, k.h)
	}
	m.mu.Unlock()
	for _, h := range holders {
		h.Abandon()
	}
	m.self.Incarnation, m.joined = nuid.Next(), false
	epitaph := Epitaph{}
	if tombstone.Epitaph != nil {
		epitaph = *tombstone.Epitaph
	}
	m.cfg.Log.Warn("declared dead, starting over", slog.String("worker", m.Key()), slog.String("by", epitaph.By), slog.String("cause", epitaph.Cause))
	if m.cfg.OnFence != nil {
		m.cfg.OnFence(epitaph)
	}
}

func (m *Member) claims() []Claim {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Claim
	for k := range m.holders {
		out = append(out, k.h.Claims()...)
	}
	return out
}

// leave removes the entry: nothing is held any more.
func (m *Member) leave(ctx context.Context) error {
	m.beating.Lock()
	defer m.beating.Unlock()
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	kv, err := m.js.KeyValue(ctx, streams.WorkersBucket)
	if err == nil {
		err = kv.Delete(ctx, m.Key(), jetstream.LastRevision(m.revision))
		if streams.Conflict(err) && m.recheck(ctx) == nil { // a beat whose acknowledgement was lost
			err = kv.Delete(ctx, m.Key(), jetstream.LastRevision(m.revision))
		}
	}
	if err != nil && !streams.Conflict(err) {
		return fmt.Errorf("leave as %s: %w", m.Key(), err) // the entry expires by itself
	}
	return nil
}

func (m *Member) entry(ctx context.Context) (jetstream.KeyValueEntry, error) {
	kv, err := m.js.KeyValue(ctx, streams.WorkersBucket)
	if err != nil {
		return nil, err
	}
	return kv.Get(ctx, m.Key())
}

// marker is the sequence of what stands in the place of an expired entry.
func (m *Member) marker(ctx context.Context) (uint64, error) {
	stream, err := m.js.Stream(ctx, "KV_"+streams.WorkersBucket)
	if err != nil {
		return 0, err
	}
	msg, err := stream.GetLastMsgForSubject(ctx, subject(m.Key()))
	if err != nil {
		return 0, err
	}
	return msg.Sequence, nil
}

func subject(key string) string { return "$KV." + streams.WorkersBucket + "." + key }

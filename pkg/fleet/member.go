package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/streams"
)

const (
	beatTimeout = 800 * time.Millisecond
	// storeTimeout is how long the bucket may take to store an entry.
	storeTimeout = 400 * time.Millisecond
	// refusedFor is how long a beat that was not answered says something of the bucket: longer than it takes to the end of
	// the next one.
	refusedFor = 3 * time.Second
	// doubtFor bounds how long a worker acts without a lease: well below the time for which repeats are recognised.
	doubtFor = 30 * time.Second
	// silentFor is how long an entry that bears this worker's name must not change before it is taken over: its process
	// is gone, and nobody has declared it dead.
	silentFor = 1200 * time.Millisecond
	// nameTakenAfter is when a worker gives up waiting for another one of its name to end.
	nameTakenAfter = 10 * time.Second
	joinRetry      = 100 * time.Millisecond
	// overdueFor is how long after a beat nothing is known any more of what a worker holds: somebody has answered that long
	// ago, and a repeat may soon not be recognised as one.
	overdueFor = streams.DuplicateWindow / 2
	// complainAfter is when somebody is told that beats are not stored.
	complainAfter = 5 * time.Second
)

// ErrNameTaken means that another process of this service has the same instance name and is alive.
var ErrNameTaken = errors.New("another process has this name")

// A Holder has messages in its hands.
type Holder interface {
	// Claims are what it has at this moment.
	Claims() []Claim
	// Abandon lets go of all of it: no effects, no acknowledgement. Somebody else has it.
	Abandon()
}

// Config describes a member.
type Config struct {
	Service  string
	Instance string
	Region   string
	// Replicas are those of the streams, should the bucket have to be made anew.
	Replicas int
	Log      *slog.Logger
	// OnFence is told that this worker had been declared dead. May be nil.
	OnFence func(Epitaph)
}

// Member is this process in the fleet.
type Member struct {
	cfg     Config
	js      jetstream.JetStream
	contact contact

	beating  sync.Mutex // one beat at a time; guards self and revision
	self     Worker
	revision uint64
	asked    time.Time // when the last beat was sent that was not stored
	began    time.Time // of what is being tried in vain, if anything is
	told     bool      // that it is in vain
	joined   bool      // whether the entry has been this incarnation's

	mu       sync.Mutex
	describe []func(*Worker)
	holders  map[*hold]struct{}
	last     time.Time     // when the last beat that succeeded was sent
	refused  time.Time     // when the last beat was sent that the bucket neither took nor turned down
	tried    chan struct{} // closes at the end of the next beat, whatever comes of it
	now      chan struct{} // asks for a beat at once
}

type hold struct{ h Holder }

// NewMember makes a Member; Join makes it known.
func NewMember(js jetstream.JetStream, cfg Config) *Member {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	host, _ := os.Hostname()
	return &Member{
		cfg: cfg, js: js, contact: contact{nc: js.Conn()},
		self: Worker{
			Service: cfg.Service, Instance: cfg.Instance, Incarnation: nuid.Next(), State: Alive,
			Host: host, Region: cfg.Region, PID: os.Getpid(), Started: time.Now().UTC(),
		},
		holders: map[*hold]struct{}{}, tried: make(chan struct{}), now: make(chan struct{}, 1),
	}
}

// Key is this member's key in WORKERS.
func (m *Member) Key() string { return Key(m.cfg.Service, m.cfg.Instance) }

// Join writes the first entry. It waits while the broker is away, and for an earlier process of the same name to be
// declared dead or to fall silent; when that one lives it returns ErrNameTaken.
func (m *Member) Join(ctx context.Context) error {
	var seen uint64
	var since time.Time
	began := time.Now()
	for adopted := false; ; {
		var err error
		if !adopted { // a beat that the bucket refuses is heard all the same, and looks like a process that took over
			err = m.look(ctx)
		}
		if !errors.Is(err, ErrNameTaken) {
			err = m.beat(ctx)
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, ErrNameTaken) {
			switch rev := m.foreign(ctx); {
			case rev != seen:
				seen, since, adopted = rev, time.Now(), false
			case rev != 0 && time.Since(since) > silentFor:
				m.adopt(rev)
				adopted = true
			}
			if time.Since(began) > nameTakenAfter {
				return fmt.Errorf("join as %s: %w: give every replica of %s an instance name of its own (SIGHTLINE_INSTANCE)", m.Key(), ErrNameTaken, m.cfg.Service)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("join as %s: %w", m.Key(), context.Cause(ctx))
		case <-time.After(joinRetry):
		}
	}
}

// look returns ErrNameTaken when the entry is another living worker's.
func (m *Member) look(ctx context.Context) error {
	m.beating.Lock()
	defer m.beating.Unlock()
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	return m.recheck(ctx)
}

// foreign is the revision of the entry that stands in the way; 0 when that is not known.
func (m *Member) foreign(ctx context.Context) uint64 {
	e, err := m.entry(ctx)
	if err != nil {
		return 0
	}
	return e.Revision()
}

func (m *Member) adopt(revision uint64) {
	m.beating.Lock()
	defer m.beating.Unlock()
	m.revision = revision
}

// Run beats until ctx ends, and then leaves. Call it after Join; cancel ctx when everything that the process held is
// settled.
func (m *Member) Run(ctx context.Context) error {
	touching, stop := context.WithCancel(ctx)
	var touch sync.WaitGroup
	touch.Go(func() { m.contact.run(touching) })
	defer touch.Wait()
	defer stop()
	tick := time.NewTicker(BeatEvery)
	defer tick.Stop()
	back := m.js.Conn().StatusChanged(nats.CONNECTED)
	defer m.js.Conn().RemoveStatusListener(back)
	for {
		select {
		case <-ctx.Done():
			return m.leave(context.WithoutCancel(ctx))
		case <-tick.C:
		case <-back: // a disconnect looks like a death
		case <-m.now:
		}
		_ = m.beat(context.WithoutCancel(ctx)) // leave needs to know its revision
	}
}

// While works as a member: it joins, beats while work runs, and leaves when work has returned. Work's ctx is the caller's.
func (m *Member) While(ctx context.Context, work func(context.Context) error) error {
	if err := m.Join(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before there was anything to do
		}
		return err
	}
	alive, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	left := make(chan error, 1)
	go func() { left <- m.Run(alive) }()
	err := work(ctx)
	leave()
	return errors.Join(err, <-left)
}

// Describe makes fill say what changes: lanes, capacity, load. It is called before every beat and must not block.
func (m *Member) Describe(fill func(*Worker)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.describe = append(slices.Clip(m.describe), fill)
}

// Hold makes what h holds part of the entry, until release is called.
func (m *Member) Hold(h Holder) (release func()) {
	k := &hold{h}
	m.mu.Lock()
	m.holders[k] = struct{}{}
	m.mu.Unlock()
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.holders, k)
	}
}

// InTouch reports whether this process has been running without a stop since a time, and that what it sent later than at
// another reached its server of the broker: then that it got no answer is the broker's trouble, and everybody's.
func (m *Member) InTouch(running, sent time.Time) bool { return m.contact.fine(running, sent) }

// Await returns when this worker may act: at once while its lease is fresh, otherwise after the next beat. When the bucket
// does not answer to that, because the broker elects a leader for it, nobody can have declared this worker dead, unless it
// was stopped or cut off. What it held may have been taken from it meanwhile: its Holder knows. Await returns an error
// only when ctx ends.
func (m *Member) Await(ctx context.Context) error {
	for {
		m.mu.Lock()
		last, refused, tried := m.last, m.refused, m.tried
		m.mu.Unlock()
		if clock.Since(last) < FreshFor {
			return nil
		}
		if clock.Since(refused) < refusedFor && clock.Since(last) < doubtFor && m.InTouch(last, refused) {
			return nil
		}
		select {
		case m.now <- struct{}{}:
		default:
		}
		select {
		case <-tried:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

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
		if streams.EnsureBucket(ctx, m.js, streams.WorkersBucket, streams.Options{Replicas: m.cfg.Replicas}) == nil {
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
	if _, err := m.js.KeyValue(ctx, streams.WorkersBucket); errors.Is(err, jetstream.ErrBucketNotFound) &&
		streams.EnsureBucket(ctx, m.js, streams.WorkersBucket, streams.Options{Replicas: m.cfg.Replicas}) == nil {
		m.revision = 0
		m.lapse()
	}
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

package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
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
	// Declares says that this worker makes the bucket anew when it is gone. Others wait until somebody has.
	Declares bool
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

	written atomic.Pointer[Worker] // the entry as it was last to be stored
	stays   atomic.Bool

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
			if m.stays.Load() {
				return nil
			}
			return m.leave(context.WithoutCancel(ctx))
		case <-tick.C:
		case <-back: // a disconnect looks like a death
		case <-m.now:
		}
		_ = m.beat(context.WithoutCancel(ctx)) // leave needs to know its revision
	}
}

// Stay makes this worker end without a leave: it could not tell the books what it saw last. Others declare it dead, and what it
// had in hand comes back for the books, too.
func (m *Member) Stay() { m.stays.Store(true) }

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
		tried := m.tried
		m.mu.Unlock()
		if m.MayAct() {
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

// MayAct reports whether Await would return at once.
func (m *Member) MayAct() bool {
	m.mu.Lock()
	last, refused := m.last, m.refused
	m.mu.Unlock()
	return clock.Since(last) < FreshFor ||
		clock.Since(refused) < refusedFor && clock.Since(last) < doubtFor && m.InTouch(last, refused)
}

// Entry is what this worker's last beat says, stored or not; none before the first. At changes with every beat.
func (m *Member) Entry() Worker {
	if w := m.written.Load(); w != nil {
		return *w
	}
	return Worker{}
}

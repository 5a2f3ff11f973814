package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Phase is what a camera is doing.
type Phase string

// The phases.
const (
	PhaseConnecting Phase = "connecting" // no picture yet, and no failure
	PhaseLive       Phase = "live"       // pictures arrive
	PhaseDown       Phase = "down"       // it failed, or sends nothing that can be shown; attempts go on
)

// State is what a [Session] knows about its camera.
type State struct {
	Phase  Phase
	Cause  Cause  // of PhaseDown
	Detail string // of PhaseDown: the error's text without credentials
	At     time.Time
}

// SessionConfig describes a supervised camera. Source, NewDecoder and OnPicture are required; zero numbers take the
// defaults.
type SessionConfig struct {
	Source     Source
	NewDecoder func(Codec) (Decoder, error)

	// OnPicture gets every good picture, valid until it returns. OnState gets every change of phase or cause; after a
	// failure the camera counts as down until the next picture, not as connecting. Both are called by the goroutine of
	// Run; while they work, access units queue up.
	OnPicture func(Picture)
	OnState   func(State)
	// OnFailure gets the cause of every connection that failed, OnDamage is called for every access unit that came to nothing.
	// The goroutine of Run calls them.
	OnFailure func(Cause)
	OnDamage  func()

	Redactor Redactor // of the camera's URL; the details of states pass through it

	BackoffMin   time.Duration // first pause between attempts; default 250 ms
	BackoffMax   time.Duration // longest pause between attempts; default 3 s: a camera is seen within 5 s of its return
	HealthyAfter time.Duration // being live for so long starts the pauses anew; default 10 s

	// StallTimeout is how long a camera may stay without an access unit once the first has come; default 2 s. After
	// as long without a picture because of damage it counts as down, though the connection stays.
	StallTimeout time.Duration
	// ConnectTimeout is how long the first access unit of a connection may take, whatever the source believes;
	// default 10 s. Sources have closer limits of their own.
	ConnectTimeout time.Duration
	// PictureTimeout is how long access units may arrive without a good picture: no key frame, or nothing that can be
	// decoded; default 15 s.
	PictureTimeout time.Duration

	QueueSize int // access units between source and decoder; default 64

	// Held begins without decoding: the session connects, and keeps what the present picture can be decoded from, until
	// Release is called. It counts as live once it could show a picture.
	Held bool
}

func (c *SessionConfig) setDefaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.BackoffMin, 250 * time.Millisecond},
		{&c.BackoffMax, 3 * time.Second},
		{&c.HealthyAfter, 10 * time.Second},
		{&c.StallTimeout, 2 * time.Second},
		{&c.ConnectTimeout, 10 * time.Second},
		{&c.PictureTimeout, 15 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.QueueSize == 0 {
		c.QueueSize = 64
	}
	if c.OnState == nil {
		c.OnState = func(State) {}
	}
	if c.OnFailure == nil {
		c.OnFailure = func(Cause) {}
	}
	if c.OnDamage == nil {
		c.OnDamage = func() {}
	}
}

func (c *SessionConfig) validate() error {
	var problems []error
	if c.Source == nil || c.NewDecoder == nil || c.OnPicture == nil {
		problems = append(problems, errors.New("Source, NewDecoder and OnPicture are required"))
	}
	if c.BackoffMin > c.BackoffMax {
		problems = append(problems, fmt.Errorf("BackoffMin is %s, more than BackoffMax %s", c.BackoffMin, c.BackoffMax))
	}
	for _, d := range []time.Duration{
		c.BackoffMin, c.HealthyAfter, c.StallTimeout, c.ConnectTimeout, c.PictureTimeout, time.Duration(c.QueueSize),
	} {
		if d < 0 {
			problems = append(problems, errors.New("times and sizes must not be negative"))
			break
		}
	}
	return errors.Join(problems...)
}

// A Session is a supervised camera: it connects, decodes, hands on pictures, and begins again whenever that fails,
// for as long as it is told to.
//
// It owns time, while its [Source] knows the protocol and its [Decoder] the coding. It begins at a key frame, and after
// lost packets, a decode error, a damaged picture or an overflow it hands nothing on before the next one. It never
// resets a decoder because of an error: each connection gets a fresh one.
type Session struct {
	cfg     SessionConfig
	backoff Backoff
	books   books
	state   State

	mu    sync.Mutex
	held  bool
	queue *unitQueue // of the connection that is open
}

// NewSession checks cfg; it starts nothing.
func NewSession(cfg SessionConfig) (*Session, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, WithCause(CauseConfig, fmt.Errorf("session: %w", err))
	}
	return &Session{cfg: cfg, backoff: Backoff{Min: cfg.BackoffMin, Max: cfg.BackoffMax}, held: cfg.Held}, nil
}

// Run supervises the camera until ctx ends, and returns nil then. Everything it started has ended when it returns.
// Call it once.
func (s *Session) Run(ctx context.Context) error {
	s.report(State{Phase: PhaseConnecting})
	for {
		c := connection{s: s, queue: s.newQueue(), waitKey: true}
		err := c.run(ctx)
		s.books.connectionEnded(c.queue)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // to be told to stop is no error
		}
		cause := CauseOf(err)
		s.books.count(func(st *Stats) { st.Reconnects[cause]++ })
		s.cfg.OnFailure(cause)
		s.report(State{Phase: PhaseDown, Cause: cause, Detail: s.cfg.Redactor.Redact(err.Error())})
		if !c.liveSince.IsZero() && time.Since(c.liveSince) >= s.cfg.HealthyAfter {
			s.backoff.Reset()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(s.backoff.Next()):
		}
	}
}

func (s *Session) newQueue() *unitQueue {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = newUnitQueue(s.cfg.QueueSize, s.held)
	return s.queue
}

// Release lets a session that is held decode and hand on pictures, from the last key frame on.
func (s *Session) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = false
	if s.queue != nil {
		s.queue.release()
	}
}

// shows reports whether a session that is held has what it could show a picture with.
func (s *Session) shows() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held || s.queue == nil {
		return !s.held
	}
	_, picture, _ := s.queue.holding()
	return picture
}

// report tells OnState about a change.
func (s *Session) report(state State) {
	if state.Phase == s.state.Phase && state.Cause == s.state.Cause {
		return
	}
	state.At = time.Now()
	s.state = state
	s.cfg.OnState(state)
}

// Stats returns a snapshot. It may be called from any goroutine.
func (s *Session) Stats() Stats {
	stats := s.books.snapshot()
	if src, ok := s.cfg.Source.(CountingSource); ok {
		stats.Source = src.SourceStats()
	}
	return stats
}

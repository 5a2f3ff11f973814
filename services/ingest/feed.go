package ingest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sightline-dev/sightline/pkg/config"
)

// patience is how long a session that was opened before the lease was had may connect on after it is: one without a picture
// may hang because its camera lets only one look, and then a new attempt does better.
const patience = time.Second

// A feed is a camera's session. It may begin before this instance has the lease, while another one still captures: then
// it is warm, decodes nothing, and nobody is told of it. From reserve on its pictures wait, and from attach on it is its
// camera's.
type feed struct {
	camera  config.Camera
	session *Session
	ctx     context.Context //nolint:containedctx // the session's, whose callbacks have none
	stop    context.CancelFunc
	done    chan struct{} // closes when the session has ended
	began   time.Time
	live    atomic.Bool // the last thing it knows is that pictures arrive
	fail    atomic.Bool // an attempt failed
	offered atomic.Bool // the camera's owner is to hand it over
	over    atomic.Bool // it is closed

	mu    sync.Mutex    // held while the camera is called
	gate  chan struct{} // pictures wait until it closes; nil: they do not
	owner *camera
	since time.Time // pictures of before are the predecessor's
	state State     // the last
	told  bool      // the camera knows it
}

// open begins a camera's session, which lasts until ctx ends or the feed is closed. It is reserved from the beginning, or
// warm.
func (s *Service) open(ctx context.Context, cfg config.Camera, reserved bool) (*feed, error) {
	source, err := s.deps.NewSource(cfg)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	f := &feed{camera: cfg, ctx: ctx, stop: stop, done: make(chan struct{}), began: time.Now()}
	f.session, err = NewSession(SessionConfig{
		Source: source, NewDecoder: s.deps.NewDecoder, OnPicture: f.onPicture, OnState: f.onState,
		OnFailure: func(c Cause) { f.count(func(m *cameraMeasure) { m.reconnect(c) }) },
		OnDamage:  func() { f.count(func(m *cameraMeasure) { m.damaged.Inc() }) },
		Redactor:  NewRedactor(cfg.URL.Reveal()), StallTimeout: cfg.StallAfter, Held: !reserved,
	})
	if err != nil {
		stop()
		return nil, err
	}
	if reserved {
		f.reserve(time.Time{})
	}
	go func() {
		defer close(f.done)
		_ = f.session.Run(ctx) // its only end is ctx's
	}()
	return f, nil
}

// close ends the session and waits for it. A feed that was never opened, nil, is closed.
func (f *feed) close() {
	if f == nil {
		return
	}
	f.over.Store(true)
	f.stop()
	<-f.done
}

// ready reports whether the next picture could be captured.
func (f *feed) ready() bool {
	return f != nil && f.live.Load() && !f.over.Load() && f.session.shows()
}

// useful reports whether the session should go on now that the lease is had. Otherwise a new one has better prospects.
func (f *feed) useful() bool {
	return f.ready() || f != nil && !f.fail.Load() && !f.over.Load() && time.Since(f.began) < patience
}

// reserve makes pictures wait for attach, which follows soon: those received after since are this instance's. A session
// that was held begins to decode with what it kept.
func (f *feed) reserve(since time.Time) {
	f.mu.Lock()
	f.gate, f.since = make(chan struct{}), since
	f.mu.Unlock()
	f.session.Release()
}

// attach makes the session the camera's: from now on it is told of states, and gets every picture. Call it once, after
// reserve.
func (f *feed) attach(c *camera) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owner = c
	if f.state.Phase != "" && f.state.Phase != PhaseLive { // that is told with the first picture of its own
		f.told = true
		c.onState(f.state)
	}
	close(f.gate)
}

func (f *feed) onState(s State) {
	f.live.Store(s.Phase == PhaseLive)
	if s.Phase == PhaseDown {
		f.fail.Store(true)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state, f.told = s, false
	if f.owner != nil && s.Phase != PhaseLive {
		f.told = true
		f.owner.onState(s)
	}
}

// count counts for the camera, once there is one.
func (f *feed) count(do func(*cameraMeasure)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.owner != nil {
		do(f.owner.measure)
	}
}

func (f *feed) onPicture(p Picture) {
	f.mu.Lock()
	gate := f.gate
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-f.ctx.Done():
			return
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.owner == nil || p.Received().Before(f.since) {
		return
	}
	if !f.told {
		f.told = true
		f.owner.onState(State{Phase: PhaseLive, At: time.Now()})
	}
	f.owner.onPicture(p)
}

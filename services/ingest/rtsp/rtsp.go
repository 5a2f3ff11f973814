package rtsp

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/services/ingest"
)

var _ ingest.CountingSource = (*Source)(nil)

// Source is one camera. Make it with [New].
type Source struct {
	cfg    Config
	redact ingest.Redactor

	mu     sync.Mutex
	stats  ingest.SourceStats
	prefer Transport // what worked last, for Auto
}

// New checks cfg; it opens nothing.
func New(cfg Config) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	return &Source{cfg: cfg, redact: ingest.NewRedactor(cfg.URL)}, nil
}

// SourceStats implements [ingest.CountingSource].
func (s *Source) SourceStats() ingest.SourceStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Run implements [ingest.Source].
func (s *Source) Run(ctx context.Context, sink func(ingest.AccessUnit)) error {
	var err error
	for i, transport := range s.order() {
		if i > 0 {
			s.count(func(st *ingest.SourceStats) { st.TransportFalls++ })
		}
		p := play{cfg: s.cfg, transport: transport, sink: sink, count: s.count, firstUnit: s.cfg.MediaTimeout}
		s.count(func(st *ingest.SourceStats) { st.Transport = string(transport) })
		err = p.run(ctx)
		s.learn(ctx, transport, p.gotMedia())
		if ctx.Err() != nil {
			return ingest.WithCause(ingest.CauseCanceled, context.Cause(ctx))
		}
		if _, retry := errors.AsType[*transportError](err); !retry {
			break
		}
	}
	return s.redact.Error(err)
}

// order lists the transports to try in this connection.
func (s *Source) order() []Transport {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cfg.Transport != Auto:
		return []Transport{s.cfg.Transport}
	case s.prefer == UDP:
		return []Transport{UDP, TCP}
	default:
		return []Transport{TCP, UDP}
	}
}

// learn remembers a camera that only does UDP, until UDP does not do either.
func (s *Source) learn(ctx context.Context, used Transport, media bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stalled := ingest.CauseOf(context.Cause(ctx)) == ingest.CauseStalled
	if media && !stalled {
		s.prefer = used
	} else if s.prefer == used {
		s.prefer = ""
	}
}

func (s *Source) count(change func(*ingest.SourceStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

// transportError means that the other transport may do better.
type transportError struct{ error }

func (e *transportError) Unwrap() error { return e.error }

// closeGrace is how long a session may take to say TEARDOWN before its socket is closed.
const closeGrace = 500 * time.Millisecond

// Package health is what a process says of itself to whoever looks after it: a container engine, Kubernetes, a person.
//
// # Live and ready
//
// A process that is not live has to be started again: something in it hangs, and it will not end by itself. A broker that
// is away makes nobody hang, or everything would be started again whenever it is. A process that is not ready does no
// work at the moment: it waits for something, or it is about to end. Nothing is to be done about it.
//
// # Checks
//
// A [Check] reads what others have written down. It never waits: not for the broker, and not for a lock that somebody
// holds who does. Checks of both kinds share nothing, so that one that breaks this rule hides no hang.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Check returns nil when all is well, and otherwise why not. It never waits.
type Check func() error

// A Flag is a check that is told what to say. It passes until somebody sets it.
type Flag struct{ err atomic.Pointer[error] }

// Set makes the flag say err from now on; nil is well.
func (f *Flag) Set(err error) { f.err.Store(&err) }

// Check is the flag's [Check].
func (f *Flag) Check() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Config says whose health it is.
type Config struct {
	Service  string
	Instance string
	// Log is told when the process becomes ready and when it is not any more. May be nil.
	Log *slog.Logger
}

// Board is what a process says of itself. Everything may be called at any time.
type Board struct {
	cfg     Config
	started time.Time
	mux     *http.ServeMux
	live    group
	ready   group
	stopped Flag

	mu    sync.Mutex
	facts map[string]func() any
}

// New makes a Board that is live and ready until checks say otherwise.
func New(cfg Config) *Board {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Board{cfg: cfg, started: time.Now(), mux: http.NewServeMux(), facts: map[string]func() any{}}
	b.Ready("shutdown", b.stopped.Check)
	b.mux.Handle("GET /livez", b.live.handler("livez"))
	b.mux.Handle("GET /readyz", b.ready.handler("readyz"))
	b.mux.HandleFunc("GET /status", b.status)
	return b
}

// Live adds a check that fails when something in the process hangs for good, or replaces the one of that name.
func (b *Board) Live(name string, c Check) { b.live.put(name, c) }

// Ready adds a check that fails while the process does no work, or replaces the one of that name.
func (b *Board) Ready(name string, c Check) { b.ready.put(name, c) }

// Fact adds something to /status that is neither well nor not, as JSON of at most 4 kB. It never waits, and tells no
// secrets. Beyond 32 facts there is no room.
func (b *Board) Fact(name string, read func() any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.facts[name]; known || len(b.facts) < maxFacts {
		b.facts[name] = read
	}
}

// Handle answers other requests, as [http.ServeMux.Handle] does: "GET /metrics".
func (b *Board) Handle(pattern string, h http.Handler) { b.mux.Handle(pattern, h) }

// Drain says that the process was told to stop: it is not ready from now on, and live until it has ended.
func (b *Board) Drain() { b.stopped.Set(errors.New("was told to stop")) }

const (
	maxFacts     = 32
	maxFactBytes = 4 << 10
	maxWhyBytes  = 500
)

// An Answer is what /livez and /readyz say.
type Answer struct {
	OK     bool              `json:"ok"`
	Checks map[string]Result `json:"checks"`
}

// Result is what came of a check.
type Result struct {
	OK  bool   `json:"ok"`
	Why string `json:"why,omitempty"`
	// Since is when it became so, to a quarter of a second.
	Since time.Time `json:"since"`
}

// String is the failed checks and why, in one line.
func (a Answer) String() string {
	var failed []string
	for _, name := range slices.Sorted(maps.Keys(a.Checks)) {
		if r := a.Checks[name]; !r.OK {
			failed = append(failed, fmt.Sprintf("%s: %s (for %s)", name, r.Why, max(time.Since(r.Since), 0).Round(time.Second)))
		}
	}
	return strings.Join(failed, "; ")
}

// group is checks that are asked together.
type group struct {
	mu     sync.Mutex
	checks map[string]*entry
}

type entry struct {
	check Check
	last  Result
}

func (g *group) put(name string, c Check) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e, known := g.checks[name]
	if !known {
		if g.checks == nil {
			g.checks = map[string]*entry{}
		}
		e = &entry{}
		g.checks[name] = e
	}
	e.check = c
	e.ask(time.Now())
}

func (g *group) ask() Answer {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	a := Answer{OK: true, Checks: make(map[string]Result, len(g.checks))}
	for name, e := range g.checks {
		a.Checks[name] = e.ask(now)
		a.OK = a.OK && e.last.OK
	}
	return a
}

func (e *entry) ask(now time.Time) Result {
	err := e.check()
	if e.last.Since.IsZero() || e.last.OK != (err == nil) {
		e.last = Result{OK: err == nil, Since: now.UTC().Truncate(time.Millisecond)}
	}
	e.last.Why = ""
	if err != nil {
		e.last.Why = presentable(err.Error())
	}
	return e.last
}

// userinfo is what a URL has before its host. It goes too far rather than not far enough: a password may have anything
// in it.
var userinfo = regexp.MustCompile(`://[^\s"]*@`)

const redacted = "://redacted@"

// presentable makes one line of bounded length of what somebody else wrote, without the passwords of URLs in it.
func presentable(why string) string {
	why = userinfo.ReplaceAllString(strings.Join(strings.Fields(why), " "), redacted)
	if len(why) > maxWhyBytes {
		why = strings.ToValidUTF8(why[:maxWhyBytes], "") + "..."
	}
	return why
}

// statusBody is what /status says.
type statusBody struct {
	Service  string         `json:"service"`
	Instance string         `json:"instance"`
	Build    Build          `json:"build"`
	Started  time.Time      `json:"started"`
	Live     Answer         `json:"live"`
	Ready    Answer         `json:"ready"`
	Facts    map[string]any `json:"facts,omitempty"`
}

func (b *Board) status(w http.ResponseWriter, _ *http.Request) {
	s := statusBody{
		Service: b.cfg.Service, Instance: b.cfg.Instance, Build: ReadBuild(), Started: b.started.UTC().Truncate(time.Millisecond),
		Live: b.live.ask(), Ready: b.ready.ask(), Facts: map[string]any{},
	}
	b.mu.Lock()
	facts := maps.Clone(b.facts)
	b.mu.Unlock()
	for name, read := range facts {
		s.Facts[name] = fact(read())
	}
	answer(w, http.StatusOK, s)
}

// fact is v as it is shown.
func fact(v any) any {
	data, err := json.Marshal(v)
	switch {
	case err != nil:
		return presentable("unreadable: " + err.Error())
	case len(data) > maxFactBytes:
		return fmt.Sprintf("left out: %d bytes", len(data))
	}
	return json.RawMessage(userinfo.ReplaceAll(data, []byte(redacted)))
}

// watchEvery is how often the checks of a process that nobody asks are asked: since when something is so, is then known.
const watchEvery = 250 * time.Millisecond

// watch tells the log when the process becomes ready, and when it is not any more.
func (b *Board) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for ready := false; ; {
		a := b.ready.ask()
		switch {
		case a.OK && !ready:
			b.cfg.Log.InfoContext(ctx, "ready")
		case !a.OK && ready && b.stopped.Check() != nil:
			b.cfg.Log.InfoContext(ctx, "not ready", slog.String("why", a.String()))
		case !a.OK && ready:
			b.cfg.Log.WarnContext(ctx, "not ready", slog.String("why", a.String()))
		}
		ready = a.OK
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			b.live.ask()
		}
	}
}

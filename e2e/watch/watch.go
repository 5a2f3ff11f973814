// Package watch sees an installation from the outside: as an application does, with the user `app`, on every node of the
// broker; and as an operator does, with the user `operator`, who reads the books. It changes nothing.
package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/chaos/audit"
	"github.com/sightline-dev/sightline/chaos/meter"
	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// The users.
const (
	App      = "app"
	Operator = "operator"
)

// Camera is a camera that should be answered.
type Camera struct {
	meter.Camera
	Delivery streams.Delivery
}

// Config is what to watch.
type Config struct {
	// Nodes are the nodes' addresses on this machine.
	Nodes []string
	// Secrets is the folder with the users' seeds and the authority's certificate.
	Secrets string
	Cameras []Camera
	Model   string
}

// Watch is what was seen since it was opened.
type Watch struct {
	Config

	JS     jetstream.JetStream // the operator's
	Meter  *meter.Meter
	Facts  *audit.Facts
	Reader *audit.Reader
	Fleet  *fleet.View

	end   context.CancelFunc
	conns []*nats.Conn

	mu     sync.Mutex
	events []Event
	work   map[string]uint64 // frames answered, by instance
	first  map[string]time.Time
}

// Event is an event and when it arrived.
type Event struct {
	events.Event
	Arrived time.Time
}

// Open begins to watch. Streams need not exist yet.
func Open(ctx context.Context, cfg Config) (*Watch, error) {
	cameras := make([]meter.Camera, 0, len(cfg.Cameras))
	for _, c := range cfg.Cameras {
		cameras = append(cameras, c.Camera)
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	w := &Watch{
		Config: cfg, Meter: meter.New(cameras), Facts: audit.NewFacts(), end: end,
		work: map[string]uint64{}, first: map[string]time.Time{},
	}
	if err := w.open(life); err != nil {
		w.Close()
		return nil, fmt.Errorf("watch: %w", err)
	}
	return w, nil
}

func (w *Watch) open(life context.Context) error {
	nc, err := w.Connect(Operator, "e2e-operator", w.Nodes...)
	if err != nil {
		return err
	}
	w.conns = append(w.conns, nc)
	if w.JS, err = broker.JetStream(nc); err != nil {
		return err
	}
	w.Reader = audit.NewReader(w.JS, w.Facts)
	for subject, take := range map[string]nats.MsgHandler{
		streams.FrameSubject(streams.EveryFrame, "*"): w.frame,
		streams.EventSubject("*", "*", "*"):           w.event,
		"ledger.*":                                    w.record,
	} {
		if _, err := nc.Subscribe(subject, take); err != nil {
			return fmt.Errorf("listen to %s: %w", subject, err)
		}
	}
	for _, node := range w.Nodes { // the death of one does not blind it
		tap, err := w.Connect(App, "e2e-app", node)
		if err != nil {
			return err
		}
		w.conns = append(w.conns, tap)
		if _, err := tap.Subscribe(streams.PredictionSubject("*", "*"), w.prediction); err != nil {
			return fmt.Errorf("listen to predictions: %w", err)
		}
	}
	w.Fleet, err = fleet.Follow(life, w.JS, "", slog.New(slog.DiscardHandler))
	return err
}

// Connect connects as a user, to some of the nodes. It returns before the connection is there.
func (w *Watch) Connect(user, name string, nodes ...string) (*nats.Conn, error) {
	servers := make([]string, 0, len(nodes))
	for _, n := range nodes {
		servers = append(servers, "tls://"+n)
	}
	return broker.Connect(broker.Config{
		URL: strings.Join(servers, ","), Name: name,
		Credentials: broker.Credentials{User: user, NKey: filepath.Join(w.Secrets, user+".nk"), CA: w.CA()},
	})
}

// Close ends it.
func (w *Watch) Close() {
	w.end()
	for _, nc := range w.conns {
		nc.Close()
	}
}

func (w *Watch) prediction(m *nats.Msg) {
	now := time.Now()
	p, err := predictions.Decode(m.Data)
	if err != nil || p.Kind != predictions.KindPrediction {
		return
	}
	w.Meter.Add(p.Camera, meter.Arrival{Frame: p.Frame, At: now, Captured: p.CapturedAt})
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first[p.Camera].IsZero() {
		w.first[p.Camera] = now
	}
}

func (w *Watch) frame(m *nats.Msg) {
	if h := m.Header[frame.HeaderName]; len(h) > 0 {
		if n, err := frame.ParseName(h[0]); err == nil {
			w.Facts.Published(n)
		}
	}
}

func (w *Watch) event(m *nats.Msg) {
	e, err := events.Decode(m.Data)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, Event{Event: e, Arrived: time.Now()})
}

func (w *Watch) record(m *nats.Msg) {
	l, err := ledger.DecodeMessage(m.Subject, m.Data, time.Now())
	if err != nil || l.Record == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range l.Record.Entries {
		if e.Mark == ledger.Predicted {
			w.work[l.Record.Instance] += e.Frames.Count()
		}
	}
}

// Events are the events that arrived from a time on.
func (w *Watch) Events(from time.Time) []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.events, func(e Event) bool { return !e.Arrived.Before(from) })
	if i < 0 {
		return nil
	}
	return slices.Clone(w.events[i:])
}

// Work is how many frames each instance has answered, by what it told the ledger.
func (w *Watch) Work() map[string]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.work)
}

// Forget begins anew to wait for the first prediction.
func (w *Watch) Forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.first)
}

// Answered says when every camera had been answered for the first time, and which have not been yet.
func (w *Watch) Answered() (at time.Time, silent []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.Cameras {
		first := w.first[c.Name]
		if first.IsZero() {
			silent = append(silent, c.Name)
		}
		if first.After(at) {
			at = first
		}
	}
	return at, silent
}

// EveryFrame are the names of the cameras of which every frame must be answered.
func (w *Watch) EveryFrame() []string {
	var out []string
	for _, c := range w.Cameras {
		if c.Delivery == streams.EveryFrame {
			out = append(out, c.Name)
		}
	}
	return out
}

// Member is somebody who should be in the fleet.
type Member struct {
	Service, Instance string
	// Since is when its process was started last: an entry of an earlier one does not count.
	Since time.Time
}

// Absent are those who are not there, and the infer processes that serve nothing yet.
func (w *Watch) Absent(members []Member) []string {
	var out []string
	for _, m := range members {
		s, ok := w.Fleet.Living(m.Service)[m.Instance]
		switch {
		case !ok || s.Started.Before(m.Since):
			out = append(out, m.Instance+" is not there")
		case m.Service == "infer" && len(s.Lanes) == 0:
			out = append(out, m.Instance+" serves no model")
		}
	}
	return out
}

// Holder is the instance that holds a lease: of a camera, or "service.recovery". It is "" when nobody does.
func (w *Watch) Holder(ctx context.Context, key string) (string, error) {
	kv, err := w.JS.KeyValue(ctx, streams.LeasesBucket)
	if err != nil {
		return "", fmt.Errorf("holder of %s: %w", key, err)
	}
	e, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("holder of %s: %w", key, err)
	}
	h, err := lease.Decode(e.Value())
	if err != nil {
		return "", fmt.Errorf("holder of %s: %w", key, err)
	}
	return h.Instance, nil
}

// Captures counts the cameras that each ingest holds.
func (w *Watch) Captures(ctx context.Context) (map[string]int, error) {
	out := map[string]int{}
	for _, c := range w.Cameras {
		holder, err := w.Holder(ctx, c.Name)
		if err != nil {
			return nil, err
		}
		out[holder]++
	}
	return out, nil
}

// lookAgain is how often something is looked at that tells nobody when it changes.
const lookAgain = 50 * time.Millisecond

// Until waits until nothing is left to wait for. look says what is.
func Until(ctx context.Context, what string, within time.Duration, look func() []string) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	began := time.Now()
	for {
		left := look()
		if len(left) == 0 {
			return nil
		}
		if !clock.Pause(ctx, lookAgain) {
			return fmt.Errorf("%s: not within %s: %s", what, time.Since(began).Round(time.Second), strings.Join(left, "; "))
		}
	}
}

// Busiest sorts instances by what they have done since an earlier Work, and returns those that did something.
func Busiest(before, after map[string]uint64) []Share {
	var out []Share
	for instance, n := range after {
		if d := n - before[instance]; d > 0 {
			out = append(out, Share{instance, d})
		}
	}
	slices.SortFunc(out, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Frames, a.Frames), strings.Compare(a.Instance, b.Instance))
	})
	return out
}

// Share is what one instance has done.
type Share struct {
	Instance string
	Frames   uint64
}

// CA is the file with the certificate of who vouches for the broker.
func (w *Watch) CA() string { return filepath.Join(w.Secrets, "ca.pem") }

package repair

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// sweepEvery is how often everything is looked at without a cause.
	sweepEvery = 2 * time.Second
	// watchEvery is how often while a consumer looks as if it had stopped.
	watchEvery = 500 * time.Millisecond
	// gather lets what belongs to one deed arrive together: the news of it, and who did it.
	gather = 20 * time.Millisecond

	lookTimeout = 2 * time.Second
	actTimeout  = 5 * time.Second
	lookers     = 8 // requests at a time
)

// Teller takes events; *events.Publisher is one.
type Teller interface{ Tell(e events.Event) }

// Config describes a Repair.
type Config struct {
	JS         jetstream.JetStream
	Options    streams.Options
	Leadership lease.Leadership
	Events     Teller
	Log        *slog.Logger
	// Workers is how many workers live that serve a stage, "preprocess" or "infer", or one model of the latter. Nil: whether
	// somebody works is judged by whether somebody asks for work.
	Workers func(stage, model string) int
	// OnGroups gets the work groups of every look and what they are at; nil where it could not be had. It must not block. May
	// be nil.
	OnGroups func([]streams.WorkGroup, []*jetstream.ConsumerInfo)
	// Purges are those that were heard of before Run. Nil: none.
	Purges *Purges
}

// Repair mends what differs from its declaration. Run does the work.
type Repair struct {
	cfg  Config
	js   jetstream.JetStream
	log  *slog.Logger
	self string // name of our connection
	want map[string]jetstream.StreamConfig
	wake chan struct{}

	mu      sync.Mutex
	news    time.Time           // when something happened that was not looked at yet
	deleted map[string]bool     // targets whose deletion the broker told of, until they are mended
	deeds   map[string]deed     // the last deed done to each target
	orders  []deed              // of operators, not told yet
	ordered map[order]time.Time // when those were noted, and those that were told of late

	// What follows belongs to Run.
	models    catalog.Models
	known     map[string]seen      // by target
	swept     bool                 // everything has been looked at once
	told      map[string]string    // the last failure told, by outcome and target
	offline   map[string]time.Time // since when a stream is not reachable
	stalls    map[string]*stall
	services  map[string]*service
	apart     map[string]*patience // twins that could not be moved
	relapses  map[string]*relapse  // what was altered, by target
	remade    map[string]time.Time // when a live stream was made anew on purpose
	incidents []ledger.Incident    // not in the books yet
	doubted   bool                 // leadership could not be confirmed, and that was logged
}

// seen is what was last seen of a stream or consumer.
type seen struct {
	former   uint64 // messages of the one before it
	created  time.Time
	messages uint64
}

// New makes a Repair.
func New(cfg Config) *Repair {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Repair{
		cfg: cfg, js: cfg.JS, log: cfg.Log, self: cfg.JS.Conn().Opts.Name, wake: make(chan struct{}, 1),
		deleted: map[string]bool{}, deeds: map[string]deed{}, known: map[string]seen{}, told: map[string]string{},
		offline: map[string]time.Time{}, stalls: map[string]*stall{}, services: map[string]*service{}, apart: map[string]*patience{},
		remade: map[string]time.Time{}, ordered: map[order]time.Time{}, relapses: map[string]*relapse{}, want: streams.Declared(cfg.Options),
	}
}

// Run mends until ctx ends. Nothing that happens to the broker ends it.
func (r *Repair) Run(ctx context.Context) error {
	unsubscribe, err := r.listen()
	if err != nil {
		return err
	}
	defer unsubscribe()
	back := r.js.Conn().StatusChanged(nats.CONNECTED)
	defer r.js.Conn().RemoveStatusListener(back)
	for ctx.Err() == nil {
		if r.js.Conn().IsConnected() {
			r.sweep(ctx)
		}
		next := sweepEvery
		if r.suspects() {
			next = watchEvery
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-back:
		case <-r.wake:
			clock.Pause(ctx, gather)
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return nil
}

// sweep looks at everything and mends what is not as declared.
func (r *Repair) sweep(ctx context.Context) {
	began := r.takeNews()
	r.tellOrders(ctx)
	infos, complete := r.sweepStreams(ctx, began)
	r.sweepTwins(ctx, infos)
	r.sweepGroups(ctx, began, infos)
	r.tellIncidents(ctx)
	r.swept = r.swept || complete
}

// takeNews is when what is about to be looked at happened, as far as that is known.
func (r *Repair) takeNews() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.news
	r.news = time.Time{}
	if at.IsZero() {
		return time.Now()
	}
	return at
}

// tellIncidents puts what the books must know into LEDGER, which may have had to be mended first.
func (r *Repair) tellIncidents(ctx context.Context) {
	for len(r.incidents) > 0 && ctx.Err() == nil {
		if !r.confirmed(ctx) {
			return
		}
		try, cancel := context.WithTimeout(ctx, actTimeout)
		err := ledger.TellIncident(try, once{r.js}, r.incidents[0])
		cancel()
		if err != nil {
			r.log.WarnContext(ctx, "the books do not know of a purge yet", slog.Any("error", err))
			return
		}
		r.incidents = r.incidents[1:]
	}
}

// once publishes without waiting for a stream that is not there: what comes next may be to make it anew.
type once struct{ js jetstream.JetStream }

func (o once) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return o.js.PublishMsg(ctx, msg, append(opts, jetstream.WithRetryAttempts(0))...)
}

package repair

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

const (
	advisory = "$JS.EVENT.ADVISORY."
	// audit says of every call of JetStream's API who made it; of a purge, nothing else does.
	audit = advisory + "API"
	// deedFor is how long a deed explains what is found.
	deedFor = 10 * time.Second
	// ordersKept bounds the deeds that wait to be told, incidentsKept those that wait for the books.
	ordersKept    = 256
	incidentsKept = 256
)

// deed is something that was done to a stream or consumer through the API, not by a recovery service.
type deed struct {
	target string
	verb   string // deleted, purged, paused, updated, created
	who    map[string]string
	at     time.Time
	purged uint64
	purge  purge
	before bool // it was heard of before this Repair ran: another one may have told of it
}

// purged is the verb of a purge.
const purged = "purged"

// purge is a request to purge; without anything it is for all messages.
type purge struct {
	Filter   string `json:"filter"`
	Sequence uint64 `json:"seq"`
	Keep     uint64 `json:"keep"`
}

// listen subscribes to what the broker tells. Advisories are published only because of these subscriptions.
func (r *Repair) listen() (func(), error) {
	var subs []*nats.Subscription
	unsubscribe := func() {
		for _, s := range subs {
			_ = s.Unsubscribe()
		}
	}
	for subject, handle := range map[string]nats.MsgHandler{
		advisory + "STREAM.DELETED.*":     r.onDeleted,
		advisory + "CONSUMER.DELETED.*.*": r.onDeleted,
		advisory + "STREAM.UPDATED.*":     func(*nats.Msg) { r.happened() },
		advisory + "CONSUMER.PAUSE.*.*":   func(*nats.Msg) { r.happened() },
		audit:                             r.onCall,
	} {
		s, err := r.js.Conn().Subscribe(subject, handle)
		if err != nil {
			unsubscribe()
			return nil, fmt.Errorf("repair: listen to %s: %w", subject, err)
		}
		subs = append(subs, s)
	}
	return unsubscribe, nil
}

// happened asks for a sweep.
func (r *Repair) happened() {
	r.mu.Lock()
	if r.news.IsZero() {
		r.news = time.Now()
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// onDeleted notes that a stream or consumer was deleted. Readers make and delete consumers all the time; those concern
// nobody.
func (r *Repair) onDeleted(m *nats.Msg) {
	tokens := strings.Split(m.Subject, ".")
	target := strings.Join(tokens[5:], ".")
	if !r.declared(target) {
		return
	}
	r.mu.Lock()
	r.deleted[target] = true
	r.mu.Unlock()
	r.happened()
}

// declared reports whether a target is a declared stream, or what may be a work group of one.
func (r *Repair) declared(target string) bool {
	stream, consumer, isConsumer := strings.Cut(target, ".")
	cfg, ok := r.want[stream]
	if !ok || !isConsumer {
		return ok
	}
	return cfg.Retention == jetstream.WorkQueuePolicy && (consumer == "preprocess" || strings.HasPrefix(consumer, "infer-"))
}

// call is what the broker tells of a call of its API.
type call struct {
	Time     time.Time `json:"timestamp"`
	Subject  string    `json:"subject"`
	Request  string    `json:"request"`
	Response string    `json:"response"`
	Client   struct {
		Name string `json:"name"`
		User string `json:"user"`
		Host string `json:"host"`
	} `json:"client"`
}

// done is the deed that a call did, if it is of a kind that matters here and none of a leader's own.
func done(m *nats.Msg, self string) (deed, bool) {
	var c call
	if json.Unmarshal(m.Data, &c) != nil {
		return deed{}, false
	}
	d, ok := c.deed()
	if !ok || c.Client.Name == self || strings.HasPrefix(c.Client.Name, "recovery-") {
		return deed{}, false
	}
	var answer struct {
		Error  *struct{} `json:"error"`
		Purged uint64    `json:"purged"`
	}
	if json.Unmarshal([]byte(c.Response), &answer) != nil || answer.Error != nil {
		return deed{}, false // asked for, not done
	}
	d.purged = answer.Purged
	return d, true
}

// onCall notes who did what.
func (r *Repair) onCall(m *nats.Msg) {
	d, ok := done(m, r.self)
	if !ok || !r.declared(d.target) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.deeds[d.target]; ok && d.verb == "created" && old.verb == "deleted" && d.at.Sub(old.at) < deedFor {
		return // a deletion explains more than what somebody did about it
	}
	r.deeds[d.target] = d
	if d.verb != "created" && d.verb != "updated" {
		r.order(d)
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// deed is what a call did, if it is of a kind that matters here.
func (c call) deed() (deed, bool) {
	rest, ok := strings.CutPrefix(c.Subject, "$JS.API.")
	if !ok {
		return deed{}, false
	}
	tokens := strings.Split(rest, ".")
	d := deed{at: c.Time, who: map[string]string{}}
	for k, v := range map[string]string{"by": c.Client.Name, "by_user": c.Client.User, "by_host": c.Client.Host} {
		if v != "" {
			d.who[k] = v
		}
	}
	switch {
	case strings.HasPrefix(rest, "STREAM.DELETE.") && len(tokens) == 3:
		d.verb, d.target = "deleted", tokens[2]
	case strings.HasPrefix(rest, "STREAM.PURGE.") && len(tokens) == 3:
		d.verb, d.target = purged, tokens[2]
		if c.Request != "" && json.Unmarshal([]byte(c.Request), &d.purge) != nil {
			return d, false
		}
	case strings.HasPrefix(rest, "STREAM.UPDATE.") && len(tokens) == 3:
		d.verb, d.target = "updated", tokens[2]
	case strings.HasPrefix(rest, "STREAM.CREATE.") && len(tokens) == 3:
		d.verb, d.target = "created", tokens[2]
	case strings.HasPrefix(rest, "CONSUMER.DELETE.") && len(tokens) == 4:
		d.verb, d.target = "deleted", tokens[2]+"."+tokens[3]
	case strings.HasPrefix(rest, "CONSUMER.PAUSE.") && len(tokens) == 4:
		d.verb, d.target = "paused", tokens[2]+"."+tokens[3]
	case strings.HasPrefix(rest, "CONSUMER.DURABLE.CREATE.") && len(tokens) == 5:
		d.verb, d.target = "created", tokens[3]+"."+tokens[4]
	case strings.HasPrefix(rest, "CONSUMER.CREATE.") && len(tokens) >= 4:
		d.verb, d.target = "created", tokens[2]+"."+tokens[3]
	default:
		return d, false
	}
	return d, true
}

// by says who did something to a target recently.
func (r *Repair) by(target string) map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.deeds[target]
	if !ok || time.Since(d.at) > deedFor {
		return nil
	}
	return d.who
}

// wasDeleted reports, once, whether the broker told that a target was deleted.
func (r *Repair) wasDeleted(target string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.deeds[target]
	was := r.deleted[target] || d.verb == "deleted" && time.Since(d.at) < deedFor && d.at.After(r.known[target].created)
	delete(r.deleted, target)
	return was
}

// tellOrders tells what operators did.
func (r *Repair) tellOrders(ctx context.Context) {
	r.adopt()
	r.mu.Lock()
	if len(r.orders) == 0 {
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
	if !r.confirmed(ctx) {
		return
	}
	r.mu.Lock()
	orders := r.orders
	r.orders = nil
	r.mu.Unlock()
	for _, d := range orders {
		e := events.Event{
			Area: "recovery", Kind: "operator", Name: d.target, State: d.verb, At: d.at,
			Cause: "somebody called the broker's API", Facts: map[string]string{"subject": d.target, "action": d.verb, "token": r.token()},
		}
		maps.Copy(e.Facts, d.who)
		_, isConsumer := streamOf(d.target)
		switch {
		case d.verb == purged:
			e.Facts["messages"] = strconv.FormatUint(d.purged, 10)
			if d.purge.Filter != "" {
				e.Facts["filter"] = d.purge.Filter
			}
			e.Detail = fmt.Sprintf("%d messages are gone", d.purged)
			if d.purged > 0 {
				r.lost(d.target, d.purge.Filter, d.at)
			}
			gone(&e, d.target)
		case d.verb == "deleted" && !isConsumer:
			n := max(r.known[d.target].messages, r.known[d.target].former)
			e.Facts["messages"] = strconv.FormatUint(n, 10)
			e.Detail = fmt.Sprintf("about %d messages are gone", n)
		}
		if !r.toldBefore(ctx, d) {
			r.cfg.Events.Tell(e)
		}
	}
}

func streamOf(target string) (stream string, isConsumer bool) {
	stream, _, isConsumer = strings.Cut(target, ".")
	return stream, isConsumer
}

// gone marks an event that says that desired state is gone.
func gone(e *events.Event, stream string) {
	if what, ok := desired(stream); ok {
		e.Facts["severity"] = "critical"
		e.Detail += "; the declared " + what + " are gone with it: apply them again. What runs goes on with what it knew; what starts now knows nothing"
	}
}

// desired says what is declared in a stream that holds desired state.
func desired(stream string) (string, bool) {
	switch bucket, _ := streams.BucketOf(stream); bucket {
	case streams.CamerasBucket:
		return "cameras", true
	case streams.ModelsBucket:
		return "models", true
	}
	return "", false
}

// lost notes for the books that messages of a stream are gone. Buckets are none of theirs.
func (r *Repair) lost(stream, filter string, at time.Time) {
	if _, bucket := streams.BucketOf(stream); bucket || len(r.incidents) >= incidentsKept {
		return
	}
	r.incidents = append(r.incidents, ledger.Incident{Kind: ledger.StreamPurged, Stream: stream, Filter: filter, At: at})
}

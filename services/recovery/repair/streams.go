package repair

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/streams"
)

// found is what a look at a stream found: its info, or why there is none.
type found struct {
	name string
	info *jetstream.StreamInfo
	err  error
}

// look asks for all declared streams at the same time: a node that is away makes some answers slow.
func (r *Repair) look(ctx context.Context, names []string) []found {
	out := make([]found, len(names))
	each(len(names), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		out[i].name = names[i]
		s, err := r.js.Stream(ctx, names[i])
		if err != nil {
			out[i].err = err
			return
		}
		out[i].info = s.CachedInfo()
	})
	return out
}

// each calls do for 0 to n-1, a few at a time.
func each(n int, do func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(lookers, n) {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// sweepStreams brings all streams and buckets back to their declaration. It returns those that are there, and whether it
// could find out about all.
func (r *Repair) sweepStreams(ctx context.Context, began time.Time) (map[string]*jetstream.StreamInfo, bool) {
	names := slices.Sorted(maps.Keys(r.want))
	// The books, the events and the lease are told of everything else: first things first.
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	infos := map[string]*jetstream.StreamInfo{}
	all := r.look(ctx, names)
	first := !r.swept && !slices.ContainsFunc(all, func(f found) bool { return !errors.Is(f.err, jetstream.ErrStreamNotFound) })
	complete := true
	for _, f := range all {
		if ctx.Err() != nil {
			return infos, false
		}
		switch {
		case errors.Is(f.err, jetstream.ErrStreamNotFound):
			delete(r.offline, f.name)
			f.info = r.recreate(ctx, f.name, began, first)
		case streams.Offline(f.err):
			r.awayAgain(f.name)
		case f.err == nil:
			if leaderless(f.info) {
				r.awayAgain(f.name)
			} else {
				delete(r.offline, f.name)
			}
			r.compare(ctx, r.want[f.name], f.info, began)
		}
		if f.info == nil {
			complete = false
			continue
		}
		infos[f.name] = f.info
		r.remember(f.name, f.info.Created, f.info.State.Msgs)
	}
	return infos, complete
}

func rank(stream string) int {
	switch stream {
	case "KV_" + streams.LeasesBucket:
		return 0
	case streams.Events, streams.Ledger:
		return 1
	}
	return 2
}

// leaderless reports whether a stream in a cluster is there and answers nobody.
func leaderless(info *jetstream.StreamInfo) bool {
	return info.Cluster != nil && info.Cluster.Name != "" && info.Cluster.Leader == ""
}

// remember notes what was seen of a target. What it held before it was made anew stays known for a while.
func (r *Repair) remember(target string, created time.Time, messages uint64) {
	r.known[target] = seen{created: created, messages: messages, former: r.known[target].former}
}

// recreate creates a missing stream.
func (r *Repair) recreate(ctx context.Context, name string, began time.Time, first bool) *jetstream.StreamInfo {
	cause, deleted := "missing", r.wasDeleted(name)
	if !deleted && !first { // the sweep may have been faster than the news
		clock.Pause(ctx, gather)
		deleted = r.wasDeleted(name)
	}
	if deleted {
		cause = "deleted"
	}
	a := action{
		target: name, cause: cause, name: "create", began: began, unconfirmed: name == "KV_"+streams.LeasesBucket,
		do: func(ctx context.Context) error { return streams.EnsureStream(ctx, r.js, name, r.cfg.Options) },
	}
	if !first {
		r.describeLoss(&a, name)
	}
	if !r.act(ctx, a) {
		if deleted { // the next attempt shall know it, too
			r.mu.Lock()
			r.deleted[name] = true
			r.mu.Unlock()
		}
		return nil
	}
	if !first {
		r.missed(name, deleted, began)
	}
	f := r.look(ctx, []string{name})[0]
	return f.info
}

// missed notes what went with a stream that had to be made anew. A live stream goes with its node of the broker, which the
// books conclude from newer frames; only a deletion is news to them.
func (r *Repair) missed(name string, deleted bool, at time.Time) {
	r.known[name] = seen{former: r.known[name].messages}
	if deleted || r.want[name].Storage == jetstream.FileStorage {
		r.lost(name, "", at)
	}
}

// describeLoss adds to an action what went with a stream.
func (r *Repair) describeLoss(a *action, name string) {
	a.facts = map[string]string{}
	if before, ok := r.known[name]; ok {
		a.facts["messages"] = strconv.FormatUint(before.messages, 10)
		a.detail = fmt.Sprintf("about %d messages are gone", before.messages)
	}
	e := events.Event{Detail: a.detail, Facts: a.facts}
	gone(&e, name)
	a.detail = strings.TrimPrefix(e.Detail, "; ")
}

// compare brings a stream back to its declaration.
func (r *Repair) compare(ctx context.Context, want jetstream.StreamConfig, info *jetstream.StreamInfo, began time.Time) {
	name := want.Name
	if before, ok := r.known[name]; ok && !before.created.IsZero() && !before.created.Equal(info.Created) {
		deleted := r.wasDeleted(name)
		a := action{target: name, cause: "deleted", name: "none", began: began}
		r.describeLoss(&a, name)
		if deleted && r.confirmed(ctx) { // otherwise it came back with its node
			r.tell(a, already)
			r.missed(name, true, began)
		}
	}
	r.wasDeleted(name) // it is there
	differ := streams.Differences(want, info.Config)
	if len(differ) == 0 {
		r.sound(name)
		return
	}
	keep, err := r.overfull(ctx, want, info)
	if err != nil {
		return // the next sweep asks again
	}
	var fixed, kept, loose []string
	for _, d := range differ {
		switch {
		case d.Fixed:
			fixed = append(fixed, d.String())
		case slices.Contains(keep, d.Field):
			kept = append(kept, d.String())
		default:
			loose = append(loose, d.String())
		}
	}
	if len(fixed)+len(kept) > 0 && r.confirmed(ctx) {
		var details []string
		if len(fixed) > 0 {
			details = append(details, strings.Join(fixed, "; ")+
				": no update changes that. When what it holds may go, delete the stream: it is made anew as declared at once")
		}
		if len(kept) > 0 {
			details = append(details, strings.Join(kept, "; ")+
				": it holds more than it should, and an update would delete that. It is mended when it holds less")
		}
		r.tellOnce(action{target: name, cause: "altered", name: "none", began: began, detail: strings.Join(details, ". ")}, beyond)
	}
	if len(loose) > 0 {
		r.mendAltered(ctx, action{
			target: name, cause: "altered", name: "update", detail: strings.Join(loose, "; "), began: began,
			do: func(ctx context.Context) error {
				return streams.MendStream(ctx, r.js, info.Config, r.cfg.Options, keep...)
			},
		})
	}
}

func (r *Repair) overfull(ctx context.Context, want jetstream.StreamConfig, info *jetstream.StreamInfo) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return streams.Overfull(ctx, r.js, want, info)
}

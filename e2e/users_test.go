//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/chaos/report"
	"github.com/sightline-dev/sightline/deploy/nats/access"
	"github.com/sightline-dev/sightline/e2e/watch"
	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/predictions"
)

// inBackground runs something beside the scenarios; join waits for its row.
func (b *bound) inBackground(ctx context.Context, run func(context.Context, *report.Row) error) <-chan *report.Row {
	done := make(chan *report.Row, 1)
	go func() {
		x := &report.Round{Number: 1, Began: time.Now().UTC()}
		row := &report.Row{Rounds: []*report.Round{x}}
		if err := run(ctx, row); err != nil {
			x.Failures = append(x.Failures, err.Error())
		}
		done <- row
	}()
	return done
}

func (b *bound) join(t *testing.T, done <-chan *report.Row) {
	t.Helper()
	row := <-done
	b.Say("%-20s %s", row.Name, strings.Join(append(row.Rounds[0].Notes, row.Rounds[0].Failures...), "; "))
	b.Add(row)
	for _, miss := range append(row.Misses(), row.Rounds[0].Failures...) {
		t.Errorf("%s: %s", row.Name, miss)
	}
}

// tried are subjects that a user must be refused: what another one does, what nobody may do, and to listen to all.
var tried = map[string]struct{ publish, subscribe []string }{
	access.Ingest:     {[]string{"tensors.live.m.stable.x", "dlq.infer.x", "$KV.CAMERAS.x", "$KV.WORKERS.infer.x", "$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.PURGE.FRAMES"}, []string{">", "frames.>", "predictions.>", "_INBOX_infer.>"}},
	access.Preprocess: {[]string{"frames.live.x", "predictions.m.x", "$KV.LEASES.x", "$KV.MODELS.x", "$JS.ACK.TENSORS.x.1.1.1.0.0", "$JS.API.STREAM.DELETE.FRAMES"}, []string{">", "frames.>", "tensors.>", "_INBOX_recovery.>"}},
	access.Infer:      {[]string{"frames.every.x", "tensors.every.m.stable.x", "$KV.LEASES.x", "$KV.MODELS.x", "$JS.API.CONSUMER.CREATE.PREDICTIONS.x", "dlq.preprocess.x"}, []string{">", "tensors.>", "predictions.>", "_INBOX_app.>"}},
	access.Recovery:   {[]string{"frames.live.x", "predictions.m.x", "dlq.infer.x", "$KV.CAMERAS.x", "$JS.API.STREAM.DELETE.PREDICTIONS", "$JS.API.STREAM.CREATE.X"}, []string{">", "frames.>", "predictions.>", "$SYS.>"}},
	access.Drift:      {[]string{"frames.live.x", "predictions.m.x", "feedback.x", "$KV.CAMERAS.x", "$KV.CONDITIONS.x", "$KV.LEASES.service.recovery", "$JS.API.STREAM.PURGE.PREDICTIONS"}, []string{">", "frames.>", "predictions.>", "feedback.>", "$KV.>"}},
	access.App:        {[]string{"predictions.m.x", "frames.live.x", "events.camera.state.x", "ledger.x", "$KV.CAMERAS.x", "$JS.API.STREAM.CREATE.X", "$JS.API.CONSUMER.CREATE.FRAMES.x", "$JS.ACK.FRAMES.x.1.1.1.0.0"}, []string{">", "frames.>", "tensors.>", "events.>", "ledger.>", "dlq.>", "$KV.>", "$SYS.>", "_INBOX_operator.>"}},
	access.Operator:   {[]string{"predictions.m.x", "$KV.LEASES.x", "$KV.WORKERS.infer.x", "ledger._incidents", "dlq.infer.x", "$JS.ACK.FRAMES.x.1.1.1.0.0"}, []string{">", "_INBOX_app.>", "$SYS.>"}},
}

// denied tries what users may not do, on the real cluster, and whether anybody gets in without a key.
func (b *bound) denied(ctx context.Context, row *report.Row) error {
	row.Name, row.Title = "denied", "every user is refused what is not its own"
	var errs []error
	n := 0
	for _, u := range access.Users() {
		if len(tried[u.Name].publish) == 0 {
			errs = append(errs, fmt.Errorf("nothing is tried as %s", u.Name))
			continue
		}
		errs = append(errs, b.refused(ctx, u.Name))
		n += len(tried[u.Name].publish) + len(tried[u.Name].subscribe)
	}
	errs = append(errs, b.noKey(ctx))
	row.Rounds[0].Notes = append(row.Rounds[0].Notes, fmt.Sprintf("%d subjects of %d users refused, and who has no key", n, len(access.Users())))
	return errors.Join(errs...)
}

var violation = regexp.MustCompile(`(?i)permissions violation for (publish|subscription) to "([^"]+)"`)

// refused waits until the broker has refused all that is tried as a user.
func (b *bound) refused(ctx context.Context, user string) error {
	nc, err := b.w.Connect(user, "e2e-denied", b.w.Watch.Nodes...)
	if err != nil {
		return err
	}
	defer nc.Close()
	var mu sync.Mutex
	left := map[string]bool{}
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if m := violation.FindStringSubmatch(err.Error()); m != nil {
			mu.Lock()
			defer mu.Unlock()
			delete(left, strings.ToLower(m[1])+" "+m[2])
		}
	})
	err = watch.Until(ctx, user+" connects", 20*time.Second, func() []string {
		if nc.IsConnected() {
			return nil
		}
		return []string{fmt.Sprint(nc.LastError())}
	})
	if err != nil {
		return err
	}
	mu.Lock()
	for _, subject := range tried[user].publish {
		left["publish "+subject] = true
		err = errors.Join(err, nc.Publish(subject, []byte("{}")))
	}
	for _, subject := range tried[user].subscribe {
		left["subscription "+subject] = true
		_, failed := nc.Subscribe(subject, func(*nats.Msg) {})
		err = errors.Join(err, failed)
	}
	mu.Unlock()
	return errors.Join(err, watch.Until(ctx, user+" is refused", 20*time.Second, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Sorted(maps.Keys(left))
	}))
}

// noKey tries to get in without a key, and without TLS.
func (b *bound) noKey(ctx context.Context) error {
	address := b.w.Watch.Nodes[0]
	var errs []error
	for name, try := range map[string]func() (*nats.Conn, error){
		"no key": func() (*nats.Conn, error) {
			return nats.Connect("tls://"+address, nats.RootCAs(b.w.CA()), nats.MaxReconnects(0))
		},
		"a password": func() (*nats.Conn, error) {
			return nats.Connect("tls://"+address, nats.RootCAs(b.w.CA()), nats.MaxReconnects(0), nats.UserInfo("sightline", "sightline"))
		},
		"no trust": func() (*nats.Conn, error) { return nats.Connect("tls://"+address, nats.MaxReconnects(0)) },
	} {
		if ctx.Err() != nil {
			break
		}
		if nc, err := try(); err == nil {
			nc.Close()
			errs = append(errs, fmt.Errorf("the broker lets in who has %s", name))
		}
	}
	return errors.Join(errs...)
}

const (
	awayName = "e2e"
	awayFor  = 60 * time.Second
	// awayReads is how much the app reads before it goes.
	awayReads = 50
)

// away is a downstream app that reads, is away for a minute while containers die, and misses nothing: PREDICTIONS numbers what
// it stores, and every number must come.
func (b *bound) away(ctx context.Context, row *report.Row) error {
	row.Name, row.Title = "away", "an app that was away for a minute"
	a := &reader{seen: map[uint64]bool{}, acked: map[uint64]bool{}}
	if err := a.read(ctx, b.w.Watch, func() bool { return len(a.seen) >= awayReads }); err != nil {
		return err
	}
	left := a.last
	clock.Pause(ctx, awayFor)
	end, err := b.lastPrediction(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := a.read(ctx, b.w.Watch, func() bool { return a.last >= end }); err != nil {
		return err
	}
	row.Rounds[0].Recovery = time.Since(began)
	for seq := a.first; seq <= end; seq++ {
		if !a.seen[seq] {
			row.Lost++
		}
	}
	row.Doubled = a.doubled
	row.Rounds[0].Notes = append(row.Rounds[0].Notes, fmt.Sprintf("%d predictions while it was away, caught up in %d ms", end-left, time.Since(began).Milliseconds()))
	return nil
}

func (b *bound) lastPrediction(ctx context.Context) (uint64, error) {
	var last uint64
	err := watch.Until(ctx, "the end of PREDICTIONS", 30*time.Second, func() []string {
		s, err := b.w.JS.Stream(ctx, "PREDICTIONS")
		if err != nil {
			return []string{err.Error()}
		}
		last = s.CachedInfo().State.LastSeq
		return nil
	})
	return last, err
}

type reader struct {
	seen, acked map[uint64]bool
	first, last uint64
	doubled     uint64 // came again although the broker knew that it had been handled
}

// read reads under a name that the broker remembers, as docs/predictions.md tells applications to, on a connection of its own.
func (a *reader) read(ctx context.Context, w *watch.Watch, enough func() bool) error {
	nc, err := w.Connect(watch.App, "e2e-away", w.Nodes...)
	if err != nil {
		return err
	}
	defer nc.Close()
	c, err := predictions.Open(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for d, err := range c.Durable(ctx, awayName, predictions.Filter{}) {
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			continue // it says what is wrong with the broker, and goes on
		}
		if a.first == 0 {
			a.first = d.Seq
		}
		if a.acked[d.Seq] {
			a.doubled++
		}
		a.seen[d.Seq], a.last = true, max(a.last, d.Seq)
		a.acked[d.Seq] = d.Ack(ctx) == nil // or it comes again
		if enough() {
			return nil
		}
	}
	return fmt.Errorf("the app has read up to %d: %w", a.last, context.Cause(ctx))
}

package access_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/deploy/nats/access"
	"github.com/sightline-dev/sightline/pkg/dlq"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/feedback"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/sampling"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/streams"
)

// TestEverythingWorksUnderItsUser runs every service on three nodes with deploy/nats/cluster.conf, lets things fail and lets
// the operator and an application do what they do. Nobody must be refused anything.
func TestEverythingWorksUnderItsUser(t *testing.T) {
	s := newSite(t, "nats-1", "nats-2", "nats-3")
	p := &pipeline{site: s, log: &warnings{}, fake: &infer.Fake{}}
	recovery1 := p.recovery("r1") // it declares nothing here, but waits as the others do
	first, work := p.ingest("i1"), p.infer("n1")
	p.preprocess("p1")
	p.recovery("r2")

	operator, operatorProblems := s.watched(access.Operator)
	ops, err := jetstream.New(operator)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p.declare(ops)
	t.Logf("declared in %v", time.Since(began).Round(time.Millisecond))
	app, appProblems := s.watched(access.App)
	live, durable := p.read(app)
	plain, err := app.SubscribeSync("predictions.>")
	if err != nil {
		t.Fatal(err)
	}
	more := func(n int64) {
		t.Helper()
		every, fresh, acked := live.every.Load(), live.fresh.Load(), durable.every.Load()
		p.eventually(func() error {
			if live.every.Load() < every+n || live.fresh.Load() < fresh+n || durable.every.Load() < acked+n {
				return fmt.Errorf("answers: live %d and %d, durable %d", live.every.Load()-every, live.fresh.Load()-fresh, durable.every.Load()-acked)
			}
			return nil
		})
	}
	more(5)
	if _, err := plain.NextMsg(10 * time.Second); err != nil {
		t.Errorf("nats sub: %v", err)
	}
	if err := plain.Unsubscribe(); err != nil {
		t.Error(err)
	}
	p.ask(app)
	for _, who := range []*nats.Conn{app, operator} {
		js, err := jetstream.New(who)
		if err == nil {
			err = feedback.Send(t.Context(), js, feedback.Feedback{Frame: "every/1/1", Model: "person", By: "test", Labels: []feedback.Label{}})
		}
		if err != nil {
			t.Errorf("feedback: %v", err)
		}
	}
	t.Logf("answers of both cameras after %v", time.Since(began).Round(time.Millisecond))

	p.step("messages that fail", func() {
		p.fake.FailNext(40)
		if err := operator.Publish("frames.every.every", []byte("no picture")); err != nil {
			t.Fatal(err)
		}
		p.eventually(func() error {
			if all, err := dlq.List(t.Context(), ops, dlq.Filter{}); err != nil || len(all) == 0 {
				return fmt.Errorf("dead letters: %d, %w", len(all), errors.Join(err, errNotYet))
			}
			return nil
		})
		more(2)
		p.operate(t, ops)
	})
	p.step("processes that die", func() {
		p.ingest("i2")
		p.infer("n2")
		more(2)
		first.kill()
		work.kill()
		p.eventually(func() error { return p.told(ops, "recovery", "worker_dead") })
		more(5)
		recovery1.kill()
		more(5)
	})
	p.step("streams that are deleted", func() {
		for _, name := range []string{streams.TensorsLive, "KV_" + streams.SamplingBucket, "KV_" + streams.WorkersBucket} {
			if err := ops.DeleteStream(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			p.eventually(func() error {
				_, err := ops.Stream(t.Context(), name)
				return err
			})
			t.Logf("%s is back", name)
		}
		if err := ops.DeleteConsumer(t.Context(), streams.Frames, "preprocess"); err != nil {
			t.Fatal(err)
		}
		more(5)
	})
	p.step("what recovery may have to do", func() { p.mend(t, ops) })
	more(2)

	var refused []string
	refused = append(refused, s.Lines("violation")...)
	refused = append(refused, p.log.all()...)
	refused = append(refused, operatorProblems.with("permission")...)
	refused = append(refused, appProblems.with("permission")...)
	slices.Sort(refused)
	for _, line := range slices.Compact(refused) {
		t.Error(line)
	}
}

// operate is what `sightline` does, beside apply.
func (p *pipeline) operate(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	if _, err := js.AccountInfo(t.Context()); err != nil {
		t.Error(err)
	}
	letters, err := dlq.List(t.Context(), js, dlq.Filter{})
	if err != nil || len(letters) == 0 {
		t.Fatal(err, letters)
	}
	if _, err := dlq.Replay(t.Context(), js, letters[0].Sequence); err != nil {
		t.Error(err)
	}
	p.eventually(func() error {
		sweep, err := dlq.DropAll(t.Context(), js, dlq.Filter{}, func(dlq.Entry) {})
		if err == nil && sweep.Done == 0 {
			err = errNotYet
		}
		return err
	})
	if lines, _, err := ledger.Balance(t.Context(), js); err != nil || len(lines) == 0 {
		t.Error(err, lines)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	view, err := fleet.Follow(ctx, js, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p.eventually(func() error {
		if n := len(view.All()); n < 5 {
			return fmt.Errorf("%d workers", n)
		}
		return nil
	})
	told := events.NewPublisher(js, "operator")
	told.Tell(events.Event{Area: "dlq", Kind: "dropped", Name: "every"})
	if err := told.Run(ctxDone()); err != nil {
		t.Error(err)
	}
	c, err := js.OrderedConsumer(t.Context(), streams.Events, jetstream.OrderedConsumerConfig{})
	if err == nil {
		_, err = c.Next()
	}
	if err != nil {
		t.Error(err)
	}
}

// ctxDone is a context that has ended: what is waiting is told, and nothing more.
func ctxDone() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// told reports whether an event of an area says something.
func (p *pipeline) told(js jetstream.JetStream, area, says string) error {
	c, err := js.OrderedConsumer(p.Context(), streams.Events, jetstream.OrderedConsumerConfig{FilterSubjects: []string{streams.EventSubject(area, "*", ">")}})
	if err != nil {
		return err
	}
	batch, err := c.FetchNoWait(1000)
	if err != nil {
		return err
	}
	var seen []string
	found := false
	for m := range batch.Messages() {
		seen = append(seen, m.Subject())
		found = found || strings.Contains(m.Subject()+string(m.Data()), says)
	}
	if !found {
		return fmt.Errorf("no event of %s says %s: %v", area, says, seen)
	}
	return nil
}

// mend does with recovery's user what only rare faults need.
func (p *pipeline) mend(t *testing.T, ops jetstream.JetStream) {
	t.Helper()
	js := p.connect(access.Recovery, "by-hand", slog.New(p.log))
	group := streams.PreprocessGroups()[1]
	if _, err := ops.PauseConsumer(t.Context(), group.Stream, group.Config.Durable, time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	for what, do := range map[string]func() error{
		"resume":  func() error { return streams.MendGroup(t.Context(), js, group) },
		"pass on": func() error { return streams.PassGroup(t.Context(), js, group) },
		"replace": func() error {
			return streams.ReplaceGroup(t.Context(), js, streams.InferGroups("person", streams.LaneStable)[1])
		},
		"sample": func() error { return sampling.Put(t.Context(), js, sampling.Shares{5: 0.5}, 1<<40) },
		"audit": func() error {
			return ledger.TellIncident(t.Context(), js, ledger.Incident{Kind: ledger.StreamPurged, Stream: streams.FramesTwin, At: time.Now()})
		},
		"look back": func() error { _, err := ledger.Read(t.Context(), js); return err },
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	p.eventually(func() error { // it takes a moment that a busy machine may not have
		return streams.ReplaceLive(t.Context(), js, streams.FramesTwin, "nats-1", streams.Options{Replicas: 3})
	})
}

package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

func TestWhatAKilledWorkerHeldIsAnsweredByTheOther(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	doomed := r.preprocess("a", make(chan struct{})) // it never answers
	r.put(names(8)...)
	r.eventually(func() error { return holds(doomed.entry(), 8) })
	open := make(chan struct{})
	close(open)
	r.preprocess("b", open)
	r.put(names(40)[8:]...)

	last := doomed.entry()
	killed := time.Now()
	doomed.kill()
	doomed.tellDisconnect(last, "Client Closed")
	e := r.event(kindDead, "a")
	var by map[string]string
	r.eventually(func() error {
		times, who := r.answers()
		by = who
		return exactlyOnce(times, 40)
	})
	if took := time.Since(killed); took > 5*time.Second { // AckWait is ten
		t.Errorf("all answered after %v", took)
	} else {
		t.Logf("all answered after %v", took)
	}
	for frame, who := range by {
		if who != "b" {
			t.Errorf("%s is answered by %s", frame, who)
		}
	}
	if e.Cause != causeDisconnected || e.Facts["service"] != "preprocess" || e.Facts["outcome"] != "done" || e.Facts["handed_over.FRAMES"] == "" || parseToken(e.Facts[factToken]) == 0 {
		t.Errorf("event %+v", e)
	}
	// The books are told that what it had comes back.
	stream, err := r.js.Stream(t.Context(), streams.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(t.Context(), streams.IncidentSubject)
	if err != nil {
		t.Fatal(err)
	}
	said, err := ledger.DecodeMessage(m.Subject, m.Data, m.Time)
	if err != nil || said.Incident == nil || said.Incident.Kind != ledger.WorkerEnded || said.Incident.Stage != "preprocess" || said.Incident.Instance != "a" {
		t.Errorf("incident %+v, %v", said.Incident, err)
	}
}

func TestAHungWorkerIsSilentAndAnswersNothingTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	wake := make(chan struct{})
	hung := r.preprocess("a", wake)
	r.put(names(8)...)
	r.eventually(func() error { return holds(hung.entry(), 8) })
	before := hung.entry().Incarnation
	hung.hang <- struct{}{} // no more beats
	open := make(chan struct{})
	close(open)
	r.preprocess("b", open)
	if e := r.event(kindDead, "a"); e.Cause != causeSilent {
		t.Errorf("event %+v", e)
	}
	r.eventually(func() error {
		times, _ := r.answers()
		return exactlyOnce(times, 8)
	})
	// It wakes up with all of its answers ready.
	close(wake)
	<-hung.hang
	r.eventually(func() error {
		if e := hung.entry(); e.Incarnation == before || e.State != fleet.Alive {
			return errAt("still", e.Incarnation, e.State)
		}
		return nil
	})
	// It works on, as somebody new.
	r.put(names(48)[8:]...)
	r.eventually(func() error {
		times, _ := r.answers()
		return exactlyOnce(times, 48)
	})
	if hung.stage.Stats().Abandoned != 8 {
		t.Errorf("%+v", hung.stage.Stats())
	}
	hung.out.mu.Lock()
	defer hung.out.mu.Unlock()
	for _, name := range names(8) {
		if n := hung.out.n[name]; n != 0 {
			t.Errorf("the woken worker published %s %d times", name, n)
		}
	}
}

// What a worker took after its last beat is in nobody's entry.
func TestWhatNobodyClaimsIsHandedOver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	var dead, living hands
	a, b := r.start("preprocess", "a", idle), r.start("preprocess", "b", idle)
	a.member.Hold(&dead)
	b.member.Hold(&living)
	r.put(names(16)...)
	mine, others := r.take(a.js, 4), r.take(b.js, 4)
	dead.claim(a, mine, nil)
	living.claim(b, others, nil)
	resting := r.take(a.js, 2)
	for _, m := range resting {
		if err := m.NakWithDelay(time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	dead.claim(a, mine, resting)
	unbeaten := r.take(a.js, 3)
	stray := r.take(b.js, 2) // told in the first beat after the death
	if len(mine) != 4 || len(others) != 4 || len(resting) != 2 || len(unbeaten) != 3 || len(stray) != 2 {
		t.Fatal(len(mine), len(others), len(resting), len(unbeaten), len(stray))
	}
	last := a.entry()
	a.kill()
	maps.Copy(others, stray)
	living.mu.Lock()
	living.claims = []fleet.Claim{{Stream: streams.Frames, Consumer: "preprocess", Held: deliveries(t, others)}}
	living.mu.Unlock()
	a.tellDisconnect(last, "Read Error")
	e := r.event(kindDead, "a")
	if e.Facts["handed_over.FRAMES"] != "4" || e.Facts["searched.FRAMES"] != "3" {
		t.Errorf("event %+v", e)
	}
	want := map[string]bool{}
	for name := range mine {
		want[name] = true
	}
	for name := range unbeaten {
		want[name] = true
	}
	got := r.take(r.js, 100)
	again := 0
	for name, m := range got {
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if meta.NumDelivered > 1 {
			again++
			if !want[name] || meta.NumDelivered != 2 {
				t.Errorf("%s is handed over, delivery %d", name, meta.NumDelivered)
			}
		}
	}
	if again != len(want) {
		t.Errorf("%d messages are handed over, want %d", again, len(want))
	}
	if w := a.entry(); w.State != fleet.Dead || w.Epitaph == nil || w.Epitaph.Cause != causeDisconnected || w.Epitaph.By != "r0" {
		t.Errorf("tombstone %+v", w)
	}
}

// The consumer's leader, the worker and recovery are on nodes of their own, or any two of them are not.
func TestHandingOverReachesThroughACluster(t *testing.T) {
	inTime(t, "what the worker claimed was found, not handed over, on a node", reachesThroughACluster)
}

// reachesThroughACluster reports whether recovery knew the last beats when it dealt with the deaths.
func reachesThroughACluster(t *testing.T) bool {
	t.Helper()
	knew := true
	r, c := newClusterRig(t)
	r.urls = c.NodeURL("n1")
	r.recover("r0")
	r.leads()
	for i, node := range []string{"n1", "n2", "n3"} {
		var dead hands
		r.urls = c.NodeURL(node)
		a := r.start("preprocess", node, idle)
		a.member.Hold(&dead)
		r.put(node+"x", node+"y", node+"z")
		taken := time.Now()
		dead.claim(a, r.takeAll(a.js, 2), nil)
		r.takeAll(a.js, 1)
		last := a.entry()
		killed := time.Now()
		a.kill()
		a.tellDisconnect(last, "Client Closed")
		e := r.event(kindDead, node)
		t.Logf("%s after %v: %v", node, time.Since(killed), e.Facts)
		claimed, _ := strconv.Atoi(e.Facts["handed_over.FRAMES"])
		searched, _ := strconv.Atoi(e.Facts["searched.FRAMES"])
		if claimed+searched != 3 || e.Facts["outcome"] != "done" {
			t.Errorf("%d: event %+v", i, e)
		}
		got := r.takeAll(r.js, 3)
		knew = knew && claimed == 2 && time.Since(taken) < 10*time.Second // which is AckWait: the broker did not do it
		for _, m := range got {
			if err := m.DoubleAck(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return knew
}

// The broker gave it to somebody else already: its later delivery counts.
func TestWhatALivingWorkerGotSinceStaysWithIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	var dead, living hands
	a, b := r.start("preprocess", "a", idle), r.start("preprocess", "b", idle)
	a.member.Hold(&dead)
	b.member.Hold(&living)
	r.put("x", "y")
	mine := r.take(a.js, 2)
	dead.claim(a, mine, nil)
	if err := mine["x"].Nak(); err != nil {
		t.Fatal(err)
	}
	var got map[string]jetstream.Msg
	r.eventually(func() error {
		if len(got) == 0 {
			got = r.take(b.js, 1)
		}
		if len(got) == 0 {
			return errAt("not redelivered")
		}
		return nil
	})
	living.claim(b, got, nil)
	last := a.entry()
	a.kill()
	a.tellDisconnect(last, "Write Error")
	r.event(kindDead, "a")
	back := r.take(r.js, 10)
	if len(back) != 1 || back["y"] == nil {
		t.Errorf("handed over: %v", back)
	}
}

func TestAWorkerThatLeavesIsNotDead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	a := r.start("preprocess", "a", idle)
	last := a.entry()
	a.stop()
	a.ended.Wait()
	a.tellDisconnect(last, "Client Closed")
	// One that comes back over another connection is none either.
	b := r.start("preprocess", "b", idle)
	b.tellDisconnect(b.entry(), "Slow Consumer (Pending Bytes)") // closed by the server: it will be back
	c := r.start("preprocess", "c", idle)
	over := c.entry()
	if err := c.js.Conn().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	r.eventually(func() error {
		if c.entry().Connection == over.Connection {
			return errAt("still over", over.Connection)
		}
		return nil
	})
	c.tellDisconnect(over, "Client Closed")
	// Deaths are told in the order in which they are noticed.
	d := r.start("preprocess", "d", idle)
	last = d.entry()
	d.kill()
	d.tellDisconnect(last, "Client Closed")
	for {
		e := <-r.told
		if e.Kind == kindDead {
			if e.Name != "d" {
				t.Errorf("dead: %+v", e)
				continue
			}
			break
		}
	}
	for _, p := range []*process{b, c} {
		if p.entry().State != fleet.Alive {
			t.Errorf("%s is buried", p.member.Key())
		}
	}
}

// A process that is started again before anybody noticed its end has a new incarnation under the old name.
func TestWhatAProcessHeldThatWasReplacedIsHandedOver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	var dead hands
	a := r.start("preprocess", "a", idle)
	a.member.Hold(&dead)
	r.put(names(3)...)
	mine := r.take(a.js, 3)
	dead.claim(a, mine, nil)
	w := a.entry()
	a.kill()
	// The successor took over the entry at once, as it would if it had been down for longer than anybody looked.
	next := w
	next.Incarnation, next.Claims, next.At, next.Started = "another", nil, time.Now().UTC(), time.Now().UTC()
	r.write(next)
	e := r.event(kindDead, "a")
	if e.Cause != causeReplaced || e.Facts["handed_over.FRAMES"] != "3" || e.Facts["incarnation"] != w.Incarnation {
		t.Errorf("event %+v", e)
	}
	if got := r.take(r.js, 10); len(got) != 3 {
		t.Errorf("handed over: %d", len(got))
	}
	if w := a.entry(); w.Incarnation != "another" || w.State != fleet.Alive {
		t.Errorf("the successor's entry: %+v", w)
	}
}

// Beats that the bucket refuses are heard all the same.
func TestWhoOnlyTriesForANameKillsNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	a, b := r.start("preprocess", "a", idle), r.start("preprocess", "b", idle)
	before := a.entry()
	tries := before
	tries.Incarnation, tries.Started = "another", time.Now().UTC()
	data, err := json.Marshal(tries)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		_, err := r.js.Publish(t.Context(), "$KV."+streams.WorkersBucket+"."+before.Key(), data, jetstream.WithExpectLastSequencePerSubject(0))
		if !streams.Conflict(err) {
			t.Fatalf("the bucket took it: %v", err)
		}
		<-time.After(fleet.BeatEvery / 2)
	}
	last := b.entry()
	b.kill()
	b.tellDisconnect(last, "Client Closed")
	for dead := ""; dead != "b"; {
		if e := <-r.told; e.Kind == kindDead {
			if dead = e.Name; dead != "b" {
				t.Errorf("dead: %+v", e)
			}
		}
	}
	if e := a.entry(); e.Incarnation != before.Incarnation || e.State != fleet.Alive {
		t.Errorf("%+v", e)
	}
}

func TestHandedOncePerCase(t *testing.T) {
	t.Parallel()
	h := newHanded()
	at := time.Now()
	before, after := at.Add(-time.Second), at.Add(time.Second)
	if got := h.take("g", before, []uint64{1, 2}, at); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("the first case: %v", got)
	}
	if got := h.take("g", before, []uint64{1, 2, 3}, at); !slices.Equal(got, []uint64{3}) {
		t.Errorf("for a case noticed before: %v", got)
	}
	h.putBack("g", []uint64{3}, nil)
	if got := h.take("g", before, []uint64{2, 3}, at); !slices.Equal(got, []uint64{3}) {
		t.Errorf("after it could not be handed back: %v", got)
	}
	if got := h.take("other", before, []uint64{1}, at); !slices.Equal(got, []uint64{1}) {
		t.Errorf("of another group: %v", got)
	}
	if got := h.take("g", after, []uint64{1, 2, 3}, after); !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Errorf("for a case noticed after: %v", got)
	}
	h.take("g", at, nil, at.Add(2*handedFor))
	if len(h.at) != 0 {
		t.Errorf("remembers %v", h.at)
	}
}

// Workers die one after the other, each in the first frame that it begins, with the same frames waiting in it. Those are
// not at fault.
func TestWhoeverWaitedInWorkersThatWereKilledIsAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	const lives, frames = 6, 12
	r.put(names(frames)...)
	for life := range lives {
		begun := make(chan struct{}, frames)
		instance := fmt.Sprint("w", life)
		w := r.start("preprocess", instance, func(ctx context.Context, p *process) error {
			err := stage.New(stage.Config{
				Name: "preprocess", Sources: streams.Preprocess(p.js), Publisher: p.js, Strikes: p.js, Member: p.member, MaxInFlight: frames, DrainTimeout: time.Millisecond,
				Quarantine: func(stage.Message) string { return streams.DLQSubject("preprocess", "door") },
			}, stage.Each(func(ctx context.Context, m stage.Message) ([]stage.Output, error) {
				begun <- struct{}{}
				if life < lives-1 {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return []stage.Output{{Subject: streams.PredictionSubject("people", "door"), ID: string(m.Data), Data: []byte(instance + " " + string(m.Data))}}, nil
			})).Run(ctx)
			if errors.Is(err, stage.ErrDrainTimeout) {
				return nil
			}
			return err
		})
		if life == lives-1 {
			break
		}
		select {
		case <-begun:
		case <-time.After(patience):
			t.Fatal(instance, "gets nothing")
		}
		r.eventually(func() error { return holds(w.entry(), frames) })
		last := w.entry()
		w.kill()
		w.tellDisconnect(last, "Client Closed")
		r.event(kindDead, instance)
		w.stop()
	}
	r.eventually(func() error {
		dlq, err := r.js.Stream(t.Context(), streams.DLQ)
		if err != nil {
			return err
		}
		times, _ := r.answers()
		if n := dlq.CachedInfo().State.Msgs; n > 1 || len(times)+int(n) < frames {
			return errAt(len(times), "answered", n, "quarantined")
		}
		return nil
	})
}

// A living worker that is slow to beat, but not silent for so long that it counts as dead, keeps what it has.
func TestWhatASlowWorkerTookStaysWithIt(t *testing.T) {
	t.Parallel()
	inTime(t, "the worker was silent for so long that it counted as dead", staysWithASlowWorker)
}

// staysWithASlowWorker reports whether the worker was slow and nothing worse.
func staysWithASlowWorker(t *testing.T) bool {
	t.Helper()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	var living hands
	a, b := r.start("preprocess", "a", idle), r.start("preprocess", "b", idle)
	b.member.Hold(&living)
	r.put("x", "y")
	last := a.entry()
	a.kill()
	a.tellDisconnect(last, "Client Closed")
	<-time.After(reconnectWithin / 2) // the groups are looked at when the rest is over
	before := b.entry().At
	r.eventually(func() error {
		if !b.entry().At.After(before) {
			return errAt("no beat")
		}
		return nil
	})
	b.hang <- struct{}{} // it is slow from here on
	mine := r.take(b.js, 2)
	living.mu.Lock()
	living.claims = []fleet.Claim{{Stream: streams.Frames, Consumer: "preprocess", Held: deliveries(t, mine)}}
	living.mu.Unlock()
	<-time.After(silentFor - 200*time.Millisecond)
	<-b.hang
	e := r.event(kindDead, "a")
	if b.entry().State != fleet.Alive {
		return false
	}
	if e.Facts["searched.FRAMES"] != "" || len(mine) != 2 {
		t.Errorf("%d with a living worker, event %+v", len(mine), e)
	}
	return true
}

// electing is a broker whose LEDGER takes no word of a death for a while.
type electing struct {
	jetstream.JetStream

	until time.Time
}

func (e *electing) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if m.Subject != streams.IncidentSubject || time.Now().After(e.until) {
		return e.JetStream.PublishMsg(ctx, m, opts...)
	}
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Second): // as clients wait that nobody told how long
	}
	return nil, nats.ErrTimeout
}

// A node of the broker and a worker die together, and LEDGER elects a leader for longer than a case is tried: what the worker
// had in hand must not look lost.
func TestTheBooksHearOfADeathHoweverLongTheyTakeNoWord(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	js := &electing{until: time.Now().Add(giveUpAfter + 3*time.Second)}
	r.start(Name, "r0", func(ctx context.Context, p *process) error {
		js.JetStream = p.js
		return NewService(Config{Instance: "r0"}, Deps{JS: js, Member: p.member, Log: slog.New(slog.DiscardHandler)}).Run(ctx)
	})
	r.leads()
	a := r.start("preprocess", "a", idle)
	last := a.entry()
	a.kill()
	a.tellDisconnect(last, "Client Closed")
	if e := r.event(kindDead, "a"); e.Facts["outcome"] != "done" {
		t.Errorf("event %+v", e)
	}
	r.eventually(func() error {
		stream, err := r.js.Stream(t.Context(), streams.Ledger)
		if err == nil {
			_, err = stream.GetLastMsgForSubject(t.Context(), streams.IncidentSubject)
		}
		return err
	})
}

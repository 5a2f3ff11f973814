package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/streams"
)

// leader is who leads, and with which token.
func (r *rig) leader() (string, uint64) {
	r.Helper()
	for {
		if e := <-r.told; e.Kind == "leader" && e.State == "leading" {
			return e.Name, parseToken(e.Facts[factToken])
		}
	}
}

func TestAStandbyTakesOverAndDealsWithWhatDiedMeanwhile(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	replicas := map[string]*process{"r0": r.recover("r0"), "r1": r.recover("r1"), "r2": r.recover("r2")}
	first, token := r.leader()
	var dead hands
	a := r.start("preprocess", "a", idle)
	a.member.Hold(&dead)
	r.put(names(5)...)
	dead.claim(a, r.take(a.js, 5), nil)
	<-time.After(calmFor) // silence says nothing before

	killed := time.Now()
	replicas[first].kill() // and nothing tells of it
	a.kill()
	second, later := r.leader()
	if took := time.Since(killed); took > 5*time.Second {
		t.Errorf("nobody leads for %v", took)
	} else {
		t.Logf("%s follows %s after %v", second, first, took)
	}
	if second == first || later <= token {
		t.Errorf("%s leads with token %d after %s with %d", second, later, first, token)
	}
	e := r.event(kindDead, "a")
	if parseToken(e.Facts[factToken]) != later || e.Facts["handed_over.FRAMES"] != "5" || e.Instance != second {
		t.Errorf("event %+v", e)
	}
	t.Logf("handed over after %v", time.Since(killed))
	if got := r.take(r.js, 10); len(got) != 5 {
		t.Errorf("%d messages are handed over", len(got))
	}
	if e := r.entry(fleet.Key(Name, first)); e.State != fleet.Dead {
		t.Errorf("the old leader's entry: %+v", e)
	}
}

func (r *rig) entry(key string) fleet.Worker {
	r.Helper()
	var w fleet.Worker
	r.eventually(func() error {
		e, err := r.kv(streams.WorkersBucket).Get(r.Context(), key)
		if err != nil {
			return err
		}
		if w, err = fleet.Decode(e.Value()); err != nil {
			return err
		}
		if w.State != fleet.Dead {
			return errAt(key, "is", w.State)
		}
		return nil
	})
	return w
}

// The leader died after the tombstone, before it had handed over anything.
func TestWhatALeaderBeganTheNextOneFinishes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	began := r.leaseOf(leaseKey, "lost") // somebody leads, and does nothing
	r.recover("r0")
	var dead hands
	a := r.start("preprocess", "a", idle)
	a.member.Hold(&dead)
	r.put(names(5)...)
	dead.claim(a, r.take(a.js, 5), nil)
	r.eventually(func() error { return holds(a.entry(), 5) })
	<-time.After(2 * fleet.BeatEvery) // so that the standby has heard of it too
	last := a.entry()
	a.kill()
	if err := fleet.Bury(t.Context(), r.js, last, fleet.Epitaph{By: "lost", Token: began.Token(), Cause: causeDisconnected, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	r.leads()
	if e := r.event(kindDead, "a"); e.Facts["handed_over.FRAMES"] != "5" || e.Cause != causeDisconnected || parseToken(e.Facts[factToken]) <= began.Token() {
		t.Errorf("event %+v", e)
	}
}

func TestALeaderThatWasStoppedCannotAct(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	member := fleet.NewMember(r.js, fleet.Config{Service: Name, Instance: "old"})
	s := NewService(Config{Instance: "old"}, Deps{JS: r.js, Member: member, Log: slog.New(slog.DiscardHandler)})
	view, err := fleet.Follow(t.Context(), r.js, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w := newWatch(view, member.Key())
	old, err := s.claim(t.Context(), w) // it leads, and is stopped: nobody keeps the lease
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.claim(t.Context(), w); err != nil {
		t.Fatalf("a process that follows under the same name: %v", err)
	}
	if err := old.Confirm(t.Context()); !errors.Is(err, lease.ErrLost) {
		t.Fatalf("confirmed: %v", err)
	}
	other := NewService(Config{Instance: "new"}, Deps{JS: r.js, Member: member})
	if _, err := other.claim(t.Context(), w); !errors.Is(err, lease.ErrHeld) {
		t.Fatalf("a second leader: %v", err)
	}

	var held hands
	a := r.start("preprocess", "a", idle)
	a.member.Hold(&held)
	r.put("x")
	held.claim(a, r.take(a.js, 1), nil)
	d := death{Seen: fleet.Seen{Worker: a.entry(), Heard: time.Now()}, cause: causeSilent, noticed: time.Now(), at: time.Now()}
	h := &handing{s: s, watch: w, dead: d, lead: old, facts: map[string]string{}}
	if err := h.run(t.Context()); !errors.Is(err, lease.ErrLost) {
		t.Errorf("an old leader acts: %v", err)
	}
	if e := a.entry(); e.State != fleet.Alive {
		t.Errorf("an old leader buried %+v", e)
	}
	if got := r.take(r.js, 1); len(got) != 0 {
		t.Error("an old leader handed over a message")
	}
}

func TestALeaderThatStopsIsFollowedAtOnce(t *testing.T) {
	t.Parallel()
	inTime(t, "its lease had to expire", followedAtOnce)
}

func followedAtOnce(t *testing.T) bool {
	t.Helper()
	r := newRig(t)
	replicas := map[string]*process{"r0": r.recover("r0")}
	first, token := r.leader()
	replicas["r1"] = r.recover("r1")
	began := time.Now()
	replicas[first].stop()
	second, later := r.leader()
	took := time.Since(began)
	if second == first || later <= token {
		t.Errorf("%s leads with token %d after %v", second, later, took)
	}
	return took <= streams.LeaseTTL*2/3
}

// An operator purges a stream while nobody leads: who leads next tells of it.
func TestAPurgeBetweenTwoReigns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	r.put("x", "y")
	usurper, err := json.Marshal(lease.Holder{Instance: "lost", Since: time.Now()}) // it does nothing
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.kv(streams.LeasesBucket).Put(t.Context(), leaseKey, usurper); err != nil {
		t.Fatal(err)
	}
	for r.event("leader", "r0").State != "ended" {
		continue
	}
	s, err := r.js.Stream(t.Context(), streams.Frames)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := r.event("operator", streams.Frames); e.State != "purged" || e.Facts["messages"] != "2" {
		t.Errorf("%+v", e)
	}
}

// Tokens grow even when somebody deletes the bucket that they come from.
func TestTokensOutliveTheirBucket(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 10 { // revisions that will begin again
		if _, err := r.kv(streams.LeasesBucket).Put(t.Context(), "door", nil); err != nil {
			t.Fatal(err)
		}
	}
	r.recover("r0")
	_, token := r.leader()
	if token < 10 {
		t.Fatalf("token %d", token)
	}
	for _, bucket := range []string{streams.LeasesBucket, streams.WorkersBucket} {
		if err := r.js.DeleteKeyValue(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
	}
	if _, later := r.leader(); later <= token {
		t.Errorf("token %d after %d", later, token)
	}
	// It works on.
	a := r.start("infer", "a", idle)
	last := a.entry()
	a.kill()
	a.tellDisconnect(last, "Client Closed")
	r.event(kindDead, "a")
}

func TestTheCamerasOfADeadIngestAreFreed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	capture := func(cameras ...string) func(context.Context, *process) error {
		return func(ctx context.Context, p *process) error {
			kv, err := p.js.KeyValue(ctx, streams.LeasesBucket)
			if err != nil {
				return err
			}
			for _, camera := range cameras {
				l, err := lease.Acquire(ctx, kv, camera, strings.TrimPrefix(p.member.Key(), "ingest."), 0)
				if err != nil {
					return err
				}
				p.ended.Go(func() { _ = l.Keep(ctx) })
			}
			<-ctx.Done()
			return nil
		}
	}
	a := r.start("ingest", "a", capture("door", "gate"))
	r.start("ingest", "b", capture("yard"))
	r.eventually(func() error {
		for _, camera := range []string{"door", "gate", "yard"} {
			if _, err := r.kv(streams.LeasesBucket).Get(t.Context(), camera); err != nil {
				return err
			}
		}
		return nil
	})
	watch, err := r.kv(streams.LeasesBucket).WatchAll(t.Context(), jetstream.UpdatesOnly())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = watch.Stop() })
	last := a.entry()
	killed := time.Now()
	a.kill()
	a.tellDisconnect(last, "Client Closed")
	freed := map[string]bool{}
	for len(freed) < 2 {
		select {
		case e := <-watch.Updates():
			if e != nil && e.Operation() == jetstream.KeyValueDelete {
				freed[e.Key()] = true
			}
		case <-time.After(patience):
			t.Fatal("not freed")
		}
	}
	if took := time.Since(killed); took > streams.LeaseTTL/2 { // they would have expired
		t.Errorf("freed after %v", took)
	} else {
		t.Logf("freed after %v", took)
	}
	if e := r.event("leases_freed", "a"); !freed["door"] || !freed["gate"] || e.Facts["cameras"] != "door,gate" || e.Facts["outcome"] != "done" {
		t.Errorf("event %+v, freed %v", e, freed)
	}
	if e, err := r.kv(streams.LeasesBucket).Get(t.Context(), "yard"); err != nil || !strings.Contains(string(e.Value()), `"b"`) {
		t.Errorf("yard: %v", err)
	}
}

func TestABrokerThatRestartsMakesNobodyDead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	var all []*process
	before := map[string]string{}
	for _, instance := range []string{"a", "b", "c"} {
		p := r.start("infer", instance, idle)
		all = append(all, p)
		before[p.member.Key()] = p.entry().Incarnation
	}
	<-time.After(calmFor)
	r.restart()
	back := time.Now()
	for _, p := range all {
		r.eventually(func() error {
			e, err := p.look()
			if err == nil && e.At.Before(back) {
				return errAt("last beat at", e.At)
			}
			return err
		})
	}
	<-time.After(calmFor + 2*silentFor) // an absence has no event
	for len(r.told) > 0 {
		if e := <-r.told; e.Kind == kindDead {
			t.Errorf("dead: %+v", e)
		}
	}
	for _, p := range all {
		if e := p.entry(); e.State != fleet.Alive || e.Incarnation != before[p.member.Key()] {
			t.Errorf("%+v", e)
		}
	}
	// The watch has not gone blind.
	last := all[0].entry()
	all[0].kill()
	if e := r.event(kindDead, "a"); e.Cause != causeSilent {
		t.Errorf("%+v of %+v", e, last)
	}
}

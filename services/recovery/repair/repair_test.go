package repair_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/recovery/repair"
	"github.com/sightline-dev/sightline/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	operator = "operator-alice" // name of the connection that does what is to be mended
	patience = 60 * time.Second
)

// leader is a leadership that can be taken away.
type leader struct{ lost atomic.Bool }

func (l *leader) Confirm(context.Context) error {
	if l.lost.Load() {
		return errors.New("somebody else leads")
	}
	return nil
}

func (l *leader) Token() uint64 { return 42 }

// told keeps what was told.
type told struct {
	mu   sync.Mutex
	all  []events.Event
	more chan struct{}
}

func newTold() *told { return &told{more: make(chan struct{}, 1)} }

func (l *told) Tell(e events.Event) {
	l.mu.Lock()
	l.all = append(l.all, e)
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *told) find(match func(events.Event) bool) []events.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []events.Event
	for _, e := range l.all {
		if match(e) {
			out = append(out, e)
		}
	}
	return out
}

func (l *told) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = nil
}

// await waits for an event of a kind about a target.
func (l *told) await(t *testing.T, kind, name string, states ...string) events.Event {
	t.Helper()
	match := func(e events.Event) bool {
		return e.Kind == kind && e.Name == name && (len(states) == 0 || slices.Contains(states, e.State))
	}
	deadline := time.After(patience)
	for {
		if got := l.find(match); len(got) > 0 {
			return got[0]
		}
		select {
		case <-l.more:
		case <-deadline:
			t.Fatalf("no %s of %s %v in %+v", kind, name, states, l.find(func(events.Event) bool { return true }))
		}
	}
}

// rig is a broker, an operator and a Repair that runs.
type rig struct {
	js, operator jetstream.JetStream
	told         *told
	lead         *leader
}

func newRig(t *testing.T) *rig {
	t.Helper()
	base := brokertest.JetStream(t)
	r := &rig{
		js: brokertest.Connect(t, base.Conn().ConnectedUrl(), "recovery-r1"), operator: brokertest.Connect(t, base.Conn().ConnectedUrl(), operator),
		told: newTold(), lead: &leader{},
	}
	run(t, repair.Config{JS: r.js, Leadership: r.lead, Events: r.told})
	r.settled(t)
	return r
}

// run runs a Repair for as long as the test.
func run(t *testing.T, cfg repair.Config) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := repair.New(cfg).Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// settled waits until the Repair has looked at everything once: the work groups of preprocess are what comes last.
func (r *rig) settled(t *testing.T) {
	t.Helper()
	eventually(t, "the work groups are there", func() bool {
		_, err := r.operator.Consumer(t.Context(), streams.FramesTwin, "preprocess")
		return err == nil
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		<-tick.C
	}
}

func (r *rig) publish(t *testing.T, subject string, n int) {
	t.Helper()
	for i := range n {
		if _, err := r.operator.Publish(t.Context(), subject, []byte("x"), jetstream.WithMsgID(fmt.Sprintf("%s/%d", subject, i))); err != nil {
			t.Fatal(err)
		}
	}
}

// asDeclared waits until a stream is there and as declared.
func (r *rig) asDeclared(t *testing.T, name string) {
	t.Helper()
	eventually(t, name+" is as declared", func() bool {
		s, err := r.operator.Stream(t.Context(), name)
		return err == nil && len(streams.Differences(streams.Declared(streams.Options{})[name], s.CachedInfo().Config)) == 0
	})
}

func (r *rig) incidents(t *testing.T) []ledger.Incident {
	t.Helper()
	s, err := r.operator.Stream(t.Context(), streams.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	var out []ledger.Incident
	for seq := s.CachedInfo().State.FirstSeq; seq > 0 && seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		d, err := ledger.DecodeMessage(m.Subject, m.Data, m.Time)
		if err != nil {
			t.Fatal(err)
		}
		if d.Incident != nil {
			out = append(out, *d.Incident)
		}
	}
	return out
}

func putModel(t *testing.T, js jetstream.JetStream, name string) {
	t.Helper()
	d, _ := model.Preset(model.Person)
	d.Input.Width, d.Input.Height, d.Input.Layout = 16, 16, model.NCHW
	if _, err := catalog.PutModel(t.Context(), js, catalog.Model{Name: name, Version: 1, Declaration: d}); err != nil {
		t.Fatal(err)
	}
}

func TestEveryStreamThatIsDeletedComesBack(t *testing.T) {
	r := newRig(t)
	var took []time.Duration
	for name := range streams.Declared(streams.Options{}) {
		began := time.Now()
		if err := r.operator.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		e := r.told.await(t, "repair", name, "mended", "back_already")
		took = append(took, time.Since(began))
		if e.Area != "recovery" || e.Cause != "deleted" || e.Facts["token"] != "42" || e.Facts["outcome"] != e.State || e.Facts["duration_ms"] == "" || e.Facts["by"] != operator {
			t.Errorf("%+v", e)
		}
		if who := r.told.await(t, "operator", name, "deleted"); who.Facts["by"] != operator || who.Facts["by_host"] == "" || who.At.Before(began.Add(-time.Second)) {
			t.Errorf("%+v", who)
		}
		r.asDeclared(t, name)
	}
	slices.Sort(took)
	t.Logf("deleted streams were back after %s (median), %s (worst)", took[len(took)/2], took[len(took)-1])
	if took[len(took)/2] > time.Second {
		t.Errorf("median %s", took[len(took)/2])
	}
	// Work goes on: the work groups went with their streams.
	for _, g := range streams.Groups() {
		eventually(t, g.Stream+" has its work group", func() bool {
			_, err := r.operator.Consumer(t.Context(), g.Stream, g.Config.Durable)
			return err == nil
		})
	}
}

func TestDeletionOfDesiredStateIsCritical(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct{ bucket, what string }{{streams.CamerasBucket, "cameras"}, {streams.ModelsBucket, "models"}} {
		if err := r.operator.DeleteKeyValue(t.Context(), c.bucket); err != nil {
			t.Fatal(err)
		}
		e := r.told.await(t, "repair", "KV_"+c.bucket)
		if e.Facts["severity"] != "critical" || !strings.Contains(e.Detail, "the declared "+c.what+" are gone") {
			t.Errorf("%+v", e)
		}
	}
	if err := r.operator.DeleteKeyValue(t.Context(), streams.WorkersBucket); err != nil {
		t.Fatal(err)
	}
	if e := r.told.await(t, "repair", "KV_"+streams.WorkersBucket); e.Facts["severity"] != "" {
		t.Errorf("%+v", e)
	}
}

func TestEveryAlteredFieldComesBack(t *testing.T) {
	r := newRig(t)
	alter := func(stream string, change func(*jetstream.StreamConfig)) {
		t.Helper()
		r.told.forget()
		s, err := r.operator.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		change(&cfg)
		began := time.Now()
		if _, err := r.operator.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		e := r.told.await(t, "repair", stream, "mended")
		if e.Cause != "altered" || e.Detail == "" || e.Facts["by"] != operator {
			t.Errorf("%+v", e)
		}
		r.asDeclared(t, stream)
		t.Logf("%-14s %-60s after %s", stream, e.Detail, time.Since(began).Round(time.Millisecond))
	}
	alter(streams.Predictions, func(c *jetstream.StreamConfig) { c.MaxAge = time.Minute; c.Duplicates = time.Minute })
	alter(streams.Predictions, func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy })
	alter(streams.Frames, func(c *jetstream.StreamConfig) { c.Subjects = []string{"frames.elsewhere.*"} })
	alter(streams.Frames, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld; c.DiscardNewPerSubject = false })
	alter(streams.TensorsLive, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 })
	alter(streams.Events, func(c *jetstream.StreamConfig) { c.MaxMsgs, c.MaxMsgSize = 10, 100 })
	alter("KV_"+streams.LeasesBucket, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour; c.Duplicates = time.Minute })
	if got := r.told.find(func(e events.Event) bool { return e.Kind == "operator" }); len(got) > 0 {
		t.Errorf("an update is told with its repair: %+v", got)
	}
}

func TestWhatCannotBeMendedIsToldOnce(t *testing.T) {
	r := newRig(t)
	cfg := streams.Declared(streams.Options{})[streams.Tensors]
	cfg.Retention, cfg.MaxMsgsPerSubject = jetstream.LimitsPolicy, 7
	// While nobody leads, so that it is not mended between the two.
	r.lead.lost.Store(true)
	if err := r.operator.DeleteStream(t.Context(), streams.Tensors); err != nil {
		t.Fatal(err)
	}
	if _, err := r.operator.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	r.publish(t, "tensors.every.people.stable.door", 3)
	r.lead.lost.Store(false)
	e := r.told.await(t, "repair", streams.Tensors, "cannot_be_mended")
	if !strings.Contains(e.Detail, "retention is Limits, want WorkQueue") || !strings.Contains(e.Detail, "delete the stream") || e.Facts["action"] != "none" {
		t.Errorf("%+v", e)
	}
	// What can be mended is, and nothing was deleted.
	r.told.await(t, "repair", streams.Tensors, "mended")
	s, err := r.operator.Stream(t.Context(), streams.Tensors)
	if err != nil {
		t.Fatal(err)
	}
	if info := s.CachedInfo(); info.Config.MaxMsgsPerSubject != streams.TensorBacklog || info.State.Msgs != 3 {
		t.Errorf("%+v", info)
	}
	// Something else that takes a sweep.
	for range 2 {
		r.told.forget()
		if err := r.operator.DeleteStream(t.Context(), streams.Events); err != nil {
			t.Fatal(err)
		}
		r.told.await(t, "repair", streams.Events, "mended")
	}
	if again := r.told.find(func(e events.Event) bool { return e.State == "cannot_be_mended" }); len(again) > 0 {
		t.Errorf("told again: %+v", again)
	}
	// The operator does what is asked for.
	if err := r.operator.DeleteStream(t.Context(), streams.Tensors); err != nil {
		t.Fatal(err)
	}
	r.asDeclared(t, streams.Tensors)
}

// Somebody had allowed a queue to hold more, and it does: to lower its limit would delete frames.
func TestNoLimitIsLoweredUnderMessages(t *testing.T) {
	r := newRig(t)
	r.lead.lost.Store(true)
	cfg := streams.Declared(streams.Options{})[streams.Tensors]
	cfg.MaxMsgsPerSubject, cfg.MaxMsgSize = 10*streams.TensorBacklog, 1000
	if _, err := r.operator.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	const subject, holds = "tensors.every.people.stable.door", streams.TensorBacklog + 6
	r.publish(t, subject, holds)
	r.publish(t, "tensors.every.people.stable.yard", 1)
	r.lead.lost.Store(false)
	if e := r.told.await(t, "repair", streams.Tensors, "cannot_be_mended"); !strings.Contains(e.Detail, "max_msgs_per_subject is 640, want 64: it holds more") {
		t.Errorf("%+v", e)
	}
	r.told.await(t, "repair", streams.Tensors, "mended") // what deletes nothing
	s, err := r.operator.Stream(t.Context(), streams.Tensors)
	if err != nil {
		t.Fatal(err)
	}
	if info := s.CachedInfo(); info.State.Msgs != holds+1 || info.Config.MaxMsgSize > 0 {
		t.Errorf("%+v", info)
	}
	for seq := range uint64(6) { // workers catch up
		if err := s.DeleteMsg(t.Context(), seq+1); err != nil {
			t.Fatal(err)
		}
	}
	r.asDeclared(t, streams.Tensors)
	if s, err = r.operator.Stream(t.Context(), streams.Tensors); err != nil || s.CachedInfo().State.Msgs != streams.TensorBacklog+1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// A controller that keeps another declaration is told of, and not fought with every sweep.
func TestAFightIsGivenUp(t *testing.T) {
	r := newRig(t)
	cfg := streams.Declared(streams.Options{})[streams.Events]
	cfg.MaxMsgs = 1000
	for {
		r.told.forget()
		if _, err := r.operator.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		e := r.told.await(t, "repair", streams.Events)
		if e.State == "mended" {
			continue
		}
		if e.State != "cannot_be_mended" || e.Cause != "relapse" || !strings.Contains(e.Detail, "max_msgs is 1000, want 0") || e.Facts["by"] != operator {
			t.Errorf("%+v", e)
		}
		break
	}
	// Something else is mended all the same, and takes a sweep.
	if err := r.operator.DeleteStream(t.Context(), streams.DLQ); err != nil {
		t.Fatal(err)
	}
	r.told.await(t, "repair", streams.DLQ, "mended")
	if got := r.told.find(func(e events.Event) bool { return e.Name == streams.Events }); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	s, err := r.operator.Stream(t.Context(), streams.Events)
	if err != nil || s.CachedInfo().Config.MaxMsgs != 1000 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestWorkGroupsComeBack(t *testing.T) {
	r := newRig(t)
	putModel(t, r.operator, "people")
	groups := streams.Groups("people")
	if len(groups) != 6 {
		t.Fatalf("%d groups", len(groups))
	}
	consumer := func(g streams.WorkGroup) *jetstream.ConsumerInfo {
		c, err := r.operator.Consumer(t.Context(), g.Stream, g.Config.Durable)
		if err != nil {
			return nil
		}
		return c.CachedInfo()
	}
	for _, g := range groups {
		eventually(t, g.Stream+"."+g.Config.Durable+" is there", func() bool { return consumer(g) != nil })
	}
	var took []time.Duration
	for _, g := range groups {
		target := g.Stream + "." + g.Config.Durable
		for what, deed := range map[string]func() error{
			"deleted": func() error { return r.operator.DeleteConsumer(t.Context(), g.Stream, g.Config.Durable) },
			"altered": func() error {
				cfg := g.Config
				cfg.AckWait, cfg.MaxAckPending = time.Hour, 1
				_, err := r.operator.UpdateConsumer(t.Context(), g.Stream, cfg)
				return err
			},
			"paused": func() error {
				_, err := r.operator.PauseConsumer(t.Context(), g.Stream, g.Config.Durable, time.Now().Add(time.Hour))
				return err
			},
		} {
			r.told.forget()
			began := time.Now()
			if err := deed(); err != nil {
				t.Fatal(err)
			}
			e := r.told.await(t, "repair", target, "mended")
			took = append(took, time.Since(began))
			if e.Cause != what || e.Facts["by"] != operator {
				t.Errorf("%s: %+v", what, e)
			}
			info := consumer(g)
			if info == nil || info.Paused || len(streams.ConsumerDifferences(g.Config, info.Config)) > 0 {
				t.Errorf("%s %s: %+v", target, what, info)
			}
			if what != "altered" {
				r.told.await(t, "operator", target, what)
			}
		}
	}
	slices.Sort(took)
	t.Logf("work groups were back after %s (median), %s (worst)", took[len(took)/2], took[len(took)-1])
}

// What no update can change of a consumer, a new one has: its messages are still there.
func TestAWorkGroupThatMustBeReplaced(t *testing.T) {
	r := newRig(t)
	r.publish(t, streams.FrameSubject(streams.EveryFrame, "door"), 3)
	g := streams.Groups()[1]
	if g.Stream != streams.Frames {
		t.Fatal(g)
	}
	r.lead.lost.Store(true)
	if err := r.operator.DeleteConsumer(t.Context(), g.Stream, g.Config.Durable); err != nil {
		t.Fatal(err)
	}
	cfg := g.Config
	cfg.MaxWaiting, cfg.FilterSubject = 1, "frames.every.nobody"
	if _, err := r.operator.CreateConsumer(t.Context(), g.Stream, cfg); err != nil {
		t.Fatal(err)
	}
	r.lead.lost.Store(false)
	e := r.told.await(t, "repair", "FRAMES.preprocess", "mended")
	if e.Facts["action"] != "delete_and_create" {
		t.Errorf("%+v", e)
	}
	c, err := r.operator.Consumer(t.Context(), g.Stream, g.Config.Durable)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := c.Fetch(10, jetstream.FetchMaxWait(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for range batch.Messages() {
		n++
	}
	if n != 3 {
		t.Errorf("%d messages", n)
	}
	if own := r.told.find(func(e events.Event) bool { return e.Kind == "operator" && e.Facts["by"] != operator }); len(own) > 0 {
		t.Errorf("told as an operator's: %+v", own)
	}
}

func TestAPurgeIsToldToEverybodyConcerned(t *testing.T) {
	r := newRig(t)
	r.publish(t, streams.FrameSubject(streams.EveryFrame, "door"), 5)
	r.publish(t, streams.FrameSubject(streams.EveryFrame, "yard"), 4)
	s, err := r.operator.Stream(t.Context(), streams.Frames)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSubject("frames.every.door")); err != nil {
		t.Fatal(err)
	}
	e := r.told.await(t, "operator", streams.Frames, "purged")
	if e.Facts["by"] != operator || e.Facts["messages"] != "5" || e.Facts["filter"] != "frames.every.door" || e.Facts["by_host"] == "" || time.Since(e.At) > time.Minute {
		t.Errorf("%+v", e)
	}
	eventually(t, "the books know", func() bool { return len(r.incidents(t)) == 1 })
	if i := r.incidents(t)[0]; i.Kind != ledger.StreamPurged || i.Stream != streams.Frames || i.Filter != "frames.every.door" || !i.At.Equal(e.At) {
		t.Errorf("%+v", i)
	}
	// A deletion, too, once: of all that was there.
	if err := r.operator.DeleteStream(t.Context(), streams.Frames); err != nil {
		t.Fatal(err)
	}
	r.told.await(t, "repair", streams.Frames, "mended")
	eventually(t, "the books know", func() bool { return len(r.incidents(t)) == 2 })
	if i := r.incidents(t)[1]; i.Stream != streams.Frames || i.Filter != "" {
		t.Errorf("%+v", i)
	}
	if e := r.told.await(t, "operator", streams.Frames, "deleted"); e.Facts["messages"] != "9" && e.Facts["messages"] != "4" {
		t.Errorf("%+v", e)
	}
	if repairs := r.told.find(func(e events.Event) bool { return e.Kind == "repair" && e.Name == streams.Frames }); len(repairs) != 1 {
		t.Errorf("a purge leaves nothing to mend: %+v", repairs)
	}
	// The desired state can be purged, too.
	cameras, err := r.operator.Stream(t.Context(), "KV_"+streams.CamerasBucket)
	if err != nil {
		t.Fatal(err)
	}
	if err := cameras.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := r.told.await(t, "operator", "KV_"+streams.CamerasBucket, "purged"); e.Facts["severity"] != "critical" {
		t.Errorf("%+v", e)
	}
}

// A purge while nobody leads is told by who leads next, unless somebody told it before.
func TestAPurgeWhileNobodyLeads(t *testing.T) {
	base := brokertest.JetStream(t)
	if err := streams.Ensure(t.Context(), base, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	url := base.Conn().ConnectedUrl()
	r := &rig{js: brokertest.Connect(t, url, "recovery-r1"), operator: brokertest.Connect(t, url, operator), told: newTold(), lead: &leader{}}
	overheard, err := repair.Listen(r.js.Conn())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(overheard.Close)
	calls, err := r.js.Conn().SubscribeSync("$JS.EVENT.ADVISORY.API")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.js.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	for _, stream := range []string{streams.Frames, streams.Tensors} {
		subject := streams.FrameSubject(streams.EveryFrame, "door")
		if stream == streams.Tensors {
			subject = streams.TensorSubject(streams.EveryFrame, "people", streams.LaneStable, "door")
		}
		r.publish(t, subject, 5)
		s, err := r.operator.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		heardOf(t, calls, "$JS.API.STREAM.PURGE."+stream)
	}
	before, err := json.Marshal(events.Event{Area: "recovery", Kind: "operator", Name: streams.Tensors, Instance: "r0", State: "purged", At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.operator.Publish(t.Context(), streams.EventSubject("recovery", "operator", streams.Tensors), before); err != nil {
		t.Fatal(err)
	}
	run(t, repair.Config{JS: r.js, Leadership: r.lead, Events: r.told, Purges: overheard})
	if e := r.told.await(t, "operator", streams.Frames, "purged"); e.Facts["by"] != operator || e.Facts["messages"] != "5" {
		t.Errorf("%+v", e)
	}
	eventually(t, "the books know both", func() bool { return len(r.incidents(t)) == 2 })
	r.settled(t)
	if twice := r.told.find(func(e events.Event) bool { return e.Kind == "operator" && e.Name == streams.Tensors }); len(twice) > 0 {
		t.Errorf("told already: %+v", twice)
	}
	// What is done from now on is told once, though it is heard of twice.
	s, err := r.operator.Stream(t.Context(), streams.Tensors)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.told.await(t, "operator", streams.Tensors, "purged")
	if err := r.operator.DeleteStream(t.Context(), streams.DLQ); err != nil { // the sweep after that
		t.Fatal(err)
	}
	r.told.await(t, "repair", streams.DLQ, "mended")
	for _, stream := range []string{streams.Frames, streams.Tensors} {
		if got := r.told.find(func(e events.Event) bool { return e.Kind == "operator" && e.Name == stream }); len(got) != 1 {
			t.Errorf("%s: told %+v", stream, got)
		}
	}
}

// heardOf waits until the broker told of a call.
func heardOf(t *testing.T, calls *nats.Subscription, subject string) {
	t.Helper()
	for {
		m, err := calls.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(m.Data), subject+`"`) {
			return
		}
	}
}

func TestOnlyTheLeaderMends(t *testing.T) {
	r := newRig(t)
	standby, silent := &leader{}, newTold()
	standby.lost.Store(true)
	run(t, repair.Config{JS: brokertest.Connect(t, r.js.Conn().ConnectedUrl(), "recovery-r2"), Leadership: standby, Events: silent})
	for range 3 {
		r.told.forget()
		if err := r.operator.DeleteStream(t.Context(), streams.Predictions); err != nil {
			t.Fatal(err)
		}
		if e := r.told.await(t, "repair", streams.Predictions); e.State != "mended" {
			t.Errorf("%+v", e)
		}
	}
	// The other one takes over: it mends, and the first does not.
	r.lead.lost.Store(true)
	standby.lost.Store(false)
	r.told.forget()
	if got := silent.find(func(events.Event) bool { return true }); len(got) > 0 {
		t.Errorf("the standby told %+v", got)
	}
	if err := r.operator.DeleteStream(t.Context(), streams.Predictions); err != nil {
		t.Fatal(err)
	}
	silent.await(t, "repair", streams.Predictions, "mended")
	if got := r.told.find(func(events.Event) bool { return true }); len(got) > 0 {
		t.Errorf("the first told %+v", got)
	}
}

// The leader's lease is in a bucket, too: without it there is nobody to confirm that it may be made anew.
func TestTheBucketOfTheLeaseNeedsNoLease(t *testing.T) {
	r := newRig(t)
	r.lead.lost.Store(true)
	if err := r.operator.DeleteKeyValue(t.Context(), streams.LeasesBucket); err != nil {
		t.Fatal(err)
	}
	r.asDeclared(t, "KV_"+streams.LeasesBucket)
}

// A restart takes the live streams with it: they were in memory. No operator did that.
func TestLiveStreamsComeBackAfterARestart(t *testing.T) {
	dir := t.TempDir()
	server, err := broker.StartEmbedded(t.Context(), "127.0.0.1", -1, dir)
	if err != nil {
		t.Fatal(err)
	}
	js := brokertest.Connect(t, server.URL(), "recovery-r1")
	if err := streams.Ensure(t.Context(), js, streams.Options{}); err != nil {
		server.Stop()
		t.Fatal(err)
	}
	log := newTold()
	run(t, repair.Config{JS: js, Leadership: &leader{}, Events: log})
	r := &rig{js: js, operator: js, told: log}
	r.settled(t)
	back := js.Conn().StatusChanged(nats.CONNECTED)
	var port int
	if _, err := fmt.Sscanf(server.URL(), "nats://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	if server, err = broker.StartEmbedded(t.Context(), "127.0.0.1", port, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	<-back
	began := time.Now()
	for _, name := range []string{streams.FramesLive, streams.FramesTwin, streams.TensorsLive, streams.TensorsTwin} {
		e := log.await(t, "repair", name, "mended")
		if e.Cause != "missing" || e.Facts["by"] != "" {
			t.Errorf("%+v", e)
		}
	}
	t.Logf("live streams were back %s after the broker", time.Since(began))
	if got := r.incidents(t); len(got) > 0 {
		t.Errorf("the books were told %+v", got)
	}
	if got := log.find(func(e events.Event) bool { return e.Kind == "operator" }); len(got) > 0 {
		t.Errorf("an operator is accused: %+v", got)
	}
}

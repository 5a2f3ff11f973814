package streams_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

// These tests hold the broker to what the services rely on.

const errMaxPerSubject jetstream.ErrorCode = 10077

func worker(t *testing.T, bind streams.Binder) jetstream.Consumer {
	t.Helper()
	c, err := bind(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fetch takes what is there, at most n messages.
func fetch(t *testing.T, c jetstream.Consumer, n int) []jetstream.Msg {
	t.Helper()
	batch, err := c.FetchNoWait(n)
	if err != nil {
		t.Fatal(err)
	}
	var out []jetstream.Msg
	for m := range batch.Messages() {
		out = append(out, m)
	}
	if err := batch.Error(); err != nil {
		t.Fatal(err)
	}
	return out
}

func payloads(all []jetstream.Msg) []string {
	var out []string
	for _, m := range all {
		out = append(out, string(m.Data()))
	}
	return out
}

func TestEverySubjectHasItsStream(t *testing.T) {
	js := ensured(t)
	for subject, want := range map[string]string{
		streams.FrameSubject(streams.Freshest, "door"):                                  streams.FramesLive,
		streams.FrameSubject(streams.EveryFrame, "door"):                                streams.Frames,
		streams.TensorSubject(streams.Freshest, "people", streams.LaneStable, "door"):   streams.TensorsLive,
		streams.TensorSubject(streams.EveryFrame, "people", streams.LaneStable, "door"): streams.Tensors,
		streams.PredictionSubject("people", "door"):                                     streams.Predictions,
		streams.EventSubject("camera", "state", "door"):                                 streams.Events,
		streams.LedgerSubject("door"):                                                   streams.Ledger,
		streams.DLQSubject("infer", "door"):                                             streams.DLQ,
		streams.FeedbackSubject("door"):                                                 streams.Feedback,
	} {
		if got := publish(t, js, subject, "1", "x").Stream; got != want {
			t.Errorf("%s is stored in %s, want %s", subject, got, want)
		}
	}
	// A name that is no token falls through: nothing stores it, and the publisher is told.
	_, err := js.Publish(t.Context(), streams.FrameSubject(streams.Freshest, "front.door"), nil, jetstream.WithRetryAttempts(0))
	if !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("a subject of nobody: %v", err)
	}
}

func TestALiveRingKeepsTheNewestOfEachCamera(t *testing.T) {
	js := ensured(t)
	for _, c := range []struct {
		stream, noisy, quiet string
		worker               streams.Binder
	}{
		{streams.FramesLive, streams.FrameSubject(streams.Freshest, "noisy"), streams.FrameSubject(streams.Freshest, "quiet"), streams.Preprocess(js)[0]},
		{
			streams.TensorsLive, streams.TensorSubject(streams.Freshest, "people", streams.LaneStable, "noisy"),
			streams.TensorSubject(streams.Freshest, "people", streams.LaneStable, "quiet"), streams.Infer(js, "people", streams.LaneStable)[0],
		},
	} {
		t.Run(c.stream, func(t *testing.T) {
			publish(t, js, c.quiet, "quiet", "quiet")
			for i := range 50 {
				publish(t, js, c.noisy, strconv.Itoa(i), strconv.Itoa(i))
			}
			if n := info(t, js, c.stream).State.Msgs; n != streams.LiveRing+1 {
				t.Errorf("%d messages, want %d of the noisy camera and 1 of the quiet one", n, streams.LiveRing)
			}
			if got := payloads(fetch(t, worker(t, c.worker), 100)); !slices.Equal(got, []string{"quiet", "47", "48", "49"}) {
				t.Errorf("a worker gets %v", got)
			}
		})
	}
}

func TestAFrameOfAnEveryCameraIsNeverEvicted(t *testing.T) {
	js := ensured(t)
	for i := range 200 {
		publish(t, js, streams.FrameSubject(streams.EveryFrame, "door"), strconv.Itoa(i), "x")
	}
	if n := len(fetch(t, worker(t, streams.Preprocess(js)[1]), 500)); n != 200 {
		t.Errorf("%d of 200 frames", n)
	}
}

func TestAFullBacklogRefusesThePublisher(t *testing.T) {
	js := ensured(t)
	full := streams.TensorSubject(streams.EveryFrame, "people", streams.LaneStable, "full")
	for i := range streams.TensorBacklog {
		publish(t, js, full, strconv.Itoa(i), strconv.Itoa(i))
	}
	refused := func(id string) error {
		_, err := js.Publish(t.Context(), full, nil, jetstream.WithMsgID(id))
		return err
	}
	err := refused("one more")
	if api, ok := errors.AsType[*jetstream.APIError](err); !ok || api.ErrorCode != errMaxPerSubject {
		t.Errorf("a full backlog answers %v", err)
	}
	publish(t, js, streams.TensorSubject(streams.EveryFrame, "people", streams.LaneStable, "other"), "other", "x") // nobody else pays

	c := worker(t, streams.Infer(js, "people", streams.LaneStable)[1])
	got := fetch(t, c, 1)
	if !slices.Equal(payloads(got), []string{"0"}) {
		t.Fatalf("the worker gets %v, want the oldest", payloads(got))
	}
	if err := refused("still one more"); err == nil {
		t.Error("what a worker holds must still count")
	}
	if err := got[0].DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, js, full, "one more", "x") // a refused id is not remembered
}

func TestARepeatedIDIsStoredOnce(t *testing.T) {
	js := ensured(t)
	for _, subject := range []string{
		streams.FrameSubject(streams.Freshest, "door"), streams.FrameSubject(streams.EveryFrame, "door"),
		streams.TensorSubject(streams.Freshest, "people", streams.LaneStable, "door"),
		streams.TensorSubject(streams.EveryFrame, "people", streams.LaneStable, "door"),
		streams.PredictionSubject("people", "door"), streams.LedgerSubject("door"),
		streams.EventSubject("camera", "state", "door"), streams.DLQSubject("infer", "door"),
		streams.FeedbackSubject("door"),
	} {
		first, second := publish(t, js, subject, "door/7/1", "x"), publish(t, js, subject, "door/7/1", "x")
		if first.Duplicate || !second.Duplicate || second.Sequence != first.Sequence || info(t, js, first.Stream).State.Msgs != 1 {
			t.Errorf("%s: first %+v, second %+v", subject, first, second)
		}
	}
	for _, s := range streams.Streams(streams.Options{}) {
		if s.MaxAge > 0 && s.Duplicates > s.MaxAge {
			t.Errorf("%s remembers ids for %v, longer than messages (%v): the server refuses that", s.Name, s.Duplicates, s.MaxAge)
		}
	}
}

func TestAnAcknowledgedIDOfAWorkQueueIsStillRemembered(t *testing.T) {
	js := ensured(t)
	subject := streams.FrameSubject(streams.EveryFrame, "door")
	publish(t, js, subject, "door/7/1", "x")
	got := fetch(t, worker(t, streams.Preprocess(js)[1]), 1)
	if len(got) != 1 {
		t.Fatal("no message")
	}
	if err := got[0].DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ack := publish(t, js, subject, "door/7/1", "x"); !ack.Duplicate {
		t.Error("a frame that was handled is stored again")
	}
}

func TestAWorkGroupHandsEachMessageToOneMember(t *testing.T) {
	js := ensured(t)
	one, two := worker(t, streams.Preprocess(js)[1]), worker(t, streams.Preprocess(js)[1])
	for i := range 10 {
		publish(t, js, streams.FrameSubject(streams.EveryFrame, "door"), strconv.Itoa(i), strconv.Itoa(i))
	}
	got := append(payloads(fetch(t, one, 5)), payloads(fetch(t, two, 10))...)
	slices.Sort(got)
	if !slices.Equal(got, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}) {
		t.Errorf("together they get %v", got)
	}
	// Nobody can take frames away from the group by mistake.
	_, err := js.CreateConsumer(t.Context(), streams.Frames, jetstream.ConsumerConfig{Durable: "thief", AckPolicy: jetstream.AckExplicitPolicy})
	if err == nil {
		t.Error("a second group on the same frames was accepted")
	}
}

func TestLanesDoNotShareTensors(t *testing.T) {
	js := ensured(t)
	for _, lane := range []streams.Lane{streams.LaneStable, streams.LaneCanary} {
		publish(t, js, streams.TensorSubject(streams.EveryFrame, "people", lane, "door"), string(lane), string(lane))
	}
	publish(t, js, streams.TensorSubject(streams.EveryFrame, "faces", streams.LaneStable, "door"), "faces", "faces")
	if got := payloads(fetch(t, worker(t, streams.Infer(js, "people", streams.LaneCanary)[1]), 10)); !slices.Equal(got, []string{"canary"}) {
		t.Errorf("the canary gets %v", got)
	}
}

// TestALeaseThatIsNotRenewedTellsSo is what take-over within seconds rests on: no polling, an event.
func TestALeaseThatIsNotRenewedTellsSo(t *testing.T) {
	const attempts = 4 // a busy machine hears of it later
	for range attempts {
		told := false
		t.Run("attempt", func(t *testing.T) { told = toldInTime(t) })
		if told || t.Failed() {
			return
		}
	}
	t.Errorf("in each of %d attempts it was told later than %v", attempts, 2*streams.LeaseTTL)
}

// toldInTime reports whether this machine heard of it in time.
func toldInTime(t *testing.T) bool {
	t.Helper()
	js := ensured(t)
	kv, err := js.KeyValue(t.Context(), streams.LeasesBucket)
	if err != nil {
		t.Fatal(err)
	}
	watch, err := kv.Watch(t.Context(), "door", jetstream.UpdatesOnly())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = watch.Stop() })
	began := time.Now()
	first, err := kv.Create(t.Context(), "door", []byte("ingest-0"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Create(t.Context(), "door", []byte("ingest-1")); !errors.Is(err, jetstream.ErrKeyExists) {
		if time.Since(began) > streams.LeaseTTL {
			return false
		}
		t.Errorf("a lease that is held: %v", err)
	}
	if e := <-watch.Updates(); e == nil || e.Operation() != jetstream.KeyValuePut {
		t.Fatalf("update %v", e)
	}
	var took time.Duration
	select {
	case e := <-watch.Updates():
		took = time.Since(began)
		if e == nil || e.Operation() == jetstream.KeyValuePut {
			t.Fatalf("update %v", e)
		}
		if took < streams.LeaseTTL/2 {
			t.Errorf("told after %v, the lease lasts %v", took, streams.LeaseTTL)
		}
	case <-time.After(time.Minute):
		t.Fatal("no marker")
	}
	msg, err := leases(t, js).GetLastMsgForSubject(t.Context(), "$KV."+streams.LeasesBucket+".door")
	if err != nil {
		t.Fatal(err)
	}
	if reason := msg.Header.Get(jetstream.MarkerReasonHeader); reason != "MaxAge" {
		t.Errorf("marker reason %q in %v", reason, msg.Header)
	}
	second, err := kv.Create(t.Context(), "door", []byte("ingest-1"))
	if err != nil {
		t.Fatal(err)
	}
	if second <= first {
		t.Errorf("the next epoch %d is not after %d", second, first)
	}
	return took <= 2*streams.LeaseTTL
}

func leases(t *testing.T, js jetstream.JetStream) jetstream.Stream {
	t.Helper()
	s, err := js.Stream(t.Context(), "KV_"+streams.LeasesBucket)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSomebodyElseHandsAMessageBack is what handing over rests on: the broker does not ask who received a message.
func TestSomebodyElseHandsAMessageBack(t *testing.T) {
	js := ensured(t)
	for i := range 3 {
		publish(t, js, streams.FrameSubject(streams.EveryFrame, "door"), strconv.Itoa(i), strconv.Itoa(i))
	}
	c := worker(t, streams.Preprocess(js)[1])
	held := fetch(t, c, 3)
	if len(held) != 3 {
		t.Fatalf("%d messages", len(held))
	}
	if err := held[0].DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sequence := range []uint64{1, 2, 1000} { // settled, held by somebody, unknown: each is answered
		subject := streams.AckSubject(streams.Frames, "preprocess", sequence, info.Delivered.Consumer)
		if _, err := js.Conn().RequestWithContext(t.Context(), subject, []byte("-NAK")); err != nil {
			t.Errorf("%s: %v", subject, err)
		}
	}
	if got := payloads(fetch(t, c, 10)); !slices.Equal(got, []string{"1"}) {
		t.Errorf("came back: %v", got)
	}
}

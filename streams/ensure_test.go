package streams_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

// differs reports where a stream is not as declared. The server fills in what the declaration leaves open.
func differs(t *testing.T, js jetstream.JetStream) []string {
	t.Helper()
	var out []string
	for _, want := range streams.Streams(streams.Options{}) {
		got := info(t, js, want.Name).Config
		w, g := reflect.ValueOf(want), reflect.ValueOf(got)
		for i := range w.NumField() {
			if !w.Field(i).IsZero() && !reflect.DeepEqual(w.Field(i).Interface(), g.Field(i).Interface()) {
				out = append(out, want.Name+"."+w.Type().Field(i).Name)
			}
		}
	}
	for _, want := range streams.Buckets(streams.Options{}) {
		kv, err := js.KeyValue(t.Context(), want.Bucket)
		if err != nil {
			t.Fatal(err)
		}
		status, err := kv.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if status.History() != int64(want.History) || status.TTL() != want.TTL {
			out = append(out, want.Bucket)
		}
	}
	return out
}

func names(t *testing.T, js jetstream.JetStream) []string {
	t.Helper()
	var out []string
	all := js.StreamNames(t.Context())
	for n := range all.Name() {
		out = append(out, n)
	}
	if err := all.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func TestEnsureCreatesExactlyWhatIsDeclared(t *testing.T) {
	js := ensured(t)
	if d := differs(t, js); len(d) > 0 {
		t.Errorf("not as declared: %v", d)
	}
	var want []string
	for _, s := range streams.Streams(streams.Options{}) {
		want = append(want, s.Name)
	}
	for _, b := range streams.Buckets(streams.Options{}) {
		want = append(want, "KV_"+b.Bucket)
	}
	slices.Sort(want)
	if got := names(t, js); !slices.Equal(got, want) {
		t.Errorf("streams %v, want %v", got, want)
	}
}

func TestEnsureASecondTimeChangesNothing(t *testing.T) {
	js := ensured(t)
	publish(t, js, streams.PredictionSubject("people", "door"), "1", "x")
	before := info(t, js, streams.Predictions)
	if err := streams.Ensure(t.Context(), js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	after := info(t, js, streams.Predictions)
	if !after.Created.Equal(before.Created) || after.State.Msgs != 1 || !reflect.DeepEqual(after.Config, before.Config) {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
}

func TestEnsureFromEverywhereAtOnce(t *testing.T) {
	js := serve(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := streams.Ensure(t.Context(), js, streams.Options{}); err != nil {
				t.Error(err)
			}
			for _, bind := range append(streams.Preprocess(js), streams.Infer(js, "people", streams.LaneStable)...) {
				if _, err := bind(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if d := differs(t, js); len(d) > 0 {
		t.Errorf("not as declared: %v", d)
	}
}

func TestEnsureMends(t *testing.T) {
	js := ensured(t)
	live := info(t, js, streams.FramesLive).Config
	live.MaxMsgsPerSubject, live.MaxAge, live.Duplicates, live.Description = 100, time.Hour, time.Second, "changed"
	tensors := info(t, js, streams.Tensors).Config
	tensors.MaxMsgsPerSubject, tensors.DiscardNewPerSubject, tensors.Discard = -1, false, jetstream.DiscardOld
	events := info(t, js, streams.Events).Config
	events.Subjects = []string{"events.camera.*.*"}
	for _, cfg := range []jetstream.StreamConfig{live, tensors, events} {
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.UpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: streams.CamerasBucket, History: 1, Storage: jetstream.FileStorage}); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), streams.DLQ); err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	if d := differs(t, js); len(d) > 0 {
		t.Errorf("not mended: %v", d)
	}
}

func TestBindMendsAConsumer(t *testing.T) {
	js := ensured(t)
	bind := streams.Preprocess(js)[0]
	c, err := bind(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := c.CachedInfo().Config
	changed := want
	changed.AckWait, changed.MaxAckPending, changed.MaxDeliver = time.Hour, 1, 2
	if _, err := js.UpdateConsumer(t.Context(), streams.FramesLive, changed); err != nil {
		t.Fatal(err)
	}
	for _, prepare := range []func() error{
		func() error { return nil },
		func() error { return js.DeleteConsumer(t.Context(), streams.FramesLive, want.Durable) },
	} {
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
		if c, err = bind(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := c.CachedInfo().Config; !reflect.DeepEqual(got, want) {
			t.Errorf("consumer %+v\nwant %+v", got, want)
		}
	}
}

func TestWorkGroupsAreWhatBindersMake(t *testing.T) {
	js := ensured(t)
	for _, bind := range append(streams.Preprocess(js), streams.Infer(js, "people", streams.LaneCanary)...) {
		if _, err := bind(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	declared := map[string]bool{}
	for _, g := range streams.WorkGroups("people", streams.LaneCanary) {
		declared[g.Stream+" "+g.Config.Durable] = true
	}
	made := 0
	for _, name := range names(t, js) {
		s, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for c := range s.ConsumerNames(t.Context()).Name() {
			if made++; !declared[name+" "+c] {
				t.Errorf("%s of %s is not among the work groups", c, name)
			}
		}
	}
	if made != len(declared) {
		t.Errorf("%d consumers, %d work groups", made, len(declared))
	}
}

// A process that starts lowers no limit under messages: it would delete frames that nobody has looked at.
func TestEnsureDeletesNothing(t *testing.T) {
	js := ensured(t)
	cfg := info(t, js, streams.Tensors).Config
	cfg.MaxMsgsPerSubject, cfg.MaxMsgSize = 10*streams.TensorBacklog, 1000
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for range streams.TensorBacklog + 1 {
		if _, err := js.Publish(t.Context(), "tensors.every.people.stable.door", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := streams.Ensure(t.Context(), js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	if i := info(t, js, streams.Tensors); i.State.Msgs != streams.TensorBacklog+1 || i.Config.MaxMsgsPerSubject != cfg.MaxMsgsPerSubject || i.Config.MaxMsgSize > 0 {
		t.Errorf("%+v", i)
	}
	s, err := js.Stream(t.Context(), streams.Tensors)
	if err != nil || s.DeleteMsg(t.Context(), 1) != nil || streams.Ensure(t.Context(), js, streams.Options{}) != nil {
		t.Fatal(err)
	}
	if i := info(t, js, streams.Tensors); i.State.Msgs != streams.TensorBacklog || i.Config.MaxMsgsPerSubject != streams.TensorBacklog {
		t.Errorf("%+v", i)
	}
}

// What a stream holds more than is exactly what is not lowered.
func TestOverfull(t *testing.T) {
	want := jetstream.StreamConfig{Name: streams.Predictions, Storage: jetstream.FileStorage, MaxMsgs: 10, MaxBytes: 1000, MaxAge: time.Hour}
	have := &jetstream.StreamInfo{Config: want, State: jetstream.StreamState{Msgs: 11, Bytes: 1001, FirstTime: time.Now().Add(-2 * time.Hour)}}
	have.Config.MaxMsgs, have.Config.MaxBytes, have.Config.MaxAge = -1, 5000, 0
	check := func(what string, fields ...string) {
		t.Helper()
		if got, err := streams.Overfull(t.Context(), nil, want, have); err != nil || !slices.Equal(got, fields) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	check("all", "max_msgs", "max_bytes", "max_age")
	have.State.Msgs, have.State.FirstTime = 10, time.Now()
	check("some", "max_bytes")
	have.Config = want
	check("as declared")
	have.Config.MaxBytes = 500
	check("to be raised")
	have.Config.MaxBytes, want.Name = -1, "KV_"+streams.LeasesBucket
	check("a bucket")
}

func TestAwaitIsOverWhenAllIsDeclared(t *testing.T) {
	js := serve(t)
	var told []error
	done := make(chan error, 1)
	go func() { done <- streams.Await(t.Context(), js, func(err error) { told = append(told, err) }) }()
	select {
	case err := <-done:
		t.Fatalf("it waits for nothing: %v", err)
	case <-time.After(1200 * time.Millisecond):
	}
	if err := streams.Ensure(t.Context(), js, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || len(told) == 0 {
		t.Errorf("%v, told %v", err, told)
	}
	for i, err := range told { // each reason once; another stream may be missing while they are made
		if !errors.Is(err, jetstream.ErrStreamNotFound) || i > 0 && err.Error() == told[i-1].Error() {
			t.Errorf("told %v", told)
		}
	}
	if err := js.DeleteKeyValue(t.Context(), streams.StrikesBucket); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := streams.Await(ctx, js, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without one bucket: %v", err)
	}
}

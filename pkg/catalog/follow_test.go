package catalog_test

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// text reads values that are words.
func text(data []byte) (string, error) {
	if strings.HasPrefix(string(data), "!") {
		return "", errors.New("not a word")
	}
	return string(data), nil
}

func follow(t *testing.T, js jetstream.JetStream) *catalog.View[string] {
	t.Helper()
	v, err := catalog.Follow(t.Context(), js, streams.CamerasBucket, text, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func bucket(t *testing.T, js jetstream.JetStream) jetstream.KeyValue {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), streams.CamerasBucket)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func put(t *testing.T, js jetstream.JetStream, key, value string) {
	t.Helper()
	if _, err := bucket(t, js).Put(t.Context(), key, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

// await waits until a view holds exactly these values, given as key=value.
func await(t *testing.T, v *catalog.View[string], want ...string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		all, changed := v.All()
		var have []string
		for k, e := range all {
			have = append(have, k+"="+e.Value)
		}
		slices.Sort(have)
		if slices.Equal(have, want) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%v, want %v", have, want)
		}
	}
}

func TestAViewFollowsItsBucket(t *testing.T) {
	js := brokertest.JetStream(t)
	put(t, js, "door", "one")
	put(t, js, "yard", "one")
	v := follow(t, js)
	all, _ := v.All()
	if len(all) != 2 || all["door"].Value != "one" || all["door"].Revision != 1 {
		t.Fatalf("what was there is there from the start: %v", all)
	}
	put(t, js, "door", "two")
	await(t, v, "door=two", "yard=one")
	put(t, js, "door", "!")
	put(t, js, "gate", "one")
	await(t, v, "door=two", "gate=one", "yard=one") // what cannot be read leaves the earlier value
	if err := bucket(t, js).Delete(t.Context(), "yard"); err != nil {
		t.Fatal(err)
	}
	await(t, v, "door=two", "gate=one")
}

func TestAViewNeedsItsBucket(t *testing.T) {
	js := brokertest.JetStream(t)
	if err := js.DeleteKeyValue(t.Context(), streams.CamerasBucket); err != nil {
		t.Fatal(err)
	}
	_, err := catalog.Follow(t.Context(), js, streams.CamerasBucket, text, slog.New(slog.DiscardHandler))
	if !errors.Is(err, jetstream.ErrBucketNotFound) || !strings.HasPrefix(err.Error(), "follow bucket CAMERAS: ") {
		t.Error(err)
	}
}

// TestABucketThatIsMadeAnew: the operator's slip stops nothing; what is applied afterwards is what counts.
func TestABucketThatIsMadeAnew(t *testing.T) {
	js := brokertest.JetStream(t)
	put(t, js, "door", "one")
	put(t, js, "yard", "one")
	put(t, js, "gate", "one")
	v := follow(t, js)
	before, changed := v.All()
	if err := js.DeleteKeyValue(t.Context(), streams.CamerasBucket); err != nil {
		t.Fatal(err)
	}
	if err := streams.EnsureBucket(t.Context(), js, streams.CamerasBucket, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
		after, _ := v.All()
		t.Fatalf("an empty bucket changed %v into %v", before, after)
	case <-time.After(2500 * time.Millisecond): // longer than it takes to notice
	}
	began := time.Now()
	put(t, js, "door", "two") // under the revision that the first value had
	await(t, v, "door=two", "gate=one", "yard=one")
	t.Logf("a value of the new bucket was there after %s", time.Since(began))
	put(t, js, "yard", "one") // as it was
	await(t, v, "door=two", "yard=one")
	if took := time.Since(began); took < 5*time.Second {
		t.Errorf("gate was dropped after %s: somebody may have been about to write it", took)
	}
	after, _ := v.All()
	if after["door"].Revision <= before["door"].Revision {
		t.Errorf("another value has revision %d, the earlier one had %d", after["door"].Revision, before["door"].Revision)
	}
	if after["yard"] != before["yard"] {
		t.Errorf("the same value was told again: %+v, %+v", before["yard"], after["yard"])
	}
	// From here on it is a bucket like any other, and can be lost again.
	if err := bucket(t, js).Delete(t.Context(), "yard"); err != nil {
		t.Fatal(err)
	}
	await(t, v, "door=two")
	if err := js.DeleteKeyValue(t.Context(), streams.CamerasBucket); err != nil {
		t.Fatal(err)
	}
	if err := streams.EnsureBucket(t.Context(), js, streams.CamerasBucket, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	put(t, js, "door", "three")
	await(t, v, "door=three")
	if last, _ := v.Get("door"); last.Revision <= after["door"].Revision {
		t.Errorf("revision %d after %d", last.Revision, after["door"].Revision)
	}
	put(t, js, "gate", "one") // as it was before it was dropped
	await(t, v, "door=three", "gate=one")
	if keys := slices.Collect(maps.Keys(before)); len(keys) != 3 {
		t.Errorf("a copy changed: %v", keys)
	}
}

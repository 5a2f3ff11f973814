package conditions

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// until waits until a model's answers are as wanted.
func until(t *testing.T, v *View, camera, model string, want ...string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !slices.Equal(v.Of(camera, model), want); clock.Pause(t.Context(), time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s for %s: %q, want %q", camera, model, v.Of(camera, model), want)
		}
	}
}

func TestConditions(t *testing.T) {
	js := brokertest.JetStream(t)
	v, err := Follow(t.Context(), js, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	until(t, v, "door", "person")
	c := Condition{Reasons: []string{"frozen"}, Models: map[string][]string{"face": {"suspected_loss"}}, By: "r1", Since: time.Now().UTC(), Token: 7}
	if err := Put(t.Context(), js, "door", c); err != nil {
		t.Fatal(err)
	}
	until(t, v, "door", "person", "frozen")
	until(t, v, "door", "face", "frozen", "suspected_loss")
	until(t, v, "gate", "person")
	all, err := Read(t.Context(), js)
	if err != nil || len(all) != 1 || !all["door"].Same(c) || all["door"].Token != 7 {
		t.Errorf("%+v, %v", all, err)
	}

	older := c
	older.Token, older.Reasons = 6, []string{"black"}
	if err := Put(t.Context(), js, "door", older); !errors.Is(err, ErrStale) {
		t.Errorf("%v", err)
	}
	if err := Remove(t.Context(), js, "door", 6); !errors.Is(err, ErrStale) {
		t.Errorf("%v", err)
	}
	for range 2 { // the second time there is nothing to remove
		if err := Remove(t.Context(), js, "door", 8); err != nil {
			t.Fatal(err)
		}
	}
	until(t, v, "door", "person")
	if err := Put(t.Context(), js, "door", older); err != nil { // nobody knows of the newer leader any more
		t.Fatal(err)
	}
	until(t, v, "door", "person", "black")
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []Condition{
		{},
		{Reasons: []string{"Frozen"}},
		{Reasons: []string{"b", "a"}},
		{Reasons: []string{"a", "a"}},
		{Reasons: []string{""}},
		{Models: map[string][]string{"person": nil}},
		{Models: map[string][]string{"a b": {"x"}}},
	} {
		if c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	for _, data := range []string{`{`, `{"reasons":[]}`, `{"models":{"a":["b","a"]}}`} {
		if _, err := Decode([]byte(data)); err == nil {
			t.Errorf("%s is accepted", data)
		}
	}
}

// What nobody renews does not hold for ever, whatever is heard of the bucket.
func TestStale(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &View{}
		v.heard.Store(&map[string]heard{"door": {Condition{Reasons: []string{"frozen"}}, 1, time.Now()}})
		time.Sleep(staleAfter) //nolint:forbidigo // in a bubble
		if len(v.Of("door", "person")) != 1 {
			t.Error("it holds for shorter")
		}
		time.Sleep(time.Nanosecond) //nolint:forbidigo // in a bubble
		if len(v.Of("door", "person")) != 0 {
			t.Error("it holds for longer")
		}
	})
}

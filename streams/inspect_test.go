package streams_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

// What the server makes of a declaration is not a difference, be it a stream's, a bucket's or a consumer's.
func TestWhatIsDeclaredDoesNotDiffer(t *testing.T) {
	js := ensured(t)
	declared := streams.Declared(streams.Options{})
	if len(declared) != len(names(t, js)) {
		t.Errorf("%d declared, %v there", len(declared), names(t, js))
	}
	for name, want := range declared {
		if d := streams.Differences(want, info(t, js, name).Config); len(d) > 0 {
			t.Errorf("%s: %v", name, d)
		}
	}
	for _, g := range streams.Groups("people") {
		if err := streams.MendGroup(t.Context(), js, g); err != nil {
			t.Fatal(err)
		}
		c, err := js.Consumer(t.Context(), g.Stream, g.Config.Durable)
		if err != nil {
			t.Fatal(err)
		}
		if d := streams.ConsumerDifferences(g.Config, c.CachedInfo().Config); len(d) > 0 {
			t.Errorf("%s.%s: %v", g.Stream, g.Config.Durable, d)
		}
	}
}

// Every field that says what is promised is looked at, those too that somebody adds to nats.go.
func TestEveryFieldIsCompared(t *testing.T) {
	ignored := map[string]bool{
		"name": true, "description": true, "placement": true, "metadata": true, "template_owner": true, "first_seq": true,
	}
	stream := streams.Declared(streams.Options{})[streams.Frames]
	other := stream
	fill(reflect.ValueOf(&other).Elem())
	compareAll(t, reflect.TypeFor[jetstream.StreamConfig](), streams.Differences(stream, other), ignored)
	group := streams.Groups()[0].Config
	changed := group
	fill(reflect.ValueOf(&changed).Elem())
	compareAll(t, reflect.TypeFor[jetstream.ConsumerConfig](), streams.ConsumerDifferences(group, changed), ignored)
}

func compareAll(t *testing.T, config reflect.Type, got []streams.Difference, ignored map[string]bool) {
	t.Helper()
	var names []string
	for _, d := range got {
		names = append(names, d.Field)
	}
	for f := range config.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if slices.Contains(names, name) == ignored[name] {
			t.Errorf("%s.%s: compared %v", config.Name(), name, !ignored[name])
		}
	}
}

// fill gives every field a value that no declaration has.
func fill(v reflect.Value) {
	for _, f := range v.Fields() {
		switch f.Kind() {
		case reflect.Bool:
			f.SetBool(!f.Bool())
		case reflect.String:
			f.SetString(f.String() + "x")
		case reflect.Int, reflect.Int32, reflect.Int64:
			f.SetInt(f.Int() + 1)
			if f.Int() <= 1 { // 0 and -1 are often the same
				f.SetInt(7)
			}
		case reflect.Uint64, reflect.Uint8:
			f.SetUint(f.Uint() + 1)
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 2, 2))
		case reflect.Map:
			f.Set(reflect.ValueOf(map[string]string{"a": "b"}))
		case reflect.Struct:
			fill(f)
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
			if at, ok := reflect.TypeAssert[*time.Time](f); ok {
				*at = time.Now().Add(time.Hour)
			}
		default:
			panic(f.Kind())
		}
	}
}

func TestMendStream(t *testing.T) {
	js := ensured(t)
	publish(t, js, streams.FrameSubject(streams.EveryFrame, "door"), "1", "x")
	for name := range streams.Declared(streams.Options{}) {
		altered := info(t, js, name).Config
		altered.MaxMsgs, altered.MaxBytes = 1000, 1<<19
		altered.Metadata = map[string]string{"team": "security"}
		if _, err := js.UpdateStream(t.Context(), altered); err != nil {
			t.Fatal(err)
		}
		have := info(t, js, name)
		if d := streams.Differences(streams.Declared(streams.Options{})[name], have.Config); len(d) != 2 || d[0].Fixed || d[1].Fixed {
			t.Fatalf("%s: %v", name, d)
		}
		if err := streams.MendStream(t.Context(), js, have.Config, streams.Options{}); err != nil {
			t.Fatal(err)
		}
		after := info(t, js, name)
		if d := streams.Differences(streams.Declared(streams.Options{})[name], after.Config); len(d) > 0 || !after.Created.Equal(have.Created) || after.State.Msgs != have.State.Msgs {
			t.Errorf("%s: %v", name, d)
		}
		if after.Config.Metadata["team"] != "security" {
			t.Errorf("%s: what is an operator's is gone: %v", name, after.Config.Metadata)
		}
	}
}

// What no update can change does not stand in the way of the rest.
func TestMendAsFarAsPossible(t *testing.T) {
	js := ensured(t)
	cfg := info(t, js, streams.Predictions).Config
	cfg.DenyPurge, cfg.MaxAge, cfg.Duplicates = true, time.Hour, time.Minute
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := streams.MendStream(t.Context(), js, info(t, js, streams.Predictions).Config, streams.Options{}); err != nil {
		t.Fatal(err)
	}
	d := streams.Differences(streams.Declared(streams.Options{})[streams.Predictions], info(t, js, streams.Predictions).Config)
	if len(d) != 1 || d[0].String() != "deny_purge is true, want false" || !d[0].Fixed {
		t.Errorf("%v", d)
	}
}

func TestMendErrors(t *testing.T) {
	js := ensured(t)
	for want, err := range map[string]error{
		"declare stream OTHER: it is not declared":            streams.EnsureStream(t.Context(), js, "OTHER", streams.Options{}),
		"declare bucket OTHER: it is not declared":            streams.EnsureStream(t.Context(), js, "KV_OTHER", streams.Options{}),
		"mend stream OTHER: it is not declared":               streams.MendStream(t.Context(), js, jetstream.StreamConfig{Name: "OTHER"}, streams.Options{}),
		"replace stream PREDICTIONS: it is not a live stream": streams.ReplaceLive(t.Context(), js, streams.Predictions, "n1", streams.Options{}),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// One node is all there is: the stream is made anew there.
	if err := streams.ReplaceLive(t.Context(), js, streams.FramesTwin, "", streams.Options{}); err != nil {
		t.Error(err)
	}
	if n := streams.Node(info(t, js, streams.FramesTwin)); n != "" {
		t.Errorf("a broker that is no cluster has node %q", n)
	}
}

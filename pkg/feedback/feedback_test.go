package feedback_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/feedback"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

const (
	head  = `{"schema":"sightline.feedback.v1","frame":"door/7/12","model":"people","by":"ann","at":"2026-01-31T08:00:00Z"`
	label = `{"class":"person","box":[1,2,30,40]}`
)

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(feedback.Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("feedback.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("feedback.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What the code accepts and what the schema accepts is the same, but for what a schema cannot say.
func TestDecodeAndSchemaAgree(t *testing.T) {
	s := schema(t)
	many := strings.Repeat(label+",", 1000) + label
	for _, c := range []struct {
		name, in, err string
		schemaCannot  bool
	}{
		{"labels", head + `,"labels":[` + label + `]}`, "", false},
		{"nothing was there", head + `,"labels":[]}`, "", false},
		{"verdicts", head + `,"version":"3","verdicts":[{"detection":0,"correct":true},{"detection":4,"correct":false}]}`, "", false},
		{"slices", head + `,"slices":{"weather":"rain"},"labels":[{"class":"person","box":[1,2,30,40],"slices":{"coat":"red"}}]}`, "", false},
		{"says nothing", head + `}`, `feedback on "door/7/12": neither labels nor verdicts: it says nothing`, false},
		{"no verdicts", head + `,"verdicts":[]}`, `feedback on "door/7/12": neither labels nor verdicts: it says nothing`, false},
		{"misspelt", head + `,"lables":[],"verdicts":[{"detection":0,"correct":true}]}`, `feedback: json: unknown field "lables"`, false},
		{"other schema", `{"schema":"v2","frame":"door/7/12","model":"people","by":"ann","at":"2026-01-31T08:00:00Z","labels":[]}`, `feedback on "door/7/12": schema "v2", want "sightline.feedback.v1"`, false},
		{"nobody", `{"schema":"sightline.feedback.v1","frame":"door/7/12","model":"people","by":"","at":"2026-01-31T08:00:00Z","labels":[]}`, `feedback on "door/7/12": by is "": say who tells, in 1 to 63 printable characters`, false},
		{"no time", `{"schema":"sightline.feedback.v1","frame":"door/7/12","model":"people","by":"ann","labels":[]}`, `feedback on "door/7/12": no time (at)`, false},
		{"no frame", `{"schema":"sightline.feedback.v1","frame":"door","model":"people","by":"ann","at":"2026-01-31T08:00:00Z","labels":[]}`, "*", false},
		{"no model", `{"schema":"sightline.feedback.v1","frame":"door/7/12","model":"","by":"ann","at":"2026-01-31T08:00:00Z","labels":[]}`, "*", false},
		{"box of three", head + `,"labels":[{"class":"person","box":[1,2,30]}]}`, `feedback: box: 3 numbers, want 4`, false},
		{"huge box", head + `,"labels":[{"class":"person","box":[1,2,30,1e9]}]}`, "*", false},
		{"box inside out", head + `,"labels":[{"class":"person","box":[30,2,1,40]}]}`, `feedback on "door/7/12": label 0: box [30 2 1 40] is not x1, y1, x2, y2`, true},
		{"no class", head + `,"labels":[{"class":"","box":[1,2,30,40]}]}`, `feedback on "door/7/12": label 0: class ""`, false},
		{"twice", head + `,"verdicts":[{"detection":1,"correct":true},{"detection":1,"correct":false}]}`, `feedback on "door/7/12": verdict 1: detection 1 is not an index that comes once`, true},
		{"too many", head + `,"labels":[` + many + `]}`, `feedback on "door/7/12": 1001 labels and 0 verdicts, at most 1000 of each`, false},
		{"name of a slice", head + `,"labels":[],"slices":{"Weather!":"rain"}}`, "*", false},
		{"too long", head + `,"labels":[],"slices":{"weather":"` + strings.Repeat("x", 64) + `"}}`, "*", false},
		{"control characters", head + `,"labels":[],"slices":{"weather":"a\u0007"}}`, "*", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := feedback.Decode([]byte(c.in))
			if got := fmt.Sprint(err); (err == nil) != (c.err == "") || c.err != "*" && err != nil && got != c.err {
				t.Errorf("%v\nwant %s", err, c.err)
			}
			doc, bad := jsonschema.UnmarshalJSON(strings.NewReader(c.in))
			if bad != nil {
				t.Fatal(bad)
			}
			if refused := s.Validate(doc) != nil; refused != (c.err != "" && !c.schemaCannot) {
				t.Errorf("the schema refuses it: %v", refused)
			}
		})
	}
	if _, err := feedback.Decode([]byte(head + `,"labels":[]} {}`)); err == nil {
		t.Error("two values are accepted")
	}
}

func TestSendIsStoredOnce(t *testing.T) {
	js := brokertest.JetStream(t)
	f := feedback.Feedback{Frame: "door/7/12", Model: "people", By: "ann", Labels: []feedback.Label{{Class: "person", Box: predictions.Box{1, 2, 30, 40}}}}
	for range 2 {
		if err := feedback.Send(t.Context(), js, f); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := js.Stream(t.Context(), streams.Feedback)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil || stream.CachedInfo().State.Msgs != 1 {
		t.Fatalf("%+v, %v", stream.CachedInfo().State, err)
	}
	got, err := feedback.Decode(m.Data)
	if err != nil || m.Subject != "feedback.door" || m.Header.Get(jetstream.MsgIDHeader) != f.ID() || got.Camera() != "door" || time.Since(got.At) > time.Minute {
		t.Errorf("%s %v %+v, %v", m.Subject, m.Header, got, err)
	}
	if err := feedback.Send(t.Context(), js, feedback.Feedback{Frame: "door/7/12", Model: "people", By: "ann"}); err == nil {
		t.Error("feedback that says nothing is sent")
	}
}

// The largest feedback fits the stream.
func TestTheLargestFits(t *testing.T) {
	js := brokertest.JetStream(t)
	f := feedback.Feedback{Frame: "door/7/12", Model: "people", By: "ann"}
	for i := range 1000 {
		v := float64(i) + 1.0/3
		f.Labels = append(f.Labels, feedback.Label{Class: strings.Repeat("c", 63), Box: predictions.Box{v, v, v + 1, v + 1}})
	}
	if err := feedback.Send(t.Context(), js, f); err != nil {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(head + `,"labels":[` + label + `]}`))
	f.Add([]byte(head + `,"verdicts":[{"detection":0,"correct":true}],"slices":{"a":"b"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := feedback.Decode(data)
		if err == nil && (v.Camera() == "" || v.ID() == "" || v.Validate() != nil) {
			t.Errorf("%s is accepted: %+v", data, v)
		}
	})
}

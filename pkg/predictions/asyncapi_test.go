package predictions_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

// component returns one schema of docs/asyncapi.yaml, and its properties by name. The document is made in streams,
// which knows none of the types below: this is where the two meet.
func component(t *testing.T, name string) (*jsonschema.Schema, map[string]any) {
	t.Helper()
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "../../docs/asyncapi.yaml")), &doc); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	inJSON, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.AssertFormat()
	if err := c.AddResource("asyncapi.json", inJSON); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("asyncapi.json#/components/schemas/" + name)
	if err != nil {
		t.Fatal(err)
	}
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	return schema, schemas[name].(map[string]any)["properties"].(map[string]any)
}

func TestDocumentedHeadersAreTheOnesWritten(t *testing.T) {
	least := frame.Facts{Name: frame.Name{Camera: "door", Epoch: 7, Seq: 1}, Captured: began, SourceW: 1920, SourceH: 1080, Models: []string{"people"}}
	most := least
	most.Deadline, most.ROI, most.Models, most.Status, most.Trace = began.Add(time.Second), frame.ROI{0.1, 0, 0.9, 1}, []string{"people", "faces"}, "degraded", trace
	moved := 1.25
	most.TemporalDifference = &moved
	most.Timings = frame.Timings{}.With("ingest", 2*time.Millisecond).With("preprocess.queue", time.Millisecond)
	tensor := frame.Tensor{Model: "people", Lane: streams.LaneStable, Width: 640, Height: 480, Channels: 3, Color: "rgb", Transform: [4]float64{3, 3, 0, -12.5}}
	tensorMost := tensor
	tensor.Facts, tensorMost.Facts = least, most
	tensorMost.Quality = frame.Quality{Luma: 120.5, Contrast: 40, Sharpness: 1800.25, Saturation: 12, Hash: 0xff00ff00ff00ff00}

	for _, c := range []struct {
		name, schema string
		encode       func(nats.Header)
		all          bool
	}{
		{"frame", "frameHeaders", least.Encode, false},
		{"frame with everything", "frameHeaders", most.Encode, true},
		{"tensor", "tensorHeaders", tensor.Encode, false},
		{"tensor with everything", "tensorHeaders", tensorMost.Encode, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			schema, properties := component(t, c.schema)
			h, values := nats.Header{}, map[string]any{}
			c.encode(h)
			for name := range h {
				if values[name] = h.Get(name); properties[name] == nil {
					t.Errorf("%s is not documented", name)
				}
			}
			if err := schema.Validate(values); err != nil {
				t.Error(err)
			}
			if c.all && len(values)+1 != len(properties) { // Nats-Msg-Id is written by who publishes
				t.Errorf("%d headers are documented, %d written", len(properties), len(values)+1)
			}
		})
	}
	_, properties := component(t, "quarantineHeaders")
	for _, name := range []string{stage.HeaderReason, stage.HeaderStage, stage.HeaderAttempts, stage.HeaderSubject} {
		if properties[name] == nil {
			t.Errorf("%s is not documented", name)
		}
	}
}

func TestDocumentedRecordsAreTheOnesWritten(t *testing.T) {
	record := ledger.Record{
		Camera: "door", Epoch: 7, Stage: "ingest", Instance: "ingest-0", Run: began.UnixMilli(), Every: 5000, At: began,
		Route: &ledger.Route{Delivery: streams.Freshest, Models: []string{"people"}, MaxAge: time.Second},
	}
	for _, mark := range []ledger.Mark{
		ledger.Captured, ledger.Published, ledger.Taken, ledger.Returned, ledger.Forwarded, ledger.Predicted, ledger.Superseded, ledger.Expired, ledger.Quarantined,
	} {
		record.Entries = append(record.Entries, ledger.Entry{Mark: mark, Model: "people", Reason: "x", Again: 1, Frames: ledger.Ranges{{1, 2}, {4, 9}}})
	}
	event := events.Event{
		Area: "camera", Kind: "state", Name: "door", At: began, Instance: "ingest-0", State: "lost", Cause: "timeout",
		Detail: "no answer within 2 s", Facts: map[string]string{"attempt": "3"},
	}
	for _, c := range []struct {
		name, schema string
		value        any
	}{
		{"record", "ledgerRecord", record},
		{"empty record", "ledgerRecord", ledger.Record{Camera: "door", Epoch: 1, At: began}},
		{"worker ended", "ledgerIncident", ledger.Incident{Kind: ledger.WorkerEnded, Stage: "infer", Instance: "infer-0", At: began}},
		{"stream purged", "ledgerIncident", ledger.Incident{Kind: ledger.StreamPurged, Stream: streams.Frames, Filter: "frames.every.door", At: began}},
		{"event", "event", event},
		{"short event", "event", events.Event{Area: "camera", Kind: "lease", Name: "door", At: began}},
	} {
		t.Run(c.name, func(t *testing.T) {
			schema, _ := component(t, c.schema)
			data, err := json.Marshal(c.value)
			if err != nil {
				t.Fatal(err)
			}
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(doc); err != nil {
				t.Errorf("%s\n%v", data, err)
			}
		})
	}
}

func TestPredictionsAreWhatTheDocumentPointsAt(t *testing.T) {
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "../../docs/asyncapi.yaml")), &doc); err != nil {
		t.Fatal(err)
	}
	message := doc["components"].(map[string]any)["messages"].(map[string]any)["prediction"].(map[string]any)
	file, _ := message["payload"].(map[string]any)["$ref"].(string)
	if got := read(t, "../../docs/"+file); got != string(predictions.Schema) {
		t.Errorf("%s is not the schema of this package", file)
	}
}

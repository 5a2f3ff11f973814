package predictions_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// compile returns the published schema, formats asserted.
func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(predictions.Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("prediction.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("prediction.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func full() predictions.Prediction {
	p := answer("door", 12, person(0.5), person(1))
	p.Status, p.Lane = predictions.StatusDegraded, streams.LaneCanary
	p.Reasons = []string{"defocused", "suspected_loss"}
	p.Classes = []predictions.Class{{Class: "day", ClassID: 1, Score: 0.75}, {Class: "night", Score: 0}}
	p.Quality = &predictions.Quality{Luma: 255, Contrast: 127.5, Sharpness: 18000.25, Saturation: 12, PerceptualHash: "00ff00ff00ff00ff"}
	p.TimingsMS = map[string]float64{"ingest": 2.125, "infer.queue": 0}
	p.BatchSize, p.Attempt = 8, 2
	return p
}

func TestSchemaAcceptsWhatGoWrites(t *testing.T) {
	schema := compile(t)
	fenced := gap("door", "fenced", began.Add(time.Minute))
	fenced.Version, fenced.Lane = "4", streams.LaneShadow
	for name, p := range map[string]predictions.Prediction{
		"nothing in view": answer("door", 1),
		"objects":         answer("door_2-b", 18446744073709, person(0)),
		"everything":      full(),
		"open gap":        gap("door", "stalled", time.Time{}),
		"closed gap":      fenced,
		"gap of no time":  gap("door", "not_found", began),
	} {
		t.Run(name, func(t *testing.T) {
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(doc); err != nil {
				t.Fatalf("%s\n%v", data, err)
			}
			back, err := predictions.Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			again, err := json.Marshal(back)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, data) {
				t.Errorf("read and written again:\n%s\nfirst:\n%s", again, data)
			}
			if back.ID() != p.ID() {
				t.Errorf("ID %q became %q", p.ID(), back.ID())
			}
		})
	}
}

// bad are documents that both must refuse. Each is a good one with one property changed; nil removes it.
var bad = []struct {
	name string
	gap  bool
	path string
	to   any
}{
	{name: "no schema", path: "schema"},
	{name: "another schema", path: "schema", to: "sightline.prediction.v2"},
	{name: "no kind", path: "kind"},
	{name: "another kind", path: "kind", to: "alarm"},
	{name: "an answer called gap", path: "kind", to: "gap"},
	{name: "unknown answer", path: "status", to: "unknown"},
	{name: "no status", path: "status"},
	{name: "no camera", path: "camera"},
	{name: "camera is no token", path: "camera", to: "front door"},
	{name: "wildcard model", path: "model", to: "*"},
	{name: "no version", path: "version"},
	{name: "long version", path: "version", to: strings.Repeat("v", 64)},
	{name: "no lane", path: "lane"},
	{name: "another lane", path: "lane", to: "beta"},
	{name: "no frame", path: "frame"},
	{name: "frame without epoch", path: "frame", to: "door/1"},
	{name: "frame 0", path: "frame", to: "door/7/0"},
	{name: "not captured", path: "captured_at"},
	{name: "captured some time", path: "captured_at", to: "yesterday"},
	{name: "captured in milliseconds", path: "captured_at", to: 1.7e12},
	{name: "not predicted", path: "predicted_at"},
	{name: "no image", path: "image"},
	{name: "no width", path: "image.width"},
	{name: "no height", path: "image.height", to: 0},
	{name: "half a pixel", path: "image.width", to: 0.5},
	{name: "wide", path: "image.width", to: 16385},
	{name: "no list", path: "detections"},
	{name: "no name", path: "detections.0.class", to: ""},
	{name: "negative class", path: "detections.0.class_id", to: -1},
	{name: "score above 1", path: "detections.0.score", to: 1.01},
	{name: "box of three", path: "detections.0.box", to: []any{1, 2, 3}},
	{name: "box of five", path: "detections.0.box", to: []any{1, 2, 3, 4, 5}},
	{name: "box of words", path: "detections.0.box", to: []any{"a", "b", "c", "d"}},
	{name: "class above 1", path: "classes.0.score", to: 2},
	{name: "dark", path: "quality.luma", to: -1},
	{name: "bright", path: "quality.luma", to: 256},
	{name: "contrast", path: "quality.contrast", to: 128},
	{name: "blunt", path: "quality.sharpness", to: -0.1},
	{name: "colourful", path: "quality.saturation", to: 255.5},
	{name: "moves backwards", path: "quality.temporal_difference", to: -0.5},
	{name: "moves too much", path: "quality.temporal_difference", to: 255.5},
	{name: "short hash", path: "quality.perceptual_hash", to: "ff"},
	{name: "timing of words", path: "timings_ms.ingest", to: "2ms"},
	{name: "timing of nothing", path: "timings_ms. ", to: 1},
	{name: "no reasons", path: "reasons", to: []any{}},
	{name: "reason of no word", path: "reasons", to: []any{"Looks bad"}},
	{name: "the same reason twice", path: "reasons", to: []any{"frozen", "frozen"}},
	{name: "negative batch", path: "batch_size", to: -1},
	{name: "negative attempt", path: "attempt", to: -3},
	{name: "an answer with a gap", path: "gap", to: map[string]any{"reason": "auth", "from": "2026-01-31T08:00:00Z"}},

	{name: "certain gap", gap: true, path: "status", to: "ok"},
	{name: "gap of nothing", gap: true, path: "gap"},
	{name: "gap without reason", gap: true, path: "gap.reason"},
	{name: "gap with a sentence", gap: true, path: "gap.reason", to: "Camera is gone"},
	{name: "gap without beginning", gap: true, path: "gap.from"},
	{name: "gap to some time", gap: true, path: "gap.to", to: "soon"},
	{name: "gap with nothing in view", gap: true, path: "detections", to: []any{}},
	{name: "gap of a frame", gap: true, path: "frame", to: "door/7/1"},
	{name: "a gap called prediction", gap: true, path: "kind", to: "prediction"},
}

func TestSchemaAndDecodeRefuseTheSame(t *testing.T) {
	schema := compile(t)
	for _, c := range bad {
		t.Run(c.name, func(t *testing.T) {
			p := full()
			if c.gap {
				p = gap("door", "auth", time.Time{})
			}
			data := change(t, p, c.path, c.to)
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if schema.Validate(doc) == nil {
				t.Errorf("the schema accepts %s", data)
			}
			if _, err := predictions.Decode(data); err == nil {
				t.Errorf("Decode accepts %s", data)
			}
		})
	}
}

// change returns p as JSON with one property set, or removed when to is nil.
func change(t *testing.T, p predictions.Prediction, path string, to any) []byte {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	steps := strings.Split(path, ".")
	at := any(doc)
	for _, step := range steps[:len(steps)-1] {
		if list, ok := at.([]any); ok {
			at = list[0] // the tests change first elements only
		} else {
			at = at.(map[string]any)[step]
		}
	}
	last := steps[len(steps)-1]
	if to == nil {
		delete(at.(map[string]any), last)
	} else {
		at.(map[string]any)[last] = to
	}
	if data, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDecodeRefusesWhatNoSchemaCanSay(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(*predictions.Prediction)
	}{
		{"frame of another camera", `prediction yard/7/12: frame of another camera than "door"`, func(p *predictions.Prediction) { p.Frame = "yard/7/12" }},
		{"box inside out", "prediction door/7/12: detection 0: box [10 20 5 30] is not x1, y1, x2, y2", func(p *predictions.Prediction) { p.Detections[0].Box = predictions.Box{10, 20, 5, 30} }},
		{"reasons of an answer that is well", `prediction door/7/12: status "ok" with reasons, want "degraded"`, func(p *predictions.Prediction) { p.Status = predictions.StatusOK }},
		{"backwards gap", `prediction of camera "door": gap ends before it begins`, func(p *predictions.Prediction) { *p = gap("door", "auth", began.Add(-time.Second)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := full()
			c.change(&p)
			data, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := predictions.Decode(data); err == nil || err.Error() != c.want {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
}

func TestDecodeIgnoresWhatANewerPlatformAdds(t *testing.T) {
	data := change(t, full(), "track_id", "7")
	if _, err := predictions.Decode(data); err != nil {
		t.Error(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if compile(t).Validate(doc) == nil {
		t.Error("the schema of this version accepts it: nothing would hold this version's producers to it")
	}
}

func TestEveryPropertyIsDescribed(t *testing.T) {
	var doc map[string]any
	if err := json.Unmarshal(predictions.Schema, &doc); err != nil {
		t.Fatal(err)
	}
	defs := doc["$defs"].(map[string]any)
	var walk func(path string, at map[string]any)
	walk = func(path string, at map[string]any) {
		if ref, ok := at["$ref"].(string); ok && at["description"] == nil {
			at = defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		}
		if s, _ := at["description"].(string); s == "" {
			t.Errorf("%s has no description", path)
		}
		props, _ := at["properties"].(map[string]any)
		if props != nil && at["additionalProperties"] == nil {
			t.Errorf("%s accepts anything", path)
		}
		for name, p := range props {
			walk(path+"."+name, p.(map[string]any))
		}
	}
	for name, def := range defs {
		walk(name, def.(map[string]any))
	}
}

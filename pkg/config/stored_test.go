package config

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/streams"
)

func exampleCamera(t *testing.T) Camera {
	t.Helper()
	f, _, err := Load("testdata/golden/every-key.yaml", environment)
	if err != nil {
		t.Fatal(err)
	}
	return f.Cameras[0]
}

func TestStoredRoundTrip(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"every-key", "variables-fallback", "defaults-overridden", "cameras-as-mapping"} {
		f, _, err := Load("testdata/golden/"+file+".yaml", environment)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range f.Cameras {
			data, err := c.MarshalStored()
			if err != nil {
				t.Fatal(err)
			}
			back, err := ParseStored(data)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(c, back) || c.URL.String() != back.URL.String() {
				t.Errorf("%s became\n%+v, was\n%+v", data, back, c)
			}
			if changes := Diff([]Camera{back}, []Camera{c}); len(changes) > 0 {
				t.Errorf("a round trip differs: %v", changes)
			}
		}
	}
}

func TestOrdinaryJSONIsNotReadBack(t *testing.T) {
	t.Parallel()
	data, err := json.Marshal(exampleCamera(t))
	if err != nil {
		t.Fatal(err)
	}
	var c Camera
	if err := json.Unmarshal(data, &c); err == nil || err.Error() != "a camera is read with config.ParseStored: its ordinary JSON has no credentials" {
		t.Error(err)
	}
	if _, err := (Camera{Name: "x"}).MarshalStored(); err == nil {
		t.Error("an invalid camera was stored")
	}
}

func TestStoredDefaults(t *testing.T) {
	t.Parallel()
	c, err := ParseStored([]byte(`{"name":"a","url":"rtsp://h/x","models":["person"],"delivery":"every_frame"}`))
	want := DefaultCamera()
	want.Name, want.Models, want.Delivery, want.MaxAge, want.URL = "a", []string{"person"}, streams.EveryFrame, 0, c.URL
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestStoredErrors(t *testing.T) {
	t.Parallel()
	const head = `{"name":"a","url":"rtsp://u:hunter2@h/x","models":["person"]`
	const keys = "name, url, url_shown, models, fps, delivery, max_age, transport, roi, priority, stall_after, standby, jpeg_quality, trace_ratio, tls, labels, enabled"
	for _, c := range []struct{ data, want string }{
		{``, "is not a JSON object"},
		{`[]`, "is not a JSON object"},
		{`{"name":"hunter2`, "ends too early"},
		{head + `,"hunter2@x":1}`, "[redacted] is not a key: write one of " + keys},
		{head + `,"FPS":1}`, `"FPS" is not a key: write one of ` + keys},
		{head + `,"name":"b"}`, `"name": is given twice`},
		{head + `} {}`, "is followed by something else"},
		{head + `,"fps":"hunter2"}`, `fps cannot be read: write a number or "all"`},
		{head + `,"fps":0}`, `fps cannot be read: write a number or "all"`},
		{head + `,"fps":121}`, "fps: 121 is out of range: write 0.1 to 120, or all for every frame that the camera sends"},
		{head + `,"max_age":"hunter2"}`, `a duration cannot be read: write one as in "2s"`},
		{head + `,"priority":"hunter2"}`, "priority: is a JSON string: want int"},
		{head + `,"priority":1e99}`, "priority: is a JSON number: want int"},
		{head + `,"labels":null}`, "labels: is null: leave it out"},
		{head + `,"tls":{"hunter2":1}}`, "is not a camera's JSON"},
		{head + `,"url_shown":"rtsp://hunter2"}`, "url_shown: is not a form of url: leave it out"},
		{`{"url":"rtsp://h/x","models":["person"]}`, `name: is not a name: write 1 to 63 letters, digits, - or _, beginning with a letter or digit`},
		{`{"name":"a","url":"rtsp://[redacted]@h/x#","models":["person"]}`, "url: has a #: percent-encode it as %23"},
		{`{"name":"a","url":"http://u:hunter2@h","models":["person"]}`, "url: is not an RTSP address: " + wantURL},
		{`{"name":"a","url":"rtsp://h/x","models":[]}`, "model: is missing: write model: and the name of a model"},
	} {
		_, err := ParseStored([]byte(c.data))
		if err == nil || err.Error() != "stored camera: "+c.want {
			t.Errorf("%s: %v, want %s", c.data, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), planted) {
			t.Errorf("the secret is told: %v", err)
		}
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	a := exampleCamera(t)
	with := func(change func(*Camera)) Camera {
		c := a
		change(&c)
		return c
	}
	parsed := func(raw string) URL {
		u, err := ParseURL(raw)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for _, c := range []struct {
		name       string
		have, want []Camera
		text       string
	}{
		{"nothing", []Camera{a}, []Camera{a}, ""},
		{"added", nil, []Camera{a}, "+ front-door rtsps://[redacted]@10.0.0.7:322/stream1?channel=1"},
		{"removed", []Camera{a}, nil, "- front-door rtsps://[redacted]@10.0.0.7:322/stream1?channel=1"},
		{
			"numbers",
			[]Camera{a},
			[]Camera{with(func(c *Camera) { c.FPS, c.Priority, c.ROI = AllFrames, 1, frame.ROI{} })},
			"~ front-door fps: 2.5 -> all; roi: [0.2, 0, 1, 0.8] -> all; priority: 8 -> 1",
		},
		{
			"durations",
			[]Camera{a},
			[]Camera{with(func(c *Camera) { c.Delivery, c.MaxAge, c.StallAfter = streams.EveryFrame, 0, time.Minute })},
			"~ front-door delivery: freshest -> every_frame; max_age: 500ms -> none; stall_after: 10s -> 1m",
		},
		{
			"the password only",
			[]Camera{a},
			[]Camera{with(func(c *Camera) { c.URL = parsed("rtsps://viewer:other@10.0.0.7:322/stream1?channel=1") })},
			"~ front-door url: rtsps://[redacted]@10.0.0.7:322/stream1?channel=1 -> rtsps://[redacted]@10.0.0.7:322/stream1?channel=1 (differs in what is not shown)",
		},
		{
			"several, by name",
			[]Camera{with(func(c *Camera) { c.Name = "z" }), a},
			[]Camera{with(func(c *Camera) {
				c.Enabled, c.TLS, c.Labels, c.Models, c.Transport, c.JPEGQuality = false, TLS{}, nil, []string{"person"}, "udp", 60
			}), with(func(c *Camera) { c.Name = "b" })},
			"+ b rtsps://[redacted]@10.0.0.7:322/stream1?channel=1\n" +
				"~ front-door models: person, vehicle -> person; jpeg_quality: 95 -> 60; transport: tcp -> udp; tls: ca of 566 bytes -> the system's authorities; " +
				"labels: door=front $1 floor=2 site=north -> none; enabled: true -> false\n" +
				"- z rtsps://[redacted]@10.0.0.7:322/stream1?channel=1",
		},
	} {
		var lines []string
		for _, change := range Diff(c.have, c.want) {
			lines = append(lines, change.String())
		}
		if got := strings.Join(lines, "\n"); got != c.text {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, got, c.text)
		}
	}
}

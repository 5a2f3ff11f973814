package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/streams"
)

// A key is one setting of a camera: how it is documented, read and shown. docs/configuration.md is tested to be this
// table.
type key struct {
	name string
	// def and allowed are its default and range, as the documentation has them.
	def, allowed string
	example      string
	doc          string
	read         func(r *reader, v node) (set, bool)
	// text is the value of a finished camera without secrets; nil for a key that is shown under another one.
	text func(c Camera) string
}

// set puts one value into a camera that is being made.
type set func(d *draft)

// draft is a camera that is being made.
type draft struct {
	Camera
	address  scalar
	username scalar
	password scalar
}

func cameraKeys() []key {
	return slices.Concat(identityKeys(), samplingKeys(), connectionKeys())
}

func identityKeys() []key {
	return []key{
		{name: "name", def: "required", allowed: "1 to 63 letters, digits, `-`, `_`", example: "front-door", doc: "the camera in subjects, metrics and traces; not under `defaults`", read: readName},
		{name: "url", def: "required", allowed: "`rtsp://`, `rtsps://` or `demo`", example: "rtsp://user:${DOOR_PASSWORD}@10.0.0.7/stream1", doc: "where the stream is; `demo` is the built-in camera of the section `demo`", read: readURL, text: func(c Camera) string { return c.URL.String() }},
		{name: "username", def: "none", allowed: "text", example: "viewer", doc: "instead of a user name in `url`, without percent-encoding", read: readUsername},
		{name: "password", def: "none", allowed: "text", example: "${DOOR_PASSWORD}", doc: "instead of a password in `url`, without percent-encoding", read: readPassword},
		{name: "model", def: "required", allowed: "a folder of `models`", example: "person", doc: "who looks at the frames", read: readModel},
		{name: "models", def: "", allowed: "a list of 1 to 16", example: "[person, vehicle]", doc: "instead of `model`, where several look", read: readModels, text: func(c Camera) string { return strings.Join(c.Models, ", ") }},
	}
}

func samplingKeys() []key {
	return []key{
		{name: "fps", def: "10", allowed: "0.1 to 120, or `all`", example: "2.5", doc: "frames in a second that models see; `all` is every frame that the camera sends", read: readFPS, text: func(c Camera) string { return c.FPS.String() }},
		{name: "delivery", def: "freshest", allowed: "`freshest` or `every_frame`", example: "every_frame", doc: "`freshest`: late is wrong, the newest frame wins; `every_frame`: nothing is dropped", read: word(func(d *draft, v string) { d.Delivery = streams.Delivery(v) }), text: func(c Camera) string { return string(c.Delivery) }},
		{name: "max_age", def: "2s", allowed: "100ms to 10s", example: "500ms", doc: "the age at which a frame is of no use; only with `freshest`", read: length(func(d *draft, v duration) { d.MaxAge = nanoseconds(v) }), text: maxAgeText},
		{name: "roi", def: "all", allowed: "4 shares, 0 to 1", example: "[0.2, 0, 1, 0.8]", doc: "left, top, right and bottom of the part of the picture that models see", read: readROI, text: func(c Camera) string { return roiText(c.ROI) }},
		{name: "priority", def: "5", allowed: "1 to 10", example: "8", doc: "who gets capacity when it is short; 10 is the most important", read: integer(func(d *draft, v int) { d.Priority = v }), text: func(c Camera) string { return decimal(c.Priority) }},
		{name: "jpeg_quality", def: "85", allowed: "50 to 100", example: "95", doc: "of the frames that travel", read: integer(func(d *draft, v int) { d.JPEGQuality = v }), text: func(c Camera) string { return decimal(c.JPEGQuality) }},
		{name: "trace_ratio", def: "0.01", allowed: "0 to 1", example: "0.1", doc: "share of frames whose trace is exported (docs/observability.md)", read: readRatio, text: func(c Camera) string { return ratioText(c.TraceRatio) }},
	}
}

func connectionKeys() []key {
	return []key{
		{name: "transport", def: "auto", allowed: "`auto`, `tcp` or `udp`", example: "tcp", doc: "how media travels; `auto` tries TCP, takes UDP when the camera will not or nothing arrives, and remembers", read: word(func(d *draft, v string) { d.Transport = Transport(v) }), text: func(c Camera) string { return string(c.Transport) }},
		{name: "stall_after", def: "2s", allowed: "500ms to 10m", example: "10s", doc: "without a frame for so long the camera is stalled and connected anew", read: length(func(d *draft, v duration) { d.StallAfter = nanoseconds(v) }), text: func(c Camera) string { return short(c.StallAfter) }},
		{name: "standby", def: "false", allowed: "`true` or `false`", example: "true", doc: "`true` keeps a second ingest instance connected, which looks on at once when the first one dies; the camera sends everything twice", read: boolean(func(d *draft, v bool) { d.Standby = v }), text: func(c Camera) string { return boolText(c.Standby) }},
		{name: "tls", def: "the system's authorities", allowed: "`{ca: file, insecure: true}`", example: "{ca: site-ca.pem}", doc: "only with `rtsps://`: a PEM file of authorities, beside this file, or no check at all", read: readTLS, text: tlsText},
		{name: "labels", def: "none", allowed: "up to 16 `key: text`", example: "{site: north}", doc: "for people and dashboards; added to those of `defaults`", read: readLabels, text: labelsText},
		{name: "enabled", def: "true", allowed: "`true` or `false`", example: "false", doc: "`false` keeps the settings and leaves the camera alone", read: boolean(func(d *draft, v bool) { d.Enabled = v }), text: func(c Camera) string { return boolText(c.Enabled) }},
	}
}

func keyNames(keys []key) []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	return names
}

func maxAgeText(c Camera) string {
	if c.MaxAge == 0 {
		return "none"
	}
	return short(c.MaxAge)
}

func labelsText(c Camera) string {
	words := make([]string, 0, len(c.Labels))
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		words = append(words, k+"="+c.Labels[k])
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, " ")
}

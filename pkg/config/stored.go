package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/streams"
)

// A record is a camera in JSON.
type record struct {
	Name        string            `json:"name"`
	URL         string            `json:"url"`
	URLShown    string            `json:"url_shown,omitempty"`
	Models      []string          `json:"models"`
	FPS         rate              `json:"fps"`
	Delivery    streams.Delivery  `json:"delivery"`
	MaxAge      duration          `json:"max_age,omitzero"`
	Transport   Transport         `json:"transport"`
	ROI         *frame.ROI        `json:"roi,omitempty"`
	Priority    int               `json:"priority"`
	StallAfter  duration          `json:"stall_after"`
	Standby     bool              `json:"standby,omitempty"`
	JPEGQuality int               `json:"jpeg_quality"`
	TraceRatio  *float64          `json:"trace_ratio,omitempty"` // nil is the default
	TLS         TLS               `json:"tls,omitzero"`
	Labels      map[string]string `json:"labels,omitempty"`
	Enabled     bool              `json:"enabled"`
}

var recordKeys = []string{
	"name", "url", "url_shown", "models", "fps", "delivery", "max_age", "transport", "roi", "priority", "stall_after",
	"standby", "jpeg_quality", "trace_ratio", "tls", "labels", "enabled",
}

func (c Camera) record(reveal bool) record {
	r := record{
		Name: c.Name, URL: c.URL.String(), Models: c.Models, FPS: rate(c.FPS), Delivery: c.Delivery,
		MaxAge: duration(c.MaxAge), Transport: c.Transport, Priority: c.Priority, StallAfter: duration(c.StallAfter), Standby: c.Standby,
		JPEGQuality: c.JPEGQuality, TLS: c.TLS, Labels: c.Labels, Enabled: c.Enabled,
	}
	if reveal {
		r.URL, r.URLShown = c.URL.Reveal(), c.URL.String()
	}
	if c.TraceRatio != defaultTraceRatio {
		r.TraceRatio = &c.TraceRatio
	}
	if c.ROI != (frame.ROI{}) {
		r.ROI = &c.ROI
	}
	return r
}

func (r record) camera() (Camera, error) {
	c := Camera{
		Name: r.Name, Models: r.Models, FPS: Rate(r.FPS), Delivery: r.Delivery, MaxAge: time.Duration(r.MaxAge),
		Transport: r.Transport, Priority: r.Priority, StallAfter: time.Duration(r.StallAfter), Standby: r.Standby, JPEGQuality: r.JPEGQuality,
		TLS: r.TLS, Labels: r.Labels, Enabled: r.Enabled,
	}
	if c.TraceRatio = defaultTraceRatio; r.TraceRatio != nil {
		c.TraceRatio = *r.TraceRatio
	}
	if r.ROI != nil {
		c.ROI = *r.ROI
	}
	var err error
	if c.URL, err = ParseURL(r.URL); err != nil {
		return Camera{}, fmt.Errorf("url: %w", err)
	}
	switch l, _ := parseLocation(r.URL); r.URLShown {
	case "", c.URL.String():
	case l.url(true).String():
		c.URL = l.url(true)
	default:
		return Camera{}, errors.New("url_shown: is not a form of url: leave it out")
	}
	return c, c.Validate()
}

// MarshalStored is the camera as it is kept in the bucket CAMERAS: with its credentials. Never log it.
func (c Camera) MarshalStored() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("store camera: %w", err)
	}
	return json.Marshal(c.record(true))
}

// ParseStored reads what [Camera.MarshalStored] wrote, and nothing else. A key that is absent has its default, so that
// a record survives the version that adds a key. Errors quote no values.
func ParseStored(data []byte) (Camera, error) {
	d := DefaultCamera()
	r := d.record(false)
	err := decodeStored(data, &r)
	var c Camera
	if err == nil {
		c, err = r.camera()
	}
	if err != nil {
		return Camera{}, fmt.Errorf("stored camera: %w", err)
	}
	return c, nil
}

func decodeStored(data []byte, r *record) error {
	keys, err := members(data)
	if err != nil {
		return err
	}
	for key, value := range keys {
		if !slices.Contains(recordKeys, key) {
			return fmt.Errorf("%s is not a key: write one of %s", mask{}.show(key), strings.Join(recordKeys, ", "))
		}
		if bytes.Equal(bytes.TrimSpace(value), []byte("null")) {
			return fmt.Errorf("%s: is null: leave it out", key)
		}
	}
	// An every_frame camera has no max_age: the default of another delivery must not stay.
	if _, ok := keys["max_age"]; !ok && strings.Contains(string(keys["delivery"]), string(streams.EveryFrame)) {
		r.MaxAge = 0
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(r); err != nil {
		return jsonError(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("is followed by something else")
	}
	return nil
}

// members are the members of the object in data, each given once.
func members(data []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	keys := map[string]json.RawMessage{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, jsonError(err)
		}
		key, _ := token.(string)
		if _, ok := keys[key]; ok {
			return nil, fmt.Errorf("%s: is given twice", mask{}.show(key))
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, jsonError(err)
		}
		keys[key] = value
	}
	return keys, nil
}

// jsonError says what is wrong without the values that package json quotes.
func jsonError(err error) error {
	if e, ok := errors.AsType[*valueError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		kind, _, _ := strings.Cut(e.Value, " ")
		if e.Field == "" {
			return fmt.Errorf("is a JSON %s: want an object", kind)
		}
		return fmt.Errorf("%s: is a JSON %s: want %s", e.Field, kind, e.Type.Kind())
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("is not JSON at byte %d", e.Offset)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("ends too early")
	}
	return errors.New("is not a camera's JSON")
}

// A valueError is a value of the right JSON type that makes no sense.
type valueError struct{ text string }

func (e *valueError) Error() string { return e.text }

// duration is written as in "2s".
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(short(time.Duration(d))), nil }

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return &valueError{`a duration cannot be read: write one as in "2s"`}
	}
	*d = duration(v)
	return nil
}

// rate is a number or "all".
type rate Rate

func (r rate) MarshalJSON() ([]byte, error) {
	if Rate(r) == AllFrames {
		return []byte(`"all"`), nil
	}
	return json.Marshal(float64(r))
}

func (r *rate) UnmarshalJSON(data []byte) error {
	if string(data) == `"all"` {
		*r = rate(AllFrames)
		return nil
	}
	v, err := strconv.ParseFloat(string(data), 64)
	if err != nil || v == 0 {
		return &valueError{`fps cannot be read: write a number or "all"`}
	}
	*r = rate(v)
	return nil
}

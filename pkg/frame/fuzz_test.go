package frame

import (
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"door/7/42", "a/1/18446744073709551615", "door/07/1", "//", "door/1/1/1", "a.b/1/1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseName(s); err == nil && n.String() != s {
			t.Fatalf("%q is also called %q", s, n)
		}
	})
}

// parse makes a header of lines, "key: value".
func parse(text string) nats.Header {
	h := nats.Header{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); ok && v != "" && len(h[k]) == 0 {
			h[k] = []string{v}
		}
	}
	return h
}

// envelope is the inverse, for seeds.
func envelope(h nats.Header) string {
	var b strings.Builder
	for k, v := range h {
		b.WriteString(k + ": " + v[0] + "\n")
	}
	return b.String()
}

// known reduces a header to what an encoder writes.
func known(h nats.Header, keys ...string) nats.Header {
	out := nats.Header{}
	for _, k := range append(keys, HeaderName, HeaderCaptured, HeaderDeadline, HeaderSource, HeaderROI, HeaderTimings, HeaderStatus, HeaderTrace, HeaderMotion) {
		if v := h[k]; len(v) > 0 {
			out[k] = v
		}
	}
	return out
}

func FuzzDecode(f *testing.F) {
	h, _ := example()
	f.Add(envelope(h))
	f.Fuzz(func(t *testing.T, text string) {
		h := parse(text)
		facts, err := Decode(h)
		if err != nil {
			return
		}
		again := nats.Header{}
		facts.Encode(again)
		if want := known(h, HeaderModels); !reflect.DeepEqual(again, want) {
			t.Fatalf("%v was encoded again as %v", want, again)
		}
	})
}

func FuzzDecodeTensor(f *testing.F) {
	h, payload := example()
	f.Add(envelope(h), payload)
	f.Fuzz(func(t *testing.T, text string, payload []byte) {
		h := parse(text)
		x, err := DecodeTensor(h, payload)
		if err != nil {
			return
		}
		if x.Width*x.Height*x.Channels != len(payload) {
			t.Fatalf("%dx%dx%d for %d bytes", x.Height, x.Width, x.Channels, len(payload))
		}
		again := nats.Header{}
		x.Encode(again)
		if want := known(h, HeaderModel, HeaderLane, HeaderShape, HeaderColor, HeaderTransform, HeaderQuality); !reflect.DeepEqual(again, want) {
			t.Fatalf("%v was encoded again as %v", want, again)
		}
	})
}

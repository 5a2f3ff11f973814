package w3c_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/pkg/telemetry/w3c"
)

// The SDK's own propagator must agree, on what is a context and on what is none.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := w3c.Parse(s)
		want := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": s}))
		if want.IsValid() && !got.Equal(trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: want.TraceID(), SpanID: want.SpanID(), TraceFlags: want.TraceFlags() & trace.FlagsSampled, Remote: true,
		})) {
			t.Errorf("%q: %v, the SDK reads %v", s, got, want)
		}
		if !got.IsValid() {
			return
		}
		if again := w3c.Parse(w3c.Format(got)); !again.Equal(got) {
			t.Errorf("%q: %v, written and read again %v", s, got, again)
		}
	})
}

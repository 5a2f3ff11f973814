package predictions_test

import (
	"testing"

	otel "go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/pkg/predictions"
)

func TestContext(t *testing.T) {
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	c := otel.SpanContextFromContext(predictions.Context(t.Context(), predictions.Message{Traceparent: traceparent}))
	if !c.IsRemote() || !c.IsSampled() || c.TraceID().String() != traceparent[3:35] || c.SpanID().String() != traceparent[36:52] {
		t.Errorf("%+v", c)
	}
	for _, none := range []string{"", "what"} {
		if ctx := predictions.Context(t.Context(), predictions.Message{Traceparent: none}); ctx != t.Context() {
			t.Errorf("%q is a trace", none)
		}
	}
}

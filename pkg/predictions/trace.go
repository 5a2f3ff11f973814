package predictions

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/sightline-dev/sightline/pkg/telemetry/w3c"
)

// Context is ctx in the trace of a message's frame: a span that is started with it is the next in the way from the camera to
// the application, whatever OpenTelemetry SDK the application has. Without a trace it is ctx.
func Context(ctx context.Context, m Message) context.Context {
	c := w3c.Parse(m.Traceparent)
	if !c.IsValid() {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, c)
}

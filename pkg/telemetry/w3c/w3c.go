// Package w3c reads and writes the trace context that travels in the header Traceparent of every message.
package w3c

import (
	"encoding/hex"

	"go.opentelemetry.io/otel/trace"
)

const (
	length  = 55 // 00-<32>-<16>-<2>
	digits  = "0123456789abcdef"
	sampled = 1
)

// Parse reads a traceparent. The result is not valid when it is none, and remote when it is one.
func Parse(s string) trace.SpanContext {
	// A later version may have more behind it.
	if len(s) < length || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" || s[:2] == "00" && len(s) != length || len(s) > length && s[length] != '-' {
		return trace.SpanContext{}
	}
	var c trace.SpanContextConfig
	var version, flags [1]byte
	if !decode(version[:], s[:2]) || !decode(c.TraceID[:], s[3:35]) || !decode(c.SpanID[:], s[36:52]) || !decode(flags[:], s[53:55]) {
		return trace.SpanContext{}
	}
	c.TraceFlags, c.Remote = trace.TraceFlags(flags[0]&sampled), true
	return trace.NewSpanContext(c)
}

// decode accepts lower case only, as the standard has it.
func decode(dst []byte, s string) bool {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'F' {
			return false
		}
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// Format writes a traceparent; "" of a context that is not valid.
func Format(c trace.SpanContext) string {
	if !c.IsValid() {
		return ""
	}
	b := make([]byte, 0, length)
	b = append(b, "00-"...)
	t, s := c.TraceID(), c.SpanID()
	b = hex.AppendEncode(b, t[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, s[:])
	f := byte(c.TraceFlags()) & sampled
	return string(append(b, '-', '0', digits[f]))
}

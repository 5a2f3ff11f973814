// Package telemetry is what the platform says of itself in numbers and traces: metrics for Prometheus and OTLP, spans for
// OTLP, and trace ids in the log.
//
// # Metrics
//
// Every metric is a row of one table (table.go, docs/observability.md is generated from it): name, kind, unit, labels
// with their closed set of values or who declares them. Nothing can be counted that is not in the table, and a label value
// that is not in its closed set counts as [Other].
//
// A series belongs to a [Set]: when all sets that have it are closed it is exported no more, so that a camera that is gone
// leaves nothing behind. Instruments are handles: whoever is on a hot path asks for them once. What lives elsewhere (books,
// queues, /proc) is read when somebody collects, see [Telemetry.Collect].
//
// The series reach the OpenTelemetry SDK's readers as a [metric.Producer], not as instruments of its meters: those remember
// every attribute set for ever, and look it up at every measurement.
//
// # Traces
//
// See [Tracer].
//
// # Nobody looks
//
// A nil *[Telemetry], and everything that comes of one, measures nothing and costs nothing.
package telemetry

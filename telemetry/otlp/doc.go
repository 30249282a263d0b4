// Package otlp exports sampled exchanges as OpenTelemetry spans over OTLP, gRPC or
// HTTP, named and tagged as Istio's proxies do, and access logs as log records.
//
// Data flow: telemetry.Reporter hands the record of a sampled exchange to
// [Tracer.Finish], which makes a finished span of it; the OpenTelemetry SDK
// batches and sends. [Sink] makes a log record, and [Logs] batches and sends. A
// collector that is slow or away loses spans and records, never requests.
//
// Concurrency: Finish and Log may be called from any goroutine. They allocate, but only
// for sampled exchanges and records that somebody asked for.
package otlp

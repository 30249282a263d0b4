// Package otlp exports sampled exchanges as OpenTelemetry spans over OTLP/gRPC,
// named and tagged as Istio's proxies do.
//
// Data flow: telemetry.Reporter hands the record of a sampled exchange to
// [Tracer.Finish], which makes a finished span of it; the OpenTelemetry SDK
// batches and sends. A collector that is slow or away loses spans, never requests.
//
// Concurrency: Finish may be called from any goroutine. It allocates, but only
// for sampled exchanges.
package otlp

// Package telemetry turns what happened into metrics, access-log lines and
// traces, in the names and formats that Istio users' tools already expect.
//
// Data flow: the proxy fills one [Record] per exchange (or TCP connection) and
// hands it to [Reporter.Done] when it ends. The reporter adds it to a
// series that is found by its labels and, where enabled, appends one access-log
// line to a buffer that a single goroutine writes. Scrapes read the series through
// a prometheus collector. A record with a [Plan] is logged, traced and counted as
// that says too: by a [Pattern] of command operators, an [Expression], [Metrics].
//
// Concurrency: a Record is owned by one goroutine; a Reporter is safe for
// concurrent use. Allocation: Done allocates only the first time a
// combination of labels is seen. Nothing here ever blocks the data path: a log
// sink that cannot keep up loses lines, and the loss is counted.
package telemetry

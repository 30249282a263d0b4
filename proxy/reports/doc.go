// Package reports makes what the telemetry settings of a source ask for: access logs
// to files and collectors, spans to collectors, and changed metrics.
//
// Data flow: [Reports.Compile] is the Reports hook of config.Env. It takes the
// config.Telemetry of a destination and returns a *telemetry.Plan, which package
// proxy puts into the destination's records. Collectors are backends of the snapshot
// and reached as any other, in the mesh through HBONE with the waypoint's identity.
//
// Files, connections and queues are shared by all destinations that ask for the same.
// [Reports.Watch] closes what no snapshot uses any more, behind its successor.
//
// Concurrency: Compile is called by one goroutine at a time, the plans are used by
// any number. Allocation: lines of files and changed metrics allocate nothing once
// their series are known; spans and records for collectors do.
package reports

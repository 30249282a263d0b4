// Package agent reads what Istio's injection template gives a waypoint's
// container: command line, environment, ProxyConfig and mounted files. It plays
// pilot-agent's part of understanding them; it starts nothing.
//
// Data flow: [Parse] turns an [Input] into [Settings] once, at start. Everything
// is a value from there on: where the control plane and the CA are, which files
// prove the identity, how long to drain, and the node that xds presents.
//
// Parsing is lenient where the template may grow (unknown flags, unknown fields,
// odd log levels: one warning each) and strict where guessing would weaken the
// mesh: a compliance policy that cannot be kept is an error.
//
// All functions are pure but for the files they are told to read. Settings are
// immutable after Parse.
package agent

// Package dump renders what a feed holds in the shape of Envoy's administration
// interface, which istioctl reads: the sections of config_dump, and clusters.
//
// Data flow: held resources are decoded one by one for each call, secrets in them
// replaced, types that this binary does not know replaced by their name, and the
// result marshalled as protobuf JSON.
//
// Concurrency: functions only read; each call decodes copies of its own. It costs
// memory in proportion to the configuration while it runs, and nothing after.
package dump

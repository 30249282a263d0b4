// Package config is the model: plain structs that say what a waypoint serves,
// and [Compile], which turns a [Model] into an immutable [Snapshot].
//
// Data flow: a source (config/kube from files or the controller, config/istiod
// from xDS) builds a Model of destinations, backends and workloads with their
// policies and routes already attached, merged and ordered; Compile makes
// routing tables, authz engines and endpoint sets, reusing whatever did not
// change; [Store] swaps the snapshot that the data path reads.
//
// Concurrency: Compile is called by one goroutine at a time. A Snapshot is
// immutable but for the endpoint sets of its backends, each swapped under one
// pointer. Lookup does not allocate.
package config

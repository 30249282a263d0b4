// Package identity holds SPIFFE identities, certificates and trust bundles, and
// turns them into tls.Config values for both sides of an HBONE tunnel.
//
// Data flow: a [Source] (files, built-in CA, istiod's CA, Workload API) yields
// certificates and roots; [TLS] hands the newest to every handshake.
package identity

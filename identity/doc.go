// Package identity holds SPIFFE identities, certificates and trust bundles, and
// turns them into tls.Config values for both sides of an HBONE tunnel.
//
// Data flow: a [Source] (files, built-in CA, istiod's CA, Workload API) yields
// an [SVID] and a [Bundle]; [ServerTLS] and [ClientTLS] hand the newest of both
// to every handshake. Servers and pools wait on [Source.Changed] and drain the
// connections whose chains the newest bundle no longer vouches for.
//
// Trust: TLS 1.3 and ALPN h2 only, both sides show a certificate, and the one
// URI SAN of the leaf is the whole identity: names, IP addresses and the common
// name never count. The chain is verified in VerifyConnection, which also runs
// when a session is resumed, so a ticket never outlives its root.
//
// Concurrency: every exported method is safe for concurrent use, and SVIDs and
// bundles are immutable once published. Allocation: reading a source is a
// pointer load; handshakes allocate.
package identity

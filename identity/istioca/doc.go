// Package istioca gets a workload certificate from istiod's CA and renews it.
//
// Data flow: a key and a CSR go to IstioCertificateService.CreateCertificate over
// server-authenticated TLS with the pod's token; the answer's chain becomes the
// SVID, its last element and the mounted root file the trust bundle. Both are
// published through identity.Store.
//
// Concurrency: a [Source] owns one goroutine until Close; reads are safe from
// anywhere. Keys never leave memory.
package istioca

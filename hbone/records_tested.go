//go:build go1.26 && !go1.27

package hbone

// recordsToolchain says that records was tested with this crypto/tls. Raise the
// constraint above when the tests of records pass on a newer one.
const recordsToolchain = true

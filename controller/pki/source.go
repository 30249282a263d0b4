package pki

import "crypto/tls"

// Source is where the server certificate comes from.
type Source interface {
	// Certificate is a tls.Config's GetCertificate.
	Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Roots returns, as PEM, what verifies the certificate now and after the next
	// rotation. The slice is not to be changed.
	Roots() []byte
	// Changed is closed when the roots have changed since the call.
	Changed() <-chan struct{}
}

// ServerTLS is the configuration of a server with that certificate.
func ServerTLS(s Source) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, GetCertificate: s.Certificate}
}

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

// ServerTLS is the configuration of a server with that certificate, which verifies its
// clients' certificates by c; nil: it asks for none.
func ServerTLS(s Source, c *Clients) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, GetCertificate: s.Certificate}
	if c == nil {
		return cfg
	}
	return c.verifying(cfg)
}

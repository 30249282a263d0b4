package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// ALPN is the one application protocol of an HBONE connection.
const ALPN = "h2"

var errALPN = errors.New("identity: peer did not negotiate h2")

// Option changes how peers are verified.
type Option func(*Verifier)

// WithRevoked refuses peers whose path holds a certificate that f knows as
// revoked. f runs in handshakes and must be safe for concurrent use.
func WithRevoked(f func(*x509.Certificate) bool) Option {
	return func(v *Verifier) { v.Revoked = f }
}

// ServerTLS is the configuration of an HBONE server: TLS 1.3, ALPN h2, a client
// certificate with a SPIFFE URI in a trusted domain. SNI is neither needed nor
// used (ztunnel sends none).
//
// Session tickets stay on: a ticket carries the peer's certificates, and they
// are verified anew on resumption.
func ServerTLS(src Source, opts ...Option) *tls.Config {
	v := newVerifier(src, x509.ExtKeyUsageClientAuth, nil, opts)
	c := baseTLS(v)
	// The chain is ours to verify, against roots that change under the listener.
	c.ClientAuth = tls.RequireAnyClientCert
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &src.SVID().Certificate, nil
	}
	return c
}

// ClientTLS is the configuration of an HBONE client. The server's chain must
// lead to the bundle and its URI SAN be one of want, or, when want is empty, lie
// in one of the bundle's trust domains; the handshake fails with an error that
// wraps [ErrIdentity] otherwise. Sessions are not resumed: pools keep
// connections, and a full handshake always shows the newest certificates.
func ClientTLS(src Source, want []string, opts ...Option) *tls.Config {
	v := newVerifier(src, x509.ExtKeyUsageServerAuth, want, opts)
	c := baseTLS(v)
	// Not a gap: host names mean nothing here, VerifyConnection checks the chain
	// and the URI name instead.
	c.InsecureSkipVerify = true
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &src.SVID().Certificate, nil
	}
	return c
}

func newVerifier(src Source, usage x509.ExtKeyUsage, want []string, opts []Option) *Verifier {
	v := &Verifier{Source: src, Usage: usage, Want: want}
	for _, o := range opts {
		o(v)
	}
	return v
}

func baseTLS(v *Verifier) *tls.Config {
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		MaxVersion:       tls.VersionTLS13,
		CurvePreferences: Curves(v.Source),
		NextProtos:       []string{ALPN},
		VerifyConnection: func(cs tls.ConnectionState) error {
			if cs.NegotiatedProtocol != ALPN {
				return errALPN
			}
			_, err := v.Verify(cs.PeerCertificates)
			return err
		},
		// Records grow from 1.2 KB otherwise, one write(2) each; tunnels are long
		// lived and carry whole responses from the first byte.
		DynamicRecordSizingDisabled: true,
	}
}

package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"waypoint.dev/waypoint/internal/attrs"
)

// ErrIdentity is wrapped by every error that says the peer is not who it must
// be: no valid chain, no SPIFFE URI, a foreign trust domain, another workload,
// a revoked certificate.
var ErrIdentity = errors.New("identity: peer not accepted")

// ErrRevoked is wrapped, beside [ErrIdentity], by the error about a peer that a
// revocation list names.
var ErrRevoked = errors.New("revoked")

var (
	errNoRoots       = errors.New("identity: no root certificate")
	errNoTrustDomain = errors.New("identity: no trust domain")
)

// PeerPrincipal returns the identity the peer of a finished handshake proved.
func PeerPrincipal(cs *tls.ConnectionState) (attrs.Principal, error) {
	if len(cs.PeerCertificates) == 0 {
		return attrs.Principal{}, fmt.Errorf("%w: no certificate", ErrIdentity)
	}
	return leafPrincipal(cs.PeerCertificates[0])
}

// leafPrincipal reads the identity of one certificate. X509-SVID 2 asks for
// exactly one URI SAN; of two, each reader might believe another.
func leafPrincipal(leaf *x509.Certificate) (attrs.Principal, error) {
	if len(leaf.URIs) != 1 {
		return attrs.Principal{}, fmt.Errorf("%w: certificate has %d URI names, want 1", ErrIdentity, len(leaf.URIs))
	}
	p, err := Parse(leaf.URIs[0].String())
	if err != nil {
		return attrs.Principal{}, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	return p, nil
}

// Verifier decides whether a chain is acceptable. The zero value with a Source
// accepts any identity in the bundle's trust domains.
type Verifier struct {
	Source  Source
	Usage   x509.ExtKeyUsage             // what the chain must be good for; 0 (any) skips the check
	Want    []string                     // accepted SPIFFE URIs; empty: any in the trust domains
	Revoked func(*x509.Certificate) bool // true for a certificate on a revocation list; nil: none is
}

// Verify checks chain (leaf first) against the newest bundle, now. Every error
// wraps [ErrIdentity].
func (v *Verifier) Verify(chain []*x509.Certificate) (attrs.Principal, error) {
	if len(chain) == 0 {
		return attrs.Principal{}, fmt.Errorf("%w: no certificate", ErrIdentity)
	}
	bundle := v.Source.Bundle()
	opts := x509.VerifyOptions{Roots: bundle.Roots, KeyUsages: []x509.ExtKeyUsage{v.Usage}}
	if len(chain) > 1 {
		opts.Intermediates = x509.NewCertPool()
		for _, c := range chain[1:] {
			opts.Intermediates.AddCert(c)
		}
	}
	paths, err := chain[0].Verify(opts)
	if err != nil {
		return attrs.Principal{}, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	p, err := leafPrincipal(chain[0])
	if err != nil {
		return attrs.Principal{}, err
	}
	switch {
	case len(v.Want) > 0:
		if !slices.Contains(v.Want, p.URI) {
			return attrs.Principal{}, fmt.Errorf("%w: is %q, want %q", ErrIdentity, p.URI, v.Want)
		}
	case !bundle.Trusts(p.TrustDomain):
		return attrs.Principal{}, fmt.Errorf("%w: %q is in none of the trust domains %q", ErrIdentity, p.URI, bundle.TrustDomains)
	}
	if v.Revoked != nil && !slices.ContainsFunc(paths, v.clean) {
		return attrs.Principal{}, fmt.Errorf("%w: %q is %w", ErrIdentity, p.URI, ErrRevoked)
	}
	return p, nil
}

// clean reports whether no certificate of one verified path is revoked.
func (v *Verifier) clean(path []*x509.Certificate) bool {
	return !slices.ContainsFunc(path, v.Revoked)
}

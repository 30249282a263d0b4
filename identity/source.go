package identity

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"sync"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
)

// SVID is one certificate with its key, and the identity it proves. It is
// immutable.
type SVID struct {
	Certificate tls.Certificate // leaf first, then intermediates; Leaf is set
	Principal   attrs.Principal
	NotAfter    time.Time // of the leaf
}

// Bundle says whom to trust. It is immutable.
type Bundle struct {
	Roots        *x509.CertPool
	PEM          []byte   // the roots, as read
	TrustDomains []string // [0] is the mesh's own; the rest its aliases
}

// Trusts reports whether domain is the mesh's trust domain or an alias of it.
func (b *Bundle) Trusts(domain string) bool {
	return slices.Contains(b.TrustDomains, domain)
}

// NewBundle builds a bundle from PEM certificates. At least one certificate and
// one trust domain are required.
func NewBundle(rootsPEM []byte, trustDomains []string) (*Bundle, error) {
	pool, n := x509.NewCertPool(), 0
	for rest := rootsPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 {
		return nil, errNoRoots
	}
	if len(trustDomains) == 0 || slices.Contains(trustDomains, "") {
		return nil, errNoTrustDomain
	}
	return &Bundle{Roots: pool, PEM: slices.Clone(rootsPEM), TrustDomains: slices.Clone(trustDomains)}, nil
}

// NewSVID checks a key pair and reads the identity of its leaf.
func NewSVID(pair tls.Certificate) (*SVID, error) {
	if pair.Leaf == nil {
		if len(pair.Certificate) == 0 {
			return nil, ErrNotSPIFFE
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			return nil, err
		}
		pair.Leaf = leaf
	}
	p, err := leafPrincipal(pair.Leaf)
	if err != nil {
		return nil, err
	}
	return &SVID{Certificate: pair, Principal: p, NotAfter: pair.Leaf.NotAfter}, nil
}

// Chain returns the certificates of s, leaf first.
func (s *SVID) Chain() []*x509.Certificate {
	chain := []*x509.Certificate{s.Certificate.Leaf}
	for _, der := range s.Certificate.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			chain = append(chain, c)
		}
	}
	return chain
}

// ChainPEM encodes the certificates of s, leaf first. It holds nothing secret.
func (s *SVID) ChainPEM() (chain []byte) {
	for _, der := range s.Certificate.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return chain
}

// PEM encodes s as certificate chain and PKCS #8 key, for files that
// [FromFiles] reads back.
func (s *SVID) PEM() (chain, key []byte, err error) {
	chain = s.ChainPEM()
	der, err := x509.MarshalPKCS8PrivateKey(s.Certificate.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	return chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Source is one origin of identity. SVID and Bundle are never nil.
type Source interface {
	SVID() *SVID
	Bundle() *Bundle
	// Changed is closed at the next change of either value. Take the channel
	// before reading the values, and take a new one after it closed.
	Changed() <-chan struct{}
	// Close stops refreshing; the last values stay readable.
	Close() error
}

// Store is the part that sources share: the newest values and the broadcast of
// their change. The zero value is not ready; call Set once first.
type Store struct {
	mu      sync.Mutex
	svid    *SVID
	bundle  *Bundle
	changed chan struct{}
}

// Set publishes new values; a nil one keeps what is there.
func (s *Store) Set(svid *SVID, bundle *Bundle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if svid != nil {
		s.svid = svid
	}
	if bundle != nil {
		s.bundle = bundle
	}
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// Recheck broadcasts a change without one, so that whoever holds connections looks
// at their peers again: a revocation list is new.
func (s *Store) Recheck() { s.Set(nil, nil) }

// SVID returns the newest certificate.
func (s *Store) SVID() *SVID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.svid
}

// Bundle returns the newest roots.
func (s *Store) Bundle() *Bundle {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bundle
}

// Changed implements [Source].
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"sync"
	"time"
)

const (
	// rootTTL is that of istiod's self-signed CA (CITADEL_SELF_SIGNED_CA_CERT_TTL).
	rootTTL = 10 * 365 * 24 * time.Hour
	// clockSkew dates certificates back, for verifiers whose clock lags.
	clockSkew = time.Minute
)

// CA is a certificate authority in memory, for the demo and for tests. It signs
// with ECDSA P-256.
type CA struct {
	// Fixed after NewCA.
	trustDomains []string

	mu      sync.Mutex
	roots   []caRoot // newest first; the first one signs
	next    *caRoot  // announced, trusted, signs nothing yet; may be nil
	sources map[*caSource]struct{}
}

type caRoot struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes a CA with one root. The aliases are further trust domains that its
// bundles accept.
func NewCA(trustDomain string, aliases ...string) (*CA, error) {
	for _, td := range append([]string{trustDomain}, aliases...) {
		if !segment(td) {
			return nil, fmt.Errorf("identity: %q is no trust domain", td)
		}
	}
	ca := &CA{
		trustDomains: append([]string{trustDomain}, aliases...),
		sources:      make(map[*caSource]struct{}),
	}
	root, err := ca.newRoot()
	if err != nil {
		return nil, err
	}
	ca.roots = []caRoot{root}
	return ca, nil
}

func (ca *CA) newRoot() (caRoot, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return caRoot{}, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{ca.trustDomains[0]}, CommonName: "waypoint built-in CA"},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(rootTTL),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return caRoot{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return caRoot{cert, key}, err
}

// serial is a random positive number of 126 bits (RFC 5280 4.1.2.2 allows 159).
func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return n.Add(n, big.NewInt(1))
}

// Issue makes a key and a certificate for one service account, valid for ttl.
func (ca *CA) Issue(ns, sa string, ttl time.Duration) (*SVID, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := ca.Sign(key.Public(), ns, sa, ttl)
	if err != nil {
		return nil, err
	}
	return NewSVID(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
}

// Sign certifies a public key as one service account and returns the leaf in
// DER. The newest root signs it directly.
func (ca *CA) Sign(pub crypto.PublicKey, ns, sa string, ttl time.Duration) ([]byte, error) {
	uri := URI(ca.trustDomains[0], ns, sa)
	if _, err := Parse(uri); err != nil {
		return nil, fmt.Errorf("%w: %q", err, uri)
	}
	id, err := url.Parse(uri)
	if err != nil {
		return nil, err
	}
	ca.mu.Lock()
	root := ca.roots[0]
	ca.mu.Unlock()
	now := time.Now()
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          serial(),
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(ttl),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{id},
	}, root.cert, pub, root.key)
}

// Bundle returns the roots that are trusted now.
func (ca *CA) Bundle() *Bundle {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return ca.bundleLocked()
}

func (ca *CA) bundleLocked() *Bundle {
	b := &Bundle{Roots: x509.NewCertPool(), TrustDomains: slices.Clone(ca.trustDomains)}
	roots := ca.roots
	if ca.next != nil {
		roots = append(slices.Clip(roots), *ca.next)
	}
	for _, r := range roots {
		b.Roots.AddCert(r.cert)
		b.PEM = append(b.PEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw})...)
	}
	return b
}

// AnnounceRoot makes the root of the next [CA.RotateRoot]. It is trusted at once
// and signs nothing yet, so that whoever asks for bundles now and then has it in
// time.
func (ca *CA) AnnounceRoot() error {
	root, err := ca.newRoot()
	if err != nil {
		return err
	}
	ca.mu.Lock()
	ca.next = &root
	ca.mu.Unlock()
	ca.publish()
	return nil
}

// RotateRoot makes a new root, or takes the announced one, which signs from now
// on; the old ones stay trusted until [CA.RetireRoots]. Every source first learns
// the new bundle, and only then gets a certificate that the new root signed.
func (ca *CA) RotateRoot() error {
	root, err := ca.newRoot()
	if err != nil {
		return err
	}
	ca.mu.Lock()
	if ca.next != nil {
		root, ca.next = *ca.next, nil
	}
	ca.roots = slices.Insert(ca.roots, 0, root)
	ca.mu.Unlock()
	for _, s := range ca.publish() {
		s.rotate()
	}
	return nil
}

// RetireRoots ends the overlap: only the newest root stays trusted.
func (ca *CA) RetireRoots() {
	ca.mu.Lock()
	ca.roots = ca.roots[:1:1]
	ca.mu.Unlock()
	ca.publish()
}

// publish hands the bundle to every source and returns them.
func (ca *CA) publish() []*caSource {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	b := ca.bundleLocked()
	list := make([]*caSource, 0, len(ca.sources))
	for s := range ca.sources {
		s.Set(nil, b)
		list = append(list, s)
	}
	return list
}

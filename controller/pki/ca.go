package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

const (
	// caLife is that of Istio's self-signed CA (CITADEL_SELF_SIGNED_CA_CERT_TTL).
	caLife = 3650 * 24 * time.Hour
	// overlap is how long a successor is a root before it signs, and the predecessor
	// one after: waypoints that were away for so long still find each other.
	overlap = 30 * 24 * time.Hour
	// leafLife is short, since a leaf is only kept in memory and costs nothing.
	leafLife = 24 * time.Hour
	// skew allows for clocks that are behind.
	skew = 10 * time.Minute
)

// authority is a CA certificate with its key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "waypoint-controller", SerialNumber: serial.Text(16)},
		NotBefore: now.Add(-skew), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}, &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "waypoint-controller", SerialNumber: serial.Text(16)}}, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert, key}, err
}

func serialNumber() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// leaf signs a server certificate for the names.
func (a *authority) leaf(names []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	end := now.Add(leafLife)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: now.Add(-skew), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert}, nil
}

func (a *authority) pem() (cert, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseAuthority(cert, key []byte) (*authority, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	k, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the CA's key is not an ECDSA key")
	}
	c, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, err
	}
	if !c.IsCA {
		return nil, errors.New("the certificate is not that of a CA")
	}
	return &authority{c, k}, nil
}

// bundle is the Secret's content.
type bundle struct {
	current *authority
	next    *authority        // published, does not sign yet; nil most of the time
	old     *x509.Certificate // still a root; nil most of the time
}

// Keys of the Secret.
const (
	keyCert, keyKey         = "tls.crt", "tls.key"
	keyNextCert, keyNextKey = "next.crt", "next.key"
	keyOld                  = "old.crt"
)

func parseBundle(data map[string][]byte) (*bundle, error) {
	b := &bundle{}
	var err error
	if b.current, err = parseAuthority(data[keyCert], data[keyKey]); err != nil {
		return nil, fmt.Errorf("%s, %s: %w", keyCert, keyKey, err)
	}
	if len(data[keyNextCert]) > 0 {
		if b.next, err = parseAuthority(data[keyNextCert], data[keyNextKey]); err != nil {
			return nil, fmt.Errorf("%s, %s: %w", keyNextCert, keyNextKey, err)
		}
	}
	if block, _ := pem.Decode(data[keyOld]); block != nil {
		if b.old, err = x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("%s: %w", keyOld, err)
		}
	}
	return b, nil
}

func (b *bundle) data() (map[string][]byte, error) {
	out := map[string][]byte{}
	var err error
	if out[keyCert], out[keyKey], err = b.current.pem(); err != nil {
		return nil, err
	}
	if b.next != nil {
		if out[keyNextCert], out[keyNextKey], err = b.next.pem(); err != nil {
			return nil, err
		}
	}
	if b.old != nil {
		out[keyOld] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.old.Raw})
	}
	return out, nil
}

// roots are all that a waypoint is to trust.
func (b *bundle) roots() []byte {
	certs := []*x509.Certificate{b.current.cert}
	if b.next != nil {
		certs = append(certs, b.next.cert)
	}
	if b.old != nil {
		certs = append(certs, b.old)
	}
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// turn does the next step of a rotation that is due. It reports whether there was
// one.
func (b *bundle) turn(now time.Time) (bool, error) {
	switch {
	case b.next == nil && now.After(b.current.cert.NotAfter.Add(-2*overlap)):
		next, err := newAuthority(now)
		if err != nil {
			return false, err
		}
		b.next, b.old = next, nil
		return true, nil
	case b.next != nil && now.After(b.next.cert.NotBefore.Add(skew+overlap)):
		b.old, b.current, b.next = b.current.cert, b.next, nil
		return true, nil
	case b.next == nil && b.old != nil && now.After(b.old.NotAfter):
		b.old = nil
		return true, nil
	}
	return false, nil
}

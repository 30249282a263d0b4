package originate

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"waypoint.dev/waypoint/config"
)

// System is the CA that stands for the roots of the operating system.
const System = "system"

// maxFile bounds a file of certificates; a bundle of public roots has 300 kB.
const maxFile = 4 << 20

// material is what the files of an UpstreamTLS hold.
type material struct {
	stamps [4]stamp
	roots  *x509.CertPool // nil: nothing is verified
	cert   *tls.Certificate
	crls   []*x509.RevocationList
}

// stamp tells one version of a file from another.
type stamp struct {
	at   time.Time
	info os.FileInfo
}

// current returns what the files hold now.
func (o *Origin) current() (*material, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var now [4]stamp
	ca := o.spec.CA
	if ca == System || o.spec.SkipVerify {
		ca = ""
	}
	fresh := o.files != nil
	for i, name := range []string{ca, o.spec.CRL, o.spec.Cert, o.spec.Key} {
		if name == "" {
			continue
		}
		fi, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		now[i] = stamp{fi.ModTime(), fi}
		fresh = fresh && now[i].at.Equal(o.files.stamps[i].at) && fi.Size() == o.files.stamps[i].info.Size() && os.SameFile(fi, o.files.stamps[i].info)
	}
	if fresh {
		return o.files, nil
	}
	m, err := load(&o.spec)
	if err != nil {
		return nil, err
	}
	m.stamps = now
	o.files = m
	return m, nil
}

func load(u *config.UpstreamTLS) (*material, error) {
	m := &material{}
	switch {
	case u.CA == "" || u.SkipVerify:
	case u.CA == System:
		var err error
		if m.roots, err = x509.SystemCertPool(); err != nil {
			return nil, err
		}
	default:
		b, err := read(u.CA)
		if err != nil {
			return nil, err
		}
		m.roots = x509.NewCertPool()
		if !m.roots.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s: no certificate in it", u.CA)
		}
	}
	if u.Cert != "" || u.Key != "" {
		cert, err := read(u.Cert)
		if err != nil {
			return nil, err
		}
		key, err := read(u.Key)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", u.Cert, err)
		}
		m.cert = &pair
	}
	if u.CRL != "" {
		b, err := read(u.CRL)
		if err != nil {
			return nil, err
		}
		for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
			l, err := x509.ParseRevocationList(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", u.CRL, err)
			}
			m.crls = append(m.crls, l)
		}
		if m.crls == nil {
			return nil, fmt.Errorf("%s: no revocation list in it", u.CRL)
		}
	}
	return m, nil
}

func read(name string) ([]byte, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if fi.Size() > maxFile {
		return nil, &os.PathError{Op: "read", Path: name, Err: errors.New("file is too large")}
	}
	return os.ReadFile(name)
}

// config returns the configuration of one handshake.
func (o *Origin) config(protocols []string) (*tls.Config, error) {
	m, err := o.current()
	if err != nil {
		return nil, err
	}
	name := o.spec.SNI
	if name == "" {
		name = o.host
	}
	c := &tls.Config{
		ServerName: name, NextProtos: protocols,
		MinVersion: version(o.spec.MinMinor, tls.VersionTLS12), MaxVersion: version(o.spec.MaxMinor, 0),
		// The names and the revocation lists are other than those of crypto/tls:
		// VerifyConnection below is the verification.
		InsecureSkipVerify: true,
		VerifyConnection:   func(s tls.ConnectionState) error { return o.verify(m, s.PeerCertificates) },
	}
	if protocols == nil {
		c.NextProtos = o.spec.ALPN
	}
	if m.cert != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.cert, nil }
	}
	return c, nil
}

func version(minor uint8, def uint16) uint16 {
	switch minor {
	case 2:
		return tls.VersionTLS12
	case 3:
		return tls.VersionTLS13
	}
	return def
}

// verify checks the certificate of a server: its chain, its names, and that no
// certificate of the chain is revoked.
func (o *Origin) verify(m *material, certs []*x509.Certificate) error {
	if o.spec.SkipVerify {
		return nil
	}
	if len(certs) == 0 {
		return errors.New("no certificate")
	}
	leaf := certs[0]
	if m.roots != nil {
		opts := x509.VerifyOptions{Roots: m.roots, Intermediates: x509.NewCertPool()}
		for _, c := range certs[1:] {
			opts.Intermediates.AddCert(c)
		}
		chains, err := leaf.Verify(opts)
		if err != nil {
			return err
		}
		if err := unrevoked(chains, m.crls); err != nil {
			return err
		}
	}
	return o.named(leaf, m.roots != nil)
}

// named checks the names of a certificate: one of those configured; without any
// the server name or the service's, so that the roots of the operating system
// do not stand for every server there is.
func (o *Origin) named(leaf *x509.Certificate, verified bool) error {
	want := o.spec.SANs
	if len(want) == 0 {
		if !verified {
			return nil
		}
		want = []string{o.host}
		if o.spec.SNI != "" {
			want = []string{o.spec.SNI, o.host}
		}
	}
	for _, n := range want {
		if n == "" {
			continue
		}
		if leaf.VerifyHostname(n) == nil {
			return nil
		}
		for _, u := range leaf.URIs {
			if u.String() == n {
				return nil
			}
		}
		if ip := net.ParseIP(n); ip != nil && slices.ContainsFunc(leaf.IPAddresses, ip.Equal) {
			return nil
		}
	}
	return fmt.Errorf("the certificate is not for %q", want)
}

// unrevoked wants one chain whose certificates all have a list of their issuer
// that does not name them, as OpenSSL's CRL_CHECK_ALL that Envoy sets.
func unrevoked(chains [][]*x509.Certificate, lists []*x509.RevocationList) error {
	if lists == nil {
		return nil
	}
	var err error
	for _, chain := range chains {
		if err = chainUnrevoked(chain, lists); err == nil {
			return nil
		}
	}
	return err
}

func chainUnrevoked(chain []*x509.Certificate, lists []*x509.RevocationList) error {
	for i, c := range chain {
		issuer := chain[min(i+1, len(chain)-1)] // a root issued itself
		found := false
		for _, l := range lists {
			if l.CheckSignatureFrom(issuer) != nil {
				continue
			}
			if !l.NextUpdate.IsZero() && time.Now().After(l.NextUpdate) {
				return fmt.Errorf("the revocation list of %q has expired", issuer.Subject)
			}
			found = true
			for _, e := range l.RevokedCertificateEntries {
				if e.SerialNumber.Cmp(c.SerialNumber) == 0 {
					return fmt.Errorf("certificate %x of %q is revoked", c.SerialNumber, c.Subject)
				}
			}
		}
		if !found {
			return fmt.Errorf("no revocation list of %q", issuer.Subject)
		}
	}
	return nil
}

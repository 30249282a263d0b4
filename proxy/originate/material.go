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
	"waypoint.dev/waypoint/identity"
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

// current returns what the files hold now. While they cannot be read, what they
// held before goes on to serve: a certificate that was replaced before its key was
// must not cut a backend off. Files that never could be read fail.
func (o *Origin) current() (*material, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m, err := o.reload()
	switch {
	case err == nil:
		o.broken = ""
		return m, nil
	case o.files == nil:
		return nil, err
	}
	if text := err.Error(); text != o.broken { // once, not for each connection
		o.broken = text
		if o.log != nil {
			o.log.Error("files of TLS to a backend cannot be read, those read before serve", "backend", o.backend, "error", err)
		}
	}
	return o.files, nil
}

// reload is current without the second chance. mu is held.
func (o *Origin) reload() (*material, error) {
	var now [4]stamp
	ca, cert := o.spec.CA, o.spec.Cert
	if ca == System || ca == config.SecretRoots || o.spec.SkipVerify {
		ca = ""
	}
	if cert == config.SecretOwn {
		cert = ""
	}
	fresh := o.files != nil
	for i, name := range []string{ca, o.spec.CRL, cert, o.spec.Key} {
		if _, secret := o.spec.Secrets[name]; name == "" || secret {
			continue // what a secret holds does not change: a new one is another Origin
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

// load reads what u names, from files or secrets.
func load(u *config.UpstreamTLS) (*material, error) {
	m := &material{}
	if err := m.loadRoots(u); err != nil {
		return nil, err
	}
	if err := m.loadCert(u); err != nil {
		return nil, err
	}
	if u.CRL != "" {
		b, err := read(u.CRL)
		if err != nil {
			return nil, err
		}
		if err := m.loadCRL(u.CRL, b); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *material) loadRoots(u *config.UpstreamTLS) (err error) {
	if u.CA == "" || u.SkipVerify || u.CA == config.SecretRoots {
		return nil
	}
	if u.CA == System {
		m.roots, err = x509.SystemCertPool()
		return err
	}
	var b []byte
	if s, ok := u.Secrets[u.CA]; ok {
		if s == nil {
			return notSent(u.CA)
		}
		b = s.Roots
		if len(s.CRL) > 0 {
			if err := m.loadCRL(u.CA, s.CRL); err != nil {
				return err
			}
		}
	} else if b, err = read(u.CA); err != nil {
		return err
	}
	m.roots = x509.NewCertPool()
	if !m.roots.AppendCertsFromPEM(b) {
		return fmt.Errorf("%s: no certificate in it", u.CA)
	}
	return nil
}

func (m *material) loadCert(u *config.UpstreamTLS) (err error) {
	if u.Cert == config.SecretOwn || u.Cert == "" && u.Key == "" {
		return nil
	}
	var cert, key []byte
	if s, ok := u.Secrets[u.Cert]; ok {
		if s == nil {
			return notSent(u.Cert)
		}
		cert, key = s.Chain, s.Key
	} else {
		if cert, err = read(u.Cert); err != nil {
			return err
		}
		if key, err = read(u.Key); err != nil {
			return err
		}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s: %w", u.Cert, err)
	}
	m.cert = &pair
	return nil
}

func (m *material) loadCRL(name string, b []byte) error {
	n := len(m.crls)
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		l, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		m.crls = append(m.crls, l)
	}
	if len(m.crls) == n {
		return fmt.Errorf("%s: no revocation list in it", name)
	}
	return nil
}

// notSent is why nothing is sent to a backend whose secret did not come.
func notSent(name string) error {
	return fmt.Errorf("the secret %s was not sent by the control plane", name)
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

// config returns the configuration of one handshake with a server called host,
// unless the configuration names it.
func (o *Origin) config(protocols []string, host string) (*tls.Config, error) {
	m, err := o.current()
	if err != nil {
		return nil, err
	}
	if (o.spec.CA == config.SecretRoots || o.spec.Cert == config.SecretOwn) && o.own == nil {
		return nil, errors.New("the backend asks for the waypoint's own certificate, and it has none")
	}
	if host == "" {
		host = o.host
	}
	name := o.spec.SNI
	if name == "" {
		name = host
	}
	c := &tls.Config{
		ServerName: name, NextProtos: protocols,
		MinVersion: version(o.spec.MinMinor, tls.VersionTLS12), MaxVersion: version(o.spec.MaxMinor, 0),
		CurvePreferences: o.spec.Curves, CipherSuites: o.spec.Ciphers,
		// The names and the revocation lists are other than those of crypto/tls:
		// VerifyConnection below is the verification.
		InsecureSkipVerify: true,
		VerifyConnection:   func(s tls.ConnectionState) error { return o.verify(m, host, s.PeerCertificates) },
	}
	if only := identity.Curves(o.own); only != nil {
		c.CurvePreferences = only // of the compliance policy
	}
	if protocols == nil {
		c.NextProtos = o.spec.ALPN
	}
	switch {
	case o.spec.Cert == config.SecretOwn:
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &o.own.SVID().Certificate, nil
		}
	case m.cert != nil:
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
func (o *Origin) verify(m *material, host string, certs []*x509.Certificate) error {
	if o.spec.SkipVerify {
		return nil
	}
	if len(certs) == 0 {
		return errors.New("no certificate")
	}
	if o.spec.CA == config.SecretRoots { // a workload of the mesh, known by its SPIFFE id
		v := identity.Verifier{Source: o.own, Usage: x509.ExtKeyUsageServerAuth, Want: o.spec.SANs}
		_, err := v.Verify(certs)
		return err
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
	return o.named(leaf, host, m.roots != nil)
}

// named checks the names of a certificate: one of those configured; without any
// the server name or the service's, so that the roots of the operating system
// do not stand for every server there is.
func (o *Origin) named(leaf *x509.Certificate, host string, verified bool) error {
	want := o.spec.SANs
	if len(want) == 0 {
		if !verified {
			return nil
		}
		want = []string{host}
		if o.spec.SNI != "" {
			want = []string{o.spec.SNI, host}
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

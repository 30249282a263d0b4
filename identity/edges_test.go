package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestParseEdges has the octets and lengths next to those that an id may have.
func TestParseEdges(t *testing.T) {
	for c := range 256 {
		want := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
		for _, uri := range []string{"spiffe://t%d/ns/n/sa/s", "spiffe://td/ns/n%n/sa/s", "spiffe://td/ns/n/sa/s%s"} {
			uri = strings.ReplaceAll(uri, "%", string([]byte{byte(c)}))
			if _, err := Parse(uri); (err == nil) != want {
				t.Errorf("%q: %v", uri, err)
			}
		}
	}
	fill := strings.Repeat("a", maxURI-len("spiffe://td/ns/n/sa/"))
	for uri, want := range map[string]bool{
		"spiffe://td/ns/n/sa/" + fill: true, "spiffe://td/ns/n/sa/a" + fill: false,
		"spiffe://./ns/n/sa/s": false, "spiffe://../ns/n/sa/s": false, "spiffe://td/ns/./sa/s": false, "spiffe://td/ns/n/sa/..": false, "spiffe://td/ns/n/sa/...": true,
		"spiffe://td": false, "spiffe://td/ns/n": false, "td/ns/n/sa/s": false, "spiffe://td/ns/sa/s": false, "spiffe://td/sa/s/ns/n": false,
	} {
		if _, err := Parse(uri); (err == nil) != want {
			t.Errorf("%.60q: %v", uri, err)
		}
	}
}

// signed makes a certificate under parent.
func signed(t *testing.T, parent *x509.Certificate, by any, edit func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: serial(), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true}
	edit(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// A chain is followed over what the peer sent along, and over nothing else.
func TestVerifyChains(t *testing.T) {
	ca := newCA(t, "td")
	root := ca.roots[0]
	src := &staticSource{}
	src.Set(nil, ca.Bundle())
	middle, middleKey := signed(t, root.cert, root.key, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })
	uri, _ := url.Parse("spiffe://td/ns/shop/sa/cart")
	leaf, _ := signed(t, middle, middleKey, func(c *x509.Certificate) {
		c.URIs, c.ExtKeyUsage = []*url.URL{uri}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	bare, _ := signed(t, root.cert, root.key, func(*x509.Certificate) {})
	odd, _ := signed(t, root.cert, root.key, func(c *x509.Certificate) {
		u, _ := url.Parse("https://td/ns/shop/sa/cart")
		c.URIs = []*url.URL{u}
	})
	v := Verifier{Source: src, Usage: x509.ExtKeyUsageClientAuth}
	if p, err := v.Verify([]*x509.Certificate{leaf, middle}); err != nil || p.URI != uri.String() || p.Namespace != "shop" {
		t.Errorf("with its intermediate: %+v, %v", p, err)
	}
	for name, chain := range map[string][]*x509.Certificate{
		"nothing": nil, "without its intermediate": {leaf}, "the intermediate first": {middle, leaf}, "no URI": {bare}, "another scheme": {odd},
	} {
		if p, err := v.Verify(chain); !errors.Is(err, ErrIdentity) || p.URI != "" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	for name, revoked := range map[string]*x509.Certificate{"leaf": leaf, "intermediate": middle, "root": root.cert} {
		v := Verifier{Source: src, Usage: x509.ExtKeyUsageClientAuth, Revoked: func(c *x509.Certificate) bool { return c.Equal(revoked) }}
		if _, err := v.Verify([]*x509.Certificate{leaf, middle}); !errors.Is(err, ErrRevoked) || !errors.Is(err, ErrIdentity) {
			t.Errorf("revoked %s: %v", name, err)
		}
	}
	v.Usage = x509.ExtKeyUsageServerAuth
	if _, err := v.Verify([]*x509.Certificate{leaf, middle}); !errors.Is(err, ErrIdentity) {
		t.Errorf("a client's certificate served: %v", err)
	}

	if _, err := PeerPrincipal(&tls.ConnectionState{}); !errors.Is(err, ErrIdentity) {
		t.Errorf("no certificate: %v", err)
	}
	for name, c := range map[string]*x509.Certificate{"no URI": bare, "another scheme": odd} {
		if p, err := PeerPrincipal(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}); !errors.Is(err, ErrIdentity) || p.URI != "" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if _, err := PeerPrincipal(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{odd}}); !errors.Is(err, ErrNotSPIFFE) {
		t.Errorf("another scheme: %v", err)
	}

	svid, err := NewSVID(tls.Certificate{Certificate: [][]byte{leaf.Raw, middle.Raw}})
	if err != nil || svid.Principal.URI != uri.String() || len(svid.Chain()) != 2 || !svid.Chain()[1].Equal(middle) || !svid.NotAfter.Equal(leaf.NotAfter) {
		t.Errorf("%+v, %v", svid, err)
	}
	for name, pair := range map[string]tls.Certificate{"empty": {}, "no certificate": {Certificate: [][]byte{{1}}}, "no URI": {Certificate: [][]byte{bare.Raw}}} {
		if _, err := NewSVID(pair); err == nil {
			t.Errorf("%s is an identity", name)
		}
	}
}

func TestBundles(t *testing.T) {
	ca := newCA(t, "td")
	good := ca.Bundle().PEM
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})
	broken := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})
	for name, tt := range map[string]struct {
		pem     []byte
		domains []string
		ok      bool
	}{
		"good": {good, []string{"td", "alias"}, true}, "a key beside": {append(key, good...), []string{"td"}, true}, "a key alone": {key, []string{"td"}, false},
		"broken beside": {append(broken, good...), []string{"td"}, false}, "empty": {nil, []string{"td"}, false},
		"no domain": {good, nil, false}, "an empty domain": {good, []string{"td", ""}, false},
	} {
		b, err := NewBundle(tt.pem, tt.domains)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
		if tt.ok && (b.Trusts("") || b.Trusts("other") || !b.Trusts("td") || b.Roots.Equal(x509.NewCertPool())) {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

func TestFileEdges(t *testing.T) {
	ca := newCA(t, "td")
	vol := &volume{t: t, dir: t.TempDir()}
	files := pemFiles(t, ca, time.Hour)
	open := func(domains ...string) (Source, error) {
		return FromFiles(vol.path("cert-chain.pem"), vol.path("key.pem"), vol.path("root-cert.pem"), domains, nil)
	}
	vol.swap(files)
	src, err := open("td", "old")
	if err != nil || !src.Bundle().Trusts("old") {
		t.Fatalf("%v", err)
	}
	defer src.Close()
	set := src.(interface{ SetTrustDomains([]string) error })
	bundle, changed := src.Bundle(), src.Changed()
	if err := set.SetTrustDomains([]string{"td", "old"}); err != nil || src.Bundle() != bundle || isClosed(changed) {
		t.Errorf("the same domains are news: %v", err)
	}
	if err := set.SetTrustDomains([]string{"td", ""}); err == nil || src.Bundle() != bundle || isClosed(changed) {
		t.Errorf("an empty domain: %v", err)
	}
	if err := set.SetTrustDomains([]string{"td", "new"}); err != nil || src.Bundle().Trusts("old") || !src.Bundle().Trusts("new") || !isClosed(changed) {
		t.Errorf("other domains: %v", err)
	}
	if _, err := src.(*fileSource).load(); err != nil || !src.Bundle().Trusts("new") {
		t.Errorf("files that did not change: %v", err)
	}
	vol.swap(pemFiles(t, ca, time.Hour)) // another certificate of the same root
	if _, err := src.(*fileSource).load(); err != nil || src.Bundle().Trusts("old") || !src.Bundle().Trusts("new") {
		t.Errorf("the domains went with the files: %v", err)
	}
	for name, change := range map[string]func(map[string][]byte){
		"roots that are none": func(f map[string][]byte) { f["root-cert.pem"] = []byte("x") },
		"a file too large": func(f map[string][]byte) {
			f["root-cert.pem"] = append(make([]byte, maxFile), files["root-cert.pem"]...)
		},
		"no identity in the certificate": func(f map[string][]byte) {
			root := ca.roots[0]
			cert, key := signed(t, root.cert, root.key, func(*x509.Certificate) {})
			der, _ := x509.MarshalPKCS8PrivateKey(key)
			f["cert-chain.pem"] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
			f["key.pem"] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		},
	} {
		f := map[string][]byte{}
		for k, v := range files {
			f[k] = v
		}
		change(f)
		vol.swap(f)
		if src, err := open(); err == nil {
			src.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

// Whoever holds connections is told of each change of the list, once, and of none
// that is broken.
func TestCRLTellsOfChanges(t *testing.T) {
	ca, other := newCA(t, "td"), newCA(t, "td")
	one, _ := ca.Issue("shop", "one", time.Hour)
	two, _ := other.Issue("shop", "two", time.Hour)
	name := filepath.Join(t.TempDir(), "ca-crl.pem")
	synctest.Test(t, func(t *testing.T) {
		told := make(chan struct{}, 10)
		c, err := WatchCRL(name, nil, func() { told <- struct{}{} })
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, step := range []struct {
			what     string
			content  []byte
			news     int
			one, two bool
		}{
			{"no file", nil, 0, false, false},
			{"a list", list(t, ca, one.Certificate.Leaf.SerialNumber), 1, true, false},
			{"another block", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.roots[0].cert.Raw}), 0, true, false},
			{"a broken list", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("x")}), 0, true, false},
			{"two lists", append(list(t, ca, one.Certificate.Leaf.SerialNumber), list(t, other, two.Certificate.Leaf.SerialNumber)...), 1, true, true},
			{"two of one issuer", append(list(t, ca, one.Certificate.Leaf.SerialNumber), list(t, ca, two.Certificate.Leaf.SerialNumber)...), 1, true, true},
			{"an empty list", list(t, ca), 1, false, false},
		} {
			if step.content != nil {
				if err := os.WriteFile(name, step.content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(3 * pollInterval)
			synctest.Wait()
			if len(told) != step.news {
				t.Errorf("%s: told %d times, want %d", step.what, len(told), step.news)
			}
			for len(told) > 0 {
				<-told
			}
			if c.Revoked(one.Certificate.Leaf) != step.one || c.Revoked(two.Certificate.Leaf) != step.two {
				t.Errorf("%s: revoked %v %v", step.what, c.Revoked(one.Certificate.Leaf), c.Revoked(two.Certificate.Leaf))
			}
		}
	})
	for what, content := range map[string][]byte{
		"text": []byte("x"), "another block": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.roots[0].cert.Raw}),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := WatchCRL(name, nil, nil); err == nil {
			c.Close()
			t.Errorf("%s is a revocation list", what)
		}
	}
}

// A recheck is news though nothing is new.
func TestRecheck(t *testing.T) {
	ca := newCA(t, "td")
	s := &staticSource{}
	s.Set(nil, ca.Bundle())
	changed, bundle := s.Changed(), s.Bundle()
	if s.Changed() != changed || isClosed(changed) {
		t.Error("two waiters, two channels")
	}
	s.Recheck()
	if !isClosed(changed) || s.Bundle() != bundle || isClosed(s.Changed()) {
		t.Error("a recheck is not told")
	}
}

// The CA names nobody by an id that Parse refuses.
func TestCANames(t *testing.T) {
	ca := newCA(t, "td")
	for _, name := range []string{"", "a/b", "a%2fb", ".."} {
		if _, err := ca.Issue(name, "sa", time.Hour); !errors.Is(err, ErrNotSPIFFE) {
			t.Errorf("namespace %q: %v", name, err)
		}
		if _, err := ca.Issue("ns", name, time.Hour); !errors.Is(err, ErrNotSPIFFE) {
			t.Errorf("account %q: %v", name, err)
		}
	}
	a, b := serial(), serial()
	if a.Sign() <= 0 || a.Cmp(b) == 0 || a.BitLen() > 159 { // RFC 5280 section 4.1.2.2: positive, at most 20 octets
		t.Errorf("serials %v %v", a, b)
	}
}

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"waypoint.dev/waypoint/config/istiod"
)

// issuer signs certificates of a world outside of the mesh.
type issuer struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  string
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{t: t}
	der, key := i.sign(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "outside"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	var err error
	if i.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	i.key, i.pem = key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return i
}

func (i *issuer) sign(c *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := i.cert, i.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		i.t.Fatal(err)
	}
	return der, key
}

// pair is a certificate of that name, in PEM.
func (i *issuer) pair(name string) (chain, key string) {
	der, k := i.sign(&x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}})
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		i.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}))
}

func inline(s string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: s}}
}

func (r *meshRig) pushAny(url, name string, m proto.Message) {
	r.t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		r.t.Fatal(err)
	}
	r.istiod.Push(url, map[string]*anypb.Any{name: a})
}

const bank, bankCA = "kubernetes://bank", "kubernetes://bank-cacert"

func (r *meshRig) pushPair(i *issuer, name string) {
	chain, key := i.pair(name)
	r.pushAny(istiod.SecretType, bank, &tlsv3.Secret{Name: bank, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(chain), PrivateKey: inline(key)}}})
}

// TestProxySecrets serves a backend of a DestinationRule with a credentialName:
// nothing before its secrets come, mutual TLS with them, a rotated certificate
// without losing a request, and nothing again once they are gone.
func TestProxySecrets(t *testing.T) {
	r := prepareMesh(t, "01-basic", time.Hour)
	out := newIssuer(t)
	chain, key := out.pair("bank.example")
	own, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(out.cert)
	ln, err := net.Listen("tcp", "127.0.7.31:8443")
	if err != nil {
		t.Fatal(err)
	}
	var client atomic.Value
	client.Store("")
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		client.Store(q.TLS.PeerCertificates[0].Subject.CommonName)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}))
	}()
	t.Cleanup(func() { srv.Close(); <-done })

	edit(r, istiod.EndpointsType, cartCluster, &endpointv3.ClusterLoadAssignment{}, func(a *endpointv3.ClusterLoadAssignment) {
		l := a.Endpoints[0]
		a.Endpoints, l.LbEndpoints = a.Endpoints[:1], l.LbEndpoints[:1]
		e := l.LbEndpoints[0]
		e.GetEndpoint().GetAddress().GetEnvoyInternalAddress().EndpointId = "127.0.7.31:8443"
		delete(e.Metadata.FilterMetadata, "envoy.filters.listener.original_dst")
	})
	sds := func(name string) *tlsv3.SdsSecretConfig {
		return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}}
	}
	edit(r, istiod.ClusterType, cartCluster, &clusterv3.Cluster{}, func(c *clusterv3.Cluster) {
		ctx, err := anypb.New(&tlsv3.UpstreamTlsContext{Sni: "bank.example", CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{sds(bank)},
			ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext: &tlsv3.CertificateValidationContext{}, ValidationContextSdsSecretConfig: sds(bankCA),
			}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		c.TransportSocketMatches = nil
		c.TransportSocket = &corev3.TransportSocket{Name: "tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: ctx}}
	})
	r.startProxy()
	code := func() int { c, _, _ := r.get("/"); return c }
	r.eventually("both secrets are asked for", func() bool { return slices.Equal(r.istiod.Subscribed(istiod.SecretType), []string{bank, bankCA}) })
	if c := code(); c != 503 {
		t.Errorf("before the secrets came: %d", c)
	}
	r.pushAny(istiod.SecretType, bankCA, &tlsv3.Secret{Name: bankCA, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(out.pem)}}})
	r.pushPair(out, "one")
	r.eventually("the backend is reached", func() bool { return code() == 200 })
	if client.Load() != "one" {
		t.Errorf("the backend saw %v", client.Load())
	}
	asking := r.ask(r.front.Addr(), 1, "GET", "POST")
	r.pushPair(out, "two")
	r.eventually("the new certificate is shown", func() bool { return client.Load() == "two" })
	asking.end()
	_, dump, _ := r.fetch(r.admin + "/config_dump")
	if !strings.Contains(dump, bankCA) || strings.Contains(dump, "PRIVATE KEY") {
		t.Error("config_dump does not show the secrets, or shows a key")
	}
	other := newIssuer(t)
	r.pushAny(istiod.SecretType, bankCA, &tlsv3.Secret{Name: bankCA, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(other.pem)}}})
	r.eventually("a server of other roots is refused", func() bool { return code() == 503 })
	r.pushAny(istiod.SecretType, bankCA, &tlsv3.Secret{Name: bankCA, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(out.pem)}}})
	r.eventually("the backend is back", func() bool { return code() == 200 })
	r.istiod.Push(istiod.SecretType, nil, bank)
	r.eventually("without its secret nothing is sent", func() bool { return code() == 503 })
	if rs := r.istiod.Refusals(); len(rs) > 0 {
		t.Errorf("refused: %v", rs)
	}
}

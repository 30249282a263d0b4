package feed

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"testing"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Only a certificate that TLS verified, of one identity of the mesh, proves a caller.
func TestCertified(t *testing.T) {
	s := New(NewStore(Mesh{}), Options{TrustDomains: []string{"cluster.local", "old.local"}})
	for _, tc := range []struct {
		name     string
		ids      []string
		verified bool
		want     account
	}{
		{"an identity", []string{"spiffe://cluster.local/ns/shop/sa/waypoint"}, true, account{"shop", "waypoint"}},
		{"of an alias", []string{"spiffe://old.local/ns/shop/sa/waypoint"}, true, account{"shop", "waypoint"}},
		{"not verified", []string{"spiffe://cluster.local/ns/shop/sa/waypoint"}, false, account{}},
		{"of another trust domain", []string{"spiffe://evil.local/ns/shop/sa/waypoint"}, true, account{}},
		{"two identities", []string{"spiffe://cluster.local/ns/shop/sa/waypoint", "spiffe://cluster.local/ns/bank/sa/waypoint"}, true, account{}},
		{"none", nil, true, account{}},
		{"no workload", []string{"spiffe://cluster.local/spire/agent"}, true, account{}},
		{"no account", []string{"spiffe://cluster.local/ns/shop/sa/"}, true, account{}},
		{"no namespace", []string{"spiffe://cluster.local/ns//sa/waypoint"}, true, account{}},
		{"another scheme", []string{"https://cluster.local/ns/shop/sa/waypoint"}, true, account{}},
		{"a longer path", []string{"spiffe://cluster.local/ns/shop/sa/waypoint/x"}, true, account{}},
	} {
		cert := &x509.Certificate{}
		for _, id := range tc.ids {
			u, err := url.Parse(id)
			if err != nil {
				t.Fatal(err)
			}
			cert.URIs = append(cert.URIs, u)
		}
		state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
		if tc.verified {
			state.VerifiedChains = [][]*x509.Certificate{{cert}}
		}
		ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}})
		got, ok := s.certified(ctx)
		if got != tc.want || ok != (tc.want != account{}) {
			t.Errorf("%s: %v %t", tc.name, got, ok)
		}
	}
}

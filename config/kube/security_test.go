package kube

import (
	"reflect"
	"testing"
	"time"

	"waypoint.dev/waypoint/authz/extauthz"
	"waypoint.dev/waypoint/authz/jwt"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
)

func destination(t *testing.T, m *config.Model, key string) *config.Destination {
	t.Helper()
	for _, d := range m.Destinations {
		if d.Key == key {
			return d
		}
	}
	t.Fatalf("no destination %s", key)
	return nil
}

func TestExtensionProvider(t *testing.T) {
	m := NewBuilder(Options{}).Build(store(t, manifest(t, "testdata/base.yaml"), manifest(t, "testdata/mesh.in.yaml")))
	got := destination(t, m, cartKey).Stages[0].Spec.([]*extauthz.Config)
	want := &extauthz.Config{
		Name: "ext", Backend: "cart.shop.svc.cluster.local|80", Timeout: 2 * time.Second, FailOpen: true, StatusOnError: 503,
		Body: &extauthz.Body{MaxBytes: 1024, Partial: true},
		HTTP: &extauthz.HTTP{
			Authority: "cart.shop.svc.cluster.local", PathPrefix: "/check",
			IncludeHeaders:    []extauthz.Pattern{{Kind: extauthz.Exact, Value: "x-user"}, {Kind: extauthz.Prefix, Value: "x-a-"}},
			AdditionalHeaders: []extauthz.Header{{Name: "x-from", Value: "wp"}},
			UpstreamOnAllow:   []extauthz.Pattern{{Kind: extauthz.Exact, Value: "x-id"}},
		},
	}
	if len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("got %+v", got[0])
	}
	if m.Mesh.Normalization != config.NormalizeMergeSlashes || !reflect.DeepEqual(m.Mesh.TrustAliases, []string{"old.local"}) {
		t.Errorf("mesh %+v", m.Mesh)
	}
	// A provider that cannot be asked denies what would be put to it.
	if d := decide(t, m, "cart-v2.shop.svc.cluster.local:80", request("/")); d.Allowed {
		t.Error("open without its authorizer")
	}
}

func TestRequestAuthentication(t *testing.T) {
	ra := `{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: a, namespace: shop}, spec: {targetRefs: [{group: "", kind: Service, name: cart}], jwtRules: [
{issuer: me, audiences: [x], jwksUri: "https://keys.example/jwks", fromHeaders: [{name: x-jwt, prefix: "T "}], fromParams: [p], fromCookies: [c], outputPayloadToHeader: x-p, outputClaimToHeaders: [{header: x-s, claim: sub}], forwardOriginalToken: true, timeout: 2s, spaceDelimitedClaims: [roles]},
{issuer: "https://other.example"}]}}`
	m := NewBuilder(Options{}).Build(store(t, manifest(t, "testdata/base.yaml"), ra))
	got := destination(t, m, cartKey).Stages[0].Spec.(*jwt.Config)
	want := &jwt.Config{BypassCORSPreflight: true, Require: jwt.OptionalAny("shop/a[0]", "shop/a[1]"), Providers: []jwt.Provider{
		{Name: "shop/a[0]", Issuer: "me", Audiences: []string{"x"}, JWKSURI: "https://keys.example/jwks", Timeout: 2 * time.Second,
			FromHeaders: []jwt.HeaderLocation{{Name: "x-jwt", Prefix: "T "}}, FromParams: []string{"p"}, FromCookies: []string{"c"},
			Forward: true, PayloadHeader: "x-p", ClaimHeaders: []jwt.ClaimHeader{{Header: "x-s", Claim: "sub"}}},
		{Name: "shop/a[1]", Issuer: "https://other.example"},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

// Tokens whose keys nothing can name are refused by themselves: what bears none passes.
func TestNoKeys(t *testing.T) {
	for rule, field := range map[string]string{"{issuer: me}": "issuer", `{issuer: me, jwks: '{"keys":[]}'}`: "jwks"} {
		ra := `{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: a, namespace: shop}, spec: {targetRefs: [{group: "", kind: Service, name: cart}], jwtRules: [` + rule + `]}}`
		m := NewBuilder(Options{}).Build(store(t, manifest(t, "testdata/base.yaml"), ra))
		a, err := jwt.New(destination(t, m, cartKey).Stages[0].Spec.(*jwt.Config), nil)
		if err != nil {
			t.Fatal(err)
		}
		for token, status := range map[string]int{"": 0, "Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJtZSJ9.c2ln": 401} {
			r := request("/")
			if token != "" {
				r.Headers = append(r.Headers, attrs.Field{Name: "authorization", Value: token})
			}
			var res jwt.Result
			if a.Check(t.Context(), r, &res); res.Status != status {
				t.Errorf("%s, token %q: %d %s, want %d", rule, token, res.Status, res.Body, status)
			}
		}
		warned := false
		for _, p := range m.Problems {
			warned = warned || p.Reason == "NoKeys" && p.Field == "spec.jwtRules[0]."+field
		}
		if !warned {
			t.Errorf("%s: %v", rule, m.Problems)
		}
	}
}

// A change of the mesh's trust domains changes what compiled policies mean.
func TestTrustChange(t *testing.T) {
	policy := allowPolicy("[{from: [{source: {principals: [new.local/ns/clients/sa/curl]}}]}]")
	s := store(t, manifest(t, "testdata/base.yaml"), policy)
	b := NewBuilder(Options{})
	r := request("/")
	if d := decide(t, b.Build(s), cartKey, r); d.Allowed {
		t.Error("another trust domain is let in")
	}
	put(t, s, `{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: "trustDomainAliases: [new.local]"}}`)
	if d := decide(t, b.Build(s), cartKey, r); !d.Allowed {
		t.Errorf("the alias does not count: %+v", d)
	}
}

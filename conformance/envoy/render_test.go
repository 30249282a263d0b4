package envoy

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// manifest is an AuthorizationPolicy or a RequestAuthentication as a user writes it.
type manifest struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Spec     struct {
		TargetRefs []struct{ Kind, Name string }
		Action     string
		Provider   *struct{ Name string }
		Rules      []struct {
			From []struct{ Source Fields }
			To   []struct{ Operation Fields }
			When []struct {
				Key               string
				Values, NotValues []string
			}
		}
		JWTRules []struct {
			Issuer, JWKS          string
			Audiences             []string
			FromHeaders           []struct{ Name, Prefix string }
			FromParams            []string
			FromCookies           []string
			OutputPayloadToHeader string
			OutputClaimToHeaders  []struct{ Header, Claim string }
			ForwardOriginalToken  bool
		}
	}
}

// TestRenderingIsIstiods renders the policies of samples that came with their
// sources, and compares what comes out with what istiod sent: every filter of
// policies and tokens of every chain.
func TestRenderingIsIstiods(t *testing.T) {
	for sample, want := range map[string]int{"03-authz": 18, "04-jwt": 2} {
		dir := filepath.Join("testdata", "istiod", sample)
		manifests := readManifests(t, filepath.Join(dir, "config.yaml"))
		b, err := os.ReadFile(filepath.Join(dir, "listeners.json"))
		if err != nil {
			t.Fatal(err)
		}
		var listeners []Object
		if err := json.Unmarshal(b, &listeners); err != nil {
			t.Fatal(err)
		}
		compared := 0
		for _, l := range listeners {
			if l["name"] != "main_internal" {
				continue
			}
			for _, c := range list(l["filter_chains"]) {
				compared += compareChain(t, sample, c.(Object), manifests)
			}
		}
		if compared != want {
			t.Errorf("%s: %d filters compared, want %d", sample, compared, want)
		}
	}
}

func readManifests(t *testing.T, path string) []manifest {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []manifest
	for _, doc := range bytes.Split(b, []byte("\n---\n")) {
		var m manifest
		if err := yaml.Unmarshal(doc, &m); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// compareChain compares the RBAC and JWT filters of a chain, and returns their number.
func compareChain(t *testing.T, sample string, chain Object, manifests []manifest) int {
	t.Helper()
	name := str(chain["name"])
	service, _, _ := strings.Cut(name[strings.LastIndexByte(name, '|')+1:], ".")
	if strings.HasPrefix(name, "direct-") {
		service = "" // policies of the gateway alone
	}
	filters, tcp := list(chain["filters"]), true
	for _, f := range filters {
		if h := list(get(f, "typed_config", "http_filters")); h != nil {
			filters, tcp = h, false
			break
		}
	}
	s, w := subjectOf(service, manifests)
	var want []any
	if !tcp {
		for _, f := range w.customFilters(s) {
			if str(get(f, "name")) == "envoy.filters.http.rbac" {
				want = append(want, f) // providers are the mesh's, not in the sample's sources
			}
		}
		want = append(want, w.jwtFilters(s)...)
	}
	want = append(want, w.rbacFilters(s, tcp)...)
	var got []any
	for _, f := range filters {
		if u := str(get(f, "typed_config", "@type")); strings.HasSuffix(u, ".rbac.v3.RBAC") || strings.HasSuffix(u, ".JwtAuthentication") {
			got = append(got, f)
		}
	}
	if x, y := canonical(t, got), canonical(t, want); x != y {
		t.Errorf("%s: %s: istiod sent\n%s\nthe rendering is\n%s", sample, name, x, y)
	}
	return len(got)
}

// canonical is JSON with sorted keys.
func canonical(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(clone([]any{v}), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// subjectOf is a service of namespace shop with what the manifests attach to it.
func subjectOf(service string, manifests []manifest) (*Subject, *World) {
	s, w := &Subject{Name: service}, &World{Namespace: "shop"}
	for i := range manifests {
		m := &manifests[i]
		if !slices.ContainsFunc(m.Spec.TargetRefs, func(r struct{ Kind, Name string }) bool {
			return r.Kind == "Gateway" || r.Kind == "Service" && r.Name == service
		}) {
			continue
		}
		for _, r := range m.Spec.JWTRules {
			w.JWKS = r.JWKS
			j := JWTRule{Issuer: r.Issuer, Audiences: r.Audiences, FromParams: r.FromParams, FromCookies: r.FromCookies, Forward: r.ForwardOriginalToken, PayloadHeader: r.OutputPayloadToHeader}
			for _, h := range r.FromHeaders {
				j.FromHeaders = append(j.FromHeaders, [2]string{h.Name, h.Prefix})
			}
			for _, c := range r.OutputClaimToHeaders {
				j.ClaimHeaders = append(j.ClaimHeaders, [2]string{c.Header, c.Claim})
			}
			s.JWT = append(s.JWT, j)
		}
		if m.Kind != "AuthorizationPolicy" {
			continue
		}
		p := Policy{Name: m.Metadata.Name, Action: m.Spec.Action}
		if p.Action == "" {
			p.Action = "ALLOW"
		}
		if m.Spec.Provider != nil {
			p.Provider = m.Spec.Provider.Name
			w.Providers = append(w.Providers, Provider{Name: p.Provider})
		}
		for _, r := range m.Spec.Rules {
			var rule PolicyRule
			for _, f := range r.From {
				rule.From = append(rule.From, f.Source)
			}
			for _, o := range r.To {
				rule.To = append(rule.To, o.Operation)
			}
			for _, c := range r.When {
				rule.When = append(rule.When, Condition{c.Key, c.Values, c.NotValues})
			}
			p.Rules = append(p.Rules, rule)
		}
		s.Policies = append(s.Policies, p)
	}
	return s, w
}

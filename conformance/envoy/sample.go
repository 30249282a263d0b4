package envoy

import (
	"path/filepath"
	"slices"
	"strings"
)

// Samples are recorded from istiod.
var Samples = []string{"02-httproute", "03-authz", "06-virtualservice"}

// LoadSample reads recorded resources, without the chains that call an external
// authorizer, which no side of the lab has.
func LoadSample(testdata, name string) (*Resources, error) {
	r, err := Load(filepath.Join(testdata, "istiod", name))
	if err != nil {
		return nil, err
	}
	for _, l := range r.Listeners {
		chains := list(l["filter_chains"])
		l["filter_chains"] = slices.DeleteFunc(chains, func(c any) bool {
			found := false
			walk(c, func(o Object) { found = found || strings.HasSuffix(str(o["@type"]), "ext_authz.v3.ExtAuthz") })
			return found
		})
	}
	return r, nil
}

// SamplePods are the pods of the samples: name, account, address. The last one is
// outside of the mesh.
var SamplePods = [][3]string{
	{"web-1", "web", "127.8.1.21"}, {"web-2", "web", "127.8.2.21"}, {"cart-v1-1", "cart", "127.8.1.31"}, {"cart-v2-1", "cart", "127.8.2.31"},
	{"pay-1", "pay", "127.8.1.41"}, {"auto-1", "auto", "127.8.1.61"}, {"web-3", "web", "127.8.2.22"},
}

var (
	sampleVIPs  = []string{"10.96.1.1:80", "10.96.1.2:80", "10.96.1.3:80", "10.96.1.4:80", "10.96.1.7:7000"}
	samplePaths = []string{"/", "/old", "/new", "/v2", "/v2/", "/v2/x", "/v2x", "/api", "/api/x", "/gone", "/gone/x", "/items/1?debug=1", "/items/1", "/items/x?debug=1", "/items/42?debug=1&x=2",
		"/v1/x", "/v1/secret/a", "/v1/admin", "/x/users", "/a/b/users", "/users", "/store/1/item/2", "/store/1/item/", "/assets/", "/assets/a/b", "/x/img/y", "/exact", "/exact/", "/internal/x", "/internal", "/audit/x",
		"/r1?q=aa", "/r1?q=b", "/r22", "/svc/a/b", "/svc/a", "/teapot", "/to", "/to/x", "/from", "/x/../v2/y", "//v2"}
	sampleHosts   = []string{"web.shop.svc.cluster.local", "WEB.shop.svc.cluster.local", "a.example.com", "other"}
	sampleHeaders = [][2]string{{"x-canary", "true"}, {"x-canary", "false"}, {"x-blocked", ""}, {"x-blocked", "1"}, {"x-team", "blue"}, {"x-team", "green-1"}, {"x-team", "red"}, {"x-no", "1"}, {"x-no", "2"}, {"x-secret", "1"}, {"x-c", "1"}, {"x-forwarded-for", "192.0.2.7"}, {"origin", "https://app.example.com"}, {"origin", "https://x.example.org"}}
	sampleClients = []Client{{"clients", "curl", "127.8.20.1"}, {"clients", "web", "127.8.20.2"}, {"shop", "cart", "127.8.21.1"}, {"shop", "robot", "127.8.21.2"}, {"untrusted", "x", "127.8.22.1"}, {"evil-1", "x", "127.8.22.2"}}
)

// SampleQuestions are n questions to a sample.
func (g *Generator) SampleQuestions(name string, n int) []*Question {
	var qs []*Question
	vips := sampleVIPs
	if name == "03-authz" {
		vips = append([]string{vips[0]}, vips[2:]...) // cart asks an external authorizer
	}
	for range n {
		q := g.base(&Subject{Name: name, Kind: "sample"})
		q.Authority, q.Target, q.Host, q.Client = one(g, vips), one(g, samplePaths), one(g, sampleHosts), one(g, sampleClients)
		q.Method = one(g, []string{"GET", "GET", "GET", "HEAD", "POST", "OPTIONS"})
		if g.chance(60) {
			q.Headers = some(g, sampleHeaders, 2)
		}
		qs = append(qs, q)
	}
	return qs
}

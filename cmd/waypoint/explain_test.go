package main

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/proxy"
)

func explainOf(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := explainCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err := cmd.Execute()
	return out.String(), err
}

// The object that -o json prints, by the names that scripts read.
func TestExplainJSON(t *testing.T) {
	for _, tt := range []struct {
		args                          []string
		status                        int
		decision, action, route, rule string
		backends                      int
	}{
		{[]string{"--config", "../../examples/canary", "GET", "http://cart.shop.svc.cluster.local/v2/x", "-H", "x-canary: true", "--from", "clients/curl"}, 200, "allow", "forward", "shop/cart", "canary", 1},
		{[]string{"--config", "../../examples/redirects-rewrites", "http://cart.shop/old/x"}, 301, "allow", "answer", "shop/cart", "moved", 0},
		{[]string{"--config", "../../examples/tls-tcp", "tls://web.shop", "--sni", "beta.example"}, 200, "allow", "forward", "shop/beta", "0", 1},
		{[]string{"--config", "../../examples/tls-tcp", "tls://web.shop", "--sni", "evil.example"}, 0, "allow", "close", "", "", 0},
	} {
		out, err := explainOf(t, append(tt.args, "-o", "json")...)
		if err != nil {
			t.Fatal(err)
		}
		var all map[string]any
		var e proxy.Explanation
		if json.Unmarshal([]byte(out), &all) != nil || json.Unmarshal([]byte(out), &e) != nil {
			t.Fatalf("no JSON: %s", out)
		}
		for _, name := range []string{"status", "route", "rule", "decision", "backends", "policies"} {
			if _, ok := all[name]; !ok {
				t.Errorf("%v: no %s", tt.args, name)
			}
		}
		if e.Status != tt.status || e.Decision != tt.decision || e.Action != tt.action || e.Route != tt.route || e.Rule != tt.rule || len(e.Backends) != tt.backends {
			t.Errorf("%v: %s", tt.args, out)
		}
	}
}

func TestExplainText(t *testing.T) {
	out, err := explainOf(t, "--config", "../../examples/canary", "GET", "http://cart.shop/", "--from", "clients/curl")
	for _, want := range []string{"decision     allow, forward\n", "route        shop/cart rule stable", "backend      cart-v1.shop.svc.cluster.local|80 weight 1, 2 endpoints\n", "won      shop/cart rule stable", "lost     shop/cart rule canary"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("no %q in %v\n%s", want, err, out)
		}
	}
	out, err = explainOf(t, "--config", "../../examples/tls-tcp", "tls://web.shop", "--sni", "evil.example")
	for _, want := range []string{"decision     allow, close (route_not_found)", `lost     shop/beta rule 0: server name beta.example or *.beta.example  (the server name is "evil.example")`} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("no %q in %v\n%s", want, err, out)
		}
	}
	// What an answer has not leaves no gap, and no blank at the end of a line.
	for want, args := range map[string][]string{
		"\npolicy       no_allow_match\n":                                         {"--config", "../../examples/jwt", "http://cart.shop/items"},
		"\nroute        rule 0\n":                                                 {"--config", "../../examples/waypointpolicy", "http://cart.shop/"},
		"\n  won      rule 0: everything\n":                                       {"--config", "../../examples/jwt", "http://cart.shop/items"},
		"\nbackend      cart-v2.shop.svc.cluster.local|80 weight 1, 1 endpoint\n": {"--config", "../../examples/canary", "http://cart.shop/", "-H", "x-canary: true"},
		"tcp://db.shop:5432\ndestination ":                                        {"--config", "../../examples/tls-tcp", "tcp://db.shop:5432"},
	} {
		if out, err := explainOf(t, args...); err != nil || !strings.Contains(out, want) || strings.Contains(out, " \n") {
			t.Errorf("no %q, or a blank behind a line, in %v\n%s", want, err, out)
		}
	}
	for _, args := range [][]string{
		{"GET", "http://cart.shop/"},
		{"--config", "../../examples/canary"},
		{"--config", "../../examples/canary", "GET", "http://nobody/"},
		{"--config", "../../examples/canary", "GET", "http://cart.shop/", "-H", "no colon"},
		{"--config", "../../examples/canary", "GET", "http://cart.shop/", "--from", "curl"},
		{"--config", "../../examples/canary", "GET", "http://cart.shop/", "-o", "xml"},
	} {
		if out, err := explainOf(t, args...); err == nil {
			t.Errorf("%v: %s", args, out)
		}
	}
}

// The administration port says of the live snapshot what the command says of files.
func TestExplainLive(t *testing.T) {
	objs, err := kube.LoadDir("../../examples/canary")
	if err != nil {
		t.Fatal(err)
	}
	store := new(config.Store)
	h := explainHandler(store)
	ask := func(v url.Values) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/explain?"+v.Encode(), nil))
		return w.Code, w.Body.String()
	}
	if code, _ := ask(url.Values{"url": {"http://cart.shop/"}}); code != 503 {
		t.Errorf("without a snapshot: %d", code)
	}
	snap, _ := config.Compile(kube.NewBuilder(kube.Options{}).Build(objs), nil, config.Env{State: proxy.BackendState})
	store.Swap(snap)
	for _, tt := range [][]string{{"x-canary: true"}, nil} {
		args := []string{"--config", "../../examples/canary", "GET", "http://cart.shop/v2/x", "--from", "clients/curl", "-o", "json"}
		for _, x := range tt {
			args = append(args, "-H", x)
		}
		want, err := explainOf(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		if code, got := ask(url.Values{"url": {"http://cart.shop/v2/x"}, "from": {"clients/curl"}, "header": tt}); code != 200 || got != want {
			t.Errorf("%d %s, want %s", code, got, want)
		}
	}
	if code, got := ask(url.Values{"url": {"http://cart.shop/"}, "format": {"text"}}); code != 200 || !strings.Contains(got, "rule stable") {
		t.Errorf("%d %s", code, got)
	}
	if code, _ := ask(url.Values{"url": {"http://nobody/"}}); code != 400 {
		t.Errorf("an unknown host: %d", code)
	}
}

// Each policy considered is told with the rule that matched, or the field that
// failed and what the request has there; credentials stay out.
func TestExplainPolicies(t *testing.T) {
	dir := t.TempDir()
	mesh, err := os.ReadFile("../../examples/path-templates/mesh.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const policies = `
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: cart}]
  rules:
  - from: [{source: {principals: [cluster.local/ns/clients/sa/curl]}}]
    to: [{operation: {paths: ["/items/{*}"], methods: [GET]}}]
  - when: [{key: "request.headers[authorization]", values: [let-me-in]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: look, namespace: shop}
spec: {targetRefs: [{group: "", kind: Service, name: cart}], action: AUDIT, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: soon, namespace: shop, annotations: {istio.io/dry-run: "true"}}
spec: {targetRefs: [{group: "", kind: Service, name: cart}], action: DENY, rules: [{}]}
`
	if err := os.WriteFile(filepath.Join(dir, "mesh.yaml"), append(mesh, policies...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"GET", "http://cart.shop/items/1", "--from", "clients/curl"}, []string{
			"decision     allow, forward\n", "policy       shop/callers ns[shop]-policy[callers]-rule[0] allow_matched", "audited by   shop/look", "dry run      denied shop/soon",
			"ALLOW  shop/callers: matched by ns[shop]-policy[callers]-rule[0]", "DENY   shop/soon: matched by ns[shop]-policy[soon]-rule[0] (dry run)"}},
		{[]string{"POST", "http://cart.shop/items/1/2", "--from", "clients/other", "-H", "authorization: secret"}, []string{
			"decision     deny, answer, status 403 (rbac_access_denied_matched_policy[none])", "no_allow_match", "ALLOW  shop/callers: no rule matched",
			`from[0].source.principals did not hold, the request has "spiffe://cluster.local/ns/clients/sa/other"`,
			`to[0].operation.paths did not hold, the request has "/items/1/2"`, `to[0].operation.methods did not hold, the request has "POST"`,
			`when[0].values (request.headers[authorization]) did not hold, the request has "(present)"`}},
	} {
		out, err := explainOf(t, append([]string{"--config", dir}, tt.args...)...)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range tt.want {
			if !strings.Contains(out, w) {
				t.Errorf("%v: no %q in\n%s", tt.args, w, out)
			}
		}
		if strings.Contains(out, "secret") {
			t.Errorf("a credential is printed:\n%s", out)
		}
	}
}

// What an explanation would be wrong without is an error, and says what to do.
func TestExplainRefuses(t *testing.T) {
	mesh, err := os.ReadFile("../../examples/canary/mesh.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		more, url string
		says      []string
	}{
		{"---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p", "http://cart.shop/", []string{"mesh.yaml", "nothing is explained", "waypoint check"}},
		{"", "http://cart/", []string{"has that address: cart:80", "serves cart", "cart.shop.svc.cluster.local:80", "a bare name means the namespace of --from"}},
		{"---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: second, namespace: shop}\nspec: {gatewayClassName: istio-waypoint}\n", "http://cart.shop/", []string{"there are several waypoint Gateways (shop/second, shop/waypoint)", "--waypoint", "it serves nothing"}},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "mesh.yaml"), append(mesh, tt.more...), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := explainOf(t, "--config", dir, tt.url)
		if err == nil {
			t.Fatalf("%s: %s", tt.url, out)
		}
		for _, s := range tt.says {
			if !strings.Contains(out+err.Error(), s) {
				t.Errorf("no %q in %s%v", s, out, err)
			}
		}
	}
}

// Manifests of a repository have no EndpointSlices: their endpoints are taken to be
// there, and the answer says that nothing says so.
func TestExplainWithoutEndpoints(t *testing.T) {
	mesh, err := os.ReadFile("../../examples/canary/mesh.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for doc := range strings.SplitSeq(string(mesh), "\n---\n") {
		if !strings.Contains(doc, "kind: EndpointSlice") {
			kept = append(kept, doc)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "mesh.yaml")
	for _, tt := range []struct {
		more   string
		status int
		asked  string
	}{
		{"", 200, "cart.shop.svc.cluster.local|80, which has no EndpointSlice"},
		{"\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: cart-x, namespace: shop, labels: {kubernetes.io/service-name: cart}}\naddressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints: []\n", 503, ""},
	} {
		if err := os.WriteFile(file, []byte(strings.Join(kept, "\n---\n")+tt.more), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := explainOf(t, "--config", dir, "-o", "json", "http://cart.shop/")
		var e proxy.Explanation
		if err != nil || json.Unmarshal([]byte(out), &e) != nil || e.Status != tt.status || !strings.HasSuffix(strings.Join(e.NotAsked, ";"), tt.asked) {
			t.Errorf("%v %s", err, out)
		}
	}
}

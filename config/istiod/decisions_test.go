package istiod

import (
	"net/netip"
	"testing"

	"waypoint.dev/waypoint/authz/extauthz"
	"waypoint.dev/waypoint/authz/jwt"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
)

const (
	curl = "cluster.local/ns/clients/sa/curl"
	dom  = ".shop.svc.cluster.local"
)

// chosen says what the routes of a chain do with a request: the cluster, or what
// is answered.
func chosen(c *config.Chain, a ask) string {
	r := a.request()
	res, ok := c.Table("").Match(r)
	if !ok {
		return "404"
	}
	switch rule := res.Rule; {
	case rule.Broken != "":
		return "500 " + rule.Broken
	case rule.Direct != nil:
		return "direct " + rule.Direct.Body
	case rule.Redirect != nil:
		return string(rule.Redirect.AppendLocation(nil, r, res.Prefix, 80))
	default:
		b := rule.Pick(0)
		if t := c.Target(b.Ref); t != nil {
			return t.Key
		}
		return "missing " + c.Spec.Refs[b.Ref]
	}
}

type routeCase struct {
	ask  ask
	want string
}

func routeCases(t *testing.T, c *config.Chain, cases []routeCase) {
	t.Helper()
	for _, x := range cases {
		if got := chosen(c, x.ask); got != x.want {
			t.Errorf("%s %s %v: %s, want %s", x.ask.method, x.ask.path, x.ask.headers, got, x.want)
		}
	}
}

func init() {
	scenarios["01-basic"] = func(t *testing.T, m *config.Model, s *config.Snapshot) {
		find := func(addr string) *config.Chain { return s.Lookup(netip.MustParseAddrPort(addr), "", 0) }
		for addr, key := range map[string]string{
			"10.96.1.1:80": "web" + dom + ":80", "10.96.1.2:80": "cart" + dom + ":80", "10.96.1.6:5432": "db" + dom + ":5432",
			"10.96.1.7:7000": "auto" + dom + ":7000", "10.244.1.21:8080": "workload/Kubernetes//Pod/shop/web-1",
			"10.244.1.21:9999": "workload/Kubernetes//Pod/shop/web-1", "10.96.1.1:81": "", "10.96.9.9:80": "", "0.0.0.0:80": "",
		} {
			if c := find(addr); c == nil && key != "" || c != nil && c.Spec.Key != key {
				t.Errorf("%s leads to %v, want %q", addr, c, key)
			}
		}
		db, auto, web := find("10.96.1.6:5432"), find("10.96.1.7:7000"), find("10.96.1.1:80")
		if db.Spec.Protocol != config.ProtocolTCP || auto.Spec.Protocol != config.ProtocolAuto || web.Spec.Protocol != config.ProtocolHTTP {
			t.Error("protocols are wrong")
		}
		if auto.HTTPOnly {
			t.Error("a port without a declared protocol and without routes must take TCP")
		}
		if db.Default.Key != "inbound-vip|5432|tcp|db"+dom || db.Spec.Service.Namespace != "shop" || db.Spec.Service.Name != "db" {
			t.Errorf("db is %+v", db.Spec)
		}
		if r, ok := auto.RouteTCP(""); !ok || auto.Target(r.Pick.Pick(0).Ref).Key != "inbound-vip|7000|tcp|auto"+dom {
			t.Error("TCP of an undeclared port has a cluster of its own")
		}
		if got := chosen(auto, ask{path: "/x"}); got != "inbound-vip|7000|http|auto"+dom {
			t.Error(got)
		}
		eps := web.Default.Set.Load().Endpoints()
		if len(eps) != 3 {
			t.Fatalf("%d endpoints", len(eps))
		}
		for _, e := range eps {
			w := e.Workload.(*config.Workload)
			if tunnel := e.Addr.Addr().String() != "10.244.2.22"; e.Tunnel.IsValid() != tunnel || (e.Identity == "spiffe://cluster.local/ns/shop/sa/web") != tunnel || w.Namespace != "shop" {
				t.Errorf("endpoint %+v", e)
			}
		}
		direct := find("10.244.1.21:8080").Direct(netip.MustParseAddrPort("10.244.1.21:8080")).Set.Load().Endpoints()[0]
		if direct.Identity != "spiffe://cluster.local/ns/shop/sa/web" || direct.Tunnel.String() != "10.244.1.21:15008" {
			t.Errorf("direct %+v", direct)
		}
		if m.Backends["encap"] != nil || m.Backends["main_internal"] != nil {
			t.Error("Envoy's own plumbing is no backend")
		}
	}
	scenarios["02-httproute"] = func(t *testing.T, m *config.Model, s *config.Snapshot) {
		cart, web := chainOf(t, s, "cart"+dom+":80"), chainOf(t, s, "web"+dom+":80")
		v1, v2 := "inbound-vip|80|http|cart-v1"+dom, "inbound-vip|80|http|cart-v2"+dom
		self := "inbound-vip|80|http|web" + dom
		if m.Backends[v1] == nil { // trimmed
			v1, v2 = "missing "+v1, "missing "+v2
		}
		routeCases(t, cart, []routeCase{
			{ask{path: "/old", host: "cart:80"}, "https://shop.example.com/new"},
			{ask{path: "/old", method: "POST"}, v1},
			{ask{path: "/v2/x"}, v2},
			{ask{path: "/v2"}, v2},
			{ask{path: "/v20"}, v1},
			{ask{path: "/any", headers: []string{"x-canary", "true"}}, v2},
			{ask{path: "/any", headers: []string{"x-canary", "True"}}, v1},
		})
		res, _ := cart.Table("").Match(ask{path: "/v2/a/b"}.request())
		if got := string(res.Rule.Rewrite.AppendPath(nil, "/v2/a/b", res.Prefix)); got != "/a/b" {
			t.Errorf("rewritten to %s", got)
		}
		routeCases(t, web, []routeCase{
			{ask{path: "/api/x"}, self},
			{ask{path: "/gone"}, "missing inbound-vip|80|http|nosuch" + dom},
			{ask{path: "/items/12", query: "debug=1"}, self},
			{ask{path: "/items/12", query: "debug=2"}, "404"},
			{ask{path: "/items/x", query: "debug=1"}, "404"},
			{ask{path: "/"}, "404"},
		})
		res, _ = web.Table("").Match(ask{path: "/gone"}.request())
		if st := res.Rule.Pick(0).Status; st != 500 {
			t.Errorf("a missing backend of a Gateway API route answers %d", st)
		}
		res, _ = web.Table("").Match(ask{path: "/items/12", query: "debug=1"}.request())
		retry := web.Retry(res.Rule.Rule.Retry)
		if retry == nil || retry.Attempts != 3 || len(retry.Codes) != 2 || res.Rule.Rule.Timeout.String() != "3s" || retry.TryTimeout.String() != "1s" || len(res.Rule.Mirrors) != 1 {
			t.Errorf("rule %+v with %+v", res.Rule.Rule, retry)
		}
	}
	scenarios["03-authz"] = func(t *testing.T, m *config.Model, s *config.Snapshot) {
		web := chainOf(t, s, "web"+dom+":80")
		ok := ask{peer: curl, path: "/v1/x", host: "web", port: 80}
		second := ask{peer: "cluster.local/ns/shop/sa/robot", source: "192.0.2.9", path: "/zzz", headers: []string{"x-team", "green-1"}, port: 8080}
		for _, x := range []struct {
			name  string
			ask   func(ask) ask
			base  ask
			allow bool
		}{
			{"prefix", nil, ok, true},
			{"not path", func(a ask) ask { a.path = "/v1/x/admin"; return a }, ok, false},
			{"not template", func(a ask) ask { a.path = "/v1/secret/a"; return a }, ok, false},
			{"template", func(a ask) ask { a.path = "/a/b/users"; return a }, ok, true},
			{"deep template", func(a ask) ask { a.path = "/assets/"; return a }, ok, true},
			{"method", func(a ask) ask { a.method = "POST"; return a }, ok, false},
			{"host and path", func(a ask) ask { a.method, a.path, a.host = "POST", "/exact", "A.Example.com"; return a }, ok, true},
			{"wrong host", func(a ask) ask { a.method, a.path, a.host = "POST", "/exact", "a.example.org"; return a }, ok, false},
			{"other peer", func(a ask) ask { a.peer = "cluster.local/ns/evil1/sa/curl"; return a }, ok, false},
			{"no peer", func(a ask) ask { a.peer = ""; return a }, ok, false},
			{"deny path", func(a ask) ask { a.path = "/internal/x"; return a }, ok, false},
			{"deny header", func(a ask) ask { a.headers = []string{"x-blocked", ""}; return a }, ok, false},
			{"untrusted", func(a ask) ask { a.peer = "cluster.local/ns/untrusted/sa/curl"; return a }, ok, false},
			{"service account", nil, second, true},
			{"team missing", func(a ask) ask { a.headers = nil; return a }, second, false},
			{"port", func(a ask) ask { a.port = 81; return a }, second, false},
			{"source", func(a ask) ask { a.source = "10.1.2.3"; return a }, second, false},
			{"other account", func(a ask) ask { a.peer = "cluster.local/ns/shop/sa/robot2"; return a }, second, false},
		} {
			a := x.base
			if x.ask != nil {
				a = x.ask(a)
			}
			if got, rule := allowed(web, a.request()); got != x.allow {
				t.Errorf("%s: allowed %v by %q, want %v", x.name, got, rule, x.allow)
			}
		}
		if pass, _ := allowed(chainOf(t, s, "pay"+dom+":9000"), ask{peer: curl, path: "/"}.request()); pass {
			t.Error("a policy without rules denies everything")
		}
		db := chainOf(t, s, "db"+dom+":5432")
		if d := db.Conn.CheckConn(ask{peer: "cluster.local/ns/shop/sa/cart", port: 5432}.request().Conn); !d.Allowed {
			t.Errorf("db: %+v", d)
		}
		if d := db.Conn.CheckConn(ask{peer: curl, port: 5432}.request().Conn); d.Allowed {
			t.Errorf("db: %+v", d)
		}
		cart := chainOf(t, s, "cart"+dom+":80")
		if cart.Stages[0].Kind != config.StageCustom {
			t.Fatalf("stages %+v", cart.Spec.Stages)
		}
		if p, _, hit := cart.Stages[0].Authz.Custom(ask{peer: curl, path: "/checkout/x"}.request()); !hit || p != "ext-grpc" {
			t.Errorf("provider %q", p)
		}
		if _, _, hit := cart.Stages[0].Authz.Custom(ask{peer: curl, path: "/"}.request()); hit {
			t.Error("asked about a path that no policy names")
		}
		if e := cart.Spec.Stages[0].Spec.(*extauthz.Config); e.Backend != "outbound|8081||h2c"+dom || m.Backends[e.Backend] == nil || e.Body.MaxBytes != 4096 {
			t.Errorf("provider %+v", e)
		}
		h2c := chainOf(t, s, "h2c"+dom+":8081")
		if e := h2c.Spec.Stages[0].Spec.(*extauthz.Config); e.HTTP.PathPrefix != "/check" || !e.FailOpen || e.StatusOnError != 503 || len(e.HTTP.IncludeHeaders) != 2 || e.HTTP.Authority != "auto"+dom {
			t.Errorf("provider %+v", e.HTTP)
		}
		for _, c := range s.Chains() {
			if c.Workload == nil {
				continue
			}
			if pass, _ := allowed(c, ask{peer: "cluster.local/ns/untrusted/sa/x", path: "/"}.request()); pass {
				t.Errorf("%s: the Gateway's policy guards workloads too", c.Spec.Key)
			}
		}
	}
	scenarios["04-jwt"] = func(t *testing.T, m *config.Model, s *config.Snapshot) {
		web := chainOf(t, s, "web"+dom+":80")
		cfg := web.Spec.Stages[0].Spec.(*jwt.Config)
		if _, err := jwt.New(cfg, nil); err != nil || len(cfg.Providers) != 2 || !cfg.BypassCORSPreflight {
			t.Fatalf("%v in %+v", err, cfg)
		}
		if !web.HTTPOnly {
			t.Error("tokens are HTTP")
		}
		good := map[string]any{"iss": "issuer@example.com", "sub": "u", "aud": []any{"shop"}, "groups": []any{"x", "dev-1"}}
		for _, x := range []struct {
			claims map[string]any
			path   string
			allow  bool
		}{
			{good, "/", true}, {nil, "/", false}, {nil, "/public", true}, {nil, "/public/a", true}, {nil, "/publicity", false},
			{with(good, "groups", "admin"), "/", true}, {with(good, "groups", "user"), "/", false},
			{with(good, "iss", "second@example.com"), "/", false}, {with(good, "aud", "web"), "/", false},
			{with(good, "nested", map[string]any{"group": "banned"}), "/", false}, {with(good, "azp", "bot"), "/", false},
		} {
			if got, _ := allowed(web, ask{path: x.path, claims: x.claims}.request()); got != x.allow {
				t.Errorf("%s with %v: %v", x.path, x.claims, got)
			}
		}
	}
	scenarios["05-destinationrule"] = func(t *testing.T, m *config.Model, s *config.Snapshot) {
		b := m.Backends["inbound-vip|80|http|cart"+dom]
		set, o := b.Settings, b.Settings.Outlier
		if b.Balance.Kind != balance.RingHash || b.Balance.PanicThreshold != 30 || len(b.Balance.Hash) != 1 || b.Balance.Hash[0].Header != "x-user" || b.Protocol != config.ProtocolHTTP2 {
			t.Errorf("backend %+v", b)
		}
		if set.MaxConnections != 100 || set.MaxPending != 10 || set.MaxRequests != 200 || set.MaxRetries != 5 || set.MaxRequestsPerConn != 50 || set.IdleTimeout.String() != "15s" || set.ConnectTimeout.String() != "500ms" {
			t.Errorf("settings %+v", set)
		}
		if o.Consecutive5xx != 3 || o.ConsecutiveGateway != 2 || o.ConsecutiveLocal != 4 || o.SuccessRate || o.MaxEjectionPercent != 50 {
			t.Errorf("outlier %+v", o)
		}
		if v2 := m.Backends["inbound-vip|80|http/v2|cart"+dom]; v2.Balance.Kind != balance.RoundRobin || len(v2.Endpoints) != 1 {
			t.Errorf("subset %+v", v2)
		}
		if c := chainOf(t, s, "cart"+dom+":80"); c.HTTPOnly || len(c.Hash(0)) != 1 {
			t.Error("a hash does not make routes that guard")
		}
	}
	scenarios["06-virtualservice"] = func(t *testing.T, m *config.Model, s *config.Snapshot) {
		cart := chainOf(t, s, "cart"+dom+":80")
		v1, self := "inbound-vip|80|http|cart-v1"+dom, "inbound-vip|80|http|cart"+dom
		routeCases(t, cart, []routeCase{
			{ask{path: "/faultyx", headers: []string{"x-fault", "yes"}}, v1},
			{ask{path: "/r12", query: "q=aa"}, v1},
			{ask{path: "/r12", query: "q=aa", headers: []string{"x-no", "1"}}, self},
			{ask{path: "/teapot"}, "direct short and stout"},
			{ask{path: "/toys", host: "cart:8080"}, "http://other.example/from"},
			{ask{path: "/other"}, self},
		})
		res, _ := cart.Table("").Match(ask{path: "/svc/a/b/c"}.request())
		if got := string(res.Rule.Rewrite.AppendPath(nil, "/svc/a/b/c", res.Prefix)); got != "/b/c/of/a" {
			t.Errorf("rewritten to %s", got)
		}
		res, _ = cart.Table("").Match(ask{path: "/r1", query: "q=a"}.request())
		r := cart.Retry(res.Rule.Rule.Retry)
		if got := string(res.Rule.Rewrite.AppendPath(nil, "/r1", res.Prefix)); got != "/rewritten" || res.Rule.Rewrite.Host != "cart.internal" || r.RemoteLocalities != 2 || r.Backoff.String() != "40ms" {
			t.Errorf("rewritten to %s, retry %+v", got, r)
		}
		res, _ = cart.Table("").Match(ask{path: "/faulty", headers: []string{"x-fault", "yes"}}.request())
		f := cart.Spec.Faults[res.Rule.Rule.Fault]
		if f.AbortStatus != 418 || f.Delay.String() != "200ms" || f.DelayShare.Num*2 != f.DelayShare.Den {
			t.Errorf("fault %+v", f)
		}
	}
	scenarios["07-telemetry"] = func(t *testing.T, m *config.Model, s *config.Snapshot) {
		tel := chainOf(t, s, "web"+dom+":80").Spec.Telemetry
		if tel.Tracing.Random != 25.5 || tel.Tracing.Kind != "opentelemetry" || m.Backends[tel.Tracing.Backend] == nil || len(tel.Tracing.Tags) != 2 {
			t.Errorf("tracing %+v", tel.Tracing)
		}
		if len(tel.Logs) != 1 || tel.Logs[0].Kind != "otel" || tel.Logs[0].Expression == "" {
			t.Errorf("logs %+v", tel.Logs)
		}
		if len(tel.Metrics) != 2 || tel.Metrics[0].Set["request_host"] != "request.host" || tel.Metrics[0].Remove[0] != "response_code" || !tel.Metrics[1].Drop {
			t.Errorf("metrics %+v", tel.Metrics)
		}
		if l := chainOf(t, s, "db"+dom+":5432").Spec.Telemetry.Logs; len(l) != 1 || l[0].Path != "/dev/stdout" {
			t.Errorf("db logs %+v", l)
		}
	}
	scenarios["08-grpcroute"] = func(t *testing.T, m *config.Model, s *config.Snapshot) {
		pay, self := chainOf(t, s, "pay"+dom+":9000"), "inbound-vip|9000|http|pay"+dom
		routeCases(t, pay, []routeCase{
			{ask{method: "POST", path: "/shop.Pay/Charge", headers: []string{"tier", "gold"}}, self},
			{ask{method: "POST", path: "/shop.Pay/Charge"}, "404"},
			{ask{method: "POST", path: "/shop.Refund/Any"}, self},
			{ask{method: "POST", path: "/shop.X/GetIt"}, self},
			{ask{method: "POST", path: "/other.X/GetIt"}, "404"},
		})
	}
	scenarios["09-serviceentry"] = func(t *testing.T, m *config.Model, s *config.Snapshot) {
		find := func(addr string) *config.Chain { return s.Lookup(netip.MustParseAddrPort(addr), "", 0) }
		if c := find("198.51.100.77:80"); c == nil || c.Default.Spec.Load().Balance.Kind != balance.Passthrough || c.Default.Spec.Load().Balance.Port != 8080 {
			t.Errorf("passthrough %+v", c)
		}
		if b := find("240.240.0.1:80").Default.Spec.Load(); b.TLS == nil || b.TLS.SNI != "api.example.com" || b.TLS.CA != "system" || b.Missing != "" || b.Endpoints[0].Hostname != "api.example.com" || b.Endpoints[0].Addr.Port() != 443 {
			t.Errorf("api %+v", b)
		}
		if c := find("240.240.0.1:443"); c.Spec.Protocol != config.ProtocolTLS || c.Default.Spec.Load().Missing != "" {
			t.Errorf("tls %+v", c.Spec)
		}
		eps := find("240.240.0.2:80").Default.Set.Load().Endpoints()
		if len(eps) != 2 || eps[1].Weight != 5 || eps[1].Addr.String() != "192.0.2.11:9090" || eps[0].Tunnel.IsValid() {
			t.Errorf("static %+v", eps)
		}
		wild := chainOf(t, s, "*.wild.example.com:80")
		routeCases(t, wild, []routeCase{
			{ask{path: "/", host: "a.wild.example.com"}, "inbound-vip|80|http|*.wild.example.com"},
			{ask{path: "/", host: "A.Wild.example.com"}, "inbound-vip|80|http|*.wild.example.com"},
			{ask{path: "/", host: ".wild.example.com"}, "404"},
			{ask{path: "/", host: "evil.example.com"}, "404"},
		})
		if b := wild.Default.Spec.Load(); b.Missing != "" || b.Dynamic == nil || b.Dynamic.Host != "*.wild.example.com" || b.Balance.Kind != balance.Passthrough {
			t.Errorf("names chosen by clients: %+v", b)
		}
	}
	scenarios["10-multinetwork"] = func(t *testing.T, m *config.Model, s *config.Snapshot) {
		byName := s.Lookup(netip.AddrPort{}, "web"+dom, 80)
		if byName == nil || byName != s.Lookup(netip.MustParseAddrPort("10.96.1.1:80"), "", 0) || byName.Spec.Key != "web"+dom+":80" {
			t.Fatalf("by name %v", byName)
		}
		var gw *balance.Endpoint
		for _, e := range byName.Default.Set.Load().Endpoints() {
			if e.Double {
				gw = e
			}
		}
		if gw == nil || gw.Tunnel.String() != "172.18.0.200:15008" || gw.Authority != "web"+dom+":80" || gw.Health == balance.Unhealthy || gw.Identity != "" {
			t.Errorf("gateway %+v", gw)
		}
	}
}

func with(m map[string]any, k string, v any) map[string]any {
	out := map[string]any{k: v}
	for n, x := range m {
		if n != k {
			out[n] = x
		}
	}
	return out
}

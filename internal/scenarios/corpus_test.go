package scenarios

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"waypoint.dev/waypoint/internal/testmesh"
)

const (
	web  = "10.96.1.1:80"
	cart = "10.96.1.2:80"
	pay  = "10.96.1.5:9000"
	db   = "10.96.1.6:5432"
	auto = "10.96.1.7:7000"
	h2c  = "10.96.1.8:8081"

	anyWeb  = "web-1 web-2 web-3"
	anyCart = "cart-v1-1 cart-v2-1"
)

// want is what the objects mean for a request.
type want struct {
	status  int
	apps    string   // one of them answers; empty: the waypoint itself does
	path    string   // that the application sees; empty: as asked
	host    string   // the same
	seen    []string // request headers at the application, name and value; value "" for absent
	headers []string // response headers, the same
	body    string   // in the response's
	check   func(answer) error
}

// question is one entry of the corpus.
type question struct {
	ask
	want
	// objects is the other answer that the objects give, for the reason that
	// docs/compatibility.md states in these words.
	objects *want
	listed  string
}

// scenario is one set of objects.
type scenario struct {
	special   apps
	prepare   func(*world)
	questions []question
	// istiodOnly says which kinds config/kube has no translation of; empty: both ways
	// are asked.
	istiodOnly string
}

func grpcHeaders(more ...string) []string {
	return append([]string{"content-type", "application/grpc", "te", "trailers"}, more...)
}

func q(a ask, w want) question { return question{ask: a, want: w} }

var corpus = map[string]scenario{
	"01-basic": {questions: []question{
		q(ask{to: web, path: "/a?b=c"}, want{status: 200, apps: anyWeb, path: "/a?b=c"}),
		q(ask{to: cart, path: "/"}, want{status: 200, apps: anyCart}),
		q(ask{to: db, path: "/"}, want{status: 200, apps: "db-1"}),
		q(ask{to: auto, path: "/"}, want{status: 200, apps: "auto-1"}),
		q(ask{to: h2c, path: "/", h2: true}, want{status: 200, apps: "h2c-1", check: func(a answer) error {
			if a.seen.Proto != "HTTP/2.0" {
				return fmt.Errorf("the application was asked in %s", a.seen.Proto)
			}
			return nil
		}}),
		q(ask{to: pay, path: "/shop.Pay/Charge", method: "POST", h2: true, headers: grpcHeaders()}, want{status: 200, apps: "pay-1"}),
		q(ask{to: "127.61.2.81:8080", path: "/"}, want{status: 200, apps: "headless-1"}), // by the pod's address
		q(ask{to: "127.61.1.21:8080", path: "/"}, want{status: 200, apps: "web-1"}),
		q(ask{to: "10.96.1.1:81", path: "/"}, want{}), // a port that nothing serves
		q(ask{to: "10.96.77.77:80", path: "/"}, want{}),
	}},
	"02-httproute": {questions: []question{
		q(ask{to: cart, path: "/x", headers: []string{"x-canary", "true"}}, want{status: 200, apps: "cart-v2-1"}),
		q(ask{to: cart, path: "/v2/x"}, want{status: 200, apps: "cart-v2-1", path: "/x"}),
		q(ask{to: cart, path: "/v2"}, want{status: 200, apps: "cart-v2-1", path: "/"}),
		q(ask{to: cart, path: "/v22"}, want{status: 200, apps: anyCart, path: "/v22"}),
		q(ask{to: cart, path: "/old"}, want{status: 301, headers: []string{"location", "https://shop.example.com/new"}}),
		q(ask{to: cart, path: "/old", method: "POST"}, want{status: 200, apps: anyCart}),
		q(ask{to: cart, path: "/"}, want{status: 200, apps: anyCart, check: func(a answer) error {
			if got, v2 := a.seen.Headers["x-split"] == "v2", a.app == "cart-v2-1"; got != v2 {
				return fmt.Errorf("x-split %v at %s", got, a.app)
			}
			return nil
		}}),
		q(ask{to: web, path: "/api/x", headers: []string{"origin", "https://app.example.com"}}, want{status: 200, apps: anyWeb,
			headers: []string{"access-control-allow-origin", "https://app.example.com", "access-control-allow-credentials", "true", "access-control-expose-headers", "x-c"}}),
		q(ask{to: web, path: "/api/x", headers: []string{"origin", "https://evil.example.com"}}, want{status: 200, apps: anyWeb, headers: []string{"access-control-allow-origin", ""}}),
		q(ask{to: web, path: "/api/x", method: "OPTIONS", headers: []string{"origin", "https://a.example.org", "access-control-request-method", "PUT"}}, want{status: 200,
			headers: []string{"access-control-allow-origin", "https://a.example.org", "access-control-allow-methods", "GET,PUT", "access-control-max-age", "600"}}),
		q(ask{to: web, path: "/gone"}, want{status: 500}),
		q(ask{to: web, path: "/items/7?debug=1", headers: []string{"x-secret", "s"}}, want{status: 200, apps: anyWeb,
			seen: []string{"x-debug", "on", "x-trail", "wp", "x-secret", ""}, headers: []string{"x-served-by", "cart", "x-tag", "a", "server-internal", ""}}),
		q(ask{to: web, path: "/items/x?debug=1"}, want{status: 404}),
		q(ask{to: web, path: "/items/7?debug=2"}, want{status: 404}),
		q(ask{to: web, path: "/"}, want{status: 404}),
	}},
	"03-authz": {
		special: apps{
			"h2c-1":  func(t *testing.T, ln net.Listener, _ string) { authorize(t, ln, false) },
			"auto-1": func(t *testing.T, ln net.Listener, _ string) { authorize(t, ln, true) },
		},
		questions: []question{
			q(ask{to: web, path: "/v1/x"}, want{status: 200, apps: anyWeb}),
			q(ask{to: web, path: "/v1/x", method: "HEAD"}, want{status: 200}),
			q(ask{to: web, path: "/v1/x", method: "POST"}, denied),
			q(ask{to: web, path: "/v1/x", as: "clients/other"}, denied),
			q(ask{to: web, path: "/v1/secret/a"}, denied),
			q(ask{to: web, path: "/v1/secret/a", headers: []string{"x-team", "blue"}}, want{status: 200, apps: anyWeb}),
			q(ask{to: web, path: "/v1/secret/a", headers: []string{"x-team", "green-9"}}, want{status: 200, apps: anyWeb}),
			q(ask{to: web, path: "/v1/secret/a", headers: []string{"x-team", "bluer"}}, denied),
			q(ask{to: web, path: "/a/b/users"}, want{status: 200, apps: anyWeb}),
			q(ask{to: web, path: "/store/1/item/2"}, want{status: 200, apps: anyWeb}),
			q(ask{to: web, path: "/store/1/2/item/3"}, denied),
			q(ask{to: web, path: "/assets/x/y"}, want{status: 200, apps: anyWeb}),
			q(ask{to: web, path: "/x/img/y/z"}, want{status: 200, apps: anyWeb}),
			q(ask{to: web, path: "/v1/x/admin"}, denied),
			q(ask{to: web, path: "/exact", method: "POST"}, want{status: 200, apps: anyWeb}),
			q(ask{to: web, path: "/exact", method: "POST", host: "A.example.com"}, want{status: 200, apps: anyWeb}),
			q(ask{to: web, path: "/exact", method: "POST", host: "example.com"}, denied),
			q(ask{to: web, path: "/internal/x", headers: []string{"x-team", "blue"}}, denied),
			q(ask{to: web, path: "/internal/x", method: "OPTIONS", headers: []string{"x-team", "blue"}}, want{status: 200, apps: anyWeb}),
			q(ask{to: web, path: "/v1/x", headers: []string{"x-blocked", "1"}}, denied),
			q(ask{to: web, path: "/v1/x", as: "untrusted/curl"}, denied),
			q(ask{to: cart, path: "/", as: "untrusted/curl"}, denied),
			q(ask{to: web, path: "/audit/x", headers: []string{"x-team", "blue"}}, want{status: 200, apps: anyWeb}),
			q(ask{to: cart, path: "/"}, want{status: 200, apps: anyCart, seen: []string{"x-user", ""}}),
			q(ask{to: cart, path: "/checkout", headers: []string{"x-let", "allow"}}, want{status: 200, apps: anyCart, seen: []string{"x-user", "bob"}}),
			q(ask{to: cart, path: "/checkout/a/b"}, want{status: 418}),
			q(ask{to: cart, path: "/checkouts"}, want{status: 200, apps: anyCart}),
			q(ask{to: h2c, path: "/", h2: true}, want{status: 418}),
			q(ask{to: db, path: "/", as: "shop/cart"}, want{status: 200, apps: "db-1"}),
			q(ask{to: db, path: "/"}, want{}),
			q(ask{to: db, path: "/", as: "shop/web"}, want{}),
			q(ask{to: pay, path: "/shop.Pay/Charge", method: "POST", h2: true}, denied),
		},
	},
	"05-destinationrule": {
		special: apps{"pay-1": serveTLS("pay.internal"), "h2c-1": serveBehindPROXY},
		prepare: func(m *world) {
			old := m.rewrite
			m.rewrite = func(s string) string { return strings.ReplaceAll(old(s), "/etc/certs/ca.pem", roots.file) }
		},
		questions: []question{
			q(ask{to: cart, path: "/", headers: []string{"x-user", "ann"}}, want{status: 200, apps: anyCart}),
			q(ask{to: cart, path: "/", headers: []string{"x-user", "bob"}}, want{status: 200, apps: anyCart}),
			q(ask{to: cart, path: "/", headers: []string{"x-user", "cleo"}}, want{status: 200, apps: anyCart}),
			q(ask{to: cart, path: "/", headers: []string{"x-user", "dan"}}, want{status: 200, apps: anyCart}),
			q(ask{to: cart, path: "/"}, want{status: 200, apps: anyCart, check: func(a answer) error {
				if a.seen.Proto != "HTTP/2.0" { // h2UpgradePolicy
					return fmt.Errorf("the application was asked in %s", a.seen.Proto)
				}
				return nil
			}}),
			q(ask{to: web, path: "/"}, want{status: 200, apps: anyWeb}),
			q(ask{to: pay, path: "/shop.Pay/Charge", method: "POST", h2: true, headers: grpcHeaders()}, want{status: 200, apps: "pay-1"}),
			q(ask{to: h2c, path: "/", h2: true}, want{status: 200, apps: "h2c-1"}),
		},
	},
	"06-virtualservice": {
		istiodOnly: "VirtualService",
		questions: []question{
			q(ask{to: cart, path: "/r1?q=aa", headers: []string{"x-c", "3"}}, want{status: 200, apps: anyCart, path: "/rewritten?q=aa", host: "cart.internal",
				seen: []string{"x-a", "1", "x-b", "2", "x-c", ""}, headers: []string{"x-d", "4", "x-e", ""}, check: func(a answer) error {
					if got, v1 := a.seen.Headers["x-ver"] == "v1", a.app == "cart-v1-1"; got != v1 {
						return fmt.Errorf("x-ver %v at %s", got, a.app)
					}
					return nil
				}}),
			q(ask{to: cart, path: "/r1?q=b"}, want{status: 200, apps: anyCart, path: "/r1?q=b"}),
			q(ask{to: cart, path: "/r1?q=aa", headers: []string{"x-no", "1"}}, want{status: 200, apps: anyCart, path: "/r1?q=aa"}),
			q(ask{to: cart, path: "/svc/a/b/c"}, want{status: 200, apps: "cart-v1-1", path: "/b/c/of/a"}),
			q(ask{to: cart, path: "/teapot"}, want{status: 418, body: "short and stout"}),
			q(ask{to: cart, path: "/toys"}, want{status: 308, headers: []string{"location", "http://other.example/from"}}),
			q(ask{to: cart, path: "/faulty"}, want{status: 200, apps: anyCart}),
			q(ask{to: cart, path: "/", headers: []string{"origin", "https://a.example.com"}}, want{status: 200, apps: anyCart, headers: []string{"access-control-allow-origin", "https://a.example.com"}}),
		},
	},
	"07-telemetry": {questions: []question{
		q(ask{to: web, path: "/pay"}, want{status: 200, apps: anyWeb}),
		q(ask{to: cart, path: "/"}, want{status: 200, apps: anyCart}),
		q(ask{to: db, path: "/"}, want{status: 200, apps: "db-1"}),
	}},
	"08-grpcroute": {questions: []question{
		q(ask{to: pay, path: "/shop.Pay/Charge", method: "POST", h2: true, headers: grpcHeaders("tier", "gold")}, want{status: 200, apps: "pay-1", seen: []string{"x-grpc", "1"}}),
		q(ask{to: pay, path: "/shop.Pay/Charge", method: "POST", h2: true, headers: grpcHeaders()}, want{status: 200, headers: []string{"grpc-status", "12"}}),
		q(ask{to: pay, path: "/shop.Refund/Any", method: "POST", h2: true, headers: grpcHeaders()}, want{status: 200, apps: "pay-1", seen: []string{"x-grpc", "1"}}),
		q(ask{to: pay, path: "/shop.X/GetIt", method: "POST", h2: true, headers: grpcHeaders()}, want{status: 200, apps: "pay-1", seen: []string{"x-grpc", ""}}),
		q(ask{to: pay, path: "/other.X/GetIt", method: "POST", h2: true, headers: grpcHeaders()}, want{status: 200, headers: []string{"grpc-status", "12"}}),
		q(ask{to: web, path: "/"}, want{status: 200, apps: anyWeb}),
	}},
	"09-serviceentry": {
		prepare: func(m *world) {
			serve := func(addr, name string, how func(*testing.T, net.Listener, string)) {
				ln, err := net.Listen("tcp", addr)
				if err != nil {
					m.t.Fatal(err)
				}
				how(m.t, ln, name)
			}
			serve("127.61.9.10:8080", "static-1", serveApp)
			serve("127.61.9.11:9090", "static-2", serveApp)
			serve("127.61.8.77:8080", "passed", serveApp)
			serve("127.61.9.20:443", "api", serveTLS("api.example.com"))
			serve("127.61.9.30:80", "wild-a", serveApp)
			// istiod gives entries without an address one of its own.
			old := m.rewrite
			m.rewrite = func(s string) string {
				return old(strings.ReplaceAll(s, `hosts: ["*.wild.example.com"]`, `hosts: ["*.wild.example.com"]`+"\n  addresses: [240.240.9.9]"))
			}
			m.names["api.example.com"] = netip.MustParseAddr("127.61.9.20")
			m.names["a.wild.example.com"] = netip.MustParseAddr("127.61.9.30")
			m.names["self.wild.example.com"] = netip.MustParseAddr("127.0.0.1")
			m.names["imds.wild.example.com"] = netip.MustParseAddr("169.254.169.254")
			m.names["evil.example.com"] = netip.MustParseAddr("127.61.9.30")
		},
		questions: []question{
			q(ask{to: "240.240.0.1:80", path: "/tls", host: "api.example.com"}, want{status: 200, apps: "api"}),
			q(ask{to: "240.240.0.2:80", path: "/", host: "static.example.com"}, unrouted),
			q(ask{to: "240.240.0.2:80", path: "/x", host: "static.example.com"}, want{status: 200, apps: "api"}),
			q(ask{to: "127.61.8.77:80", path: "/p", host: "passthrough.example.com"}, want{status: 200, apps: "passed"}),
			q(ask{to: "*.wild.example.com", path: "/w", host: "a.wild.example.com"}, want{status: 200, apps: "wild-a", host: "a.wild.example.com"}),
			q(ask{to: "*.wild.example.com", path: "/w", host: "A.Wild.example.com"}, want{status: 200, apps: "wild-a"}),
			q(ask{to: "*.wild.example.com", path: "/w", host: "self.wild.example.com"}, want{status: 503}),
			q(ask{to: "*.wild.example.com", path: "/w", host: "imds.wild.example.com"}, want{status: 503}),
			q(ask{to: "*.wild.example.com", path: "/w", host: "none.wild.example.com"}, want{status: 503}),
			{ask: ask{to: "*.wild.example.com", path: "/w", host: "evil.example.com"}, want: want{status: 404}, objects: &want{status: 503}, listed: "a name outside of a wildcard host"},
			{ask: ask{to: "*.wild.example.com", path: "/w", host: "127.61.9.30"}, want: want{status: 404}, objects: &want{status: 503}, listed: "a name outside of a wildcard host"},
		},
	},
	"10-multinetwork": {
		istiodOnly: "networks other than its own",
		prepare: func(m *world) {
			gw, err := testmesh.NewGateway(netip.MustParseAddr("127.61.30.200"), m.source("istio-system", "eastwest"))
			if err != nil {
				m.t.Fatal(err)
			}
			m.t.Cleanup(func() { gw.Close() })
			far := netip.MustParseAddr("127.61.20.21")
			ln, err := net.Listen("tcp", far.String()+":8080")
			if err != nil {
				m.t.Fatal(err)
			}
			serveApp(m.t, ln, "web-far")
			node, err := testmesh.NewNode(far, m.source("shop", "web"), nil, nil)
			if err != nil {
				m.t.Fatal(err)
			}
			m.t.Cleanup(func() { node.Close() })
			for _, a := range []string{"web.shop.svc.cluster.local:80", "global.shop.mesh:80"} {
				gw.Offer(a, far)
				node.Offer(a, 8080)
			}
			m.t.Cleanup(func() {
				for _, s := range gw.Sources() {
					if s != "waypoint" {
						m.t.Errorf("the gateway was told x-istio-source %q", s)
					}
				}
				for _, n := range node.Origins() {
					if n != "network-1" {
						m.t.Errorf("the far node was told x-forwarded-network %q", n)
					}
				}
				if len(node.Origins()) == 0 {
					m.t.Error("nothing came to the other network")
				}
			})
		},
		questions: slicesRepeat(24,
			q(ask{to: web, path: "/near"}, want{status: 200, apps: anyWeb + " web-far"}),
			q(ask{to: "web.shop.svc.cluster.local:80", path: "/by-name"}, want{status: 200, apps: anyWeb + " web-far"}),
			q(ask{to: "240.240.0.9:80", path: "/global", host: "global.shop.mesh"}, want{status: 200, apps: anyWeb + " web-far"}),
		),
	},
}

var (
	denied   = want{status: 403, body: "RBAC: access denied"}
	unrouted = want{status: 404}
)

func slicesRepeat(n int, qs ...question) (out []question) {
	for range n {
		out = append(out, qs...)
	}
	return out
}

// authorize serves an authorizer that asks for x-let: allow.
func authorize(t *testing.T, ln net.Listener, http1 bool) {
	a := testmesh.NewAuthorizer(ln, http1)
	a.Require = "x-let"
	t.Cleanup(a.Close)
}

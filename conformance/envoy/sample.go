package envoy

import (
	"path/filepath"
	"strings"
)

// Samples are recorded from istiod.
var Samples = []string{"02-httproute", "03-authz", "04-jwt", "06-virtualservice", "08-grpcroute"}

// LoadSample reads recorded resources. Their issuers get the lab's keys, whose
// tokens the lab can sign.
func LoadSample(testdata, name string, keys *Keys) (*Resources, error) {
	r, err := Load(filepath.Join(testdata, "istiod", name))
	if err != nil {
		return nil, err
	}
	for _, l := range r.Listeners {
		walk(l, func(o Object) {
			if jwks, ok := o["local_jwks"].(Object); ok {
				jwks["inline_string"] = keys.JWKS
			}
		})
	}
	return r, nil
}

// SamplePods are the pods of the samples: name, account, address. The last one is
// outside of the mesh. The authorizers of 03-authz are services h2c and auto.
var SamplePods = [][3]string{
	{"web-1", "web", "127.8.1.21"}, {"web-2", "web", "127.8.2.21"}, {"cart-v1-1", "cart", "127.8.1.31"}, {"cart-v2-1", "cart", "127.8.2.31"},
	{"pay-1", "pay", "127.8.1.41"}, {"db-1", "db", "127.8.2.51"}, {"auto-1", "auto", "127.8.1.61"}, {"h2c-1", "h2c", "127.8.1.71"}, {"web-3", "web", "127.8.2.22"},
}

const (
	sampleWeb  = "10.96.1.1:80"
	sampleCart = "10.96.1.2:80"
	samplePay  = "10.96.1.5:9000"
	sampleDB   = "10.96.1.6:5432"
	sampleAuto = "10.96.1.7:7000"
	sampleH2C  = "10.96.1.8:8081"
)

var (
	sampleVIPs  = []string{sampleWeb, sampleCart, "10.96.1.3:80", "10.96.1.4:80", sampleAuto}
	samplePaths = []string{"/", "/old", "/new", "/v2", "/v2/", "/v2/x", "/v2x", "/api", "/api/x", "/gone", "/gone/x", "/items/1?debug=1", "/items/1", "/items/x?debug=1", "/items/42?debug=1&x=2",
		"/v1/x", "/v1/secret/a", "/v1/admin", "/x/users", "/a/b/users", "/users", "/store/1/item/2", "/store/1/item/", "/assets/", "/assets/a/b", "/x/img/y", "/exact", "/exact/", "/internal/x", "/internal", "/audit/x",
		"/r1?q=aa", "/r1?q=b", "/r22", "/svc/a/b", "/svc/a", "/teapot", "/to", "/to/x", "/from", "/x/../v2/y", "//v2"}
	sampleHosts   = []string{"web.shop.svc.cluster.local", "WEB.shop.svc.cluster.local", "a.example.com", "other"}
	sampleHeaders = [][2]string{{"x-canary", "true"}, {"x-canary", "false"}, {"x-blocked", ""}, {"x-blocked", "1"}, {"x-team", "blue"}, {"x-team", "green-1"}, {"x-team", "red"}, {"x-no", "1"}, {"x-no", "2"}, {"x-secret", "1"}, {"x-c", "1"}, {"x-forwarded-for", "192.0.2.7"}, {"origin", "https://app.example.com"}, {"origin", "https://x.example.org"}}
	sampleClients = []Client{{"clients", "curl", "127.8.20.1"}, {"clients", "web", "127.8.20.2"}, {"shop", "cart", "127.8.21.1"}, {"shop", "robot", "127.8.21.2"}, {"untrusted", "x", "127.8.22.1"}, {"evil-1", "x", "127.8.22.2"}, {"clients", "far", "127.8.9.7"}}
)

// SampleQuestions are questions to a sample: n about what all of them have, and
// those about what it is for.
func (g *Generator) SampleQuestions(name string, n int) []*Question {
	var qs []*Question
	for range n {
		q := g.sampleBase(name, one(g, sampleVIPs))
		q.Target, q.Host, q.Client = one(g, samplePaths), one(g, sampleHosts), one(g, sampleClients)
		q.Method = one(g, []string{"GET", "GET", "GET", "HEAD", "POST", "OPTIONS"})
		if g.chance(60) {
			q.Headers = some(g, sampleHeaders, 2)
		}
		qs = append(qs, q)
	}
	switch name {
	case "03-authz":
		qs = append(qs, g.authzQuestions(name)...)
	case "04-jwt":
		qs = append(qs, g.jwtQuestions(name)...)
	case "08-grpcroute":
		qs = append(qs, g.grpcQuestions(name)...)
	}
	return qs
}

func (g *Generator) sampleBase(name, authority string) *Question {
	q := g.base(&Subject{Name: name, Kind: "sample"})
	q.Authority, q.Host = authority, sampleHosts[0]
	return q
}

// authzQuestions are about the parts of 03-authz that need more than a request
// through a tunnel: addresses of clients, external authorizers, TCP.
func (g *Generator) authzQuestions(name string) []*Question {
	var qs []*Question
	for i := range 300 {
		q := g.sampleBase(name, sampleWeb)
		q.Kind, q.Direct = "sample-direct", true
		q.Target, q.Host, q.Client = one(g, samplePaths), one(g, sampleHosts), one(g, sampleClients)
		q.Headers = some(g, [][2]string{{"x-team", "blue"}, {"x-team", "green-1"}, {"x-team", "red"}, {"x-forwarded-for", "192.0.2.7"}, {"x-forwarded-for", "192.0.2.7, 198.51.100.1"}}, 3)
		if i%5 == 0 { // and as a node proxy asks it
			tunneled := *q
			tunneled.ID, tunneled.Kind, tunneled.Direct = q.ID+"t", "sample", false
			qs = append(qs, &tunneled)
		}
		qs = append(qs, q)
	}
	for _, to := range []string{sampleCart, sampleH2C} {
		for _, path := range []string{"/checkout", "/checkout/", "/checkout/a/b?c=d", "/checkoutx", "/other", "/a/../checkout", "/check%6Fut"} {
			for _, ext := range []string{"", "allow", "plain", "401", "redirect", "404", "503", "broken"} {
				q := g.authorized(g.sampleBase(name, to), ext)
				q.Target, q.Client = path, one(g, sampleClients)
				qs = append(qs, q)
			}
		}
	}
	for range 60 {
		for _, to := range []string{sampleDB, sampleAuto} {
			q := g.sampleBase(name, to)
			q.Client, q.TCP, q.Raw = one(g, sampleClients), true, []byte(tcpHello+q.ID+"\n")
			qs = append(qs, q)
		}
	}
	return qs
}

// authorized adds what an authorizer is told and what it may change.
func (g *Generator) authorized(q *Question, ext string) *Question {
	q.Method = one(g, []string{"GET", "POST", "HEAD", "PUT"})
	q.Headers = [][2]string{{"X-Secret", "s"}, {"X-User", "forged"}, {"X-Up-A", "forged"}, {"Cookie", "a=b"}, {"Authorization", "Bearer x"}, {"X-Twice", "1"}, {"X-Twice", "2"}, {"X-Forwarded-For", "203.0.113.9"}}
	if ext != "" {
		q.Headers = append(q.Headers, [2]string{steerHeader, ext})
	}
	if q.Method == "POST" || q.Method == "PUT" {
		q.Body = one(g, []string{"small", strings.Repeat("a", 3000), strings.Repeat("b", 6000), strings.Repeat("c", 9) + "\xff\x00"})
	}
	return q
}

// grpcQuestions are calls to the service behind the GRPCRoute.
func (g *Generator) grpcQuestions(name string) []*Question {
	var qs []*Question
	for _, path := range []string{"/shop.Pay/Charge", "/shop.Pay/charge", "/shop.Pay/ChargeX", "/shop.Pay/", "/shop.Pay", "/shop.PayX/Charge", "/shop.Refund/Do", "/shop.Refund/", "/shop.Refund",
		"/shop.Refund/a/b", "/shop.RefundX/Do", "/shop.Any/Get", "/shop.Any/GetAll", "/shop.Any/XGet", "/shop./GetX", "/shopx.Any/Get", "/other.Any/GetX", "/shop.a/b/GetX", "/", "/shop.Pay/Charge?x=1", "/shop.Pay//Charge", "/x/../shop.Refund/Do"} {
		for _, tier := range []string{"", "gold", "Gold", "silver"} {
			for _, kind := range []string{"application/grpc", "application/grpc+proto", "text/plain"} {
				q := g.sampleBase(name, samplePay)
				q.Method, q.Target, q.Proto2, q.Body = "POST", path, g.chance(90), "\x00\x00\x00\x00\x00"
				q.Headers = [][2]string{{"content-type", kind}, {"te", "trailers"}}
				if !q.Proto2 {
					q.Headers = q.Headers[:1]
				}
				if tier != "" {
					q.Headers = append(q.Headers, [2]string{"tier", tier})
				}
				if g.chance(20) {
					q.Method = "GET"
				}
				if g.chance(20) {
					q.Headers = append(q.Headers, [2]string{"x-want-header", "grpc-status: " + one(g, []string{"0", "3", "14"})})
				}
				if g.chance(10) {
					q.Headers = append(q.Headers, [2]string{"grpc-timeout", "5S"})
				}
				qs = append(qs, q)
			}
		}
	}
	return qs
}

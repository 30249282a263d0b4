package authz

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
)

func from(s Source) *RuleSpec    { return &RuleSpec{From: []Source{s}} }
func to(o Operation) *RuleSpec   { return &RuleSpec{To: []Operation{o}} }
func when(c Condition) *RuleSpec { return &RuleSpec{When: []Condition{c}} }

func cond(key string, values ...string) *RuleSpec {
	return when(Condition{Key: key, Values: values})
}
func notCond(key string, values ...string) *RuleSpec {
	return when(Condition{Key: key, NotValues: values})
}

func peer(uri string) *attrs.Request {
	return &attrs.Request{Conn: &attrs.Conn{Peer: attrs.Principal{URI: uri}}}
}

func path(p string) *attrs.Request { return &attrs.Request{Path: p} }

func header(lines ...string) *attrs.Request {
	r := &attrs.Request{}
	for _, l := range lines {
		n, v, _ := strings.Cut(l, ":")
		r.Headers = append(r.Headers, attrs.Field{Name: n, Value: v})
	}
	return r
}

func token(iss, sub string) *attrs.Request {
	return &attrs.Request{Claims: &attrs.Claims{Issuer: iss, Subject: sub}}
}

func claims(raw map[string]any) *attrs.Request {
	return &attrs.Request{Claims: &attrs.Claims{Raw: raw}}
}

func conn(c attrs.Conn) *attrs.Request { return &attrs.Request{Conn: &c} }

const curl = "spiffe://cluster.local/ns/clients/sa/curl"

var scope = Scope{Namespace: "shop", TrustDomain: "cluster.local", TrustAliases: []string{"old-td"}, SpaceDelimited: []string{"roles"}}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// TestFields has a row for each form of each field, and tests each rule on the
// request and, with values and notValues exchanged, for the opposite.
func TestFields(t *testing.T) {
	raw := map[string]any{
		"groups": []any{"admin", "dev-a", 7.0}, "name": "bob", "n": 5.0, "t": true,
		"scope": "read write", "roles": "x y", "other": "x y",
		"nested": map[string]any{"group": "g1", "list": []any{"l1"}, "scope": "a b"},
		"aud":    []any{"shop", "web"}, "azp": "app",
	}
	tests := []struct {
		name string
		spec *RuleSpec
		req  *attrs.Request
		want bool
	}{
		// principals
		{"principal exact", from(Source{Principals: []string{"cluster.local/ns/clients/sa/curl"}}), peer(curl), true},
		{"principal other", from(Source{Principals: []string{"cluster.local/ns/clients/sa/cur"}}), peer(curl), false},
		{"principal case", from(Source{Principals: []string{"cluster.local/ns/clients/sa/Curl"}}), peer(curl), false},
		{"principal prefix", from(Source{Principals: []string{"cluster.local/ns/clients/*"}}), peer(curl), true},
		{"principal prefix other", from(Source{Principals: []string{"cluster.local/ns/shop/*"}}), peer(curl), false},
		{"principal suffix", from(Source{Principals: []string{"*/sa/curl"}}), peer(curl), true},
		{"principal suffix needs scheme", from(Source{Principals: []string{"*curl"}}), peer("curl"), false},
		{"principal any", from(Source{Principals: []string{"*"}}), peer(curl), true},
		{"principal any, none", from(Source{Principals: []string{"*"}}), peer(""), false},
		{"principal inner star is literal", from(Source{Principals: []string{"cluster.local/ns/*/sa/curl"}}), peer(curl), false},
		{"principal alias", from(Source{Principals: []string{"cluster.local/ns/clients/sa/curl"}}), peer("spiffe://old-td/ns/clients/sa/curl"), true},
		{"principal via alias", from(Source{Principals: []string{"old-td/ns/clients/sa/curl"}}), peer(curl), true},
		{"principal four parts not expanded", from(Source{Principals: []string{"cluster.local/ns/clients/*"}}), peer("spiffe://old-td/ns/clients/sa/curl"), false},
		{"principal foreign", from(Source{Principals: []string{"foreign/ns/clients/sa/curl"}}), peer(curl), false},
		{"principal of many", from(Source{Principals: []string{"a", "b", "c", "d", "cluster.local/ns/clients/sa/curl"}}), peer(curl), true},
		{"when source.principal", cond("source.principal", "cluster.local/ns/clients/sa/curl"), peer(curl), true},
		// namespaces
		{"namespace", from(Source{Namespaces: []string{"clients"}}), peer(curl), true},
		{"namespace part", from(Source{Namespaces: []string{"client"}}), peer(curl), false},
		{"namespace prefix", from(Source{Namespaces: []string{"cli*"}}), peer(curl), true},
		{"namespace suffix", from(Source{Namespaces: []string{"*ents"}}), peer(curl), true},
		{"namespace inner star", from(Source{Namespaces: []string{"c*e*s"}}), peer(curl), true},
		{"namespace stars overlap", from(Source{Namespaces: []string{"clients*clients"}}), peer(curl), false},
		{"namespace any", from(Source{Namespaces: []string{"*"}}), peer(curl), true},
		{"namespace any, none", from(Source{Namespaces: []string{"*"}}), peer(""), false},
		{"namespace star crosses slash", from(Source{Namespaces: []string{"c*curl"}}), peer(curl + "/x"), true},
		{"namespace dot is literal", from(Source{Namespaces: []string{"c.ients"}}), peer(curl), false},
		{"namespace no identity", from(Source{Namespaces: []string{"clients"}}), peer(""), false},
		{"when source.namespace", cond("source.namespace", "clients"), peer(curl), true},
		// service accounts
		{"account with namespace", from(Source{ServiceAccounts: []string{"clients/curl"}}), peer(curl), true},
		{"account other namespace", from(Source{ServiceAccounts: []string{"shop/curl"}}), peer(curl), false},
		{"account own namespace", from(Source{ServiceAccounts: []string{"robot"}}), peer("spiffe://x/ns/shop/sa/robot"), true},
		{"account not own namespace", from(Source{ServiceAccounts: []string{"curl"}}), peer(curl), false},
		{"account prefix", from(Source{ServiceAccounts: []string{"clients/cur"}}), peer(curl), false},
		{"account more parts", from(Source{ServiceAccounts: []string{"clients/curl"}}), peer("spiffe://td/ns/clients/pod/x/sa/curl/more"), true},
		{"account trailing slash", from(Source{ServiceAccounts: []string{"clients/curl"}}), peer(curl + "/"), false},
		{"account no trust domain", from(Source{ServiceAccounts: []string{"clients/curl"}}), peer("spiffe:///ns/clients/sa/curl"), false},
		{"when source.serviceAccount", cond("source.serviceAccount", "clients/curl"), peer(curl), true},
		// trust domains
		{"trust domain", from(Source{TrustDomains: []string{"cluster.local"}}), peer(curl), true},
		{"trust domain alias", from(Source{TrustDomains: []string{"cluster.local"}}), peer("spiffe://old-td/ns/a/sa/b"), true},
		{"trust domain other", from(Source{TrustDomains: []string{"cluster"}}), peer(curl), false},
		{"trust domain any", from(Source{TrustDomains: []string{"*"}}), peer(curl), true},
		{"trust domain any, none", from(Source{TrustDomains: []string{"*"}}), peer(""), false},
		{"trust domain prefix", from(Source{TrustDomains: []string{"cluster*"}}), peer(curl), true},
		{"trust domain suffix", from(Source{TrustDomains: []string{"*.local"}}), peer(curl), true},
		{"trust domain star keeps to the domain", from(Source{TrustDomains: []string{"*curl"}}), peer(curl), false},
		{"when source.trustDomain", cond("source.trustDomain", "old-td"), peer(curl), true},
		// request principals: the table
		{"rp any", from(Source{RequestPrincipals: []string{"*"}}), token("i", "s"), true},
		{"rp any, no sub", from(Source{RequestPrincipals: []string{"*"}}), token("i", ""), false},
		{"rp any, none", from(Source{RequestPrincipals: []string{"*"}}), path("/"), false},
		{"rp */sub", from(Source{RequestPrincipals: []string{"*/s"}}), token("i", "s"), true},
		{"rp */sub other", from(Source{RequestPrincipals: []string{"*/s"}}), token("i", "xs"), false},
		{"rp *suf/sub", from(Source{RequestPrincipals: []string{"*uer/s"}}), token("issuer", "s"), true},
		{"rp *suf/sub other", from(Source{RequestPrincipals: []string{"*uex/s"}}), token("issuer", "s"), false},
		{"rp *sub", from(Source{RequestPrincipals: []string{"*ub"}}), token("i", "sub"), true},
		{"rp *sub is no issuer", from(Source{RequestPrincipals: []string{"*uer"}}), token("issuer", "s"), false},
		{"rp iss/*", from(Source{RequestPrincipals: []string{"https://i.x/*"}}), token("https://i.x", "s"), true},
		{"rp iss/* no sub", from(Source{RequestPrincipals: []string{"https://i.x/*"}}), token("https://i.x", ""), false},
		{"rp iss/pre*", from(Source{RequestPrincipals: []string{"i/p*"}}), token("i", "pq"), true},
		{"rp iss/pre* other", from(Source{RequestPrincipals: []string{"i/p*"}}), token("i", "q"), false},
		{"rp pre*", from(Source{RequestPrincipals: []string{"is*"}}), token("issuer", "s"), true},
		{"rp pre* other", from(Source{RequestPrincipals: []string{"is*"}}), token("x", "s"), false},
		{"rp iss/sub", from(Source{RequestPrincipals: []string{"a/b/c"}}), token("a/b", "c"), true},
		{"rp split at last slash", from(Source{RequestPrincipals: []string{"a/b/c"}}), token("a", "b/c"), false},
		{"when request.auth.principal", cond("request.auth.principal", "a/b"), token("a", "b"), true},
		// addresses
		{"ipBlocks", from(Source{IPBlocks: []string{"10.0.0.0/8"}}), conn(attrs.Conn{Source: addrPort("10.1.2.3:9")}), true},
		{"ipBlocks other", from(Source{IPBlocks: []string{"10.0.0.0/8"}}), conn(attrs.Conn{Source: addrPort("11.1.2.3:9")}), false},
		{"ipBlocks address", from(Source{IPBlocks: []string{"1.1.1.1", "10.1.2.3"}}), conn(attrs.Conn{Source: addrPort("10.1.2.3:9")}), true},
		{"ipBlocks v6", from(Source{IPBlocks: []string{"fd00::/8"}}), conn(attrs.Conn{Source: addrPort("[fd00::1]:9")}), true},
		{"ipBlocks mapped", from(Source{IPBlocks: []string{"10.0.0.0/8"}}), conn(attrs.Conn{Source: addrPort("[::ffff:10.1.2.3]:9")}), true},
		{"ipBlocks family", from(Source{IPBlocks: []string{"0.0.0.0/0"}}), conn(attrs.Conn{Source: addrPort("[fd00::1]:9")}), false},
		{"ipBlocks unknown", from(Source{IPBlocks: []string{"0.0.0.0/0"}}), path("/"), false},
		{"ipBlocks ignore XFF", from(Source{IPBlocks: []string{"9.9.9.9"}}), &attrs.Request{Remote: netip.MustParseAddr("9.9.9.9")}, false},
		{"remoteIpBlocks", from(Source{RemoteIPBlocks: []string{"9.9.9.9"}}), &attrs.Request{Remote: netip.MustParseAddr("9.9.9.9")}, true},
		{"remoteIpBlocks without XFF", from(Source{RemoteIPBlocks: []string{"10.1.2.3"}}), conn(attrs.Conn{Source: addrPort("10.1.2.3:9")}), true},
		{"when source.ip", cond("source.ip", "10.0.0.0/8"), conn(attrs.Conn{Source: addrPort("10.1.2.3:9")}), true},
		{"when remote.ip", cond("remote.ip", "10.0.0.0/8"), conn(attrs.Conn{Source: addrPort("10.1.2.3:9")}), true},
		{"when destination.ip", cond("destination.ip", "10.0.0.0/8"), conn(attrs.Conn{Dest: addrPort("10.1.2.3:9")}), true},
		{"when destination.ip other", cond("destination.ip", "10.0.0.0/8"), conn(attrs.Conn{Dest: addrPort("1.1.2.3:9")}), false},
		// ports
		{"ports", to(Operation{Ports: []string{"80", "8080"}}), conn(attrs.Conn{DestPort: 8080}), true},
		{"ports other", to(Operation{Ports: []string{"80"}}), conn(attrs.Conn{DestPort: 81}), false},
		{"ports are not those of the address", to(Operation{Ports: []string{"80"}}), conn(attrs.Conn{Dest: addrPort("1.1.1.1:80"), DestPort: 81}), false},
		{"when destination.port", cond("destination.port", "80"), conn(attrs.Conn{DestPort: 80}), true},
		// hosts
		{"host", to(Operation{Hosts: []string{"a.com"}}), &attrs.Request{Authority: "A.com"}, true},
		{"host pattern case", to(Operation{Hosts: []string{"A.COM"}}), &attrs.Request{Authority: "a.com"}, true},
		{"host with port", to(Operation{Hosts: []string{"a.com"}}), &attrs.Request{Authority: "a.com:8080"}, false},
		{"host and its port", to(Operation{Hosts: []string{"a.com:8080"}}), &attrs.Request{Authority: "a.com:8080"}, true},
		{"host prefix", to(Operation{Hosts: []string{"a.*"}}), &attrs.Request{Authority: "A.com:8080"}, true},
		{"host suffix", to(Operation{Hosts: []string{"*.Example.com"}}), &attrs.Request{Authority: "x.EXAMPLE.com"}, true},
		{"host suffix not itself", to(Operation{Hosts: []string{"*.example.com"}}), &attrs.Request{Authority: "example.com"}, false},
		{"host any", to(Operation{Hosts: []string{"*"}}), &attrs.Request{Authority: "x"}, true},
		{"host any, none", to(Operation{Hosts: []string{"*"}}), path("/"), false},
		{"host trailing dot", to(Operation{Hosts: []string{"a.com"}}), &attrs.Request{Authority: "a.com."}, false},
		{"host of many", to(Operation{Hosts: []string{"b", "c", "d", "e", "a.com"}}), &attrs.Request{Authority: "A.com"}, true},
		// methods
		{"method", to(Operation{Methods: []string{"GET"}}), &attrs.Request{Method: "GET"}, true},
		{"method case", to(Operation{Methods: []string{"get"}}), &attrs.Request{Method: "GET"}, false},
		{"method prefix", to(Operation{Methods: []string{"P*"}}), &attrs.Request{Method: "POST"}, true},
		{"method suffix", to(Operation{Methods: []string{"*T"}}), &attrs.Request{Method: "POST"}, true},
		{"method prefix other", to(Operation{Methods: []string{"P*"}}), &attrs.Request{Method: "GET"}, false},
		{"method suffix other", to(Operation{Methods: []string{"*T"}}), &attrs.Request{Method: "HEAD"}, false},
		{"method any, none", to(Operation{Methods: []string{"*"}}), path("/"), false},
		{"method any", to(Operation{Methods: []string{"*"}}), &attrs.Request{Method: "X"}, true},
		// paths
		{"path", to(Operation{Paths: []string{"/a"}}), path("/a"), true},
		{"path case", to(Operation{Paths: []string{"/A"}}), path("/a"), false},
		{"path prefix", to(Operation{Paths: []string{"/a*"}}), path("/abc"), true},
		{"path prefix itself", to(Operation{Paths: []string{"/a*"}}), path("/a"), true},
		{"path suffix", to(Operation{Paths: []string{"*/x"}}), path("/a/x"), true},
		{"path suffix itself", to(Operation{Paths: []string{"*/x"}}), path("/x"), true},
		{"path suffix other", to(Operation{Paths: []string{"*/x"}}), path("/x/"), false},
		{"path any", to(Operation{Paths: []string{"*"}}), path("/"), true},
		{"path any, none", to(Operation{Paths: []string{"*"}}), path(""), false},
		{"path inner star literal", to(Operation{Paths: []string{"/a/*/b"}}), path("/a/x/b"), false},
		{"path inner star itself", to(Operation{Paths: []string{"/a/*/b"}}), path("/a/*/b"), true},
		{"path *a* is a suffix", to(Operation{Paths: []string{"*a*"}}), path("/xa*"), true},
		{"path *a* is no contains", to(Operation{Paths: []string{"*a*"}}), path("/xax"), false},
		{"path /a*b* is a prefix", to(Operation{Paths: []string{"/a*b*"}}), path("/a*bc"), true},
		{"path /a*b* is no glob", to(Operation{Paths: []string{"/a*b*"}}), path("/axb"), false},
		{"path template", to(Operation{Paths: []string{"/{*}/x/{**}"}}), path("/a/x/b/c"), true},
		{"path template in angles", to(Operation{Paths: []string{"/<*>/x/<**>"}}), path("/a/x/b/c"), true},
		{"path template, none", to(Operation{Paths: []string{"/{**}"}}), path(""), false},
		{"path template is literal beside operators", to(Operation{Paths: []string{"/a.b+(x)$/{*}"}}), path("/a.b+(x)$/1"), true},
		{"path template has no expressions", to(Operation{Paths: []string{"/a.b/{*}"}}), path("/axb/1"), false},
		{"path of many", to(Operation{Paths: []string{"/1", "/2", "/3", "/4", "/a"}}), path("/a"), true},
		// headers
		{"header", cond("request.headers[X-Team]", "blue"), header("x-team:blue"), true},
		{"header value case", cond("request.headers[x-team]", "blue"), header("x-team:Blue"), false},
		{"header prefix", cond("request.headers[x-team]", "green-*"), header("x-team:green-1"), true},
		{"header suffix", cond("request.headers[x-team]", "*-1"), header("x-team:green-1"), true},
		{"header present", cond("request.headers[x-team]", "*"), header("x-team:"), true},
		{"header missing", cond("request.headers[x-team]", "*"), header("x:1"), false},
		{"header second line", cond("request.headers[x-team]", "blue"), header("x-team:red", "x-team:blue"), true},
		{"header list in a line is one value", cond("request.headers[x-team]", "blue"), header("x-team:red,blue"), false},
		{"header lines not joined", cond("request.headers[x-team]", "red,blue"), header("x-team:red", "x-team:blue"), false},
		{"header method", cond("request.headers[:method]", "GET"), &attrs.Request{Method: "GET"}, true},
		// sni
		{"sni", cond("connection.sni", "a.example"), conn(attrs.Conn{SNI: "a.example"}), true},
		{"sni suffix", cond("connection.sni", "*.example"), conn(attrs.Conn{SNI: "a.example"}), true},
		{"sni prefix", cond("connection.sni", "a.*"), conn(attrs.Conn{SNI: "a.example"}), true},
		{"sni any", cond("connection.sni", "*"), conn(attrs.Conn{SNI: "a.example"}), true},
		{"sni other", cond("connection.sni", "a.example"), conn(attrs.Conn{SNI: "b.example"}), false},
		{"sni any, none", cond("connection.sni", "*"), path("/"), false},
		// claims
		{"claim list", cond("request.auth.claims[groups]", "admin"), claims(raw), true},
		{"claim list prefix", cond("request.auth.claims[groups]", "x", "dev-*"), claims(raw), true},
		{"claim list other", cond("request.auth.claims[groups]", "ops"), claims(raw), false},
		{"claim string", cond("request.auth.claims[name]", "bob"), claims(raw), true},
		{"claim suffix", cond("request.auth.claims[name]", "*ob"), claims(raw), true},
		{"claim any", cond("request.auth.claims[name]", "*"), claims(raw), true},
		{"claim number", cond("request.auth.claims[n]", "*", "5"), claims(raw), false},
		{"claim bool", cond("request.auth.claims[t]", "*", "true"), claims(raw), false},
		{"claim object", cond("request.auth.claims[nested]", "*"), claims(raw), false},
		{"claim nested", cond("request.auth.claims[nested][group]", "g1"), claims(raw), true},
		{"claim nested list", cond("request.auth.claims[nested][list]", "l1"), claims(raw), true},
		{"claim list any", cond("request.auth.claims[groups]", "*"), claims(raw), true},
		{"claim prefix of a string", cond("request.auth.claims[name]", "b*"), claims(raw), true},
		{"claim value case", cond("request.auth.claims[name]", "Bob"), claims(raw), false},
		{"claim nested missing", cond("request.auth.claims[nested][x]", "*"), claims(raw), false},
		{"claim below a string", cond("request.auth.claims[name][x]", "*"), claims(raw), false},
		{"claim scope word", cond("request.auth.claims[scope]", "write"), claims(raw), true},
		{"claim scope is a list now", cond("request.auth.claims[scope]", "read write"), claims(raw), false},
		{"claim configured to split", cond("request.auth.claims[roles]", "y"), claims(raw), true},
		{"claim not split", cond("request.auth.claims[other]", "y"), claims(raw), false},
		{"claim nested scope not split", cond("request.auth.claims[nested][scope]", "b"), claims(raw), false},
		{"claim without token", cond("request.auth.claims[name]", "*"), path("/"), false},
		{"audiences", cond("request.auth.audiences", "web"), claims(raw), true},
		{"audiences prefix", cond("request.auth.audiences", "sh*"), claims(raw), true},
		{"audiences other", cond("request.auth.audiences", "api"), claims(raw), false},
		{"audiences without token", cond("request.auth.audiences", "*"), path("/"), false},
		{"audiences from the field", cond("request.auth.audiences", "web"), &attrs.Request{Claims: &attrs.Claims{Audiences: []string{"web"}}}, true},
		{"presenter", cond("request.auth.presenter", "app"), claims(raw), true},
		{"presenter other", cond("request.auth.presenter", "ap"), claims(raw), false},
		{"presenter without token", cond("request.auth.presenter", "*"), path("/"), false},
		{"presenter from the field", cond("request.auth.presenter", "ap*"), &attrs.Request{Claims: &attrs.Claims{Presenter: "app"}}, true},
	}
	for _, tt := range tests {
		for _, invert := range []bool{false, true} {
			spec, want := tt.spec, tt.want
			if invert {
				spec, want = inverted(spec), !want
			}
			e, err := spec.Expr(scope)
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if got := e.Match(tt.req); got != want {
				t.Errorf("%s (inverted %v): %v", tt.name, invert, got)
			}
			if got := optimize(e).Match(tt.req); got != want {
				t.Errorf("%s (inverted %v), optimized: %v", tt.name, invert, got)
			}
		}
	}
}

// inverted moves every list to its not twin.
func inverted(s *RuleSpec) *RuleSpec {
	r := &RuleSpec{}
	for _, f := range s.From {
		r.From = append(r.From, Source{
			NotPrincipals: f.Principals, NotRequestPrincipals: f.RequestPrincipals, NotNamespaces: f.Namespaces,
			NotServiceAccounts: f.ServiceAccounts, NotTrustDomains: f.TrustDomains, NotIPBlocks: f.IPBlocks, NotRemoteIPBlocks: f.RemoteIPBlocks,
		})
	}
	for _, o := range s.To {
		r.To = append(r.To, Operation{NotHosts: o.Hosts, NotPorts: o.Ports, NotMethods: o.Methods, NotPaths: o.Paths})
	}
	for _, c := range s.When {
		r.When = append(r.When, Condition{Key: c.Key, NotValues: c.Values})
	}
	return r
}

func TestCombinations(t *testing.T) {
	get := &attrs.Request{Conn: &attrs.Conn{Peer: attrs.Principal{URI: curl}, DestPort: 80}, Method: "GET", Path: "/a"}
	clients, evil := Source{Namespaces: []string{"clients"}}, Source{Namespaces: []string{"evil"}}
	a, b := Operation{Paths: []string{"/a"}}, Operation{Paths: []string{"/b"}}
	port := func(p string) Condition { return Condition{Key: "destination.port", Values: []string{p}} }
	tests := []struct {
		name string
		spec RuleSpec
		want bool
	}{
		{"empty rule", RuleSpec{}, true},
		{"one of from", RuleSpec{From: []Source{evil, clients}}, true},
		{"from and to", RuleSpec{From: []Source{clients}, To: []Operation{b, a}}, true},
		{"from without to", RuleSpec{From: []Source{clients}, To: []Operation{b}}, false},
		{"to without from", RuleSpec{From: []Source{evil}, To: []Operation{a}}, false},
		{"when ANDed", RuleSpec{When: []Condition{port("80"), port("81")}}, false},
		{"when holds", RuleSpec{To: []Operation{a}, When: []Condition{port("80")}}, true},
		{"fields of a source ANDed", RuleSpec{From: []Source{{Namespaces: []string{"clients"}, IPBlocks: []string{"1.1.1.1"}}}}, false},
		{"value and not twin", RuleSpec{From: []Source{{Namespaces: []string{"c*"}, NotNamespaces: []string{"clients"}}}}, false},
		{"values and notValues", *when(Condition{Key: "source.namespace", Values: []string{"c*"}, NotValues: []string{"curl"}}), true},
		{"not of several is not of all", RuleSpec{To: []Operation{{NotPaths: []string{"/b", "/a"}}}}, false},
	}
	for _, tt := range tests {
		e, err := tt.spec.Expr(scope)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got := e.Match(get); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestRefused(t *testing.T) {
	long := strings.Repeat("a", 321)
	tests := []struct {
		spec  *RuleSpec
		field string
	}{
		{&RuleSpec{From: []Source{}}, "spec.rules[3].from"},
		{&RuleSpec{From: make([]Source, 513)}, "spec.rules[3].from"},
		{&RuleSpec{To: []Operation{}}, "spec.rules[3].to"},
		{from(Source{}), "spec.rules[3].from[0].source"},
		{to(Operation{}), "spec.rules[3].to[0].operation"},
		{from(Source{Principals: []string{"a", ""}}), "spec.rules[3].from[0].source.principals[1]"},
		{from(Source{NotIPBlocks: []string{"10.0.0.0/33"}}), "spec.rules[3].from[0].source.notIpBlocks[0]"},
		{from(Source{IPBlocks: []string{"1.1.1.1", "x"}}), "spec.rules[3].from[0].source.ipBlocks[1]"},
		{from(Source{RemoteIPBlocks: []string{"fe80::1%eth0"}}), "spec.rules[3].from[0].source.remoteIpBlocks[0]"},
		{from(Source{ServiceAccounts: []string{"a*"}}), "spec.rules[3].from[0].source.serviceAccounts[0]"},
		{from(Source{ServiceAccounts: []string{"a/b/c"}}), "spec.rules[3].from[0].source.serviceAccounts[0]"},
		{from(Source{ServiceAccounts: []string{"/c"}}), "spec.rules[3].from[0].source.serviceAccounts[0]"},
		{from(Source{ServiceAccounts: []string{long}}), "spec.rules[3].from[0].source.serviceAccounts[0]"},
		{from(Source{ServiceAccounts: strings.Split(strings.Repeat("a,", 17)+"a", ",")}), "spec.rules[3].from[0].source.serviceAccounts"},
		{from(Source{ServiceAccounts: []string{"a"}, NotPrincipals: []string{"b"}}), "spec.rules[3].from[0].source.serviceAccounts"},
		{from(Source{TrustDomains: []string{"a*b"}}), "spec.rules[3].from[0].source.trustDomains[0]"},
		{from(Source{TrustDomains: []string{"*a*"}}), "spec.rules[3].from[0].source.trustDomains[0]"},
		{to(Operation{Ports: []string{"80", "65536"}}), "spec.rules[3].to[0].operation.ports[1]"},
		{to(Operation{Ports: []string{"80-90"}}), "spec.rules[3].to[0].operation.ports[0]"},
		{to(Operation{NotPorts: []string{"*"}}), "spec.rules[3].to[0].operation.notPorts[0]"},
		{to(Operation{Paths: []string{"/a", "/b{c"}}), "spec.rules[3].to[0].operation.paths[1]"},
		{to(Operation{NotPaths: []string{"{*}"}}), "spec.rules[3].to[0].operation.notPaths[0]"},
		{when(Condition{Key: "source.ip"}), "spec.rules[3].when[0]"},
		{cond("source.ips", "1.1.1.1"), "spec.rules[3].when[0].key"},
		{cond("", "x"), "spec.rules[3].when[0].key"},
		{cond("request.headers", "x"), "spec.rules[3].when[0].key"},
		{cond("request.headers[]", "x"), "spec.rules[3].when[0].key"},
		{cond("request.headers[a]b", "x"), "spec.rules[3].when[0].key"},
		{cond("request.auth.claims[a][]", "x"), "spec.rules[3].when[0].key"},
		{cond("request.auth.claims[a]x[b]", "x"), "spec.rules[3].when[0].key"},
		{cond("destination.namespace", "x"), "spec.rules[3].when[0].key"},
		{cond("destination.labels[a]", "x"), "spec.rules[3].when[0].key"},
		{cond("destination.name", "x"), "spec.rules[3].when[0].key"},
		{cond("destination.user", "x"), "spec.rules[3].when[0].key"},
		{cond("experimental.envoy.filters.a.b[c]", "x"), "spec.rules[3].when[0].key"},
		{cond("destination.port", "x"), "spec.rules[3].when[0].values[0]"},
		{notCond("source.ip", "1.1.1.1", "x"), "spec.rules[3].when[0].notValues[1]"},
	}
	for _, tt := range tests {
		_, err := NewRule("shop", "p", 3, Allow, tt.spec, scope)
		var fe *FieldError
		if !errors.As(err, &fe) || fe.Field != tt.field || fe.Msg == "" {
			t.Errorf("%+v: error %v, want field %s", tt.spec, err, tt.field)
		}
	}
	for _, spec := range []*RuleSpec{
		from(Source{Principals: []string{"a"}}), from(Source{NotNamespaces: []string{"a"}}),
		from(Source{ServiceAccounts: []string{"a"}}), from(Source{TrustDomains: []string{"a"}}),
		from(Source{NotRequestPrincipals: []string{"a"}}), cond("request.auth.claims[a]", "x"),
		cond("request.auth.principal", "x"), cond("request.auth.audiences", "x"), cond("request.auth.presenter", "x"),
	} {
		if _, err := NewRule("shop", "p", 0, Custom, spec, scope); err == nil {
			t.Errorf("CUSTOM accepted %+v", spec)
		}
	}
}

func TestExpandPrincipals(t *testing.T) {
	s := Scope{TrustDomain: "td1", TrustAliases: []string{"td2", "my-td"}}
	tests := []struct{ in, want string }{
		{"td1/ns/a/sa/b", "td1/ns/a/sa/b td2/ns/a/sa/b my-td/ns/a/sa/b"},
		{"td2/ns/a/sa/b", "td1/ns/a/sa/b td2/ns/a/sa/b my-td/ns/a/sa/b"},
		{"cluster.local/ns/a/sa/b", "td1/ns/a/sa/b td2/ns/a/sa/b my-td/ns/a/sa/b"},
		{"other/ns/a/sa/b", "other/ns/a/sa/b"},
		{"*/ns/a/sa/b", "*/ns/a/sa/b"},
		{"td1/ns/a/*", "td1/ns/a/*"},
		{"td1/ns/a/sa/*", "td1/ns/a/sa/* td2/ns/a/sa/* my-td/ns/a/sa/*"},
		{"*-td/ns/a/sa/b", "td1/ns/a/sa/b td2/ns/a/sa/b *-td/ns/a/sa/b"},
		{"*", "*"},
	}
	for _, tt := range tests {
		if got := strings.Join(s.expandPrincipals([]string{tt.in}), " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.in, got, tt.want)
		}
	}
}

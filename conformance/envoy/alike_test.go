package envoy

import (
	"net/netip"
	"strings"
	"testing"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
)

const (
	alikeServices = 400 // with one to three policies of one to three rules
	alikeAsked    = 60  // requests each
)

// TestPolicyFormsDecideAlike compiles the same policies twice, from their objects
// and from the RBAC that istiod makes of them, and decides the same requests and
// connections by both. TestRenderingIsIstiods shows that the RBAC is istiod's.
func TestPolicyFormsDecideAlike(t *testing.T) {
	g := newGenerator(t)
	for i := range alikeServices {
		g.Anything(i%4 == 0)
	}
	w := g.World()
	ours := compileModel(t)(kubeModel(w, "BASE"))
	istiods := compileModel(t)(istiodModel(w.Resources(base(t)), w.Namespace))
	var allowed, denied, audited, asked int
	for _, s := range w.Subjects {
		to := netip.MustParseAddrPort(s.Authority())
		a, b := ours.Lookup(to, "", 0), istiods.Lookup(to, "", 0)
		if a == nil || b == nil {
			t.Fatalf("%s has chains %v and %v", s.Name, a, b)
		}
		rules := s.rules()
		for i := range alikeAsked {
			q := g.base(s)
			if len(rules) > 0 {
				q = g.aimed(s, i%len(rules), i%2 == 0)
			}
			r := q.request(to)
			x, y := decide(a, r, s.TCP), decide(b, r, s.TCP)
			if x.Allowed != y.Allowed || x.Audit != y.Audit {
				t.Fatalf("%s: from objects %+v, from RBAC %+v\nfor %v with claims %v and server name %q\nby %s", s.Name, x, y, q, q.Claims, q.SNI, mustJSON(s.Policies))
			}
			// Connections of HTTP chains are decided by what is known without HTTP.
			if c, d := a.Conn.CheckConn(r.Conn), b.Conn.CheckConn(r.Conn); s.TCP && c.Allowed != d.Allowed {
				t.Fatalf("%s: connections from objects %+v, from RBAC %+v", s.Name, c, d)
			}
			asked++
			if x.Allowed {
				allowed++
			} else {
				denied++
			}
			if x.Audit != "" {
				audited++
			}
		}
	}
	t.Logf("%d services, %d decisions: %d allowed, %d denied, %d audited", len(w.Subjects), asked, allowed, denied, audited)
	if asked != alikeServices*alikeAsked || min(allowed, denied) < asked/5 || audited < asked/50 {
		t.Errorf("the corpus has lost its balance")
	}
}

func compileModel(t *testing.T) func(*config.Model, error) *config.Snapshot {
	return func(m *config.Model, err error) *config.Snapshot {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		s, problems := config.Compile(m, nil, config.Env{Stage: func(*config.Destination, *config.Stage, any) (any, error) { return struct{}{}, nil }})
		for _, p := range append(m.Problems, problems...) {
			if p.Severity == config.Error {
				t.Fatalf("%s %s: %s: %s", p.Kind, p.Name, p.Field, p.Message)
			}
		}
		return s
	}
}

// decide runs the policies of a chain.
func decide(c *config.Chain, r *attrs.Request, tcp bool) authz.Decision {
	if tcp {
		return c.Conn.CheckConn(r.Conn)
	}
	d := authz.Decision{Allowed: true}
	for i := range c.Stages {
		if c.Stages[i].Kind == config.StageAuthz {
			x := c.Stages[i].Authz.Check(r)
			if x.Audit == "" {
				x.Audit = d.Audit
			}
			if d = x; !d.Allowed {
				break
			}
		}
	}
	return d
}

// request is a question as policies see it.
func (q *Question) request(to netip.AddrPort) *attrs.Request {
	source := netip.AddrPortFrom(netip.MustParseAddr(q.Client.Addr), 4711)
	path, query, has := strings.Cut(q.Target, "?")
	r := &attrs.Request{
		Conn: &attrs.Conn{Source: source, Dest: to, DestPort: to.Port(), SNI: q.SNI, Peer: attrs.Principal{
			URI:         "spiffe://cluster.local/ns/" + q.Client.Namespace + "/sa/" + q.Client.ServiceAccount,
			TrustDomain: "cluster.local", Namespace: q.Client.Namespace, ServiceAccount: q.Client.ServiceAccount}},
		Method: q.Method, Scheme: "http", Authority: q.Host, Path: path, Query: query, HasQuery: has, Remote: source.Addr(),
	}
	for _, h := range q.Headers {
		r.Headers = append(r.Headers, attrs.Field{Name: strings.ToLower(h[0]), Value: h[1]})
	}
	if l := q.attribute("remote.ip"); len(l) == 1 {
		if a, err := netip.ParseAddr(l[0]); err == nil {
			r.Remote = a
		}
	}
	if q.Claims != nil {
		r.Claims = &attrs.Claims{Raw: q.Claims, Issuer: str(q.Claims["iss"]), Subject: str(q.Claims["sub"]), Presenter: str(q.Claims["azp"])}
		if s := str(q.Claims["aud"]); s != "" {
			r.Claims.Audiences = []string{s}
		}
		for _, a := range list(q.Claims["aud"]) {
			r.Claims.Audiences = append(r.Claims.Audiences, str(a))
		}
	}
	return r
}

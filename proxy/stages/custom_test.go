package stages_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/authz/extauthz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/testmesh"
	"waypoint.dev/waypoint/telemetry"
)

// authorizer is a real authorization server in a pod of the mesh.
type authorizer struct {
	*testmesh.Authorizer
	peers func() map[string]int
}

// authorizer starts one; key is its backend.
func (m *mesh) authorizer(http1 bool) (a *authorizer, key string) {
	return m.authorizerBehind(http1, func(ln net.Listener) net.Listener { return ln })
}

// authorizerBehind starts one whose connections come through wrap.
func (m *mesh) authorizerBehind(http1 bool, wrap func(net.Listener) net.Listener) (a *authorizer, key string) {
	m.t.Helper()
	ip, node := m.pod("sys", "authz")
	ln, err := net.Listen("tcp", ip.String()+":9000")
	if err != nil {
		m.t.Fatal(err)
	}
	ln = wrap(ln)
	a = &authorizer{testmesh.NewAuthorizer(ln, http1), node.Peers}
	m.t.Cleanup(a.Close)
	return a, m.backend("authz.sys.svc.cluster.local", 9000, "sys", "authz", netip.MustParseAddrPort(ln.Addr().String()))
}

func custom(t *testing.T, c *extauthz.Config) config.Stage {
	p := policy(t, "ext", authz.Custom, authz.RuleSpec{To: []authz.Operation{{NotPaths: []string{"/free"}}}})
	p.Provider = c.Name
	return config.Stage{Kind: config.StageCustom, Policies: []authz.Policy{p}, Spec: c}
}

func provider(key string, http1 bool) *extauthz.Config {
	c := &extauthz.Config{Name: "ext", Backend: key, Timeout: 10 * time.Second, Breaker: extauthz.BreakerOff}
	if http1 {
		c.HTTP = &extauthz.HTTP{PathPrefix: "/check", UpstreamOnAllow: []extauthz.Pattern{{Value: "x-user"}}, DownstreamOnAllow: []extauthz.Pattern{{Value: "x-checked"}}}
	} else {
		c.GRPC = &extauthz.GRPC{}
	}
	return c
}

func TestExternalAuthorization(t *testing.T) {
	for _, http1 := range []bool{false, true} {
		t.Run(fmt.Sprint("http=", http1), func(t *testing.T) {
			m := newMesh(t)
			a, key := m.authorizer(http1)
			c := provider(key, http1)
			m.serve(func(d *config.Destination) { d.Stages = []config.Stage{custom(t, c)} })

			got := m.ask("GET", "/ok?k=1&l=2", nil, "X-User", "root", "X-Secret", "s")
			if got.code != 200 || got.header.Get("X-Checked") != "yes" || got.seen[0].Headers["X-User"] != "bob" || got.seen[0].Headers["X-Secret"] != "" {
				t.Errorf("allowed: %d %v, the app saw %+v", got.code, got.header, got.seen)
			}
			if !http1 {
				if got.seen[0].Path != "/ok?l=2" {
					t.Errorf("the app saw path %q", got.seen[0].Path)
				}
				at := a.Last().GetAttributes()
				if at.GetSource().GetPrincipal() != "spiffe://cluster.local/ns/clients/sa/curl" || at.GetDestination().GetPrincipal() != waypoint ||
					at.GetRequest().GetHttp().GetId() == "" || at.GetRequest().GetHttp().GetProtocol() != "HTTP/1.1" {
					t.Errorf("the check says %v", at)
				}
			}
			if p := a.peers(); p[waypoint] == 0 || len(p) != 1 {
				t.Errorf("the authorizer was called by %v", p)
			}
			for _, tt := range []struct {
				path, body, details string
				code                int
			}{
				{"/deny", "no", "ext_authz_denied", 418},
				{"/slow", "", "ext_authz_error", 403},
				{"/garbage", "", "ext_authz_error", 403},
			} {
				if tt.path == "/slow" {
					short := *c
					short.Timeout = 200 * time.Millisecond
					m.serve(func(d *config.Destination) { d.Stages = []config.Stage{custom(t, &short)} })
				}
				got := m.ask("GET", tt.path, nil)
				m.serve(func(d *config.Destination) { d.Stages = []config.Stage{custom(t, c)} })
				if got.code != tt.code || got.body != tt.body || got.rec.Details != tt.details || got.rec.Flags&telemetry.FlagUAEX == 0 || got.rec.Policy != "shop/ext" {
					t.Errorf("%s: %d %q, %q %v %q", tt.path, got.code, got.body, got.rec.Details, got.rec.Flags, got.rec.Policy)
				}
			}
			if got := m.ask("GET", "/deny", nil); got.header.Get("X-Why") != "because" {
				t.Errorf("denied with %v", got.header)
			}
			if got := m.ask("GET", "/free", nil); got.code != 200 {
				t.Errorf("a request that no CUSTOM policy matches: %d", got.code)
			}

			// statusOnError and failOpen, with a provider that is down.
			c = provider(key, http1)
			c.StatusOnError, c.Timeout = 503, 200*time.Millisecond
			m.serve(func(d *config.Destination) { d.Stages = []config.Stage{custom(t, c)} })
			if got := m.ask("GET", "/slow", nil); got.code != 503 {
				t.Errorf("statusOnError: %d", got.code)
			}
			a.Close()
			if got := m.ask("GET", "/ok", nil); got.code != 503 || got.rec.Details != "ext_authz_error" {
				t.Errorf("down: %d %q", got.code, got.rec.Details)
			}
			c = provider(key, http1)
			c.FailOpen = true
			m.serve(func(d *config.Destination) { d.Stages = []config.Stage{custom(t, c)} })
			if got := m.ask("GET", "/ok", nil); got.code != 200 || got.rec.Reason != "custom_failed_open" {
				t.Errorf("failOpen: %d %q", got.code, got.rec.Reason)
			}
			c = provider("nowhere", http1)
			m.serve(func(d *config.Destination) { d.Stages = []config.Stage{custom(t, c)} })
			if got := m.ask("GET", "/ok", nil); got.code != 403 {
				t.Errorf("unknown backend: %d", got.code)
			}
		})
	}
}

func TestBodyInCheck(t *testing.T) {
	for _, http1 := range []bool{false, true} {
		m := newMesh(t)
		a, key := m.authorizer(http1)
		c := provider(key, http1)
		c.Body = &extauthz.Body{MaxBytes: 40 << 10}
		m.serve(func(d *config.Destination) { d.Stages = []config.Stage{custom(t, c)} })
		seen := a.Body
		for _, tt := range []struct {
			n, code int
			chunked bool
		}{{3, 200, false}, {3, 200, true}, {40 << 10, 200, false}, {40 << 10, 200, true}, {40<<10 + 1, 413, false}, {100 << 10, 413, true}} {
			var body io.Reader = strings.NewReader(strings.Repeat("x", tt.n))
			if tt.chunked {
				body = struct{ io.Reader }{body}
			}
			got := m.ask("POST", "/ok", body)
			if got.code != tt.code {
				t.Errorf("http %v, %+v: %d %q", http1, tt, got.code, got.body)
			}
			if tt.code == 200 && (len(seen()) != tt.n || !strings.Contains(got.body, fmt.Sprintf(`"body":%d`, tt.n))) {
				t.Errorf("http %v, %+v: the check had %d bytes, the app said %s", http1, tt, len(seen()), got.body)
			}
			if tt.code == 413 && got.rec.Details != "request_payload_too_large" {
				t.Errorf("http %v, %+v: %q", http1, tt, got.rec.Details)
			}
		}
		c = provider(key, http1)
		c.Body = &extauthz.Body{MaxBytes: 10, Partial: true}
		m.serve(func(d *config.Destination) { d.Stages = []config.Stage{custom(t, c)} })
		got := m.ask("POST", "/ok", strings.NewReader(strings.Repeat("x", 3<<20)))
		if got.code != 200 || seen() != "xxxxxxxxxx" || !strings.Contains(got.body, `"body":3145728`) {
			t.Errorf("http %v, partial: %d, %q, %s", http1, got.code, seen(), got.body)
		}
	}
}

// TestConnections puts connections without HTTP to an authorizer, and cuts those
// that a new policy denies.
func TestConnections(t *testing.T) {
	m := newMesh(t)
	a, key := m.authorizer(false)
	open := func() (net.Conn, error) {
		c, err := m.dial(context.Background())
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: c\r\n\r\n"); err != nil {
			return nil, err
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil && resp.StatusCode != 200 {
			err = errors.New(resp.Status)
		}
		if err != nil {
			_ = c.Close()
		}
		return c, err
	}
	tcp := func(c *extauthz.Config, more ...authz.Policy) func(*config.Destination) {
		p := policy(t, "ext", authz.Custom, authz.RuleSpec{})
		p.Provider = "ext"
		return func(d *config.Destination) {
			d.Protocol = config.ProtocolTCP
			d.Stages = []config.Stage{{Kind: config.StageCustom, Policies: []authz.Policy{p}, Spec: c}}
			d.Conn = append([]authz.Policy{p}, more...)
		}
	}
	m.serve(tcp(provider(key, false)))
	c, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if p := a.peers(); p[waypoint] == 0 {
		t.Error("the authorizer was not asked")
	}
	deny := policy(t, "curl", authz.Deny, authz.RuleSpec{From: []authz.Source{{Principals: []string{"*/sa/curl"}}}})
	m.serve(tcp(provider(key, false), deny))
	if _, err := io.ReadAll(c); err == nil {
		t.Error("a connection that is now denied ended cleanly")
	}
	_ = c.Close()
	if r := <-m.conns; !r.Denied || r.Policy != "shop/curl" {
		t.Errorf("record %+v", r)
	}
	if _, err := open(); err == nil {
		t.Error("a denied connection opened")
	}
	<-m.conns
	a.Close()
	m.serve(tcp(provider(key, false)))
	if _, err := open(); err == nil {
		t.Error("a connection opened though nobody could be asked")
	}
	if r := <-m.conns; r.Flags&telemetry.FlagUAEX == 0 || r.Termination != "ext_authz_error" {
		t.Errorf("record %v %q", r.Flags, r.Termination)
	}
	c2 := provider(key, true)
	c2.FailOpen = true
	m.serve(tcp(c2))
	if _, err := open(); err == nil {
		t.Error("a connection opened though an HTTP provider cannot check it")
	}
	<-m.conns
}

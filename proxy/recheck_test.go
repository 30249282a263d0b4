package proxy

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
)

// denyCurl denies the rig's client by what is known of its connection.
func denyCurl() func(*config.Model) {
	return policy(authz.Deny, authz.RuleSpec{From: []authz.Source{{Principals: []string{"*/sa/curl"}}}})
}

func isDenied(t *testing.T, r *rig, details string) {
	t.Helper()
	if rec := r.last(1); !rec.Denied || rec.Policy != "shop/p" || rec.Reason != "deny_matched" || rec.Details != details {
		t.Errorf("record %+v", rec)
	}
}

// A change of policies between their answer and the moment from which an exchange
// can be cut is not lost: it is cut there and then.
func TestPolicyChangeBeforeStreaming(t *testing.T) {
	for _, tt := range []struct{ name, request, answer string }{
		{"upgrade", upgradeRequest, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi"},
		{"chunked", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"},
		{"until close", get, "HTTP/1.1 200 OK\r\n\r\nhi"},
		{"long", get, "HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\nhi"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				defer r.close()
				r.on(pod1, func(c *memConn) {
					if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
						return
					}
					r.swap(cartModel(denyCurl())) // the request was allowed, its answer is not there yet
					_, _ = io.WriteString(c, tt.answer)
					_, _ = io.Copy(io.Discard, struct{ io.Reader }{c}) // until it is cut
				})
				c, _ := r.tunnel()
				_, _ = io.WriteString(c, tt.request)
				_, _ = io.ReadAll(struct{ io.Reader }{c})
				r.idle()
				isDenied(t, r, "policy_changed")
			})
		})
	}
}

// A request whose body does not end is cut before there is a response, and gets
// the answer of a denial.
func TestPolicyChangeCutsUpload(t *testing.T) {
	for _, head := range []string{"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "Content-Length: 10000000\r\n\r\nabc"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, nil)
			defer r.close()
			r.on(pod1, func(c *memConn) { _, _ = io.Copy(io.Discard, struct{ io.Reader }{c}) })
			c, _ := r.tunnel()
			_, _ = io.WriteString(c, "POST /upload HTTP/1.1\r\nHost: cart\r\n"+head)
			synctest.Wait()
			r.swap(cartModel(policy(authz.Deny, authz.RuleSpec{From: []authz.Source{{Namespaces: []string{"others"}}}})))
			synctest.Wait()
			r.swap(cartModel(denyCurl()))
			resp, body := readResponse(t, bufio.NewReader(c), "POST")
			if resp.StatusCode != 403 || body != authz.DenyBody {
				t.Errorf("%d %q", resp.StatusCode, body)
			}
			_ = c.Close()
			r.idle()
			isDenied(t, r, "rbac_access_denied_matched_policy[ns[shop]-policy[p]-rule[0]]")
		})
	}
}

// What waited for a stage while policies changed is asked about again.
func TestPolicyChangeWhileAsking(t *testing.T) {
	var r *rig
	f := stageFunc(func(string, *attrs.Request) Verdict {
		r.swap(cartModel(denyCurl()))
		return Verdict{Allow: true}
	})
	r = staged(t, f, config.Stage{Kind: config.StageCustom, Policies: customPolicy()})
	defer r.close()
	if resp, body := r.do(get); resp.StatusCode != 403 || body != authz.DenyBody {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	isDenied(t, r, "rbac_access_denied_matched_policy[ns[shop]-policy[p]-rule[0]]")
}

// A CUSTOM policy that nobody can be asked about denies what is open, too.
func TestPolicyChangeWithoutProvider(t *testing.T) {
	conflict := func(m *config.Model) {
		a, b := customPolicy()[0], customPolicy()[0]
		a.Rules = []authz.Rule{{When: authz.Any()}}
		b.Provider, b.Rules = "other", a.Rules
		m.Destinations[0].Conn = []authz.Policy{a, b}
	}
	r := newRig(t, protocolIs(config.ProtocolTCP))
	defer r.close()
	r.on(pod1, echo)
	c, _ := r.tunnel()
	_, _ = io.WriteString(c, "x")
	readN(t, c, 1)
	r.swap(cartModel(both(protocolIs(config.ProtocolTCP), conflict)))
	if _, err := io.ReadAll(struct{ io.Reader }{c}); err == nil {
		t.Error("ended cleanly")
	}
	r.idle()
	if rec := r.last(1); !rec.Denied || rec.Reason != string(authz.ReasonCustomConflict) || !strings.HasPrefix(rec.Policy, "shop/") {
		t.Errorf("record %+v", rec)
	}
}

package proxy

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
	sessions "waypoint.dev/waypoint/resilience/session"
	"waypoint.dev/waypoint/routing"
)

// sessionRig serves /a and /b by rules with sessions of their own, over pod1 in a
// backend of weight wa and pod2 in one of weight wb.
func sessionRig(t *testing.T, header bool, wa, wb uint32) *rig {
	r := newRig(t, sessionModel(header, wa, wb))
	for _, p := range []netip.AddrPort{pod1, pod2} {
		r.handle(p, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Pod", p.String()) })
	}
	return r
}

func sessionModel(header bool, wa, wb uint32) func(*config.Model) {
	return func(m *config.Model) {
		d := m.Destinations[0]
		addBackend(m, "one|80", config.ProtocolHTTP, pod1)
		addBackend(m, "two|80", config.ProtocolHTTP, pod2)
		d.Refs = []string{"one|80", "two|80"}
		for i, path := range []string{"/a", "/b"} {
			s := &sessions.Spec{Name: "sid", Scope: path, Header: header, Path: path, Idle: time.Hour}
			d.Sessions = append(d.Sessions, s)
			rule := forward()
			rule.Index, rule.Session = i, i
			rule.Matches = []routing.Match{{Path: routing.PathMatch{Kind: routing.PathPrefix, Value: path}}}
			rule.Backends = []routing.Backend{{Ref: 0, Weight: wa}, {Ref: 1, Weight: wb}}
			d.Routes = append(d.Routes, rule)
		}
	}
}

// ask sends one request with a token and returns the pod that answered and the
// token that came back.
func (r *rig) ask(path string, header bool, token string) (pod, next string, res *http.Response) {
	r.t.Helper()
	line := ""
	switch {
	case token != "" && header:
		line = "sid: " + token + "\r\n"
	case token != "":
		line = "Cookie: x=y; sid=" + token + "\r\n"
	}
	res, _ = r.do("GET " + path + " HTTP/1.1\r\nHost: cart\r\n" + line + "\r\n")
	next = res.Header.Get("Sid")
	if !header {
		for _, c := range res.Cookies() {
			if c.Name == "sid" {
				next = c.Value
			}
		}
	}
	return res.Header.Get("X-Pod"), next, res
}

func TestSessionKeepsTheEndpoint(t *testing.T) {
	for name, header := range map[string]bool{"cookie": false, "header": true} {
		t.Run(name, func(t *testing.T) {
			r := sessionRig(t, header, 1, 1)
			defer r.close()
			first, token, res := r.ask("/a", header, "")
			if token == "" {
				t.Fatal("no token on the first response")
			}
			text, err := base64.RawURLEncoding.DecodeString(token)
			if err != nil || strings.Contains(string(text), "10.1.") || strings.Contains(string(text), "one|80") {
				t.Errorf("the token tells what it means: %q, %v", token, err)
			}
			if !header && !strings.Contains(res.Header.Get("Set-Cookie"), "Path=/a; HttpOnly") {
				t.Errorf("cookie %q", res.Header.Get("Set-Cookie"))
			}
			for range 30 {
				pod, next, _ := r.ask("/a", header, token)
				if pod != first {
					t.Fatalf("the session moved from %s to %s", first, pod)
				}
				if next != "" {
					t.Fatal("a token was set anew though the client has a good one")
				}
			}
			// Nobody takes new sessions there any more; the old one stays.
			wa, wb := uint32(0), uint32(1)
			other := pod2.String()
			if first == other {
				wa, wb, other = 1, 0, pod1.String()
			}
			r.swap(cartModel(sessionModel(header, wa, wb)))
			if pod, _, _ := r.ask("/a", header, token); pod != first {
				t.Error("weight 0 ended a session")
			}
			if pod, _, _ := r.ask("/a", header, ""); pod != other {
				t.Error("a new session began at weight 0")
			}
		})
	}
}

func TestSessionTokensThatDoNotCount(t *testing.T) {
	r := sessionRig(t, false, 1, 0) // new sessions go to pod1
	defer r.close()
	k, err := sessions.NewKeeper(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	a := &sessions.Spec{Name: "sid", Scope: "/a"}
	b := &sessions.Spec{Name: "sid", Scope: "/b"}
	at2 := func(k *sessions.Keeper, s *sessions.Spec, backend, ep string, at time.Time) string {
		return string(k.Seal(nil, s, sessions.New(backend, ep, at)))
	}
	own, now := r.p.sessions, time.Now()
	good := at2(own, a, "two|80", pod2.String(), now)
	if pod, _, _ := r.ask("/a", false, good); pod != pod2.String() {
		t.Fatal("the good token does not count, so that this test shows nothing")
	}
	for name, token := range map[string]string{
		"of another key":         at2(k, a, "two|80", pod2.String(), now),
		"of another rule":        at2(own, b, "two|80", pod2.String(), now),
		"of a backend elsewhere": at2(own, a, "cart.shop.svc.cluster.local|80", pod1.String(), now),
		"of an endpoint gone":    at2(own, a, "two|80", "10.1.0.77:8080", now),
		"idle too long":          at2(own, a, "two|80", pod2.String(), now.Add(-2*time.Hour)),
		"changed":                good[:len(good)-5] + "AAAAA",
		"an address":             pod2.String(),
	} {
		t.Run(name, func(t *testing.T) {
			pod, next, res := r.ask("/a", false, token)
			if res.StatusCode != 200 || pod != pod1.String() {
				t.Errorf("%d from %s", res.StatusCode, pod)
			}
			if next == "" {
				t.Error("no token in place of the bad one")
			}
		})
	}
}

func TestSessionEndpointThatFails(t *testing.T) {
	r := sessionRig(t, false, 1, 1)
	defer r.close()
	token := string(r.p.sessions.Seal(nil, &sessions.Spec{Name: "sid", Scope: "/a"}, sessions.New("one|80", pod1.String(), time.Now())))
	edit := sessionModel(false, 1, 1)
	r.swap(cartModel(func(m *config.Model) {
		edit(m)
		// A sibling within the same backend, which takes over.
		addBackend(m, "one|80", config.ProtocolHTTP, pod1, pod2)
	}))
	r.on(pod1, nil)
	pod, next, res := r.ask("/a", false, token)
	if res.StatusCode != 200 || pod != pod2.String() || next == "" {
		t.Errorf("a dead endpoint: %d from %q, new token %q", res.StatusCode, pod, next)
	}
	if pod, again, _ := r.ask("/a", false, next); pod != pod2.String() || again != "" {
		t.Errorf("the session that moved: %q, %q", pod, again)
	}
	// Unhealthy endpoints are not asked at all.
	r.swap(cartModel(func(m *config.Model) {
		edit(m)
		addBackend(m, "one|80", config.ProtocolHTTP, pod2, pod1).Endpoints[1].Health = balance.Unhealthy
	}))
	before := len(r.dials)
	if pod, _, _ := r.ask("/a", false, token); pod != pod2.String() {
		t.Errorf("an unhealthy endpoint: %q", pod)
	}
	for _, a := range r.dials[before:] {
		if a == pod1 {
			t.Error("an unhealthy endpoint was dialled for its session")
		}
	}
}

func TestSessionRenewal(t *testing.T) {
	r := sessionRig(t, true, 1, 1)
	defer r.close()
	spec := &sessions.Spec{Name: "sid", Scope: "/a", Header: true, Idle: time.Hour}
	old := sessions.New("two|80", pod2.String(), time.Now().Add(-30*time.Minute))
	pod, next, _ := r.ask("/a", true, string(r.p.sessions.Seal(nil, spec, old)))
	if pod != pod2.String() || next == "" {
		t.Fatalf("half an idle timeout old: %q, %q", pod, next)
	}
	got, err := r.p.sessions.Open(spec, next, time.Now())
	if err != nil || got.Started != old.Started || got.Seen == old.Seen {
		t.Errorf("renewed as %+v of %+v: %v", got, old, err)
	}
}

package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/routing"
)

// sees runs one request and returns what the backend got.
func sees(t *testing.T, edit func(*config.Model), req string) *http.Request {
	t.Helper()
	r := newRig(t, edit)
	defer r.close()
	var got *http.Request
	r.handle(pod1, func(_ http.ResponseWriter, req *http.Request) { got = req })
	if resp, body := r.do(req); resp.StatusCode != 200 {
		t.Fatalf("status %d %q", resp.StatusCode, body)
	}
	return got
}

func TestSanitized(t *testing.T) {
	got := sees(t, nil, "GET / HTTP/1.1\r\nHost: c\r\nX-Forwarded-Client-Cert: By=me\r\nX-Envoy-Retry-On: 5xx\r\n"+
		"X-Envoy-Upstream-Rq-Timeout-Ms: 1\r\nX-Envoy-Internal: true\r\nX-Envoy-External-Address: 1.2.3.4\r\n"+
		"X-Request-Id: mine\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep: yes\r\n\r\n")
	for _, name := range []string{"X-Forwarded-Client-Cert", "X-Envoy-Retry-On", "X-Envoy-Upstream-Rq-Timeout-Ms", "X-Envoy-Internal", "X-Hop"} {
		if v := got.Header.Get(name); v != "" {
			t.Errorf("%s: %q reached the backend", name, v)
		}
	}
	for name, want := range map[string]string{"X-Request-Id": "mine", "X-Forwarded-For": "9.9.9.9", "X-Forwarded-Proto": "https",
		"X-Envoy-External-Address": "1.2.3.4", "Keep": "yes"} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
}

func TestIdentityHeaders(t *testing.T) {
	got := sees(t, func(m *config.Model) {
		m.Destinations[0].Settings.XFCC, m.Destinations[0].Settings.XFF = true, true
	}, "GET / HTTP/1.1\r\nHost: c\r\nX-Forwarded-Client-Cert: URI=spiffe://evil\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")
	if v := got.Header["X-Forwarded-Client-Cert"]; len(v) != 1 || v[0] != "By=spiffe://cluster.local/ns/shop/sa/waypoint;URI="+client {
		t.Errorf("xfcc %q", v)
	}
	if v := got.Header.Get("X-Forwarded-For"); v != "9.9.9.9,10.2.0.1" {
		t.Errorf("xff %q", v)
	}
}

func TestPathsAndRewrites(t *testing.T) {
	full := "/new"
	tests := []struct {
		name, target, want, original string
		edit                         func(*config.Model)
	}{
		{"as is", "/a//b?x=%2F..", "/a//b?x=%2F..", "", nil},
		{"dots", "/a/../b?q", "/b?q", "", nil},
		{"fragment", "/a?b#c?d", "/a?b", "", nil},
		{"empty query", "/a?", "/a?", "", nil},
		{"absolute form", "http://other/x?y", "/x?y", "", nil},
		{"rewritten", "/a/%2e%2e/b?q=1", "/new?q=1", "/b?q=1", edited(func(r *routing.Rule) { r.Filters.Rewrite = &routing.Rewrite{FullPath: &full, Host: "new.host"} })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := sees(t, tt.edit, "GET "+tt.target+" HTTP/1.1\r\nHost: c\r\n\r\n")
			if got.RequestURI != tt.want || got.Header.Get("X-Envoy-Original-Path") != tt.original {
				t.Errorf("%q (%q), want %q", got.RequestURI, got.Header.Get("X-Envoy-Original-Path"), tt.want)
			}
			if tt.original != "" && got.Host != "new.host" {
				t.Errorf("host %q", got.Host)
			}
		})
	}
}

func TestHeaderFilters(t *testing.T) {
	edit := edited(func(r *routing.Rule) {
		r.Timeout = 3 * time.Second
		r.Filters.Request = &routing.HeaderOps{Set: []routing.HeaderValue{{Name: "x-a", Value: "rule"}}, Remove: []string{"x-gone"}}
		r.Backends[0].Filters.Request = &routing.HeaderOps{Add: []routing.HeaderValue{{Name: "x-b", Value: "backend"}}}
		r.Filters.Response = &routing.HeaderOps{Set: []routing.HeaderValue{{Name: "x-r", Value: "1"}}}
		r.Filters.CORS = &routing.CORS{AllowOrigins: []routing.ValueMatch{{Kind: routing.ValuePresent}}}
	})
	r := newRig(t, edit)
	defer r.close()
	var got *http.Request
	r.handle(pod1, func(_ http.ResponseWriter, req *http.Request) { got = req })
	resp, _ := r.do("GET / HTTP/1.1\r\nHost: c\r\nX-A: client\r\nX-Gone: 1\r\nOrigin: http://o\r\n\r\n")
	if got.Header.Get("X-A") != "rule" || got.Header.Get("X-B") != "backend" || got.Header.Get("X-Gone") != "" ||
		got.Header.Get("X-Envoy-Expected-Rq-Timeout-Ms") != "3000" {
		t.Errorf("backend saw %v", got.Header)
	}
	if resp.Header.Get("X-R") != "1" || resp.Header.Get("Access-Control-Allow-Origin") != "http://o" {
		t.Errorf("client saw %v", resp.Header)
	}
}

// What policies see is what the backend gets: remote.ip by XFF, the normalized path.
func TestPoliciesSeeNormalized(t *testing.T) {
	deny := policy(authz.Deny, authz.RuleSpec{To: []authz.Operation{{Paths: []string{"/secret"}}}})
	for _, path := range []string{"/secret", "/x/../secret", "/%73ecret", "/./secret?a", "/secret#f", "http://h/secret"} {
		r := newRig(t, deny)
		r.handle(pod1, hello)
		if resp, _ := r.do("GET " + path + " HTTP/1.1\r\nHost: c\r\n\r\n"); resp.StatusCode != 403 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
		r.close()
	}
	ip := policy(authz.Allow, authz.RuleSpec{From: []authz.Source{{RemoteIPBlocks: []string{"9.9.9.9"}}}})
	sees(t, ip, "GET / HTTP/1.1\r\nHost: c\r\nX-Forwarded-For: 1.1.1.1, 9.9.9.9\r\n\r\n")
}

// A mirror gets the same request; it may hang or fail without anyone noticing.
func TestMirror(t *testing.T) {
	edit := func(m *config.Model) {
		edited(func(r *routing.Rule) {
			r.Filters.Mirrors = []routing.Mirror{{Ref: 1}, {Ref: 2}}
			r.Filters.Request = &routing.HeaderOps{Set: []routing.HeaderValue{{Name: "x-a", Value: "rule"}}}
		})(m)
		addBackend(m, "shadow|80", config.ProtocolHTTP, pod2)
		addBackend(m, "dead|80", config.ProtocolHTTP)
		m.Destinations[0].Refs = append(m.Destinations[0].Refs, "shadow|80", "dead|80")
	}
	for _, size := range []int{0, 100, 100 << 10} {
		r := newRig(t, edit)
		r.handle(pod1, func(w http.ResponseWriter, req *http.Request) { b, _ := io.ReadAll(req.Body); fmt.Fprint(w, len(b)) })
		saw := make(chan string, 1)
		r.handle(pod2, func(w http.ResponseWriter, req *http.Request) {
			b, _ := io.ReadAll(req.Body)
			saw <- fmt.Sprintf("%s %s %s %d", req.Method, req.RequestURI, req.Header.Get("X-A"), len(b))
			w.WriteHeader(500)
		})
		_, body := r.do(fmt.Sprintf("POST /m?x HTTP/1.1\r\nHost: c\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("m", size)))
		if body != fmt.Sprint(size) {
			t.Errorf("main answer %q", body)
		}
		if s := <-saw; s != fmt.Sprintf("POST /m?x rule %d", size) {
			t.Errorf("mirror saw %q", s)
		}
		r.close()
	}
}

func TestSlowMirrorIsGivenUp(t *testing.T) {
	r := newRig(t, func(m *config.Model) {
		edited(func(r *routing.Rule) { r.Filters.Mirrors = []routing.Mirror{{Ref: 1}} })(m)
		addBackend(m, "shadow|80", config.ProtocolHTTP, pod2)
		m.Destinations[0].Refs = append(m.Destinations[0].Refs, "shadow|80")
	})
	defer r.close()
	r.handle(pod1, func(w http.ResponseWriter, req *http.Request) {
		n, _ := io.Copy(io.Discard, req.Body)
		fmt.Fprint(w, n)
	})
	stop := make(chan struct{})
	r.on(pod2, func(*memConn) { <-stop }) // reads nothing
	const size = 2 << 20
	_, body := r.do(fmt.Sprintf("POST / HTTP/1.1\r\nHost: c\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("m", size)))
	if body != fmt.Sprint(size) {
		t.Errorf("main answer %q", body)
	}
	if r.p.mirrors.dropped.Load() != 1 {
		t.Errorf("%d mirrors dropped", r.p.mirrors.dropped.Load())
	}
	close(stop)
}

func TestUUID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		u := string(appendUUID(nil))
		if len(u) != uuidLen || u[14] != '4' || !strings.ContainsRune("89ab", rune(u[19])) || seen[u] {
			t.Fatalf("%q", u)
		}
		seen[u] = true
	}
}

func TestGRPCTimeout(t *testing.T) {
	tests := []struct {
		in   string
		want time.Duration
		ok   bool
	}{
		{"1S", time.Second, true}, {"99999999H", 1<<63 - 1, true}, {"5m", 5 * time.Millisecond, true},
		{"7u", 7 * time.Microsecond, true}, {"3n", 3, true}, {"2M", 2 * time.Minute, true},
		{"", 0, false}, {"S", 0, false}, {"1", 0, false}, {"1s", 0, false}, {"-1S", 0, false}, {"123456789S", 0, false},
	}
	for _, tt := range tests {
		if n, ok := parseGRPCTimeout(tt.in); time.Duration(n) != tt.want || ok != tt.ok {
			t.Errorf("%q: %d %v", tt.in, n, ok)
		}
	}
}

func TestSetAndRemoveField(t *testing.T) {
	fs := []attrs.Field{{Name: "a", Value: "1"}, {Name: "b", Value: "2"}, {Name: "a", Value: "3"}}
	fs = setField(fs, "a", "9")
	if len(fs) != 2 || fs[0].Value != "9" || fs[1].Name != "b" {
		t.Errorf("%v", fs)
	}
	if fs = setField(fs, "c", "4"); len(fs) != 3 || fs[2].Value != "4" {
		t.Errorf("%v", fs)
	}
	if fs = removeField(fs, "b"); len(fs) != 2 || fs[1].Name != "c" {
		t.Errorf("%v", fs)
	}
}

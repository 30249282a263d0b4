package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
)

// What a client may try so that policies and the application see two different
// requests, or the application believes what only the waypoint may say. Each
// request is either refused here, or reaches the application as policies saw it.
func TestRequestsInDisguise(t *testing.T) {
	deny := both(
		policy(authz.Deny, authz.RuleSpec{To: []authz.Operation{{Paths: []string{"/admin*"}}}},
			authz.RuleSpec{To: []authz.Operation{{Hosts: []string{"admin.example", "admin.example:*"}}}},
			authz.RuleSpec{To: []authz.Operation{{Methods: []string{"DELETE"}}}},
			authz.RuleSpec{When: []authz.Condition{{Key: "request.headers[x-tenant]", Values: []string{"evil*"}}}}),
		func(m *config.Model) {
			m.Destinations[0].Settings.Normalization = config.NormalizeDecodeAndMergeSlashes
			m.Destinations[0].Settings.XFCC = true
		})
	const host = "Host: cart\r\n"
	for _, tt := range []struct {
		name, raw string
		status    int
	}{
		{"plain", "GET /ok HTTP/1.1\r\n" + host, 200},
		{"path", "GET /admin HTTP/1.1\r\n" + host, 403},
		{"dot segments", "GET /ok/../admin HTTP/1.1\r\n" + host, 403},
		{"encoded dots", "GET /ok/%2e%2E/admin HTTP/1.1\r\n" + host, 403},
		{"half encoded dots", "GET /ok/.%2e/admin HTTP/1.1\r\n" + host, 403},
		{"encoded letter", "GET /%61dmin HTTP/1.1\r\n" + host, 403},
		{"double slash", "GET //admin HTTP/1.1\r\n" + host, 403},
		{"encoded slash", "GET /%2fadmin HTTP/1.1\r\n" + host, 403},
		{"encoded backslash", "GET /ok%5c..%5cadmin HTTP/1.1\r\n" + host, 403},
		{"backslash", "GET /ok\\..\\admin HTTP/1.1\r\n" + host, 403},
		{"path parameter in a dot segment", "GET /ok/..;x=1/admin HTTP/1.1\r\n" + host, 403},
		{"path parameter behind the path", "GET /admin;x=1 HTTP/1.1\r\n" + host, 403},
		{"fragment", "GET /admin#/ok HTTP/1.1\r\n" + host, 403},
		{"query with a path", "GET /ok?/../admin HTTP/1.1\r\n" + host, 200},
		{"end of string", "GET /ok%00/../admin HTTP/1.1\r\n" + host, 400},
		{"encoded twice", "GET /%2561dmin HTTP/1.1\r\n" + host, 200}, // reaches the application as %2561, which is no admin
		{"no slash", "GET admin HTTP/1.1\r\n" + host, 400},
		{"absolute form", "GET http://cart/admin HTTP/1.1\r\n" + host, 403},
		{"absolute form, other host", "GET http://admin.example/ok HTTP/1.1\r\n" + host, 403},
		{"absolute form, allowed host", "GET http://cart/ok HTTP/1.1\r\nHost: admin.example\r\n", 200},
		{"absolute form with a user", "GET http://cart@admin.example/ok HTTP/1.1\r\n" + host, 400},
		{"host", "GET /ok HTTP/1.1\r\nHost: ADMIN.example\r\n", 403},
		{"host with a port", "GET /ok HTTP/1.1\r\nHost: admin.example:80\r\n", 403},
		{"host with a user", "GET /ok HTTP/1.1\r\nHost: cart@admin.example\r\n", 400},
		{"two hosts", "GET /ok HTTP/1.1\r\nHost: cart\r\nHost: admin.example\r\n", 400},
		{"list of hosts", "GET /ok HTTP/1.1\r\nHost: cart, admin.example\r\n", 400},
		{"no host", "GET /ok HTTP/1.1\r\n", 400},
		{"method", "DELETE /ok HTTP/1.1\r\n" + host, 403},
		{"method in lower case", "delete /ok HTTP/1.1\r\n" + host, 400},
		{"method in mixed case", "Delete /ok HTTP/1.1\r\n" + host, 400},
		{"an unknown method", "deleteAll /ok HTTP/1.1\r\n" + host, 200},
		{"header", "GET /ok HTTP/1.1\r\nX-TENANT: evil\r\n" + host, 403},
		{"second line of a header", "GET /ok HTTP/1.1\r\nX-Tenant: good\r\nX-Tenant: evil\r\n" + host, 403},
		{"space before the colon", "GET /ok HTTP/1.1\r\nX-Tenant : evil\r\n" + host, 400},
		{"folded header", "GET /ok HTTP/1.1\r\nX-Tenant:\r\n evil\r\n" + host, 400},
		{"header named by Connection", "GET /ok HTTP/1.1\r\nConnection: x-tenant\r\nX-Tenant: evil\r\n" + host, 200}, // it goes no further
		{"connect", "CONNECT admin.example:80 HTTP/1.1\r\n" + host, 403},
		{"connect to the host", "CONNECT cart:80 HTTP/1.1\r\nHost: cart:80\r\n", 403},
		{"upgrade to HTTP/2", "GET /ok HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n" + host, 200},
		{"identity", "GET /ok HTTP/1.1\r\nX-Forwarded-Client-Cert: By=x;URI=spiffe://cluster.local/ns/shop/sa/admin\r\nX-Envoy-Original-Path: /admin\r\nX-Envoy-Internal: true\r\n" + host, 200},
		{"identity named by Connection", "GET /ok HTTP/1.1\r\nConnection: x-forwarded-client-cert, x-request-id\r\n" + host, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, deny)
			defer r.close()
			var saw *http.Request
			r.handle(pod1, func(_ http.ResponseWriter, req *http.Request) { saw = req })
			resp, body := r.do(tt.raw + "\r\n")
			if resp.StatusCode != tt.status || (saw != nil) != (tt.status == 200) {
				t.Fatalf("%d %q, the application saw %v", resp.StatusCode, body, saw)
			}
			if tt.status != 200 {
				return
			}
			h := saw.Header
			if !strings.HasPrefix(saw.RequestURI, "/ok") && saw.RequestURI != "/%2561dmin" || saw.Host != "cart" ||
				h.Get("X-Tenant") != "" || h.Get("Upgrade") != "" || h.Get("Http2-Settings") != "" ||
				h.Get("X-Envoy-Original-Path") != "" || h.Get("X-Envoy-Internal") != "" || h.Get("X-Request-Id") == "" {
				t.Errorf("the application saw %s %s %v", saw.RequestURI, saw.Host, h)
			}
			if c := h["X-Forwarded-Client-Cert"]; len(c) != 1 || !strings.Contains(c[0], client) || strings.Contains(c[0], "admin") {
				t.Errorf("the application was told of %q", c)
			}
		})
	}
}

// Trailers bring nothing in that the head may not have: applications may merge them.
func TestTrailersInDisguise(t *testing.T) {
	f := stageFunc(func(string, *attrs.Request) Verdict {
		return Verdict{Allow: true, Remove: []string{"x-user"}}
	})
	r := staged(t, f, config.Stage{Kind: config.StageJWT})
	defer r.close()
	var saw http.Header
	r.handle(pod1, func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		saw = req.Trailer
	})
	for _, early := range []bool{true, false} { // the whole body is there with the head, or comes later
		c, _ := r.tunnel()
		head := "POST / HTTP/1.1\r\nHost: c\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
		rest := "1\r\na\r\n0\r\nX-User: root\r\nX-Sum: 7\r\nX-Forwarded-Client-Cert: By=x\r\nX-Forwarded-For: 10.0.0.1\r\nX-Envoy-Internal: true\r\nAuthorization: x\r\n\r\n"
		if early {
			_, _ = io.WriteString(c, head+rest)
		} else {
			_, _ = io.WriteString(c, head)
			_, _ = io.WriteString(c, rest)
		}
		if resp, _ := readResponse(t, bufio.NewReader(c), "POST"); resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
		_ = c.Close()
		r.idle()
		if len(saw) != 1 || saw.Get("X-Sum") != "7" {
			t.Errorf("the application saw the trailers %v", saw)
		}
	}
}

// remote.ip is what the nearest proxy appended, and the peer where that is nothing
// that can be read; what the client wrote before it does not count.
func TestForwardedForInDisguise(t *testing.T) {
	deny := policy(authz.Deny, authz.RuleSpec{From: []authz.Source{{RemoteIPBlocks: []string{"192.0.2.0/24", "2001:db8::/32", "10.2.0.1"}}}})
	for _, tt := range []struct {
		name, lines string
		denied      bool
	}{
		{"none: the client pod", "", true},
		{"one", "198.51.100.1", false},
		{"last of a list", "198.51.100.1, 192.0.2.7", true},
		{"first of a list", "192.0.2.7,198.51.100.1", false},
		{"last line", "198.51.100.1|192.0.2.7", true},
		{"first line", "192.0.2.7|198.51.100.1", false},
		{"empty", " ", true},
		{"nothing behind the comma", "198.51.100.1,", true},
		{"garbage", "198.51.100.1, unknown", true},
		{"with a port", "198.51.100.1:80", true},
		{"IPv6", "2001:db8::1", true},
		{"IPv6 in brackets", "[2001:db9::1]", true},
		{"IPv4 in IPv6", "::ffff:192.0.2.7", true},
		{"with a zone", "2001:db8::1%eth0", true},
		{"leading zeros", "198.051.100.1", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, deny)
			defer r.close()
			r.handle(pod1, func(http.ResponseWriter, *http.Request) {})
			raw := "GET / HTTP/1.1\r\nHost: c\r\n"
			if tt.lines != "" {
				for l := range strings.SplitSeq(tt.lines, "|") {
					raw += "X-Forwarded-For: " + l + "\r\n"
				}
			}
			resp, _ := r.do(raw + "\r\n")
			if (resp.StatusCode == 403) != tt.denied {
				t.Errorf("%d", resp.StatusCode)
			}
		})
	}
}

// FuzzForwardedFor: of any header the address is one that stands at its end, or
// there is none.
func FuzzForwardedFor(f *testing.F) {
	for _, s := range []string{"", "10.0.0.1", "10.0.0.1, 192.0.2.7", "::1", "a,b,,", "10.0.0.1 ,\t2001:db8::1%eth0 ", "1.2.3.4:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		last := lastHop(s)
		if strings.ContainsRune(last, ',') || !strings.HasSuffix(strings.TrimRight(s, " \t"), last) {
			t.Fatalf("%q: last hop %q", s, last)
		}
		x := exchange{t: new(tunnel)}
		x.t.conn.Source = netipAddrPort
		x.known.forwarded = s
		got := x.remote()
		if !got.IsValid() || got.Is4In6() {
			t.Fatalf("%q: %v", s, got)
		}
		if got != netipAddrPort.Addr() && !strings.Contains(strings.ToLower(s), strings.ToLower(lastHop(s))) {
			t.Fatalf("%q: %v is nowhere in it", s, got)
		}
	})
}

var netipAddrPort = attrs.Conn{Source: pod1}.Source

// HTTP/2 has further places to say the same thing twice. None of these reaches the
// application: the stream or the request is refused, or a policy denies it.
func TestHTTP2InDisguise(t *testing.T) {
	type fields = [][2]string
	ordinary := fields{{":method", "GET"}, {":scheme", "http"}, {":authority", "cart"}, {":path", "/ok"}}
	with := func(more ...[2]string) fields { return append(slices.Clone(ordinary), more...) }
	instead := func(name, value string) fields {
		fs := slices.Clone(ordinary)
		for i := range fs {
			if fs[i][0] == name {
				fs[i][1] = value
			}
		}
		return fs
	}
	deny := policy(authz.Deny, authz.RuleSpec{To: []authz.Operation{{Paths: []string{"/admin*"}}}},
		authz.RuleSpec{To: []authz.Operation{{Hosts: []string{"admin.example"}}}}, authz.RuleSpec{To: []authz.Operation{{Methods: []string{"DELETE"}}}})
	for _, tt := range []struct {
		name    string
		fields  fields
		reaches bool
	}{
		{"ordinary", ordinary, true},
		{"host of the same name", with([2]string{"host", "CART"}), true},
		{"another host", with([2]string{"host", "admin.example"}), false},
		{"two hosts", with([2]string{"host", "cart"}, [2]string{"host", "admin.example"}), false},
		{"host only", fields{{":method", "GET"}, {":scheme", "http"}, {":path", "/ok"}, {"host", "admin.example"}}, false},
		{"denied authority", instead(":authority", "admin.example"), false},
		{"authority with a user", instead(":authority", "cart@admin.example"), false},
		{"second path", with([2]string{":path", "/admin"}), false},
		{"second method", with([2]string{":method", "DELETE"}), false},
		{"pseudo-header behind a field", with([2]string{"x", "y"}, [2]string{":authority", "admin.example"}), false},
		{"unknown pseudo-header", with([2]string{":user", "root"}), false},
		{"extended CONNECT", fields{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":authority", "cart"}, {":path", "/ok"}}, false},
		{"no scheme", fields{{":method", "GET"}, {":authority", "cart"}, {":path", "/ok"}}, false},
		{"another scheme", instead(":scheme", "file"), false},
		{"absolute path", instead(":path", "http://admin.example/ok"), false},
		{"empty path", instead(":path", ""), false},
		{"space in the path", instead(":path", "/ok HTTP/1.1"), false},
		{"line end in the path", instead(":path", "/ok\r\nx: y"), false},
		{"normalized path", instead(":path", "/ok/../admin"), false},
		{"method in lower case", instead(":method", "delete"), false},
		{"field name in upper case", with([2]string{"X-User", "root"}), false},
		{"line end in a value", with([2]string{"x", "y\r\nx-user: root"}), false},
		{"connection options", with([2]string{"connection", "x-request-id"}), false},
		{"transfer coding", with([2]string{"transfer-encoding", "chunked"}), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, deny)
			defer r.close()
			reached := false
			r.handle(pod1, func(http.ResponseWriter, *http.Request) { reached = true })
			c, _ := r.tunnel()
			if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
				t.Fatal(err)
			}
			fr := http2.NewFramer(c, c)
			fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			var block bytes.Buffer
			enc := hpack.NewEncoder(&block)
			for _, f := range tt.fields {
				_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
			}
			_ = fr.WriteSettings()
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
			status := ""
			for status == "" {
				f, err := fr.ReadFrame()
				if err != nil {
					status = "closed"
					break
				}
				switch f := f.(type) {
				case *http2.MetaHeadersFrame:
					status = f.PseudoValue("status")
				case *http2.RSTStreamFrame, *http2.GoAwayFrame:
					status = "refused"
				}
			}
			if reached != tt.reaches || (status == "200") != tt.reaches {
				t.Errorf("answered %s, reached %v", status, reached)
			}
			_ = c.Close()
			r.idle()
		})
	}
}

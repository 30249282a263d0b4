package envoy

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Corpus adds the fixed parts of a world and returns their questions: path
// templates, path normalization, headers and malformed requests.
func (g *Generator) Corpus(testdata string) ([]*Question, error) {
	b, err := os.ReadFile(filepath.Join(testdata, "templates.json"))
	if err != nil {
		return nil, err
	}
	var t struct{ Patterns, Paths []string }
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, err
	}
	var qs []*Question
	for _, p := range t.Patterns {
		s := g.subject("template", "BASE")
		s.Policies = []Policy{{Name: s.Name, Action: "ALLOW", Rules: []PolicyRule{{To: []Fields{{"paths": {p}}}}}}}
		for _, path := range t.Paths {
			q := g.base(s)
			q.Target = path
			qs = append(qs, q)
		}
	}
	for _, n := range norms {
		s := g.subject("normalize", n)
		s.Policies = []Policy{{Name: s.Name, Action: "DENY", Rules: []PolicyRule{{To: []Fields{{"paths": {"/admin*", "/app/admin"}}}}}}}
		for _, path := range pathForms {
			q := g.base(s)
			q.Target = path
			qs = append(qs, q)
		}
	}
	echo := g.subject("header", "BASE")
	for _, h := range headerForms {
		q := g.base(echo)
		q.Target = "/h"
		q.Headers = h
		qs = append(qs, q)
	}
	for _, h := range headerForms {
		if h, ok := overHTTP2(h); ok {
			q := g.base(echo)
			q.Target, q.Headers, q.Proto2 = "/h", h, true
			qs = append(qs, q)
		}
	}
	for _, f := range requestForms {
		q := g.base(echo)
		q.Target = "/h"
		f(q)
		qs = append(qs, q)
	}
	raw := g.subject("malformed", "BASE")
	raw.Policies = []Policy{{Name: raw.Name, Action: "DENY", Rules: []PolicyRule{{To: []Fields{{"paths": {"/admin*"}}}}}}}
	for _, r := range malformed {
		q := g.base(raw)
		q.Raw = []byte(strings.ReplaceAll(r, "HOST", raw.Host(g.world.Namespace)))
		qs = append(qs, q)
	}
	return qs, nil
}

// pathForms are ways of writing paths around /admin and /app.
var pathForms = []string{
	"/app", "/app/", "/app//", "/app/../admin", "/app/%2E./admin", "/app/%2e%2e/admin", "/app/.%2E/admin", "/app/%2f", "/app%2f/", "/app%2Fadmin", "/app%5Cadmin",
	"/xyz%30..//abc", `/app\admin`, `/app/\/\/\admin`, "/%2Fapp%5cadmin%5Cabc", `/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\abc`, "/app//../admin", "/app//../../admin",
	"/%c0%2fadmin", "/%252e%252e/admin", "/..;/admin", "/admin;a=b", "/.../admin", "/%c0%ae%c0%ae/admin", "/ADMIN", "/%61dmin", "/%41dmin", "//admin", "/./admin", "/admin/.",
	"/admin/..", "/../admin", "/../../admin", "/a/../../admin", "/admin?x=/../y", "/x?y=/admin", "/x#/admin", "/admin#x", "/x?#", "/x?a#b", "/x%23y", "/x%3Fy",
	"/admin%00", "/%00", "/a%0Ab", "/a%20b", "/a+b", "/a%", "/a%2", "/a%zz", "/~x", "/%7Ex", "/a[0]", "/a%5B0%5D", "/a|b", "/a^b", "/a{b}", "/a\"b", "/a<b>", "/a`b",
	"/caf\xc3\xa9", "/caf%C3%A9", "/*", "/a*b", "/a;b=c/d", "/a,b", "/a:b@c", "/a!$&'()b", "/.", "/..", "//", "///", "/a/./b/../c", "/a/b/..", "/a/b/../", "/%2e", "/%2E/x", "/a%2f..%2fadmin", "/a%2F%2E%2E%2Fadmin",
	"http://other.example.com/abs", "http://other.example.com", "http://other.example.com/abs/../x?q", "https://other.example.com/abs", "*",
}

func h(kv ...string) [][2]string {
	var out [][2]string
	for i := 0; i < len(kv); i += 2 {
		out = append(out, [2]string{kv[i], kv[i+1]})
	}
	return out
}

// headerForms are sets of request headers.
var headerForms = [][][2]string{
	h("X-A", "1"), h("x-a", "1", "X-A", "2"), h("X-A", ""), h("X-A", " padded \t"), h("X_Under_Score", "1"), h("x.dot", "1"), h("x!#$%&'*+-.^_`|~", "1"),
	h("X-A", "\xc3\xa9"), h("X-A", "a\tb"), h("X-A", "a;b=\"c, d\""), h("Cookie", "a=1", "Cookie", "b=2"), h("Cookie", "a=1; b=2"), h("Set-Cookie", "a"),
	h("Connection", "keep-alive"), h("Connection", "close"), h("Connection", "X-Drop", "X-Drop", "1"), h("Connection", "close, X-Drop", "X-Drop", "1"), h("Connection", "upgrade"), h("Connection", "te", "TE", "trailers"),
	h("Keep-Alive", "timeout=5"), h("Proxy-Connection", "keep-alive"), h("TE", "trailers"), h("TE", "gzip"), h("TE", "trailers, deflate;q=0.5"), h("Trailer", "x-t"), h("Upgrade", "h2c"), h("Upgrade", "websocket"),
	h("Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABkAAQAAP__"),
	h("Proxy-Authorization", "Basic x"), h("Proxy-Authenticate", "x"), h("Authorization", "Bearer x"), h("Via", "1.1 a"), h("Forwarded", "for=1.2.3.4"), h("X-Real-IP", "1.2.3.4"),
	h("X-Forwarded-For", "203.0.113.1"), h("X-Forwarded-For", "10.0.0.1"), h("X-Forwarded-For", "203.0.113.1, 10.0.0.1"), h("X-Forwarded-For", "not an address"), h("X-Forwarded-For", ""), h("X-Forwarded-For", "203.0.113.1", "X-Forwarded-For", "203.0.113.2"),
	h("X-Forwarded-Proto", "https"), h("X-Forwarded-Proto", "http"), h("X-Forwarded-Proto", "bogus"), h("X-Forwarded-Proto", ""), h("X-Forwarded-Host", "x.example.com"), h("X-Forwarded-Port", "443"), h("X-Forwarded-Client-Cert", "By=x;URI=y"), h("X-Forwarded-Scheme", "https"),
	h("X-Request-Id", "mine"), h("X-Request-Id", ""), h("X-Request-Id", "6f1c2a5e-0b1d-4f6e-9d3a-0123456789ab"), h("X-Request-Id", "a", "X-Request-Id", "b"), h("X-Client-Trace-Id", "x"), h("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), h("X-B3-TraceId", "x"),
	h("X-Envoy-Internal", "true"), h("X-Envoy-External-Address", "1.2.3.4"), h("X-Envoy-Original-Path", "/x"), h("X-Envoy-Original-Host", "x"), h("X-Envoy-Attempt-Count", "7"), h("X-Envoy-Decorator-Operation", "x"), h("X-Envoy-Upstream-Rq-Timeout-Ms", "1"), h("X-Envoy-Upstream-Rq-Per-Try-Timeout-Ms", "1"),
	h("X-Envoy-Max-Retries", "3"), h("X-Envoy-Retry-On", "5xx"), h("X-Envoy-Retry-Grpc-On", "cancelled"), h("X-Envoy-Force-Trace", "1"), h("X-Envoy-Downstream-Service-Cluster", "x"), h("X-Envoy-Downstream-Service-Node", "x"), h("X-Envoy-Expected-Rq-Timeout-Ms", "1"), h("X-Envoy-Ip-Tags", "x"), h("X-Envoy-Peer-Metadata", "x"), h("X-Envoy-Peer-Metadata-Id", "x"), h("X-Envoy-Made-Up", "x"), h("X-Envoy-Hedge-On-Per-Try-Timeout", "true"), h("X-Envoy-Upstream-Alt-Stat-Name", "x"), h("X-Envoy-Retriable-Status-Codes", "500"), h("X-Envoy-Upstream-Stream-Duration-Ms", "1"), h("X-Envoy-Original-Url", "x"), h("X-Istio-Source", "x"), h("X-Istio-Attributes", "x"),
	h("Expect", "100-continue"), h("Expect", "200-maybe"), h("Range", "bytes=0-1"), h("If-None-Match", "\"x\""), h("Accept-Encoding", "gzip"), h("Accept", "*/*", "Accept", "text/html"), h("User-Agent", "a", "User-Agent", "b"), h("Content-Type", "application/grpc"), h("Content-Type", "application/grpc", "TE", "trailers"), h("Content-Type", "application/grpc-web"), h("grpc-timeout", "1S"),
	h("Max-Forwards", "0"), h("Date", "x"), h("Server", "x"), h("Warning", "x"), h("Referer", "http://x/"), h("Origin", "null"), h("Pragma", "no-cache"), h("Baggage", "a=b"), h("Early-Data", "1"), h("Http2-Settings", "x"),
	h("X-Long", strings.Repeat("a", 8<<10)), h("X-Long", strings.Repeat("a", 40<<10)), many(80), many(96), many(120),
	h("x-want-status", "204"), h("x-want-status", "304"), h("x-want-status", "404"), h("x-want-status", "500", "x-want-body", "oops"), h("x-want-status", "301", "x-want-header", "Location: /x"),
	h("x-want-header", "Server: mine"), h("x-want-header", "Date: Thu, 01 Jan 1970 00:00:00 GMT"), h("x-want-header", "Connection: close"), h("x-want-header", "Connection: X-Hop", "x-want-header", "X-Hop: 1"), h("x-want-header", "Keep-Alive: timeout=5"), h("x-want-header", "Proxy-Connection: keep-alive"), h("x-want-header", "Upgrade: h2c"), h("x-want-header", "X-Envoy-Upstream-Service-Time: 99"), h("x-want-header", "X-Envoy-Made-Up: 1"), h("x-want-header", "X-Envoy-Overloaded: true"), h("x-want-header", "X-Envoy-Ratelimited: true"), h("x-want-header", "X-Envoy-Peer-Metadata: x"),
	h("x-want-header", "Set-Cookie: a=1", "x-want-header", "Set-Cookie: b=2"), h("x-want-header", "X-Request-Id: theirs"), h("x-want-header", "Via: 1.1 b"), h("x-want-header", "Trailer: x"), h("x-want-header", "Alt-Svc: h3"), h("x-want-header", "X_Under: 1"), h("x-want-header", "X-Empty:"), h("x-want-header", "Strict-Transport-Security: max-age=1"), h("x-want-header", "Access-Control-Allow-Origin: *"), h("x-want-header", "X-Long: "+strings.Repeat("b", 7<<10)), h("x-want-header", "x-envoy-immediate-health-check-fail: 1"), h("x-want-header", "x-envoy-degraded: 1"), h("x-want-header", "x-envoy-decorator-operation: x"),
}

// overHTTP2 is a set of headers as HTTP/2 has it; ok is false where it has none of the
// kind (RFC 9113 section 8.2.2).
func overHTTP2(in [][2]string) (out [][2]string, ok bool) {
	for _, f := range in {
		name := strings.ToLower(f[0])
		switch name {
		case "connection", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding", "expect", "http2-settings":
			return nil, false
		case "te":
			if f[1] != "trailers" {
				return nil, false
			}
		}
		if f[1] != strings.Trim(f[1], " \t") {
			return nil, false
		}
		out = append(out, [2]string{name, f[1]})
	}
	return out, true
}

func many(n int) (out [][2]string) {
	for i := range n {
		out = append(out, [2]string{fmt.Sprint("x-n-", i), "v"})
	}
	return out
}

// requestForms change other parts of a request.
var requestForms = func() (out []func(*Question)) {
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get", "M-SEARCH", "X"} {
		for _, body := range []string{"", "hello"} {
			for _, two := range []bool{false, true} {
				if m == "TRACE" && body != "" {
					continue
				}
				out = append(out, func(q *Question) { q.Method, q.Body, q.Proto2 = m, body, two })
			}
		}
	}
	for _, host := range []string{"a.example.com", "A.Example.COM", "a.example.com:80", "a.example.com:8080", "10.97.1.1", "10.97.1.1:80", "[::1]:80", "a.example.com.", "localhost", "under_score.example.com"} {
		out = append(out, func(q *Question) { q.Host = host }, func(q *Question) { q.Host, q.Proto2 = host, true })
	}
	for _, target := range []string{"/?", "/?a", "/?a=b&a=c", "/x?a=%20", "/" + strings.Repeat("p", 8<<10), "/x?" + strings.Repeat("q", 16<<10)} {
		out = append(out, func(q *Question) { q.Target = target }, func(q *Question) { q.Target, q.Proto2 = target, true })
	}
	for _, hs := range [][][2]string{h("cookie", "a=1", "cookie", "b=2"), h("te", "trailers"), h("x-a", ""), h("x-forwarded-proto", "https"), h("x-envoy-attempt-count", "3"), h("content-type", "application/grpc", "te", "trailers")} {
		out = append(out, func(q *Question) { q.Headers, q.Proto2 = hs, true })
	}
	return out
}()

// malformed are requests as bytes. HOST stands for a fitting host.
var malformed = []string{
	"GET / HTTP/1.1\r\n\r\n", // no host
	"GET / HTTP/1.1\r\nHost: HOST\r\nHost: other\r\n\r\n",
	"GET / HTTP/1.1\r\nHost:\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST, other\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: user@HOST\r\n\r\n",
	"GET / HTTP/1.0\r\nHost: HOST\r\n\r\n",
	"GET / HTTP/1.0\r\n\r\n",
	"GET / HTTP/0.9\r\n\r\n",
	"GET / HTTP/2.0\r\nHost: HOST\r\n\r\n",
	"GET / HTTP/1.2\r\nHost: HOST\r\n\r\n",
	"GET / HTTP/1.1 \r\nHost: HOST\r\n\r\n",
	"GET / http/1.1\r\nHost: HOST\r\n\r\n",
	"GET / HTTP/1,1\r\nHost: HOST\r\n\r\n",
	"GET / HTTP/1.1x\r\nHost: HOST\r\n\r\n",
	"GET /\r\nHost: HOST\r\n\r\n",
	"GET\r\nHost: HOST\r\n\r\n",
	"GET  / HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET /  HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET\t/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
	" GET / HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"\r\nGET / HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"\nGET / HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"G@T / HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"G\x00T / HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET noslash HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET ?q HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET * HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET /a b HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET /a\x00b HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET /a\x01b HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET /a\x7fb HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET /\xff HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET http:///x HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET ftp://HOST/x HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET http://user@HOST/admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET http://HOST HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET http://HOST?q HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"CONNECT HOST:80 HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"CONNECT / HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET / HTTP/1.1\nHost: HOST\n\n",
	"GET / HTTP/1.1\r\nHost: HOST\n\r\n",
	"GET / HTTP/1.1\rHost: HOST\r\r",
	"GET / HTTP/1.1\r\nHost: HOST\r\nX-A : 1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\n X-A: 1\r\n\r\n",
	"GET / HTTP/1.1\r\n X-A: 1\r\nHost: HOST\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nX-A: 1\r\n folded\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nX-A: 1\r\n\tfolded\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nX-A\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\n: 1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nX A: 1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nX@A: 1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nX-\xc3\xa9: 1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\n:path: /admin\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nX-A: a\x00b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nX-A: a\x01b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nX-A: a\x7fb\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nX-A: a\rb\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
	"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5, 5\r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: +5\r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: -5\r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0x5\r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5 \r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length:\r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 005\r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: identity\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding:\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: 1\r\n\r\n",
	"GET / HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello",
	"GET / HTTP/1.1\r\nHost: HOST\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nhello",
	"GET / HTTP/1.1\r\nHost: HOST\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nUpgrade: websocket, foo\r\nConnection: upgrade\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: HOST\r\nExpect: something\r\nContent-Length: 5\r\n\r\nhello",
	"GET / HTTP/1.1\r\nHost:\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nConnection: host\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nConnection: X-Forwarded-For\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nConnection: x-forwarded-proto\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nConnection: x-forwarded-host\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nConnection: cookie\r\nCookie: a=b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nConnection: close, authorization\r\nAuthorization: x\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nConnection: host, close\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\nhello",
	"GET /" + strings.Repeat("a", 70<<10) + " HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\nX-Long: " + strings.Repeat("a", 70<<10) + "\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\n" + strings.Repeat("X-N: v\r\n", 200) + "\r\n",
	"GET / HTTP/1.1\r\nHost: HOST\r\n" + strings.Repeat("n", 20<<10) + ": v\r\n\r\n",
	strings.Repeat("G", 70<<10) + " / HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"\x16\x03\x01\x00\x05hello\r\n\r\n",
	"SSH-2.0-OpenSSH_9.0\r\n\r\n",
	"PRI * HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"HTTP/1.1 200 OK\r\n\r\n",
	"\x00\x00\x00\x00\r\n\r\n",
	"GET /admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET /%61dmin HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET http://HOST/admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
	"GET /x HTTP/1.1\r\nHost: HOST\r\nX-Original-Url: /admin\r\n\r\n",
}

package http1

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"waypoint.dev/waypoint/proxy/codec"
)

// consume reads one request and its body; it returns the status that a refusal
// asks for, 0 for none.
func consume(raw string, grain int) (status int, reason string) {
	s := NewServerConn(&script{in: []byte(raw), grain: grain}, ServerOptions{})
	defer s.Close()
	x, err := s.Next()
	if err == nil {
		_, err = io.Copy(io.Discard, x)
	}
	var pe *ProtocolError
	if errors.As(err, &pe) {
		return pe.Status, pe.Reason
	}
	var ce *codec.Error
	if errors.As(err, &ce) {
		return -int(ce.Kind), ce.Error()
	}
	if err == io.EOF {
		return -100, "EOF"
	}
	return 0, ""
}

type malformed struct {
	raw  string
	want int
}

func get(lines ...string) string {
	return "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Join(append(lines, "", ""), "\r\n")
}

func post(headers, body string) string {
	return "POST / HTTP/1.1\r\nHost: a\r\n" + headers + "\r\n\r\n" + body
}

func chunked(body string) string { return post("Transfer-Encoding: chunked", body) }

func line(l string) string { return l + "\r\nHost: a\r\n\r\n" }

func host(h string) string { return "GET / HTTP/1.1\r\nHost: " + h + "\r\n\r\n" }

func malformedRequests() []malformed {
	cut := -int(codec.Truncated)
	cases := []malformed{
		// start line
		{line("GET /"), 400}, {line("GET"), 400}, {line("GET  / HTTP/1.1"), 400}, {line("GET /  HTTP/1.1"), 400},
		{line(" GET / HTTP/1.1"), 400}, {line("GET / HTTP/1.1 "), 400}, {line("GET\t/\tHTTP/1.1"), 400}, {line("GET / HTTP/1.1\t"), 400},
		{line("GET /a b HTTP/1.1"), 400}, {line("GET / http/1.1"), 400}, {line("GET / HTTP/1"), 400}, {line("GET / HTTP/1.10"), 400},
		{line("GET / HTTP/01.1"), 400}, {line("GET / HTTP/0.9"), 400}, {line("GET / HTTP/1,1"), 400}, {line("GET / HTTP/1.x"), 400},
		{line("GET / HTTP/+1.1"), 400}, {line("GET / HTTP /1.1"), 400}, {line("GET / HTTPS/1.1"), 400}, {line("GET / FTP/1.1"), 400},
		{line("GET / HTTP/2.0"), 505}, {line("GET / HTTP/1.2"), 505}, {line("GET / HTTP/3.0"), 505}, {line("GET / HTTP/9.9"), 505},
		{line("GET / HTTP/1.0"), 426}, {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		{line("G\x00T / HTTP/1.1"), 400}, {line("G(T / HTTP/1.1"), 400}, {line("GE\x80 / HTTP/1.1"), 400}, {line("GET: / HTTP/1.1"), 400}, {line("G\"T / HTTP/1.1"), 400},
		{"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400}, {"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400}, {"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400}, {"\x00", 400}, {"\r\n \r\n", 400}, {":\r\n\r\n", 400},
		// target
		{line("GET a HTTP/1.1"), 400}, {line("GET a/b HTTP/1.1"), 400}, {line("GET ?q HTTP/1.1"), 400}, {line("GET * HTTP/1.1"), 400}, {line("GET *a HTTP/1.1"), 400},
		{line("OPTIONS ** HTTP/1.1"), 400}, {line("GET /\x00 HTTP/1.1"), 400}, {line("GET /\x01 HTTP/1.1"), 400}, {line("GET /\x7f HTTP/1.1"), 400}, {line("GET /\t HTTP/1.1"), 400},
		{line("GET /\x80 HTTP/1.1"), 400}, {line("GET /\xc3\xa9 HTTP/1.1"), 400}, {line("GET /\xff HTTP/1.1"), 400}, {line("GET /\r HTTP/1.1"), 400},
		{line("GET http:// HTTP/1.1"), 400}, {line("GET http:///a HTTP/1.1"), 400}, {line("GET http://u@a/ HTTP/1.1"), 400}, {line("GET http://u:p@a/ HTTP/1.1"), 400},
		{line("GET ftp://a/ HTTP/1.1"), 400}, {line("GET http:/a HTTP/1.1"), 400}, {line("GET http:a HTTP/1.1"), 400}, {line("GET ://a/ HTTP/1.1"), 400}, {line("GET http://a:b/ HTTP/1.1"), 400},
		{line("GET http://a:70000/ HTTP/1.1"), 400}, {line("GET http://[::1/ HTTP/1.1"), 400}, {line("GET http://a\\b/ HTTP/1.1"), 400}, {line("GET ws://a/ HTTP/1.1"), 400},
		{line("CONNECT / HTTP/1.1"), 400}, {line("CONNECT http://a/ HTTP/1.1"), 400}, {line("CONNECT a:b HTTP/1.1"), 400}, {line("CONNECT * HTTP/1.1"), 400}, {line("CONNECT a HTTP/1.1"), 400}, {line("CONNECT [::1] HTTP/1.1"), 400},
		// host
		{"GET / HTTP/1.1\r\n\r\n", 400}, {"GET http://a/ HTTP/1.1\r\n\r\n", 400}, {host(""), 400}, {host("a\r\nHost: a"), 400}, {host("a\r\nhost: b"), 400}, {host("a, b"), 400},
		{host("a b"), 400}, {host("a/b"), 400}, {host("a?b"), 400}, {host("a#b"), 400}, {host("u@a"), 400}, {host("a:"), 400}, {host(":80"), 400}, {host("a:b"), 400}, {host("a:99999"), 400},
		{host("a:123456"), 400}, {host("a:+1"), 400}, {host("a:8 0"), 400}, {host("[::1"), 400}, {host("[]"), 400}, {host("[g]"), 400}, {host("[::1]a"), 400}, {host("a%zz"), 400}, {host("a%4"), 400},
		{host("a\\b"), 400}, {host("\"a\""), 400}, {host("a\xc3\xa9"), 400}, {host("http://a"), 400}, {host("<a>"), 400}, {host("a|b"), 400}, {host("a^b"), 400}, {host("a:80:80"), 400},
		// field lines
		{get("A : b"), 400}, {get("A\t: b"), 400}, {get(" A: b"), 400}, {get("\tA: b"), 400}, {get("A: b", " c"), 400}, {get("A: b", "\tc"), 400}, {get("A"), 400}, {get(": b"), 400}, {get(":a: b"), 400},
		{get("A b: c"), 400}, {get("A\x00: b"), 400}, {get("A(: b"), 400}, {get("A\x80: b"), 400}, {get("A\r: b"), 400}, {get("A/: b"), 400}, {get("A[: b"), 400}, {get("A@: b"), 400}, {get("{A}: b"), 400},
		{get("A: \x00"), 400}, {get("A: b\x01"), 400}, {get("A: b\x1f"), 400}, {get("A: b\x7f"), 400}, {get("A: b\rc"), 400}, {get("A: b\r"), 400}, {get("A: b\r\r"), 400}, {get("A: b\vc"), 400}, {get("A: \fb"), 400}, {get("A: long enough for the fast\x00path"), 400},
		{get("A: b\n"), 400}, {"GET / HTTP/1.1\nHost: a\n\n", 400}, {"GET / HTTP/1.1\r\nHost: a\n\r\n", 400}, {"GET / HTTP/1.1\r\nHost: a\r\n\n", 400}, {"GET / HTTP/1.1\r\nHost: a\r\nA: b\nC: d\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400}, {"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n", 400},
		{get("Connection: a b"), 400}, {get("Connection: \"close\""), 400}, {get("Connection: close;x"), 400}, {get("Connection: a@b"), 400},
		{get("Connection: Host"), 400}, {get("Connection: close, x-forwarded-for", "X-Forwarded-For: 10.0.0.1"), 400}, {get("Connection: X-Forwarded-Proto"), 400}, {get("Connection: x-forwarded-host"), 400},
		// content-length
		{post("Content-Length: ", ""), 400}, {post("Content-Length: -1", ""), 400}, {post("Content-Length: +1", "a"), 400}, {post("Content-Length: 1x", "a"), 400}, {post("Content-Length: 0x1", "a"), 400}, {post("Content-Length: 1.0", "a"), 400},
		{post("Content-Length: 1 1", "a"), 400}, {post("Content-Length: 1, 1", "a"), 400}, {post("Content-Length: 1,2", "a"), 400}, {post("Content-Length: 1\r\nContent-Length: 1", "a"), 400}, {post("Content-Length: 1\r\nContent-Length: 2", "a"), 400},
		{post("Content-Length: 0\r\ncontent-length: 5", "abcde"), 400}, {post("Content-Length: 9223372036854775808", ""), 400}, {post("Content-Length: 99999999999999999999", ""), 400}, {post("Content-Length: \xd9\xa1", "a"), 400}, {post("Content-Length: 1e1", "a"), 400},
		{post("Content-Length: 5", "abc"), cut}, {post("Content-Length: 1", ""), cut},
		// transfer-encoding
		{post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400}, {post("Content-Length: 0\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400}, {post("Transfer-Encoding: chunked\r\nContent-Length: 0", "0\r\n\r\n"), 400}, {post("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"), 400}, {post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400},
		{post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"), 400}, {post("Transfer-Encoding: chunked, identity", "0\r\n\r\n"), 400}, {post("Transfer-Encoding: chunked, gzip", "0\r\n\r\n"), 400}, {post("Transfer-Encoding: ", ""), 400}, {post("Transfer-Encoding: ,chunked", "0\r\n\r\n"), 400},
		{post("Transfer-Encoding: chun ked", ""), 400}, {post("Transfer-Encoding: \"chunked\"", ""), 400}, {post("Transfer-Encoding: \x0bchunked", ""), 400}, {post("Transfer-Encoding : chunked", ""), 400}, {post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", ""), 400},
		{post("Transfer-Encoding: gzip, chunked", ""), 501}, {post("Transfer-Encoding: identity", ""), 501}, {post("Transfer-Encoding: gzip", ""), 501}, {post("Transfer-Encoding: xchunked", ""), 501}, {post("Transfer-Encoding: chunkedx", ""), 501}, {post("Transfer-Encoding: deflate;q=1, chunked", ""), 501}, {post("Transfer-Encoding: chunked;q=1", ""), 400},
		{post("Transfer-Encoding: gzip\r\nContent-Length: 1", "a"), 501},
		// chunks
		{chunked("x\r\n"), 400}, {chunked("\r\n"), 400}, {chunked("-1\r\n"), 400}, {chunked("+1\r\na\r\n0\r\n\r\n"), 400}, {chunked("0x1\r\na\r\n0\r\n\r\n"), 400}, {chunked("1 \r\na\r\n0\r\n\r\n"), 400}, {chunked(" 1\r\na\r\n0\r\n\r\n"), 400}, {chunked("1\t\r\na\r\n0\r\n\r\n"), 400}, {chunked("1 ;x\r\na\r\n0\r\n\r\n"), 400},
		{chunked("1\na\r\n0\r\n\r\n"), 400}, {chunked("1\r\na\n0\r\n\r\n"), 400}, {chunked("1\r\nab\r\n0\r\n\r\n"), 400}, {chunked("2\r\na\r\n0\r\n\r\n"), 400}, {chunked("1\ra\r\n0\r\n\r\n"), 400}, {chunked("1;a\nb\r\na\r\n0\r\n\r\n"), 400}, {chunked("1;a\rb\r\na\r\n0\r\n\r\n"), 400}, {chunked("1;\x00\r\na\r\n0\r\n\r\n"), 400},
		{chunked("8000000000000000\r\n"), 400}, {chunked("10000000000000000\r\n"), 400}, {chunked("00000000000000001\r\na\r\n0\r\n\r\n"), 400}, {chunked("ffffffffffffffff\r\n"), 400}, {chunked("1,1\r\na\r\n0\r\n\r\n"), 400}, {chunked("7fffffffffffffff\r\n"), cut}, {chunked("1\r\nax\n0\r\n\r\n"), 400}, {chunked("1\r\na\r\r0\r\n\r\n"), 400}, {chunked("/\r\n"), 400}, {chunked(":\r\n"), 400}, {chunked("@\r\n"), 400}, {chunked("`\r\n"), 400}, {chunked("G\r\n"), 400}, {chunked("1g\r\na\r\n0\r\n\r\n"), 400},
		{chunked("1;" + strings.Repeat("e", maxChunkLine) + "\r\na\r\n0\r\n\r\n"), 400}, {chunked(strings.Repeat("1;"+strings.Repeat("e", 4000)+"\r\na\r\n", 5) + "0\r\n\r\n"), 400},
		{chunked("1\r\na\r\n"), cut}, {chunked("1\r\na"), cut}, {chunked("5\r\nab"), cut}, {chunked("0\r\n"), cut}, {chunked(""), cut}, {chunked("0\r\nA: b\r\n"), cut}, {chunked("1\r\na\r"), cut},
		// trailers
		{chunked("0\r\nA : b\r\n\r\n"), 400}, {chunked("0\r\nA: b\r\n c\r\n\r\n"), 400}, {chunked("0\r\nA: b\n\r\n"), 400}, {chunked("0\r\n: b\r\n\r\n"), 400}, {chunked("0\r\nA: \x00\r\n\r\n"), 400}, {chunked("0\r\nA\r\n\r\n"), 400}, {chunked("0\r\n\n"), 400}, {chunked("0\r\n\r\r\n\r\n"), 400},
		{chunked("0\r\n" + strings.Repeat("A: b\r\n", 101) + "\r\n"), 431}, {chunked("0\r\nA: " + strings.Repeat("b", DefaultMaxHead) + "\r\n\r\n"), 431},
		// sizes
		{line("GET /" + strings.Repeat("a", DefaultMaxHead) + " HTTP/1.1"), 414}, {"GET /" + strings.Repeat("a", DefaultMaxHead+100), 414}, {strings.Repeat("A", DefaultMaxHead+100), 414},
		{get("A: " + strings.Repeat("b", DefaultMaxHead)), 431}, {get(strings.Repeat("b", DefaultMaxHead) + ": a"), 431}, {get(strings.Split(strings.Repeat("A: b,", 100), ",")[:100]...), 431},
		{get(strings.Split(strings.Repeat("A: "+strings.Repeat("b", 700)+",", 99), ",")[:99]...), 431},
		// ends
		{"", -100}, {"\r\n", -100}, {"GET / HTTP/1.1\r\n", 400}, {"GET / HTTP/1.1\r\nHost: a\r\n", 400}, {"G", 400}, {"GET / HTTP/1.1\r\nHost: a\r\n\r", 400},
	}
	return cases
}

// Each malformed request gets its status, however it is cut into reads.
func TestMalformedRequests(t *testing.T) {
	cases := malformedRequests()
	if len(cases) < 150 {
		t.Fatalf("only %d cases", len(cases))
	}
	for i, c := range cases {
		for _, grain := range []int{0, 1, 7, 1000} {
			if len(c.raw) > 1<<12 && grain > 0 && grain < 100 {
				continue
			}
			status, reason := consume(c.raw, grain)
			if status != c.want {
				t.Errorf("case %d, grain %d: %.90q\n got %d (%s), want %d", i, grain, c.raw, status, reason, c.want)
			}
		}
	}
}

func TestAcceptedRequests(t *testing.T) {
	long := strings.Repeat("x", 5000)
	cases := []struct{ raw, want string }{
		{get(), `GET http a "/" 0`},
		{"\r\n" + get(), `GET http a "/" 0`},
		{line("OPTIONS * HTTP/1.1"), `OPTIONS http a "*" 0`},
		{line("GET http://b:80/c?d HTTP/1.1"), `GET http b:80 "/c?d" 0`},
		{line("GET https://b HTTP/1.1"), `GET https b "/" 0`},
		{line("OPTIONS http://b HTTP/1.1"), `OPTIONS http b "*" 0`},
		{line("GET HTTP://b?q=1 HTTP/1.1"), `GET http b "/?q=1" 0`},
		{line("GET http://b#f HTTP/1.1"), `GET http b "/#f" 0`},
		{line("CONNECT b:443 HTTP/1.1"), `CONNECT http b:443 "b:443" 0`},
		{line("GET /a\"<>^`{}|\\#[] HTTP/1.1"), `GET http a "/a\"<>^` + "`" + `{}|\\#[]" 0`},
		{host("[::1]:80"), `GET http [::1]:80 "/" 0`},
		{host("A.b-c_d:1"), `GET http A.b-c_d:1 "/" 0`},
		{host(" \t a \t"), `GET http a "/" 0`},
		{get("X-A:b", "x-B: \t c d\t ", "X:", "U: \xc3\xa9"), `GET http a "/" 0 x-a="b" x-b="c d" x="" u="é"`},
		{get("Connection: X-A, close", "X-a: 1", "X-B: 2", "Keep-Alive: 5", "Proxy-Connection: x"), `GET http a "/" 0 x-b="2" close`},
		{get("TE: trailers, gzip", "Upgrade: h2c", "HTTP2-Settings: AAA", "Connection: Upgrade, HTTP2-Settings, TE"), `GET http a "/" 0 te`},
		{get("Upgrade: WebSocket", "Connection: keep-alive, Upgrade"), `GET http a "/" 0 upgrade`},
		{get("Upgrade: websocket"), `GET http a "/" 0`},
		{get("TE: gzip", "Connection: te"), `GET http a "/" 0`},
		{post("Content-Length: 3\r\nExpect: 100-continue\r\nConnection: expect", "abc"), `POST http a "/" 3 "abc"`},
		// Names as long as those that the codec keeps for itself.
		{get("ab: 1", "hosz: 1", "expecz: 1", "upgradz: 1", "connectioz: 1", "keep-alivz: 1", "content-lengtz: 1", "http2-settingz: 1", "proxy-connectioz: 1", "transfer-encodinz: chunked"),
			`GET http a "/" 0 ab="1" hosz="1" expecz="1" upgradz="1" connectioz="1" keep-alivz="1" content-lengtz="1" http2-settingz="1" proxy-connectioz="1" transfer-encodinz="chunked"`},
		{post("Content-Length: 3\r\nExpect: 100-Continue", "abc"), `POST http a "/" 3 expect "abc"`},
		{post("Content-Length: 3", "abcGET"), `POST http a "/" 3 "abc"`},
		{post("Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 1", "a"), `POST http a "/" 1 "a"`},
		{chunked("3\r\nabc\r\n0\r\n\r\n"), `POST http a "/" -1 "abc"`},
		{chunked("A;x=\"y\"\r\n0123456789\r\n001\r\nz\r\n00\r\nX-T: v\r\nContent-Length: 9\r\nAuthorization: z\r\n\r\n"), `POST http a "/" -1 "0123456789z" trailer x-t="v"`},
		{chunked("1388\r\n" + long + "\r\n1388\r\n" + long + "\r\n0\r\n\r\n"), `POST http a "/" -1 "` + long + long + `"`},
		{post("X-L: "+long+"\r\nContent-Length: 5000", long), `POST http a "/" 5000 x-l="` + long + `" "` + long + `"`},
		{post("transfer-encoding: Chunked", "0\r\n\r\n"), `POST http a "/" -1`},
	}
	for _, c := range cases {
		for _, grain := range []int{0, 1, 7, 4096} {
			got := describe(c.raw, grain)
			if got != c.want {
				t.Errorf("grain %d: %.200q\n got %.300s\nwant %.300s", grain, c.raw, got, c.want)
			}
		}
	}
}

// describe renders what the codec makes of one request.
func describe(raw string, grain int) string {
	s := NewServerConn(&script{in: []byte(raw), grain: grain}, ServerOptions{})
	defer s.Close()
	x, err := s.Next()
	if err != nil {
		return err.Error()
	}
	body, err := io.ReadAll(x)
	if err != nil {
		return err.Error()
	}
	h := x.Head()
	out := fmt.Sprintf("%s %s %s %q %d", h.Method, h.Scheme, h.Authority, h.Target, h.Length)
	for _, f := range h.Fields {
		out += fmt.Sprintf(" %s=%q", f.Name, f.Value)
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"close", h.Close}, {"expect", h.Expect}, {"te", h.Trailers}, {"upgrade", h.Upgrade != ""}} {
		if f.set {
			out += " " + f.name
		}
	}
	if len(body) > 0 {
		out += fmt.Sprintf(" %q", body)
	}
	for i, f := range x.Trailers() {
		if i == 0 {
			out += " trailer"
		}
		out += fmt.Sprintf(" %s=%q", f.Name, f.Value)
	}
	return out
}

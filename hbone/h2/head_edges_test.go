package h2

import (
	"fmt"
	"strings"
	"testing"
)

// assembled takes a head as its fields come and returns what is wrong with it.
func assembled(response bool, kv ...string) string {
	a := headAssembler{length: -1}
	for i := 0; i < len(kv) && a.malformed == ""; i += 2 {
		if strings.HasPrefix(kv[i], ":") {
			a.malformed = a.pseudo(kv[i], kv[i+1])
			continue
		}
		a.regular = true
		a.malformed = a.field(kv[i], kv[i+1])
	}
	if response {
		return a.checkResponse()
	}
	return a.checkRequest()
}

// TestHeadOctets: what the parts of a head may hold, octet by octet.
func TestHeadOctets(t *testing.T) {
	base := []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"}
	with := func(name, value string) []string {
		kv := append([]string{}, base...)
		for i := 0; i < len(kv); i += 2 {
			if kv[i] == name {
				kv[i+1] = value
				return kv
			}
		}
		return append(kv, name, value)
	}
	for c := range 256 {
		s := string([]byte{'a', byte(c), 'b'})
		lower, upper, digit := 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9'
		token := lower || digit || strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0
		visible := c > ' ' && c != 0x7f
		for _, tt := range []struct {
			what string
			kv   []string
			want bool
		}{
			{"field name", with(s, "v"), token},
			{"field value", with("x", s), c >= ' ' && c != 0x7f || c == '\t'},
			{"start of a value", with("x", s[1:]), visible},
			{"end of a value", with("x", s[:2]), visible},
			{":method", with(":method", s), token || upper},
			{":path", with(":path", "/"+s), visible},
			{":authority", with(":authority", s), visible && c != '@'},
			{":scheme", with(":scheme", s), lower || upper || digit || c == '+' || c == '-' || c == '.'},
			{"start of :scheme", with(":scheme", s[1:]), lower || upper},
			{"content-length", with("content-length", string([]byte{'1', byte(c)})), digit},
		} {
			if got := assembled(false, tt.kv...); (got == "") != tt.want {
				t.Errorf("%s with %#x: %q", tt.what, c, got)
			}
		}
		for _, status := range []string{s[1:2] + "00", "2" + s[1:2] + "0", "20" + s[1:2]} {
			if got := assembled(true, ":status", status); (got == "") != (digit && status[0] != '0') {
				t.Errorf(":status %q: %q", status, got)
			}
		}
	}
}

// TestHeadEdges has the heads beside those that are refused.
func TestHeadEdges(t *testing.T) {
	get := []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"}
	and := func(kv ...string) []string { return append(append([]string{}, get...), kv...) }
	for _, tt := range []struct {
		name string
		kv   []string
		ok   bool
	}{
		{"plain", get, true},
		{"host alone", []string{":method", "GET", ":scheme", "http", ":path", "/", "host", "a"}, true},
		{"the same host", and("host", "A"), true},
		{"another host", and("host", "b"), false},
		{"the same host twice", and("host", "a", "host", "a"), true},
		{"two hosts", and("host", "a", "host", "A"), false},
		{"a host for an empty authority", []string{":method", "GET", ":scheme", "http", ":authority", "", ":path", "/", "host", "a"}, false},
		{"one length twice", and("content-length", "3", "content-length", "3"), true},
		{"length zero, then another", and("content-length", "0", "content-length", "3"), false},
		{"length, then zero", and("content-length", "3", "content-length", "0"), false},
		{"length of 18 digits", and("content-length", "999999999999999999"), true},
		{"length of 19 digits", and("content-length", "1000000000000000000"), false},
		{"empty length", and("content-length", ""), false},
		{"trailers in any case", and("te", "Trailers"), true},
		{"te of two", and("te", "trailers, gzip"), false},
		{"empty value", and("x", ""), true},
		{"no authority at all", []string{":method", "GET", ":scheme", "http", ":path", "/"}, true},
		{"OPTIONS of everything", []string{":method", "OPTIONS", ":scheme", "http", ":authority", "a", ":path", "*"}, true},
		{"OPTIONS of a relative path", []string{":method", "OPTIONS", ":scheme", "http", ":authority", "a", ":path", "x"}, false},
		{"GET of everything", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "*"}, false},
		{"another scheme's path", []string{":method", "GET", ":scheme", "urn", ":authority", "a", ":path", "x"}, true},
		{"empty scheme", []string{":method", "GET", ":scheme", "", ":authority", "a", ":path", "/"}, false},
		{"CONNECT", []string{":method", "CONNECT", ":authority", "a:1"}, true},
		{"CONNECT with an empty scheme", []string{":method", "CONNECT", ":authority", "a:1", ":scheme", ""}, false},
		{"CONNECT with an empty path", []string{":method", "CONNECT", ":authority", "a:1", ":path", ""}, false},
		{"CONNECT to nobody", []string{":method", "CONNECT", ":authority", ""}, false},
		{"CONNECT to another host", []string{":method", "CONNECT", ":authority", "a:1", "host", "b:1"}, false},
		{"extended CONNECT", []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/", ":authority", "a"}, false},
		{"two schemes", and(":scheme", "http"), false},
		{"a status", append([]string{":status", "200"}, get...), false},
		{"pseudo field behind a field", append([]string{"x", "y"}, get...), false},
	} {
		if got := assembled(false, tt.kv...); (got == "") != tt.ok {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
	for _, tt := range []struct {
		kv []string
		ok bool
	}{
		{[]string{":status", "200"}, true}, {[]string{":status", "999", "x", "y"}, true}, {[]string{}, false}, {[]string{":status", "20"}, false}, {[]string{":status", "2000"}, false},
		{[]string{":status", "200", ":status", "200"}, false}, {[]string{":status", "200", ":path", "/"}, false}, {[]string{":status", "099"}, false},
	} {
		if got := assembled(true, tt.kv...); (got == "") != tt.ok {
			t.Errorf("response %v: %q", tt.kv, got)
		}
	}
	for s, want := range map[string]string{"0": "0 true", "007": "7 true", "": "0 false", "-1": "0 false", "1 ": "0 false"} {
		if n, ok := parseLength(s); fmt.Sprint(n, ok) != want {
			t.Errorf("length %q: %d %v", s, n, ok)
		}
	}
}

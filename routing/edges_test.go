package routing

import (
	"regexp"
	"strings"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
)

// TestOctets: what a header, a host, a scheme and a path written by a route may hold,
// octet by octet.
func TestOctets(t *testing.T) {
	for c := range 256 {
		s := string([]byte{'a', byte(c), 'b'})
		letter, digit := 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9'
		if want := letter || digit || strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0; validToken(s) != want {
			t.Errorf("token with %#x: %v", c, !want)
		}
		if want := c >= ' ' && c != 0x7f || c == '\t'; validValue(s) != want {
			t.Errorf("value with %#x: %v", c, !want)
		}
		if want := letter || digit || c == '+' || c == '-' || c == '.'; validScheme(s) != want {
			t.Errorf("scheme with %#x: %v", c, !want)
		}
		if want := letter; validScheme(s[1:]) != want {
			t.Errorf("scheme from %#x: %v", c, !want)
		}
		if want := c > ' ' && c < 0x7f && strings.IndexByte(`"#/<>?@\`, byte(c)) < 0; validHost(s) != want {
			t.Errorf("host with %#x: %v", c, !want)
		}
		want := s
		if c <= ' ' || c == 0x7f {
			want = "a%" + strings.ToUpper(string("0123456789abcdef"[c>>4])+string("0123456789abcdef"[c&15])) + "b"
		}
		if got := string(appendSafe(nil, s)); got != want {
			t.Errorf("location with %#x: %q, want %q", c, got, want)
		}
	}
	if validToken("") || validScheme("") || validHost("") || !validValue("") {
		t.Error("the empty string")
	}
	for _, v := range []string{" a", "a ", "\ta", "a\t"} {
		if validValue(v) {
			t.Errorf("value %q", v)
		}
	}
}

// TestOrigins: a wildcard origin stands for labels of a host, and for nothing else.
func TestOrigins(t *testing.T) {
	origin := func(kind ValueKind, v string) *ValueMatch { return &ValueMatch{Kind: kind, Value: v} }
	for _, tt := range []struct {
		m      *ValueMatch
		origin string
		want   bool
	}{
		{origin(ValueExact, "*"), "https://anything", true},
		{origin(ValueExact, "https://*.example"), "https://a.example", true},
		{origin(ValueExact, "https://*.example"), "https://a.b-c_d.example", true},
		{origin(ValueExact, "https://*.example"), "HTTPS://Z9.EXAMPLE", true},
		{origin(ValueExact, "https://*.example"), "https://.example", false},
		{origin(ValueExact, "https://*.example"), "https://example", false},
		{origin(ValueExact, "https://*.example"), "http://a.example", false},
		{origin(ValueExact, "https://*.example"), "https://a.example:8443", false},
		{origin(ValueExact, "https://*.example"), "https://a.example.evil", false},
		{origin(ValueExact, "https://*.example"), "https://evil/.example", false},
		{origin(ValueExact, "https://*.example"), "https://evil:1.example", false},
		{origin(ValueExact, "https://*.example"), "https://u@.example", false},
		{origin(ValueExact, "https://*.example"), "https://evil#.example", false},
		{origin(ValueExact, "https://*.example"), "https://evil{.example", false},
		{origin(ValueExact, "https://*.example"), "evil-https://a.example", false},
		{origin(ValueExact, "https://*.example:8443"), "https://a.example:8443", true},
		{origin(ValueExact, "https://*"), "https://a", true},
		{origin(ValueExact, "https://a.example"), "https://a.example", true},
		{origin(ValueExact, "https://a.example"), "https://b.example", false},
	} {
		p, err := NewCORSPolicy(&CORS{AllowOrigins: []ValueMatch{*tt.m}})
		if err != nil {
			t.Fatal(err)
		}
		r := &attrs.Request{Method: "GET", Headers: []attrs.Field{{Name: "origin", Value: tt.origin}}}
		if got := p.Check(r); (got == CORSActual) != tt.want || !tt.want && got != CORSNone {
			t.Errorf("%s, origin %s: %v", tt.m.Value, tt.origin, got)
		}
		r.Method = "OPTIONS"
		if got := p.Check(r); (got == CORSActual) != tt.want {
			t.Errorf("%s, origin %s, OPTIONS without a method asked for: %v", tt.m.Value, tt.origin, got)
		}
	}
	for _, bad := range []ValueMatch{
		{Value: "*.example"}, {Value: "https://a*.example"}, {Value: "https://*.*.example"}, {Value: "1https://*.example"}, {Value: "://*.example"},
		{Kind: ValueRegex, Value: "("}, {Value: "https://a", Invert: true},
	} {
		if _, err := NewCORSPolicy(&CORS{AllowOrigins: []ValueMatch{bad}}); err == nil {
			t.Errorf("%+v is an origin", bad)
		}
	}
	if (*CORSPolicy)(nil).Check(&attrs.Request{Headers: []attrs.Field{{Name: "origin", Value: "x"}}}) != CORSNone {
		t.Error("no policy has a say")
	}
}

// TestClaimEdges has the claims beside those that hold.
func TestClaimEdges(t *testing.T) {
	claims := &attrs.Claims{Raw: map[string]any{
		"scope": "read  write", "permission": "p q", "other": "a b", "n": 5.0, "l": []any{"x", 7.0}, "s": []string{"y"}, "o": map[string]any{"scope": "a b", "k": "v"}, "null": nil,
	}}
	for _, tt := range []struct {
		path   []string
		m      ValueMatch
		claims *attrs.Claims
		want   bool
	}{
		{[]string{"scope"}, ValueMatch{Value: "write"}, claims, true}, {[]string{"scope"}, ValueMatch{Value: "read  write"}, claims, false}, {[]string{"scope"}, ValueMatch{Value: ""}, claims, false},
		{[]string{"permission"}, ValueMatch{Value: "q"}, claims, true}, {[]string{"other"}, ValueMatch{Value: "b"}, claims, false}, {[]string{"other"}, ValueMatch{Value: "a b"}, claims, true},
		{[]string{"o", "scope"}, ValueMatch{Value: "b"}, claims, false}, {[]string{"o", "scope"}, ValueMatch{Value: "a b"}, claims, true},
		{[]string{"o", "k"}, ValueMatch{Value: "v"}, claims, true}, {[]string{"o", "k", "x"}, ValueMatch{Value: "v"}, claims, false}, {[]string{"o"}, ValueMatch{Value: "v"}, claims, false},
		{[]string{"n"}, ValueMatch{Value: "5"}, claims, false}, {[]string{"n"}, ValueMatch{Value: ""}, claims, false}, {[]string{"null"}, ValueMatch{Value: ""}, claims, false},
		{[]string{"l"}, ValueMatch{Value: "x"}, claims, true}, {[]string{"l"}, ValueMatch{Value: "y"}, claims, false}, {[]string{"l"}, ValueMatch{Value: ""}, claims, false},
		{[]string{"s"}, ValueMatch{Value: "y"}, claims, true}, {[]string{"s"}, ValueMatch{Value: "x"}, claims, false},
		{[]string{"scope"}, ValueMatch{Value: "write"}, nil, false}, {[]string{"scope"}, ValueMatch{Value: "write", Invert: true}, nil, true},
		{[]string{"other"}, ValueMatch{Value: "b", Invert: true}, claims, true}, {[]string{"other"}, ValueMatch{Value: "a b", Invert: true}, claims, false},
		{[]string{"gone"}, ValueMatch{Kind: ValuePresent}, claims, false}, {[]string{"n"}, ValueMatch{Kind: ValuePresent}, claims, true}, {[]string{"gone"}, ValueMatch{Kind: ValuePresent, Invert: true}, claims, true},
	} {
		r := req("GET", "/")
		r.Claims = tt.claims
		if _, ok := mustCompile(t, one(Match{Claims: []ClaimMatch{{Path: tt.path, Value: tt.m}}}), AsListed).Match(r); ok != tt.want {
			t.Errorf("%v %+v: %v", tt.path, tt.m, ok)
		}
	}
}

// TestReducedRegexes: what stands in for a regular expression says the same.
func TestReducedRegexes(t *testing.T) {
	exprs := []string{
		"a", "abc", "a.*", ".*a", ".*a.*", ".+", ".*", ".+a", "a.+", ".+a.*", ".*a.+", ".+a.+", ".+.+", "(a).*", "(.*)a", "(.+)", "^a.*$", `\Aa\z`, "(?s).*a", "(?s)a.+", "(?s).+",
		"(?i)a.*", "(?i)A", "a\n.*", "(?s)a\n.*", "a|b", "(a|b).*", "", "^$", "a.", ".a", "a.*b", "(?m)^a$", "a{2}", ".{2}", "(?:a)(?:b)", ".*?a", "a.+?", "é.*", ".+é",
	}
	pieces := []string{"", "a", "A", "b", "ab", "aa", "abc", "\n", "é", "xa", "ax", "xax", "a\n", "\na", "a\nx", "x\na", "xxa", "axx"}
	for _, expr := range exprs {
		want := regexp.MustCompile(`\A(?:` + expr + `)\z`)
		text, prefix, err := fullRegex(expr)
		if err != nil {
			t.Fatalf("%q: %v", expr, err)
		}
		for _, a := range pieces {
			for _, b := range pieces {
				s := a + b
				if got := text.match(s); got != want.MatchString(s) {
					t.Errorf("%q on %q: %v", expr, s, got)
				}
				if want.MatchString(s) && !strings.HasPrefix(s, prefix) {
					t.Errorf("%q matches %q, without its prefix %q", expr, s, prefix)
				}
			}
		}
	}
	for _, expr := range []string{"(", "a)|(b", `\C`, "a**", "[b-a]"} {
		if _, _, err := fullRegex(expr); err == nil {
			t.Errorf("%q is taken for a regular expression", expr)
		}
	}
}

func TestServerNameEdges(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"*.", "a.", false}, {"*.a", "b.a", true}, {"*.a", ".a", false}, {"*.a", "a", false}, {"*.a", "ba", false}, {"*.a", "b.a.", true}, {"*.A", "b.a", true},
		{"*a", "ba", false}, {"*a", "*a", true}, {"a", "", false}, {"", "", false}, {"a", "a.", true}, {"a", "a..", false}, {"A", "a", true},
	} {
		if got := MatchSNI([]string{tt.pattern}, tt.name); got != tt.want {
			t.Errorf("%q on %q: %v", tt.pattern, tt.name, got)
		}
	}
	if !MatchSNI(nil, "") || !MatchSNI(nil, "a") || !MatchSNI([]string{"x", "a"}, "a") {
		t.Error("no patterns, or the second of two")
	}
}

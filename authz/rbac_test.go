package authz

import (
	"net/netip"
	"regexp"
	"testing"

	"pgregory.net/rapid"

	"waypoint.dev/waypoint/internal/attrs"
)

func must(e *Expr, err error) *Expr {
	if err != nil {
		panic(err)
	}
	return e
}

// TestEnvoyForms has the matchers of Envoy's RBAC that AuthorizationPolicy does
// not use in the same way.
func TestEnvoyForms(t *testing.T) {
	h := func(m HeaderMatch) *Expr { return must(Header("X-A", m)) }
	str := func(k MatchKind, v string, fold bool) HeaderMatch {
		return HeaderMatch{StringMatch: StringMatch{Kind: k, Value: v, IgnoreCase: fold}}
	}
	inv := func(m HeaderMatch) HeaderMatch { m.Invert = true; return m }
	empty := func(m HeaderMatch) HeaderMatch { m.MissingHeaderAsEmpty = true; return m }
	one, two, miss := header("x-a:Abc"), header("x-a:zzz", "x-a:Abc"), header("b:1")
	query := &attrs.Request{Method: "GET", Scheme: "http", Authority: "h", Path: "/p", Query: "q=1", HasQuery: true}
	tests := []struct {
		name string
		e    *Expr
		r    *attrs.Request
		want bool
	}{
		{"exact", h(str(MatchExact, "Abc", false)), one, true},
		{"exact case", h(str(MatchExact, "abc", false)), one, false},
		{"exact fold", h(str(MatchExact, "aBC", true)), one, true},
		{"exact fold length", h(str(MatchExact, "aBCd", true)), one, false},
		{"prefix fold", h(str(MatchPrefix, "aB", true)), one, true},
		{"suffix fold", h(str(MatchSuffix, "BC", true)), one, true},
		{"contains", h(str(MatchContains, "b", false)), one, true},
		{"contains fold", h(str(MatchContains, "BC", true)), one, true},
		{"contains fold not", h(str(MatchContains, "cb", true)), one, false},
		{"regex", h(str(MatchRegex, "[A-Z]bc", false)), one, true},
		{"regex is whole", h(str(MatchRegex, "[A-Z]b", false)), one, false},
		{"regex alternatives are whole", h(str(MatchRegex, "x|Ab", false)), one, false},
		{"non-empty", h(str(MatchNonEmpty, "", false)), one, true},
		{"second line", h(str(MatchExact, "Abc", false)), two, true},
		{"inverted", h(inv(str(MatchExact, "x", false))), one, true},
		{"inverted, a line matches", h(inv(str(MatchExact, "Abc", false))), two, false},
		{"inverted, missing", h(inv(str(MatchExact, "x", false))), miss, false},
		{"missing as empty", h(empty(str(MatchExact, "", false))), miss, true},
		{"missing as empty inverted", h(inv(empty(str(MatchExact, "x", false)))), miss, true},
		{"present", HeaderPresent("X-A", true), one, true},
		{"absent", HeaderPresent("X-A", false), one, false},
		{"absent, missing", HeaderPresent("X-A", false), miss, true},
		{"range", HeaderRange("n", 1, 3, false), header("n:2"), true},
		{"range end", HeaderRange("n", 1, 3, false), header("n:3"), false},
		{"range no number", HeaderRange("n", 1, 3, false), header("n:x"), false},
		{"range inverted", HeaderRange("n", 1, 3, true), header("n:3"), true},
		{"range inverted, missing", HeaderRange("n", 1, 3, true), miss, false},
		{":method", must(Header(":method", str(MatchExact, "GET", false))), query, true},
		{":method inverted", must(Header(":method", inv(str(MatchExact, "GET", false)))), query, false},
		{":authority", must(Header(":authority", str(MatchExact, "H", true))), query, true},
		{"host inverted", must(Header("Host", inv(str(MatchExact, "x", false)))), query, true},
		{":scheme", must(Header(":scheme", str(MatchExact, "http", false))), query, true},
		{":scheme present", HeaderPresent(":scheme", true), query, true},
		{":path has the query", must(Header(":path", str(MatchExact, "/p?q=1", false))), query, true},
		{":path present", HeaderPresent(":path", true), query, true},
		{"url_path has not", must(Path(StringMatch{Kind: MatchExact, Value: "/p"})), query, true},
		{"uri_template", must(PathTemplate("/{*}")), query, true},
		{"port range", must(DestinationPortRange(1, 3)), conn(attrs.Conn{DestPort: 2}), true},
		{"port range end", must(DestinationPortRange(1, 3)), conn(attrs.Conn{DestPort: 3}), false},
		{"port range all", must(DestinationPortRange(0, 65536)), conn(attrs.Conn{DestPort: 65535}), true},
		{"ips", Or(DirectRemoteIP(netip.MustParsePrefix("1.0.0.0/8")), DirectRemoteIP(netip.MustParsePrefix("1.1.0.0/16"))), conn(attrs.Conn{Source: addrPort("1.2.0.1:1")}), true},
		{"mapped prefix", DirectRemoteIP(netip.MustParsePrefix("::ffff:1.0.0.0/104")), conn(attrs.Conn{Source: addrPort("1.2.0.1:1")}), true},
		{"principal exact", must(Principal(StringMatch{Value: curl})), peer(curl), true},
		{"principal empty", must(Principal(StringMatch{Value: ""})), peer(""), false},
		{"principal regex", must(Principal(StringMatch{Kind: MatchRegex, Value: "spiffe://[a-z.]+/ns/clients/.*"})), peer(curl), true},
		{"namespace regex", must(Principal(StringMatch{Kind: MatchRegex, Value: ".*/ns/clients/.*"})), peer(curl), true},
		{"account regex", must(Principal(StringMatch{Kind: MatchRegex, Value: "spiffe://.+/ns/clients/(.+/|)sa/curl(/.+)?"})), peer(curl), true},
		{"present value", must(Claim([]string{"a"}, false, ValuePresent())), claims(map[string]any{"a": false}), true},
		{"present value, null", must(Claim([]string{"a"}, false, ValuePresent())), claims(map[string]any{"a": nil}), false},
		{"present standard claim", must(Claim([]string{"aud"}, false, ValuePresent())), &attrs.Request{Claims: &attrs.Claims{Audiences: []string{"a"}}}, true},
		{"list of strings", must(Claim([]string{"a"}, false, ValueListOneOf(ValuePresent()))), claims(map[string]any{"a": []string{"x"}}), true},
		{"split present", must(Claim([]string{"a"}, true, ValuePresent())), claims(map[string]any{"a": "x y"}), true},
		{"any", Any(), miss, true},
		{"never", Never(), miss, false},
		{"nil", nil, miss, false},
		{"empty and", And(), miss, true},
		{"empty or", Or(), miss, false},
		{"not not", Not(Not(Any())), miss, true},
	}
	for _, tt := range tests {
		if got := tt.e.Match(tt.r); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
		if got := optimize(tt.e).Match(tt.r); got != tt.want {
			t.Errorf("%s, optimized: %v", tt.name, got)
		}
		if tt.e != nil && tt.e.op.http() && tt.e.MatchConn(&attrs.Conn{}) {
			t.Errorf("%s holds for a connection", tt.name)
		}
	}
	bad := StringMatch{Kind: MatchRegex, Value: "("}
	for i, err := range []error{
		errOf(Header("a", HeaderMatch{StringMatch: bad})), errOf(Header("", HeaderMatch{})), errOf(Path(bad)), errOf(Principal(bad)),
		errOf(RequestedServerName(bad)), errOf(Claim(nil, false, ValuePresent())), errOf(Claim([]string{"a"}, false, nil)),
		errOf(PathTemplate("x")), errOf(PathTemplate("/*x{*}")), errOf(DestinationPortRange(3, 3)), errOf(DestinationPortRange(0, 65537)),
		errOf(Path(StringMatch{Kind: 99})), func() error { _, err := StringOrList(bad); return err }(),
	} {
		if err == nil {
			t.Errorf("bad constructor %d gave no error", i)
		}
	}
}

func errOf(_ *Expr, err error) error { return err }

// TestPrincipalShapes compares the recognized regular expressions with package
// regexp on URIs made of their pieces.
func TestPrincipalShapes(t *testing.T) {
	patterns := []string{
		".*/ns/a/.*", ".*/ns/a.*/.*", ".*/ns/.*b/.*", ".*/ns/.*/.*", ".*/ns/a.*b/.*", `.*/ns/a\.b/.*`, ".*/ns/a.+/.*",
		"spiffe://.+/ns/a/(.+/|)sa/x(/.+)?", `spiffe://.+/ns/a/(.+/|)sa/x\-y(/.+)?`, "spiffe://.*sa/x", ".+", ".*", "spiffe://td/.*", "a.+b.*c",
	}
	pieces := []string{"spiffe://", "td", "/ns/", "/ns/a/", "/ns/a", "a", "b", "a.b", "/", "sa/x", "/sa/x", "x-y", "\n", "x"}
	compiled := map[string]*regexp.Regexp{}
	for _, p := range patterns {
		compiled[p] = regexp.MustCompile(`\A(?:` + p + `)\z`)
		e := must(Principal(StringMatch{Kind: MatchRegex, Value: p}))
		if e.str != nil && e.str.re != nil {
			t.Errorf("%s was left to package regexp", p)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom(patterns).Draw(t, "pattern")
		uri := ""
		for _, s := range rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 9).Draw(t, "uri") {
			uri += s
		}
		e := must(Principal(StringMatch{Kind: MatchRegex, Value: p}))
		if got, want := e.Match(peer(uri)), compiled[p].MatchString(uri); got != want {
			t.Fatalf("%s on %q: %v, want %v", p, uri, got, want)
		}
	})
}

// FuzzRegexShape compares every regular expression that the fast path takes with
// package regexp.
func FuzzRegexShape(f *testing.F) {
	f.Add("a.*b.+c", "axxbyc")
	f.Add(`\.\*.*`, ".*")
	f.Add(".*.+", "x")
	f.Add("a*", "aa")
	f.Fuzz(func(t *testing.T, re, s string) {
		g, ok := parseGlobRegex(re)
		if !ok {
			return
		}
		want, err := regexp.Compile(`\A(?:` + re + `)\z`)
		if err != nil {
			t.Fatalf("took %q, which is no regular expression: %v", re, err)
		}
		for i := range len(s) {
			if s[i] >= 0x80 {
				return // "." is a whole character there
			}
		}
		if got := g.match(s); got != want.MatchString(s) {
			t.Fatalf("%q on %q: %v", re, s, got)
		}
	})
}

// FuzzRule feeds one value to every field: no panic, and the error names a field.
func FuzzRule(f *testing.F) {
	for _, s := range []string{"*", "a*", "/{*}/x", "a/b/c", "10.0.0.0/8", "80", "request.headers[a]", "request.auth.claims[a][b]", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		l := []string{v}
		specs := []*RuleSpec{
			from(Source{Principals: l}), from(Source{NotRequestPrincipals: l}), from(Source{Namespaces: l}), from(Source{ServiceAccounts: l}),
			from(Source{TrustDomains: l}), from(Source{IPBlocks: l}), to(Operation{Hosts: l}), to(Operation{Methods: l}),
			to(Operation{Paths: l}), to(Operation{Ports: l}), cond(v, "x"), cond("connection.sni", v), cond("request.auth.claims[a]", v),
		}
		req := typicalRequest()
		req.Path, req.Authority, req.Conn.Peer.URI = v, v, v
		for _, s := range specs {
			r, err := NewRule("n", "p", 0, Deny, s, scope)
			if err != nil {
				if fe, ok := err.(*FieldError); !ok || fe.Field == "" || fe.Msg == "" {
					t.Fatalf("error without a field: %v", err)
				}
				continue
			}
			if r.When.Match(req) != optimize(r.When).Match(req) {
				t.Fatalf("optimizing changed %+v", s)
			}
			Compile([]Policy{{Action: Deny, Rules: []Rule{r}}}).Explain(req)
		}
	})
}

package authz

import (
	"net/netip"
	"strings"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
)

// TestMissingNeverMatches: an attribute that is not there does not hold, whatever
// the matcher would say of an empty string, alone and among alternatives.
func TestMissingNeverMatches(t *testing.T) {
	without := &attrs.Request{Claims: &attrs.Claims{}, Conn: &attrs.Conn{}}
	for _, m := range []StringMatch{{}, {Kind: MatchPrefix}, {Kind: MatchSuffix}, {Kind: MatchContains}, {Kind: MatchRegex, Value: ".*"}, {Kind: MatchRegex, Value: "a?"}} {
		exprs := map[string]*Expr{
			"path": must(Path(m)), "principal": must(Principal(m)), "sni": must(RequestedServerName(m)), "issuer": must(leaf(opIssuer, m)), "subject": must(leaf(opSubject, m)),
		}
		for _, name := range []string{":method", ":authority", "host", ":scheme", ":path", "x"} {
			exprs[name] = must(Header(name, HeaderMatch{StringMatch: m}))
			exprs[name+" inverted"] = must(Header(name, HeaderMatch{StringMatch: m, Invert: true}))
			exprs[name+" is not x"] = must(Header(name, HeaderMatch{StringMatch: StringMatch{Value: "x"}, Invert: true}))
			exprs[name+" present"] = HeaderPresent(name, true)
		}
		for _, claim := range []string{"iss", "sub", "azp", "aud", "other"} {
			exprs["claim "+claim] = must(Claim([]string{claim}, false, ValuePresent()))
			exprs["claim as "+claim] = must(Claim([]string{claim}, false, must2(StringOrList(m))))
		}
		for name, e := range exprs {
			if e.Match(without) || optimize(e).Match(without) {
				t.Errorf("%s %+v holds without a value", name, m)
			}
			if e.op.http() && e.MatchConn(&attrs.Conn{}) {
				t.Errorf("%s %+v holds for a connection", name, m)
			}
		}
	}
	// In the set that many alternatives become, too.
	for name, f := range map[string]func(string) *Expr{
		"path":      func(v string) *Expr { return must(Path(StringMatch{Value: v})) },
		"principal": func(v string) *Expr { return must(Principal(StringMatch{Value: v})) },
		"host": func(v string) *Expr {
			return must(Header("host", HeaderMatch{StringMatch: StringMatch{Value: v, IgnoreCase: true}}))
		},
	} {
		if or := Or(f(""), f("/a"), f("/b"), f("/c"), f("/d"), f("/e")); or.Match(without) || optimize(or).Match(without) {
			t.Errorf("a set of %s holds without a value", name)
		}
	}
}

func must2(v *ValueMatch, err error) *ValueMatch {
	if err != nil {
		panic(err)
	}
	return v
}

// TestEdges has the values next to each bound and each shortcut.
func TestEdges(t *testing.T) {
	h := func(kind MatchKind, v string, fold bool) *Expr {
		return must(Header("a", HeaderMatch{StringMatch: StringMatch{Kind: kind, Value: v, IgnoreCase: fold}}))
	}
	re := func(v string) *Expr { return h(MatchRegex, v, false) }
	principal := func(v string) *Expr { return must(Principal(StringMatch{Kind: MatchRegex, Value: v})) }
	src := func(a string) *attrs.Request {
		return conn(attrs.Conn{Source: netip.AddrPortFrom(netip.MustParseAddr(a), 1)})
	}
	block := func(ps ...string) *Expr {
		var l []netip.Prefix
		for _, p := range ps {
			l = append(l, netip.MustParsePrefix(p))
		}
		return DirectRemoteIP(l...)
	}
	claim := func(name string, split bool, v *ValueMatch) *Expr { return must(Claim([]string{name}, split, v)) }
	word := func(v string) *ValueMatch { return must2(ValueString(StringMatch{Value: v})) }
	hosts := func(fold bool, vs ...string) *Expr {
		var l []*Expr
		for _, v := range vs {
			l = append(l, must(Header("host", HeaderMatch{StringMatch: StringMatch{Value: v, IgnoreCase: fold}})))
		}
		return Or(l...)
	}
	long := strings.Repeat("a", maxHost)
	std := &attrs.Request{Claims: &attrs.Claims{Issuer: "i", Subject: "s", Presenter: "p", Audiences: []string{"a"}}}
	query := &attrs.Request{Method: "GET", Authority: "A.com", Path: "/p", Query: "q=1", HasQuery: true}
	tests := []struct {
		name string
		e    *Expr
		r    *attrs.Request
		want bool
	}{
		{"prefix fold not", h(MatchPrefix, "aC", true), header("a:Abc"), false},
		{"prefix fold longer", h(MatchPrefix, "abcd", true), header("a:Abc"), false},
		{"prefix fold whole", h(MatchPrefix, "abc", true), header("a:Abc"), true},
		{"suffix fold not", h(MatchSuffix, "bd", true), header("a:Abc"), false},
		{"suffix fold longer", h(MatchSuffix, "xabc", true), header("a:Abc"), false},
		{"suffix fold whole", h(MatchSuffix, "abc", true), header("a:Abc"), true},
		{"contains not", h(MatchContains, "x", false), header("a:Abc"), false},
		{"contains fold at the start", h(MatchContains, "AB", true), header("a:Abc"), true},
		{"contains fold at the end", h(MatchContains, "BC", true), header("a:Abc"), true},
		{"fold of the last letter", h(MatchExact, "Z", true), header("a:z"), true},
		{"fold of the first letter", h(MatchExact, "a", true), header("a:A"), true},
		{"fold is of letters only", h(MatchExact, "[", true), header("a:{"), false},
		{"non-empty of an empty line", h(MatchNonEmpty, "", false), header("a:"), false},
		{"non-empty of two lines in one", h(MatchNonEmpty, "", false), header("a:x\ny"), false},

		{"dot is one character", re("a.c"), header("a:axxc"), false},
		{"dot is a character", re("a.c"), header("a:axc"), true},
		{"dot ends", re("a."), header("a:ab"), true},
		{"lazy", re("a.*?b"), header("a:axb"), true},
		{"lazy is no literal", re("a.*?"), header("a:a"), true},
		{"repeated literal", re("ab*c"), header("a:abbc"), true},
		{"repeated escape", re(`a\.*c`), header("a:a..c"), true},
		{"counted literal", re("ab{2}"), header("a:abb"), true},
		{"counted literal not", re("ab{2}"), header("a:ab{2}"), false},
		{"class", re(`\d+`), header("a:5"), true},
		{"class not", re(`\d`), header("a:d"), false},
		{"end of text is no letter", re(`a\z`), header("a:az"), false},
		{"start of text is no letter", re(`\Aa`), header("a:Aa"), false},
		{"octal is no digit", re(`a\0`), header("a:a0"), false},
		{"escaped dot", re(`a\.c`), header("a:axc"), false},
		{"two gaps need two", re(".+.+b"), header("a:xb"), false},
		{"two gaps in a short value", re(".+.+b.*"), header("a:x"), false},
		{"two gaps have two", re(".+.+b"), header("a:xxb"), true},
		{"the last of two literals", re("a.*b"), header("a:abxb"), true},
		{"empty pattern", re(""), header("a:"), true},
		{"empty pattern is whole", re(""), header("a:x"), false},
		{"gap before a literal takes no newline", re(".*b.*"), header("a:\nb"), false},
		{"gap behind takes no newline", re("b.*"), header("a:b\n"), false},
		{"gap between takes no newline", re("a.*b"), header("a:a\nb"), false},
		{"gap takes a tab", re("a.*b.*"), header("a:a\v\tb\v"), true},

		{"range below", HeaderRange("a", 1, 3, false), header("a:0"), false},
		{"range start", HeaderRange("a", 1, 3, false), header("a:1"), true},
		{"range of two digits", HeaderRange("a", 1, 11, false), header("a:10"), true},
		{"range around zero is of numbers", HeaderRange("a", 0, 3, false), header("a:x"), false},
		{"range of too large a number", HeaderRange("a", 0, 1<<62, false), header("a:99999999999999999999"), false},
		{":method inverted", must(Header(":method", HeaderMatch{StringMatch: StringMatch{Value: "POST"}, Invert: true})), query, true},
		{":path without a query", must(Header(":path", HeaderMatch{StringMatch: StringMatch{Value: "/p"}})), path("/p"), true},
		{":path without a query, not", must(Header(":path", HeaderMatch{StringMatch: StringMatch{Value: "/q"}})), path("/p"), false},
		{"missing host as empty", must(Header("host", HeaderMatch{MissingHeaderAsEmpty: true})), path("/p"), true},
		{"missing :method as empty", must(Header(":method", HeaderMatch{MissingHeaderAsEmpty: true})), path("/p"), true},
		{":path is not the path", must(Header(":path", HeaderMatch{StringMatch: StringMatch{Value: "/p"}})), query, false},

		{"exact is no expression", must(Principal(StringMatch{Value: ".*/ns/clients/.*"})), peer(curl), false},
		{"prefix is no expression", must(Principal(StringMatch{Kind: MatchPrefix, Value: ".*/ns/clients/.*"})), peer(curl), false},
		{"namespace alternatives", principal(".*/ns/(a|b)/.*"), peer("spiffe://td/ns/a/sa/x"), true},
		{"namespace alternatives not", principal(".*/ns/(a|b)/.*"), peer("spiffe://td/ns/c/sa/x"), false},
		{"account of namespace alternatives", principal("spiffe://.+/ns/(a|b)/(.+/|)sa/x(/.+)?"), peer("spiffe://td/ns/b/sa/x"), true},
		{"account alternatives", principal("spiffe://.+/ns/a/(.+/|)sa/(x|y)(/.+)?"), peer("spiffe://td/ns/a/sa/y"), true},
		{"account with a gap", principal("spiffe://.+/ns/a/(.+/|)sa/x.*z(/.+)?"), peer("spiffe://td/ns/a/sa/x"), false},
		{"account in any namespace", principal("spiffe://.+/ns/.*/(.+/|)sa/x(/.+)?"), peer("spiffe://td/ns/c/sa/x"), true},
		{"account without the middle", principal("spiffe://.+/ns/a/sa/x(/.+)?"), peer("spiffe://td/ns/a/sa/x"), true},
		{"ends as a namespace", principal("x.*/ns/a/.*"), peer("spiffe://td/ns/a/sa/x"), false},
		{"starts as a namespace", principal(".*/ns/a/sa"), peer("spiffe://td/ns/a/sa"), true},

		{"account of an inner shape", serviceAccountExpr("a", "x"), peer("spiffe://a.trust.domain/sa/x/ns/a/pod/y"), false},
		{"account behind a lookalike", serviceAccountExpr("a", "x"), peer("spiffe://td/ns/a/ysa/xq/sa/x"), true},
		{"account is a whole part", serviceAccountExpr("a", "x"), peer("spiffe://td/ns/a/ysa/x"), false},
		{"account ends", serviceAccountExpr("a", "x"), peer("spiffe://td/ns/a/sa/xyz"), false},
		{"account behind an empty part", serviceAccountExpr("a", "x"), peer("spiffe://td/ns/a//sa/x"), false},
		{"account of another scheme", serviceAccountExpr("a", "x"), peer("https://td/ns/a/sa/x"), false},
		{"account with a newline", serviceAccountExpr("a", "x"), peer("spiffe://t\nd/ns/a/sa/x"), false},
		{"account after a gap", principal("spiffe://.+/ns/.*a/(.+/|)sa/x(/.+)?"), peer("spiffe://td/ns/ba/sa/x"), true},
		{"trust domain alone", must(leaf(opTrustDomain, Wildcard("td"))), peer("spiffe://td"), false},
		{"principal suffix behind another scheme", principalExpr("*x"), peer("https://spiffe://td/x"), false},
		{"principal suffix is whole", principalExpr("*/x"), peer("spiffe://td/yx"), false},
		{"principal prefix is whole", principalExpr("td/ns/a*"), peer("spiffe://td/ns/b"), false},
		{"trust domain of another scheme", must(leaf(opTrustDomain, Wildcard("td"))), peer("https://td/ns/a/sa/x"), false},

		{"host of 264 in a set", hosts(true, long, "b", "c", "d", "e"), &attrs.Request{Authority: strings.ToUpper(long)}, true},
		{"host of 265 in a set", hosts(true, long+"a", "b", "c", "d", "e"), &attrs.Request{Authority: long + "a"}, true},
		{"last letter in a set", hosts(true, "z.com", "b", "c", "d", "e"), &attrs.Request{Authority: "Z.com"}, true},
		{"set keeps the case", hosts(false, "a.com", "b", "c", "d", "e"), query, false},
		{"set with the case", hosts(false, "A.com", "b", "c", "d", "e"), query, true},

		{"v6 block is not cut", block("fd00::/112"), src("fd00:1::1"), false},
		{"v6 block", block("fd00::/112"), src("fd00::ffff"), true},
		{"v6 block ends", block("fd00::/112"), src("fd00::1:0"), false},
		{"all mapped", block("::ffff:0.0.0.0/96"), src("9.9.9.9"), true},
		{"mapped block ends", block("::ffff:2.0.0.0/104"), src("3.0.0.1"), false},
		{"block written with its host", block("10.1.2.3/8"), src("10.0.0.1"), true},
		{"end of a block", block("10.0.0.0/8"), src("10.255.255.255"), true},
		{"behind a block", block("10.0.0.0/8"), src("11.0.0.0"), false},
		{"blocks in any order", block("192.0.2.0/24", "172.16.0.0/12", "10.0.0.0/8"), src("10.0.0.1"), true},
		{"between blocks", block("192.0.2.0/24", "10.0.0.0/8"), src("172.16.0.1"), false},
		{"no block", DirectRemoteIP(netip.Prefix{}), src("0.0.0.0"), false},
		{"other remote", RemoteIP(netip.MustParsePrefix("9.9.9.9/32")), &attrs.Request{Remote: netip.MustParseAddr("9.9.9.8")}, false},
		{"no remote", RemoteIP(netip.MustParsePrefix("0.0.0.0/0")), path("/"), false},

		{"iss", claim("iss", false, word("i")), std, true},
		{"iss not", claim("iss", false, word("x")), std, false},
		{"sub", claim("sub", false, word("s")), std, true},
		{"sub not", claim("sub", false, word("x")), std, false},
		{"azp not", claim("azp", false, word("x")), std, false},
		{"aud not", claim("aud", false, ValueListOneOf(word("x"))), std, false},
		{"below iss", must(Claim([]string{"iss", "x"}, false, ValuePresent())), std, false},
		{"number is no empty string", claim("n", false, word("")), claims(map[string]any{"n": 5.0}), false},
		{"any of an empty string", claim("n", false, must2(StringOrList(Wildcard("*")))), claims(map[string]any{"n": ""}), false},
		{"list of strings not", claim("l", false, ValueListOneOf(word("x"))), claims(map[string]any{"l": []string{"y"}}), false},
		{"split list", claim("l", true, must2(StringOrList(Wildcard("y")))), claims(map[string]any{"l": []any{"x", "y"}}), true},
		{"no word between two spaces", claim("l", true, ValueListOneOf(word(""))), claims(map[string]any{"l": "x  y"}), false},
		{"alternatives of strings", claim("aud", false, ValueOr(ValueListOneOf(word("x")), ValueListOneOf(word("y")))), std, false},
	}
	for _, tt := range tests {
		if got := tt.e.Match(tt.r); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
		if got := optimize(tt.e).Match(tt.r); got != tt.want {
			t.Errorf("%s, optimized: %v", tt.name, got)
		}
	}
	for _, v := range []string{`a\`, "(", "a**", `\9`} {
		if _, err := Principal(StringMatch{Kind: MatchRegex, Value: v}); err == nil {
			t.Errorf("%q is taken for a regular expression", v)
		}
	}
	if (*Expr)(nil).readsHTTP() {
		t.Error("no expression reads HTTP")
	}
	l4 := must(Principal(StringMatch{Value: curl}))
	if !l4.MatchConn(&attrs.Conn{Peer: attrs.Principal{URI: curl}}) || l4.MatchConn(&attrs.Conn{}) {
		t.Error("a principal of a connection")
	}
}

// TestRuleEdges has what a rule of an AuthorizationPolicy may just have.
func TestRuleEdges(t *testing.T) {
	accounts := func(n int) []string { return strings.Split(strings.Repeat("a,", n-1)+"a", ",") }
	tests := []struct {
		name   string
		spec   *RuleSpec
		action Action
		ok     bool
	}{
		{"512 sources", &RuleSpec{From: manySources(512)}, Allow, true},
		{"513 sources", &RuleSpec{From: manySources(513)}, Allow, false},
		{"16 accounts", from(Source{ServiceAccounts: accounts(16)}), Allow, true},
		{"17 accounts", from(Source{ServiceAccounts: accounts(17)}), Allow, false},
		{"account of 320", from(Source{ServiceAccounts: []string{strings.Repeat("a", 320)}}), Allow, true},
		{"account of 321", from(Source{ServiceAccounts: []string{strings.Repeat("a", 321)}}), Allow, false},
		{"trust domain with a path", from(Source{TrustDomains: []string{"td/ns"}}), Allow, false},
		{"CUSTOM by address", from(Source{IPBlocks: []string{"10.0.0.0/8"}}), Custom, true},
		{"CUSTOM by account", from(Source{ServiceAccounts: []string{"a"}}), Custom, false},
		{"CUSTOM by token", cond("request.auth.audiences", "x"), Custom, false},
	}
	for _, tt := range tests {
		if _, err := NewRule("shop", "p", 0, tt.action, tt.spec, scope); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	raw := claims(map[string]any{"permission": map[string]any{"b": "x y"}})
	if e, err := cond("request.auth.claims[permission][b]", "y").Expr(scope); err != nil || e.Match(raw) {
		t.Errorf("a nested claim is split: %v", err)
	}
	// Only what reads HTTP leaves a DENY rule of a connection.
	r, err := NewRule("shop", "p", 0, Deny, to(Operation{NotPorts: []string{"5432"}, NotPaths: []string{"/a"}}), scope)
	if err != nil || r.TCP.MatchConn(&attrs.Conn{DestPort: 5432}) || !r.TCP.MatchConn(&attrs.Conn{DestPort: 1}) {
		t.Errorf("notPorts of a connection: %v", err)
	}
	// A star in a trust domain of the mesh's own covers principals beneath it.
	s := Scope{TrustDomain: "td1", TrustAliases: []string{"pre*", "*post"}}
	for in, want := range map[string]string{
		"prefix/ns/a/sa/b": "td1/ns/a/sa/b pre*/ns/a/sa/b *post/ns/a/sa/b",
		"apost/ns/a/sa/b":  "td1/ns/a/sa/b pre*/ns/a/sa/b *post/ns/a/sa/b",
		"td*/ns/a/sa/b":    "td1/ns/a/sa/b pre*/ns/a/sa/b *post/ns/a/sa/b",
		"other/ns/a/sa/b":  "other/ns/a/sa/b",
	} {
		if got := strings.Join(s.expandPrincipals([]string{in}), " "); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func manySources(n int) []Source {
	l := make([]Source, n)
	for i := range l {
		l[i].IPBlocks = []string{"10.0.0.1"}
	}
	return l
}

// TestEngineEdges has what an Engine says beside its decision.
func TestEngineEdges(t *testing.T) {
	if Compile(nil) != nil {
		t.Error("no policies make an engine")
	}
	http, l4 := policy(t, "http", Deny, to(Operation{Paths: []string{"/a"}})), policy(t, "l4", Deny, to(Operation{Ports: []string{"1"}}))
	if !Compile([]Policy{http, l4}).NeedsHTTP() || !Compile([]Policy{l4, http}).NeedsHTTP() || Compile([]Policy{l4}).NeedsHTTP() {
		t.Error("NeedsHTTP depends on the order")
	}
	if e := Compile([]Policy{{Rules: []Rule{{}}}}); e.NeedsHTTP() || e.Check(path("/")).Allowed || e.CheckConn(&attrs.Conn{}).Allowed {
		t.Error("a rule without an expression allows")
	}
	named := Policy{Action: Deny, Rules: []Rule{{Name: "as-istiod-says", When: Any()}}}
	if d := Compile([]Policy{named}).Check(path("/")); d.Rule != "as-istiod-says" || d.Details != "rbac_access_denied_matched_policy[as-istiod-says]" {
		t.Errorf("%+v", d)
	}
	two := []Policy{{Namespace: "n", Name: "first", Invalid: "x"}, {Namespace: "n", Name: "second", Invalid: "y"}}
	if d := Compile(two).Check(path("/")); d.Policy != "n/first" {
		t.Errorf("%+v", d)
	}

	// Rules of one provider stand in the order of their names, and are one provider.
	b, a := by(policy(t, "b", Custom, matchAll), "p"), by(policy(t, "a", Custom, matchAll), "p")
	e := Compile([]Policy{b, a})
	p, d, next, ok := e.CustomFrom(path("/"), 0)
	if !ok || p != "p" || d.Policy != "shop/a" || next != 1 {
		t.Errorf("%q %+v %d %v", p, d, next, ok)
	}
	if p, d, next, ok = e.CustomFrom(path("/"), next); ok || p != "" || d != (Decision{}) || next != 1 {
		t.Errorf("behind the last: %q %+v %d %v", p, d, next, ok)
	}

	dryAllow, dryDeny := dry(policy(t, "da", Allow, matchAll)), dry(policy(t, "dd", Deny, matchAll))
	for _, tt := range []struct {
		name        string
		policies    []Policy
		allow, deny Shadow
	}{
		{"only allow", []Policy{dryAllow}, Shadow{true, true, "shop/da", "ns[shop]-policy[da]-rule[0]"}, Shadow{}},
		{"only deny", []Policy{dryDeny}, Shadow{}, Shadow{true, false, "shop/dd", "ns[shop]-policy[dd]-rule[0]"}},
		{"neither", []Policy{l4}, Shadow{}, Shadow{}},
	} {
		e := Compile(tt.policies)
		if allow, deny := e.DryRun(path("/")); allow != tt.allow || deny != tt.deny {
			t.Errorf("%s: %+v %+v", tt.name, allow, deny)
		}
		if allow, deny := e.DryRunConn(&attrs.Conn{}); allow != tt.allow || deny != tt.deny {
			t.Errorf("%s, connection: %+v %+v", tt.name, allow, deny)
		}
	}
}

// TestExplainSees has what an explanation shows of a request, and what it keeps back.
func TestExplainSees(t *testing.T) {
	r := &attrs.Request{
		Conn:      &attrs.Conn{Source: addrPort("10.0.0.1:1"), Dest: addrPort("10.0.0.2:80"), DestPort: 80, SNI: "s.example", Peer: attrs.Principal{URI: curl}},
		Remote:    netip.MustParseAddr("9.9.9.9"),
		Authority: "h", Path: "/p", Method: "GET", Claims: &attrs.Claims{Issuer: "i", Subject: "s"},
		Headers: []attrs.Field{{Name: "x", Value: "secret"}},
	}
	far := netip.MustParsePrefix("1.1.1.1/32")
	x := HeaderMatch{StringMatch: StringMatch{Value: "1"}}
	no := StringMatch{Value: "no"}
	for _, tt := range []struct {
		e          *Expr
		attr, want string
	}{
		{RemoteIP(far), "remote ip", "9.9.9.9"}, {DirectRemoteIP(far), "source ip", "10.0.0.1"}, {DestinationIP(far), "destination ip", "10.0.0.2"},
		{DestinationPort(1), "destination port", "80"}, {must(RequestedServerName(no)), "connection sni", "s.example"},
		{must(Header("X", x)), "header x", "(present)"}, {must(Header("y", x)), "header y", "(missing)"}, {HeaderPresent("host", false), "host", "h"},
		{must(leaf(opIssuer, no)), "token", "i/s"}, {must(Path(no)), "path", "/p"}, {must(Header(":method", x)), "method", "GET"},
		{must(Principal(no)), "source principal", curl}, {Not(HeaderPresent("x", true)), "not header x", "(present)"}, {Or(), "never matches", ""},
	} {
		got := Compile([]Policy{{Rules: []Rule{{When: tt.e}}}}).Explain(r)[0].Rules[0].Failed
		if len(got) != 1 || got[0] != (Failed{tt.attr, tt.want}) {
			t.Errorf("%+v, want %s %q", got, tt.attr, tt.want)
		}
	}
}

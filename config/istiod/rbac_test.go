package istiod

import (
	"strings"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/internal/attrs"
)

const (
	anyone   = `{"any":true}`
	uriMatch = `{"uri_template":{"name":"t","typed_config":{"@type":"type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig","path_template":"`
	ofClaim  = `"filter":"envoy.filters.http.jwt_authn","path":[{"key":"payload"},{"key":"`
)

// readOne reads an ALLOW filter of one policy.
func readOne(t *testing.T, permission, principal string) (*authz.Engine, error) {
	t.Helper()
	c := parse(t, &rbacv3.RBAC{}, `{"policies":{"p":{"permissions":[`+permission+`],"principals":[`+principal+`]}}}`)
	rules, err := new(rbacReader).rules(c)
	if err != nil {
		return nil, err
	}
	return authz.Compile(policies(c.GetAction(), rules, false)), nil
}

// TestRBACConditions has each condition of Envoy's RBAC with a request that it holds
// for and one that it does not.
func TestRBACConditions(t *testing.T) {
	remote := func(peer, xff string) *attrs.Request {
		r := ask{source: peer}.request()
		r.Remote = ask{source: xff}.request().Conn.Source.Addr()
		return r
	}
	sni := func(s string) *attrs.Request {
		r := ask{}.request()
		r.Conn.SNI = s
		return r
	}
	dest := func(s string) *attrs.Request {
		r := ask{}.request()
		r.Conn.Dest = ask{source: s}.request().Conn.Source
		return r
	}
	claims := func(kv ...any) *attrs.Request {
		m := map[string]any{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i].(string)] = kv[i+1]
		}
		return ask{claims: m}.request()
	}
	curlOnly := `{"filter_state":{"key":"io.istio.peer_principal","string_match":{"exact":"spiffe://` + curl + `"}}}`
	for _, tt := range []struct {
		name, permission, principal string
		yes, no                     *attrs.Request
	}{
		{"header", `{"header":{"name":"a","string_match":{"exact":"b"}}}`, anyone, ask{headers: []string{"a", "b"}}.request(), ask{headers: []string{"a", "c"}}.request()},
		{"path", `{"url_path":{"path":{"prefix":"/a"}}}`, anyone, ask{path: "/ab"}.request(), ask{path: "/b"}.request()},
		{"template", uriMatch + `/{x}/b"}}}`, anyone, ask{path: "/a/b"}.request(), ask{path: "/a/c"}.request()},
		{"destination", `{"destination_ip":{"address_prefix":"10.1.2.3","prefix_len":8}}`, anyone, dest("10.9.9.9"), dest("11.0.0.1")},
		{"port", `{"destination_port":65535}`, anyone, ask{port: 65535}.request(), ask{port: 80}.request()},
		{"port range", `{"destination_port_range":{"start":80,"end":82}}`, anyone, ask{port: 81}.request(), ask{port: 82}.request()},
		{"server name", `{"requested_server_name":{"suffix":".example"}}`, anyone, sni("a.example"), sni("a.test")},
		{"claim", `{"metadata":{` + ofClaim + `a"}],"value":{"string_match":{"exact":"b"}}}}`, anyone, claims("a", "b"), claims("a", "c")},
		{"claim there", `{"metadata":{` + ofClaim + `a"}],"value":{"present_match":true}}}`, anyone, claims("a", 7.0), claims("b", "b")},
		{"claim in a list", `{"metadata":{` + ofClaim + `a"}],"value":{"list_match":{"one_of":{"string_match":{"prefix":"b"}}}}}}`, anyone, claims("a", []any{"x", "bc"}), claims("a", []any{"x"})},
		{"claim either way", `{"metadata":{` + ofClaim + `a"}],"value":{"or_match":{"value_matchers":[{"string_match":{"exact":"b"}},{"list_match":{"one_of":{"string_match":{"exact":"b"}}}}]}}}}`, anyone, claims("a", "b"), claims("a", "c")},
		{"claim inverted", `{"metadata":{` + ofClaim + `a"}],"value":{"string_match":{"exact":"b"}},"invert":true}}`, anyone, claims("a", "c"), claims("a", "b")},
		{"scope is split", `{"metadata":{` + ofClaim + `scope"}],"value":{"list_match":{"one_of":{"string_match":{"exact":"b"}}}}}}`, anyone, claims("scope", "a b"), claims("scope", "ab")},
		{"permission is split", `{"metadata":{` + ofClaim + `permission"}],"value":{"list_match":{"one_of":{"string_match":{"exact":"b"}}}}}}`, anyone, claims("permission", "a b"), claims("permission", "ab")},
		{"a nested one is not", `{"metadata":{` + ofClaim + `scope"},{"key":"b"}],"value":{"string_match":{"exact":"x y"}}}}`, anyone, claims("scope", map[string]any{"b": "x y"}), claims("scope", map[string]any{"b": "x"})},
		{"claim by its source", `{"sourced_metadata":{"metadata_matcher":{` + ofClaim + `a"}],"value":{"string_match":{"exact":"b"}}}}}`, anyone, claims("a", "b"), claims("a", "c")},
		{"and", `{"and_rules":{"rules":[{"destination_port":80},{"url_path":{"path":{"exact":"/a"}}}]}}`, anyone, ask{port: 80, path: "/a"}.request(), ask{port: 80, path: "/b"}.request()},
		{"or", `{"or_rules":{"rules":[{"destination_port":80},{"url_path":{"path":{"exact":"/a"}}}]}}`, anyone, ask{port: 81, path: "/a"}.request(), ask{port: 81, path: "/b"}.request()},
		{"one of and", `{"and_rules":{"rules":[{"destination_port":80}]}}`, anyone, ask{port: 80}.request(), ask{port: 81}.request()},
		{"not", `{"not_rule":{"destination_port":80}}`, anyone, ask{port: 81}.request(), ask{port: 80}.request()},
		{"either permission", `{"destination_port":80},{"destination_port":81}`, anyone, ask{port: 81}.request(), ask{port: 82}.request()},

		{"peer", anyone, curlOnly, ask{peer: curl}.request(), ask{peer: "cluster.local/ns/other/sa/curl"}.request()},
		{"authenticated", anyone, `{"authenticated":{}}`, ask{peer: curl}.request(), ask{}.request()},
		{"authenticated as", anyone, `{"authenticated":{"principal_name":{"exact":"spiffe://` + curl + `"}}}`, ask{peer: curl}.request(), ask{peer: "cluster.local/ns/other/sa/curl"}.request()},
		{"source", anyone, `{"source_ip":{"address_prefix":"10.0.0.0","prefix_len":8}}`, remote("10.0.0.1", "9.9.9.9"), remote("9.9.9.9", "10.0.0.1")},
		{"direct source", anyone, `{"direct_remote_ip":{"address_prefix":"10.0.0.0","prefix_len":8}}`, remote("10.0.0.1", "9.9.9.9"), remote("9.9.9.9", "10.0.0.1")},
		{"remote", anyone, `{"remote_ip":{"address_prefix":"10.0.0.0","prefix_len":8}}`, remote("9.9.9.9", "10.0.0.1"), remote("10.0.0.1", "9.9.9.9")},
		{"header of a principal", anyone, `{"header":{"name":"a","present_match":true}}`, ask{headers: []string{"a", ""}}.request(), ask{}.request()},
		{"path of a principal", anyone, `{"url_path":{"path":{"exact":"/a"}}}`, ask{path: "/a"}.request(), ask{path: "/ab"}.request()},
		{"claim of a principal", anyone, `{"metadata":{` + ofClaim + `iss"}],"value":{"string_match":{"exact":"i"}}}}`, claims("iss", "i"), claims("iss", "j")},
		{"sourced claim of a principal", anyone, `{"sourced_metadata":{"metadata_matcher":{` + ofClaim + `iss"}],"value":{"string_match":{"exact":"i"}}}}}`, claims("iss", "i"), claims("iss", "j")},
		{"and of principals", anyone, `{"and_ids":{"ids":[` + curlOnly + `,{"not_id":{"header":{"name":"a","present_match":true}}}]}}`, ask{peer: curl}.request(), ask{peer: curl, headers: []string{"a", "b"}}.request()},
		{"or of principals", anyone, `{"or_ids":{"ids":[` + curlOnly + `,{"header":{"name":"a","present_match":true}}]}}`, ask{headers: []string{"a", "b"}}.request(), ask{}.request()},
		{"permission and principal", `{"destination_port":80}`, curlOnly, ask{peer: curl, port: 80}.request(), ask{peer: curl, port: 81}.request()},
		{"principal and permission", `{"destination_port":80}`, curlOnly, ask{peer: curl, port: 80}.request(), ask{port: 80}.request()},
	} {
		e, err := readOne(t, tt.permission, tt.principal)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if d := e.Check(tt.yes); !d.Allowed {
			t.Errorf("%s: does not hold: %+v", tt.name, d)
		}
		if d := e.Check(tt.no); d.Allowed {
			t.Errorf("%s: holds: %+v", tt.name, d)
		}
	}
}

// TestRBACRefused: what cannot be evaluated as Envoy would is an error, at any depth,
// and never a condition less.
func TestRBACRefused(t *testing.T) {
	bad := map[string]string{ // as a permission and as a principal
		"any of nothing":        `{"any":false}`,
		"bad header regex":      `{"header":{"name":"a","string_match":{"safe_regex":{"regex":"("}}}}`,
		"header without a name": `{"header":{"string_match":{"exact":"b"}}}`,
		"header without a form": `{"header":{"name":"a","string_match":{}}}`,
		"path without a form":   `{"url_path":{}}`,
		"bad path regex":        `{"url_path":{"path":{"safe_regex":{"regex":"["}}}}`,
		"foreign metadata":      `{"metadata":{"filter":"other","path":[{"key":"payload"},{"key":"a"}],"value":{"present_match":true}}}`,
		"metadata of no claim":  `{"metadata":{"filter":"envoy.filters.http.jwt_authn","path":[{"key":"header"},{"key":"a"}],"value":{"present_match":true}}}`,
		"the whole payload":     `{"metadata":{"filter":"envoy.filters.http.jwt_authn","path":[{"key":"payload"}],"value":{"present_match":true}}}`,
		"claim without a value": `{"metadata":{` + ofClaim + `a"}]}}`,
		"claim that is missing": `{"metadata":{` + ofClaim + `a"}],"value":{"present_match":false}}}`,
		"claim as a number":     `{"metadata":{` + ofClaim + `a"}],"value":{"double_match":{"exact":1}}}}`,
		"claim without a form":  `{"metadata":{` + ofClaim + `a"}],"value":{"string_match":{}}}}`,
		"bad claim regex":       `{"metadata":{` + ofClaim + `a"}],"value":{"string_match":{"safe_regex":{"regex":"("}}}}}`,
		"bad claim in a list":   `{"metadata":{` + ofClaim + `a"}],"value":{"list_match":{"one_of":{"bool_match":true}}}}}`,
		"bad claim in an or":    `{"metadata":{` + ofClaim + `a"}],"value":{"or_match":{"value_matchers":[{"present_match":true},{"null_match":{}}]}}}}`,
		"metadata of the route": `{"sourced_metadata":{"metadata_source":"ROUTE","metadata_matcher":{` + ofClaim + `a"}],"value":{"present_match":true}}}}`,
		"unknown":               `{}`,
	}
	permissions := map[string]string{
		"bad template": uriMatch + `/{a=b}"}}}`, "relative template": uriMatch + `a"}}}`,
		"bad destination": `{"destination_ip":{"address_prefix":"x","prefix_len":8}}`, "long destination": `{"destination_ip":{"address_prefix":"10.0.0.0","prefix_len":33}}`,
		"large port": `{"destination_port":65536}`, "empty range": `{"destination_port_range":{"start":5,"end":5}}`,
		"server name without a form": `{"requested_server_name":{}}`, "bad server name regex": `{"requested_server_name":{"safe_regex":{"regex":"("}}}`,
		"matcher":   `{"matcher":{"name":"x"}}`,
		"empty and": `{"and_rules":{}}`, "empty or": `{"or_rules":{}}`,
		"other template": `{"uri_template":{"name":"t","typed_config":{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"/a"}}}`,
	}
	principals := map[string]string{
		"other state": `{"filter_state":{"key":"io.istio.other","string_match":{"exact":"a"}}}`, "state without a form": `{"filter_state":{"key":"io.istio.peer_principal"}}`,
		"bad principal regex": `{"authenticated":{"principal_name":{"safe_regex":{"regex":"("}}}}`, "principal without a form": `{"authenticated":{"principal_name":{}}}`,
		"bad source": `{"source_ip":{"address_prefix":"x"}}`, "bad direct source": `{"direct_remote_ip":{"address_prefix":"x"}}`, "bad remote": `{"remote_ip":{"address_prefix":"x"}}`,
		"empty and of principals": `{"and_ids":{}}`, "empty or of principals": `{"or_ids":{}}`,
	}
	for name, p := range bad {
		permissions[name] = p
		principals[name] = p
	}
	for name, p := range permissions {
		for _, form := range []string{p, `{"not_rule":` + p + `}`, `{"and_rules":{"rules":[{"any":true},` + p + `]}}`, `{"or_rules":{"rules":[{"any":true},` + p + `]}}`, `{"any":true},` + p} {
			if _, err := readOne(t, form, anyone); err == nil || !strings.Contains(err.Error(), `policy "p"`) {
				t.Errorf("permission %s: %s: %v", name, form, err)
			}
		}
	}
	for name, p := range principals {
		for _, form := range []string{p, `{"not_id":` + p + `}`, `{"and_ids":{"ids":[{"any":true},` + p + `]}}`, `{"or_ids":{"ids":[{"any":true},` + p + `]}}`, `{"any":true},` + p} {
			if _, err := readOne(t, anyone, form); err == nil || !strings.Contains(err.Error(), `policy "p"`) {
				t.Errorf("principal %s: %s: %v", name, form, err)
			}
		}
	}
	for _, body := range []string{
		`{"principals":[{"any":true}]}`, `{"permissions":[{"any":true}]}`,
		`{"permissions":[{"any":true}],"principals":[{"any":true}],"condition":{"const_expr":{"bool_value":true}}}`,
		`{"permissions":[{"any":true}],"principals":[{"any":true}],"checked_condition":{}}`,
	} {
		if _, err := new(rbacReader).rules(parse(t, &rbacv3.RBAC{}, `{"policies":{"p":`+body+`}}`)); err == nil {
			t.Errorf("read %s", body)
		}
	}
	newer := parse(t, &rbacv3.RBAC{}, `{"policies":{"p":{"permissions":[{"any":true}],"principals":[{"any":true}]}}}`)
	newer.GetPolicies()["p"].ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 1}) // field 127
	if _, err := new(rbacReader).rules(newer); err == nil {
		t.Error("a policy with a newer field was read")
	}
}

// The address of x-forwarded-for is asked for by remote_ip alone, the server name by
// requested_server_name at any depth.
func TestRBACReads(t *testing.T) {
	for principal, want := range map[string]bool{
		`{"remote_ip":{"address_prefix":"10.0.0.0","prefix_len":8}}`: true, `{"not_id":{"remote_ip":{"address_prefix":"10.0.0.0","prefix_len":8}}}`: true,
		`{"direct_remote_ip":{"address_prefix":"10.0.0.0","prefix_len":8}}`: false, anyone: false,
	} {
		r := new(rbacReader)
		if _, err := r.rules(parse(t, &rbacv3.RBAC{}, `{"policies":{"p":{"permissions":[`+anyone+`],"principals":[`+principal+`]}}}`)); err != nil || r.readsRemote != want {
			t.Errorf("%s: %v, %v", principal, r.readsRemote, err)
		}
	}
	const name = `{"requested_server_name":{"exact":"a"}}`
	for permission, want := range map[string]bool{
		name: true, anyone + "," + name: true, `{"not_rule":` + name + `}`: true, `{"and_rules":{"rules":[` + anyone + `,` + name + `]}}`: true,
		`{"or_rules":{"rules":[{"not_rule":{"and_rules":{"rules":[` + name + `]}}}]}}`: true,
		anyone: false, `{"not_rule":` + anyone + `}`: false, `{"destination_port":1}`: false,
	} {
		if got := readsSNI(parse(t, &rbacv3.RBAC{}, `{"policies":{"p":{"permissions":[`+permission+`],"principals":[`+anyone+`]}}}`)); got != want {
			t.Errorf("%s: %v", permission, got)
		}
	}
	if readsSNI(nil) {
		t.Error("no policy reads the server name")
	}
}

// TestPolicyNames has the names that rules have in a filter.
func TestPolicyNames(t *testing.T) {
	for id, want := range map[string][2]string{
		"ns[a]-policy[b]-rule[0]":                    {"a", "b"},
		"istio-ext-authz-p-ns[a]-policy[b]-rule[12]": {"a", "b"},
		"ns[a]-policy[b]-rule[x]-policy[c]-rule[0]":  {"a", "b]-rule[x]-policy[c"},
		"ns[a]-policy[b]":                            {"", "ns[a]-policy[b]"},
		"ns[a]-rule[0]":                              {"", "ns[a]-rule[0]"},
		"":                                           {"", ""},
		"ns[]-policy[]-rule[]":                       {"", ""},
		"ns[a]-policy[b]-rule[0]-policy[c]-rule[1]-x[": {"a", "b]-rule[0]-policy[c"},
	} {
		got := group([]namedRule{{id: id, when: authz.Any()}}, authz.Deny, "")
		if len(got) != 1 || got[0].Namespace != want[0] || got[0].Name != want[1] || got[0].Rules[0].Name != id {
			t.Errorf("%q: %+v", id, got)
		}
	}
	rules := []namedRule{{id: "ns[a]-policy[b]-rule[0]"}, {id: "ns[a]-policy[b]-rule[1]"}, {id: "ns[a]-policy[c]-rule[0]"}, {id: "ns[x]-policy[c]-rule[0]"}}
	if got := group(rules, authz.Custom, "p"); len(got) != 3 || len(got[0].Rules) != 2 || got[2].Namespace != "x" || got[1].Provider != "p" || got[0].Action != authz.Custom {
		t.Errorf("%+v", got)
	}
	for action, want := range map[rbacv3.RBAC_Action]authz.Action{rbacv3.RBAC_ALLOW: authz.Allow, rbacv3.RBAC_DENY: authz.Deny, rbacv3.RBAC_LOG: authz.Audit} {
		for _, dry := range []bool{false, true} {
			for _, p := range policies(action, rules, dry) {
				if p.Action != want || p.DryRun != dry {
					t.Errorf("%v, dry run %v: %+v", action, dry, p)
				}
			}
			if n := len(policies(action, nil, dry)); n != map[bool]int{true: 1, false: 0}[want == authz.Allow] {
				t.Errorf("%v without rules: %d policies", action, n)
			}
		}
	}
}

// TestOrderOfFilters: filters join one engine only in the order in which it asks, and
// of two lists that both allow, both have to.
func TestOrderOfFilters(t *testing.T) {
	pol := func(a authz.Action, dry bool, when *authz.Expr) authz.Policy {
		return authz.Policy{Name: a.String(), Action: a, DryRun: dry, Rules: []authz.Rule{{When: when, TCP: when}}}
	}
	yes, no := authz.Any(), authz.Never()
	for _, tt := range []struct {
		name          string
		before, after []authz.Action
		dry, want     bool
	}{
		{"audit, deny", []authz.Action{authz.Audit}, []authz.Action{authz.Deny}, false, true},
		{"deny, allow", []authz.Action{authz.Audit, authz.Deny}, []authz.Action{authz.Allow}, false, true},
		{"allow, deny", []authz.Action{authz.Allow}, []authz.Action{authz.Deny}, false, false},
		{"allow, allow", []authz.Action{authz.Allow}, []authz.Action{authz.Allow}, false, false},
		{"deny, deny", []authz.Action{authz.Deny}, []authz.Action{authz.Deny}, false, false},
		{"deny, audit", []authz.Action{authz.Deny}, []authz.Action{authz.Audit}, false, false},
		{"allow, dry allow", []authz.Action{authz.Allow}, []authz.Action{authz.Allow}, true, true},
		{"nothing before", nil, []authz.Action{authz.Audit}, false, true},
	} {
		var before, after []authz.Policy
		for _, a := range tt.before {
			before = append(before, pol(a, false, yes))
		}
		for _, a := range tt.after {
			after = append(after, pol(a, tt.dry, yes))
		}
		if got := follows(before, after); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	for _, tt := range []struct {
		name          string
		first, second []authz.Policy
		want          bool
	}{
		{"both allow", []authz.Policy{pol(authz.Allow, false, yes)}, []authz.Policy{pol(authz.Allow, false, yes)}, true},
		{"only the first", []authz.Policy{pol(authz.Allow, false, yes)}, []authz.Policy{pol(authz.Allow, false, no)}, false},
		{"only the second", []authz.Policy{pol(authz.Allow, false, no)}, []authz.Policy{pol(authz.Allow, false, yes)}, false},
		{"one of the first", []authz.Policy{pol(authz.Allow, false, no), pol(authz.Allow, false, yes)}, []authz.Policy{pol(authz.Allow, false, yes)}, true},
		{"a dry run first", []authz.Policy{pol(authz.Allow, true, no)}, []authz.Policy{pol(authz.Allow, false, yes)}, true},
		{"a dry run second", []authz.Policy{pol(authz.Allow, false, yes)}, []authz.Policy{pol(authz.Allow, true, no)}, true},
		{"a dry run that would, second", []authz.Policy{pol(authz.Allow, false, no)}, []authz.Policy{pol(authz.Allow, true, yes)}, false},
		{"denied first", []authz.Policy{pol(authz.Deny, false, yes), pol(authz.Allow, false, yes)}, []authz.Policy{pol(authz.Allow, false, yes)}, false},
		{"denied second", []authz.Policy{pol(authz.Allow, false, yes)}, []authz.Policy{pol(authz.Deny, false, yes), pol(authz.Allow, false, yes)}, false},
		{"denied alone", []authz.Policy{pol(authz.Allow, false, yes)}, []authz.Policy{pol(authz.Deny, false, yes)}, false},
	} {
		joined := authz.Compile(both(tt.first, tt.second))
		if d := joined.CheckConn(&attrs.Conn{}); d.Allowed != tt.want {
			t.Errorf("%s, connection: %+v", tt.name, d)
		}
		if d := joined.Check(&attrs.Request{}); d.Allowed != tt.want {
			t.Errorf("%s: %+v", tt.name, d)
		}
	}
}

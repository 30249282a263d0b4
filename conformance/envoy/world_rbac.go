package envoy

import (
	"fmt"
	"regexp"
	"strings"
)

// never is what istiod makes of a policy without rules: it switches its action on
// and matches nothing.
var never = Object{"permissions": []any{Object{"not_rule": Object{"any": true}}}, "principals": []any{Object{"not_id": Object{"any": true}}}}

// httpOnly are fields that a connection does not have.
func httpOnly(field string) bool {
	switch field {
	case "hosts", "methods", "paths", "requestPrincipals":
		return true
	}
	return strings.HasPrefix(field, "request.")
}

// rbacPolicies translates the policies of one action as istiod does; nil if there are none.
func rbacPolicies(ns string, policies []Policy, action string, tcp bool) Object {
	var out Object
	for _, p := range policies {
		if p.Action != action {
			continue
		}
		if out == nil {
			out = Object{}
		}
		for i := range p.Rules {
			if r := p.Rules[i].envoy(ns, action, tcp); r != nil {
				out[ruleID(ns, p.Name, i)] = r
			}
		}
		if len(p.Rules) == 0 {
			out[ruleID(ns, p.Name, 0)] = never
		}
	}
	return out
}

func ruleID(ns, policy string, rule int) string {
	return fmt.Sprintf("ns[%s]-policy[%s]-rule[%d]", ns, policy, rule)
}

// rbacRules is the RBAC of one action, as filters of requests and connections hold it.
func rbacRules(action string, policies Object) Object {
	rules := Object{"policies": policies}
	switch action {
	case "AUDIT":
		rules["action"] = "LOG"
	case "DENY":
		rules["action"] = "DENY"
	}
	return rules
}

// rbacFilters are the filters of a subject's policies, in istiod's order.
func (w *World) rbacFilters(s *Subject, tcp bool) []any {
	kind := "http"
	if tcp {
		kind = "network"
	}
	var out []any
	for _, action := range []string{"AUDIT", "DENY", "ALLOW"} {
		if p := rbacPolicies(w.Namespace, s.Policies, action, tcp); p != nil {
			f := typed("extensions.filters." + kind + ".rbac.v3.RBAC")
			f["rules"], f["shadow_rules_stat_prefix"] = rbacRules(action, p), "istio_dry_run_allow_"
			if tcp {
				f["stat_prefix"] = "tcp."
			}
			out = append(out, Object{"name": "envoy.filters." + kind + ".rbac", "typed_config": f})
		}
	}
	return out
}

// Fields in the order in which istiod writes them.
var (
	permissionFields = []string{"hosts", "methods", "paths", "ports"}
	principalFields  = []string{"principals", "requestPrincipals", "namespaces", "serviceAccounts", "trustDomains", "remoteIpBlocks", "ipBlocks"}
)

// envoy translates a rule. On a connection istiod drops an ALLOW rule that has
// HTTP fields, which is nil here, and of other rules only these fields.
func (r *PolicyRule) envoy(ns, action string, tcp bool) Object {
	t := &ruleTranslation{ns: ns, strict: action == "ALLOW", tcp: tcp}
	permissions := t.list("rule", permissionFields, r.To, r.When, isPermission)
	principals := t.list("id", principalFields, r.From, r.When, func(k string) bool { return !isPermission(k) })
	if t.dropped {
		return nil
	}
	return Object{"permissions": permissions, "principals": principals}
}

type ruleTranslation struct {
	ns                   string
	strict, tcp, dropped bool
}

// list translates the alternatives of one half of a rule. kind is "rule" among
// permissions, "id" among principals.
func (t *ruleTranslation) list(kind string, fields []string, alternatives []Fields, when []Condition, mine func(string) bool) []any {
	if len(alternatives) == 0 {
		alternatives = []Fields{nil}
	}
	var out []any
	for _, a := range alternatives {
		var and []any
		for _, f := range fields {
			and = append(and, t.group(kind, f, a[f], a[negated(f)])...)
		}
		for _, c := range when {
			if mine(c.Key) {
				and = append(and, t.group(kind, c.Key, c.Values, c.NotValues)...)
			}
		}
		if and == nil {
			and = []any{Object{"any": true}}
		}
		out = append(out, Object{"and_" + kind + "s": Object{kind + "s": and}})
	}
	return out
}

func negated(field string) string { return "not" + strings.ToUpper(field[:1]) + field[1:] }

func isPermission(key string) bool {
	return strings.HasPrefix(key, "destination.") || strings.HasPrefix(key, "connection.")
}

// group is the or of the values and the not of the or of the negated ones.
func (t *ruleTranslation) group(kind, field string, values, not []string) []any {
	var out []any
	for _, l := range []struct {
		values  []string
		negated bool
	}{{values, false}, {not, true}} {
		if len(l.values) == 0 {
			continue
		}
		if t.tcp && httpOnly(field) {
			t.dropped = t.dropped || t.strict
			continue
		}
		m := claims(field, l.values)
		if m == nil {
			var all []any
			for _, v := range l.values {
				all = append(all, condition(field, v, t.ns))
			}
			m = Object{"or_" + kind + "s": Object{kind + "s": all}}
		}
		if l.negated {
			m = Object{"not_" + kind: m}
		}
		out = append(out, m)
	}
	return out
}

// condition is one value of one field.
func condition(field, v, ns string) Object {
	switch field {
	case "hosts":
		return header(":authority", v, true)
	case "methods":
		return header(":method", v, false)
	case "ports", "destination.port":
		return Object{"destination_port": atoi(v)}
	case "destination.ip":
		return Object{"destination_ip": cidr(v)}
	case "connection.sni":
		return Object{"requested_server_name": stringMatch(v)}
	case "paths":
		if strings.Contains(v, "{*}") || strings.Contains(v, "{**}") {
			t := typed("extensions.path.match.uri_template.v3.UriTemplateMatchConfig")
			t["path_template"] = strings.NewReplacer("{*}", "*", "{**}", "**").Replace(v)
			return Object{"uri_template": Object{"name": "uri-template", "typed_config": t}}
		}
		return Object{"url_path": Object{"path": stringMatch(v)}}
	case "principals", "source.principal":
		return principal(principalMatch(v))
	case "namespaces", "source.namespace":
		return principal(regex(".*/ns/" + strings.ReplaceAll(v, "*", ".*") + "/.*"))
	case "serviceAccounts", "source.serviceAccount":
		n, sa, ok := strings.Cut(v, "/")
		if !ok {
			n, sa = ns, v
		}
		return principal(regex("spiffe://.+/ns/" + n + "/(.+/|)sa/" + sa + "(/.+)?"))
	case "trustDomains", "source.trustDomain":
		return principal(trustDomainMatch(v))
	case "ipBlocks", "source.ip":
		return Object{"direct_remote_ip": cidr(v)}
	case "remoteIpBlocks", "remote.ip":
		return Object{"remote_ip": cidr(v)}
	}
	if name, ok := strings.CutPrefix(field, "request.headers["); ok {
		return header(strings.TrimSuffix(name, "]"), v, false)
	}
	panic("envoy: no translation of " + field)
}

func principal(m Object) Object {
	return Object{"filter_state": Object{"key": "io.istio.peer_principal", "string_match": m}}
}

func principalMatch(v string) Object {
	switch {
	case v == "*":
		return regex(".+")
	case strings.HasPrefix(v, "*"):
		return regex("spiffe://.*" + regexp.QuoteMeta(v[1:]))
	case strings.HasSuffix(v, "*"):
		return Object{"prefix": "spiffe://" + strings.TrimSuffix(v, "*")}
	}
	return Object{"exact": "spiffe://" + v}
}

func trustDomainMatch(v string) Object {
	switch {
	case v == "*":
		return Object{"prefix": "spiffe://"}
	case strings.Contains(v, "*"):
		return regex("spiffe://" + strings.ReplaceAll(regexp.QuoteMeta(v), `\*`, "[^/]*") + "/.*")
	}
	return Object{"prefix": "spiffe://" + v + "/"}
}

// claims is the condition of a field that reads a token; nil for any other. All
// its values are alternatives of one matcher.
func claims(field string, values []string) Object {
	path, ok := claimPath(field)
	if !ok {
		return nil
	}
	if path == nil {
		var or []any
		for _, v := range values {
			iss, sub := requestPrincipal(v)
			or = append(or, Object{"and_ids": Object{"ids": []any{claim([]string{"iss"}, Object{"string_match": iss}), claim([]string{"sub"}, Object{"string_match": sub})}}})
		}
		if len(or) == 1 {
			return or[0].(Object)
		}
		return Object{"or_ids": Object{"ids": or}}
	}
	var each []any
	for _, v := range values {
		each = append(each, Object{"string_match": stringMatch(v)})
	}
	value := Object{"or_match": Object{"value_matchers": each}}
	if len(each) == 1 {
		value = each[0].(Object)
	}
	return claim(path, Object{"or_match": Object{"value_matchers": []any{Object{"list_match": Object{"one_of": value}}, value}}})
}

// claimPath is where in a token a field looks; nil and true for request principals.
func claimPath(field string) (path []string, ok bool) {
	switch field {
	case "requestPrincipals", "request.auth.principal":
		return nil, true
	case "request.auth.audiences":
		return []string{"aud"}, true
	case "request.auth.presenter":
		return []string{"azp"}, true
	}
	rest, ok := strings.CutPrefix(field, "request.auth.claims[")
	if !ok {
		return nil, false
	}
	return strings.Split(strings.TrimSuffix(rest, "]"), "]["), true
}

func claim(path []string, value Object) Object {
	keys := []any{Object{"key": "payload"}}
	for _, p := range path {
		keys = append(keys, Object{"key": p})
	}
	return Object{"metadata": Object{"filter": "envoy.filters.http.jwt_authn", "path": keys, "value": value}}
}

// requestPrincipal splits a value at its last slash into the patterns of issuer and subject.
func requestPrincipal(v string) (iss, sub Object) {
	some := regex(".+")
	i := strings.LastIndexByte(v, '/')
	switch {
	case v == "*":
		return some, some
	case strings.HasPrefix(v, "*") && i < 0:
		return some, Object{"suffix": v[1:]}
	case v[:max(i, 0)] == "*":
		return some, Object{"exact": v[i+1:]}
	case strings.HasPrefix(v, "*"):
		return Object{"suffix": v[1:i]}, Object{"exact": v[i+1:]}
	case strings.HasSuffix(v, "/*"):
		return Object{"exact": v[:i]}, some
	case strings.HasSuffix(v, "*") && i < 0:
		return Object{"prefix": strings.TrimSuffix(v, "*")}, some
	case strings.HasSuffix(v, "*"):
		return Object{"exact": v[:i]}, Object{"prefix": strings.TrimSuffix(v[i+1:], "*")}
	case i < 0:
		return Object{"exact": v}, Object{"exact": ""}
	}
	return Object{"exact": v[:i]}, Object{"exact": v[i+1:]}
}

func regex(s string) Object { return Object{"safe_regex": Object{"regex": s}} }

func stringMatch(v string) Object {
	switch {
	case v == "*":
		return regex(".+")
	case strings.HasPrefix(v, "*"):
		return Object{"suffix": v[1:]}
	case strings.HasSuffix(v, "*"):
		return Object{"prefix": strings.TrimSuffix(v, "*")}
	}
	return Object{"exact": v}
}

func header(name, v string, fold bool) Object {
	if v == "*" {
		return Object{"header": Object{"name": name, "present_match": true}}
	}
	m := stringMatch(v)
	if fold {
		m["ignore_case"] = true
	}
	return Object{"header": Object{"name": name, "string_match": m}}
}

func cidr(v string) Object {
	ip, bits, ok := strings.Cut(v, "/")
	n := 32
	if ok {
		n = atoi(bits)
	}
	return Object{"address_prefix": ip, "prefix_len": n}
}

func atoi(s string) (n int) {
	for _, c := range s {
		n = n*10 + int(c-'0')
	}
	return n
}

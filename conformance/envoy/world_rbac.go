package envoy

import (
	"fmt"
	"regexp"
	"strings"
)

// rbacPolicies translates the policies of one action as istiod does; nil if there are none.
func rbacPolicies(ns string, policies []Policy, action string) Object {
	var out Object
	for _, p := range policies {
		if p.Action != action {
			continue
		}
		if out == nil {
			out = Object{}
		}
		for i := range p.Rules {
			out[fmt.Sprintf("ns[%s]-policy[%s]-rule[%d]", ns, p.Name, i)] = p.Rules[i].envoy(ns)
		}
		if len(p.Rules) == 0 {
			never := Object{"not_id": Object{"any": true}}
			out[fmt.Sprintf("ns[%s]-policy[%s]-rule[0]", ns, p.Name)] = Object{"permissions": []any{Object{"any": true}}, "principals": []any{never}}
		}
	}
	return out
}

func (r *PolicyRule) envoy(ns string) Object {
	var permissions, principals []any
	to, from := r.To, r.From
	if len(to) == 0 {
		to = []Fields{nil}
	}
	if len(from) == 0 {
		from = []Fields{nil}
	}
	for _, t := range to {
		var and []any
		for _, f := range []string{"hosts", "methods", "ports", "paths"} {
			and = append(and, group("rule", f, t[f], t["not"+strings.ToUpper(f[:1])+f[1:]], ns)...)
		}
		for _, c := range r.When {
			if isPermission(c.Key) {
				and = append(and, group("rule", c.Key, c.Values, c.NotValues, ns)...)
			}
		}
		if and == nil {
			and = []any{Object{"any": true}}
		}
		permissions = append(permissions, Object{"and_rules": Object{"rules": and}})
	}
	for _, s := range from {
		var and []any
		for _, f := range []string{"principals", "namespaces", "serviceAccounts", "ipBlocks", "remoteIpBlocks"} {
			and = append(and, group("id", f, s[f], s["not"+strings.ToUpper(f[:1])+f[1:]], ns)...)
		}
		for _, c := range r.When {
			if !isPermission(c.Key) {
				and = append(and, group("id", c.Key, c.Values, c.NotValues, ns)...)
			}
		}
		if and == nil {
			and = []any{Object{"any": true}}
		}
		principals = append(principals, Object{"and_ids": Object{"ids": and}})
	}
	return Object{"permissions": permissions, "principals": principals}
}

func isPermission(key string) bool {
	return strings.HasPrefix(key, "destination.") || strings.HasPrefix(key, "connection.")
}

// group is the or of the values and the not of the or of the negated ones. kind is
// "rule" among permissions, "id" among principals.
func group(kind, field string, values, not []string, ns string) []any {
	or := func(l []string) Object {
		var all []any
		for _, v := range l {
			all = append(all, condition(field, v, ns))
		}
		return Object{"or_" + kind + "s": Object{kind + "s": all}}
	}
	var out []any
	if len(values) > 0 {
		out = append(out, or(values))
	}
	if len(not) > 0 {
		out = append(out, Object{"not_" + kind: or(not)})
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
		return principal(regex(".*/ns/" + strings.ReplaceAll(regexp.QuoteMeta(v), `\*`, ".*") + "/.*"))
	case "serviceAccounts", "source.serviceAccount":
		n, sa, ok := strings.Cut(v, "/")
		if !ok {
			n, sa = ns, v
		}
		return principal(regex("spiffe://.+/ns/" + regexp.QuoteMeta(n) + "/(.+/|)sa/" + regexp.QuoteMeta(sa) + "(/.+)?"))
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

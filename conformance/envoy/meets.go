package envoy

import (
	"net/netip"
	"path"
	"regexp"
	"strings"
)

// meets tells whether a question meets a rule, closely enough to choose rules that
// decide both ways. It is no oracle: paths are not normalized here.
func (r *PolicyRule) meets(q *Question) bool {
	all := func(f Fields) bool {
		for k, v := range f {
			if name, not := strings.CutPrefix(k, "not"); not {
				if any1(strings.ToLower(name[:1])+name[1:], v, q) {
					return false
				}
			} else if !any1(k, v, q) {
				return false
			}
		}
		return true
	}
	some := func(fs []Fields) bool {
		for _, f := range fs {
			if all(f) {
				return true
			}
		}
		return len(fs) == 0
	}
	for _, c := range r.When {
		if _, ok := claimPath(c.Key); ok {
			if len(c.Values) > 0 && !anyClaim(c.Key, c.Values, q) || len(c.NotValues) > 0 && anyClaim(c.Key, c.NotValues, q) {
				return false
			}
			continue
		}
		if len(c.Values) > 0 && !any1(c.Key, c.Values, q) || any1(c.Key, c.NotValues, q) {
			return false
		}
	}
	return some(r.From) && some(r.To)
}

// any1 reports whether one value of a field fits.
func any1(field string, values []string, q *Question) bool {
	if _, ok := claimPath(field); ok {
		return anyClaim(field, values, q)
	}
	for _, v := range values {
		for _, got := range q.attribute(field) {
			switch {
			case strings.Contains(field, "Blocks"), strings.HasSuffix(field, ".ip"):
				if !strings.Contains(v, "/") {
					v += "/32"
				}
				p, err := netip.ParsePrefix(v)
				a, err2 := netip.ParseAddr(got)
				if err == nil && err2 == nil && p.Contains(a) {
					return true
				}
			case strings.Contains(field, "rustDomain"):
				if ok, _ := path.Match(v, got); ok {
					return true
				}
			case strings.Contains(v, "{"):
				re := strings.NewReplacer(`\{\*\}`, "[^/]+", `\{\*\*\}`, ".*").Replace(regexp.QuoteMeta(v))
				if regexp.MustCompile("^" + re + "$").MatchString(got) {
					return true
				}
			case fits(v, got):
				return true
			}
		}
	}
	return false
}

// attribute is what a field compares.
func (q *Question) attribute(field string) []string {
	target, _, _ := strings.Cut(q.Target, "?")
	switch field {
	case "principals", "source.principal":
		return []string{"cluster.local/ns/" + q.Client.Namespace + "/sa/" + q.Client.ServiceAccount}
	case "namespaces", "source.namespace":
		return []string{q.Client.Namespace}
	case "serviceAccounts", "source.serviceAccount":
		return []string{q.Client.Namespace + "/" + q.Client.ServiceAccount}
	case "ipBlocks", "source.ip":
		return []string{q.Client.Addr}
	case "remoteIpBlocks", "remote.ip":
		if xff := q.header("x-forwarded-for"); len(xff) > 0 {
			last := xff[len(xff)-1]
			return []string{strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])}
		}
		return []string{q.Client.Addr}
	case "hosts":
		return []string{strings.ToLower(q.Host)}
	case "methods":
		return []string{q.Method}
	case "ports", "destination.port":
		return []string{q.Authority[strings.LastIndexByte(q.Authority, ':')+1:]}
	case "connection.sni":
		if q.SNI != "" {
			return []string{q.SNI}
		}
		return nil
	case "destination.ip":
		return []string{q.Authority[:strings.LastIndexByte(q.Authority, ':')]}
	case "paths":
		return []string{target}
	case "trustDomains", "source.trustDomain":
		return []string{"cluster.local"}
	}
	return q.header(strings.TrimSuffix(strings.TrimPrefix(field, "request.headers["), "]"))
}

func (q *Question) header(name string) (out []string) {
	for _, h := range q.Headers {
		if strings.EqualFold(h[0], name) {
			out = append(out, h[1])
		}
	}
	return out
}

// anyClaim reports whether the token of a question has a value for a field.
func anyClaim(field string, values []string, q *Question) bool {
	at, _ := claimPath(field)
	for _, v := range values {
		if at == nil {
			iss, ok := q.Claims["iss"].(string)
			sub, ok2 := q.Claims["sub"].(string)
			is, su := requestPrincipal(v)
			if ok && ok2 && matchString(is, iss) && matchString(su, sub) {
				return true
			}
			continue
		}
		keys := make([]any, len(at))
		for i := range at {
			keys[i] = at[i]
		}
		var texts []any
		switch c := get(q.Claims, keys...).(type) {
		case string:
			texts = []any{c}
			if at[0] == "scope" {
				texts = nil
				for _, f := range strings.Fields(c) {
					texts = append(texts, f)
				}
			}
		case []any:
			texts = c
		}
		for _, t := range texts {
			if s, ok := t.(string); ok && matchString(stringMatch(v), s) {
				return true
			}
		}
	}
	return false
}

// matchString applies a string matcher as stringMatch writes it.
func matchString(m Object, s string) bool {
	switch {
	case m["safe_regex"] != nil:
		return s != "" // .+ is all there is
	case m["suffix"] != nil:
		return strings.HasSuffix(s, str(m["suffix"]))
	case m["prefix"] != nil:
		return strings.HasPrefix(s, str(m["prefix"]))
	}
	return str(m["exact"]) == s
}

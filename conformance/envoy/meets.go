package envoy

import (
	"net/netip"
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
		if len(c.Values) > 0 && !any1(c.Key, c.Values, q) || any1(c.Key, c.NotValues, q) {
			return false
		}
	}
	return some(r.From) && some(r.To)
}

// any1 reports whether one value of a field fits.
func any1(field string, values []string, q *Question) bool {
	for _, v := range values {
		for _, got := range q.attribute(field) {
			switch {
			case strings.Contains(field, "Blocks"), field == "source.ip", field == "remote.ip":
				if !strings.Contains(v, "/") {
					v += "/32"
				}
				p, err := netip.ParsePrefix(v)
				a, err2 := netip.ParseAddr(got)
				if err == nil && err2 == nil && p.Contains(a) {
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
	path, _, _ := strings.Cut(q.Target, "?")
	switch field {
	case "principals", "source.principal":
		return []string{"cluster.local/ns/" + q.Client.Namespace + "/sa/" + q.Client.ServiceAccount}
	case "namespaces", "source.namespace":
		return []string{q.Client.Namespace}
	case "serviceAccounts":
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
		return []string{"80"}
	case "paths":
		return []string{path}
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

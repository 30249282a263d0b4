package envoy

import (
	"fmt"
	"slices"
	"strings"
)

// pools are the values that generated rules use, in every form a field takes.
var pools = map[string][]string{
	"principals":                {"cluster.local/ns/clients/sa/curl", "cluster.local/ns/shop/*", "*/sa/bot", "*", "cluster.local/ns/shop/sa/car"},
	"namespaces":                {"clients", "shop", "shop*", "evil-*", "*trusted"},
	"serviceAccounts":           {"clients/curl", "shop/cart", "oracle/none", "untrusted/bot"},
	"ipBlocks":                  {"127.8.20.0/24", "127.8.21.1", "127.8.22.0/30", "127.0.0.0/8"},
	"remoteIpBlocks":            {"127.8.20.0/24", "203.0.113.0/24", "198.51.100.7"},
	"hosts":                     {"web.example.com", "*.example.com", "web.*", "shop.example.org", "*"},
	"methods":                   {"GET", "POST", "P*", "*E", "*"},
	"ports":                     {"80", "8080"},
	"paths":                     {"/api/v1", "/api/*", "*/admin", "*", "/v1/{*}", "/v1/{**}", "/{*}/items", "/{**}/end", "/a/{*}/b/{**}", "/static/*", "/x.y/{*}", "/a/*/b", "/"},
	"request.headers[x-team]":   {"blue", "green*", "*een", "*", "a,b"},
	"request.headers[X-Tenant]": {"1", "tenant-*"},
	"source.ip":                 {"127.8.20.1", "127.8.21.0/24"},
	"remote.ip":                 {"203.0.113.0/24", "127.8.20.0/23"},
	"source.namespace":          {"clients", "shop-*"},
	"source.principal":          {"cluster.local/ns/shop/sa/cart", "*/bot"},
	"destination.port":          {"80", "81"},
}

var (
	sources    = []string{"principals", "namespaces", "serviceAccounts", "remoteIpBlocks"}
	operations = []string{"hosts", "methods", "ports", "paths", "paths", "paths"}
	conditions = []string{"request.headers[x-team]", "request.headers[X-Tenant]", "remote.ip", "source.namespace", "source.principal", "destination.port"}
)

// rule is a random rule. Fields that only narrow it stay few, so that requests
// that meet it exist.
func (g *Generator) rule() PolicyRule {
	var r PolicyRule
	fields := func(names []string) Fields {
		f := Fields{}
		for _, n := range some(g, names, 2) {
			if len(f) > 0 && (n == "serviceAccounts" || f["serviceAccounts"] != nil || f["notServiceAccounts"] != nil) {
				continue // serviceAccounts and principals may not stand together
			}
			if g.chance(75) {
				f[n] = some(g, pools[n], 2)
			}
			if f[n] == nil || n == "paths" && g.chance(30) {
				f["not"+strings.ToUpper(n[:1])+n[1:]] = some(g, pools[n], 1)
			}
		}
		return f
	}
	k := g.r.IntN(8)
	if k <= 4 {
		for range 1 + g.r.IntN(2) {
			r.To = append(r.To, fields(operations))
		}
	}
	if k >= 3 && k <= 6 {
		for range 1 + g.r.IntN(2) {
			r.From = append(r.From, fields(sources))
		}
	}
	if k == 7 || g.chance(25) {
		key := one(g, conditions)
		c := Condition{Key: key, Values: some(g, pools[key], 2)}
		if g.chance(25) {
			c.Values, c.NotValues = nil, some(g, pools[key], 1)
		}
		r.When = append(r.When, c)
	}
	return r
}

// Policy adds a service with one policy of one rule, so that the rule alone decides.
func (g *Generator) Policy() *Subject {
	s := g.subject("rbac", "BASE")
	r := g.rule()
	for !g.decides(s, &r) {
		r = g.rule()
	}
	s.Policies = []Policy{{Name: s.Name, Action: one(g, []string{"ALLOW", "DENY"}), Rules: []PolicyRule{r}}}
	return s
}

// decides reports whether questions aimed at a rule meet it often and miss it often.
func (g *Generator) decides(s *Subject, r *PolicyRule) bool {
	const sampled = 60
	met, missed, n := 0, 0, g.n
	for range sampled {
		if r.meets(g.PolicyQuestion(s, r, true)) {
			met++
		}
		if !r.meets(g.PolicyQuestion(s, r, false)) {
			missed++
		}
	}
	g.n = n
	return met > sampled/3 && missed > sampled/3
}

// SourceIP adds a service whose rule asks for the address of the client's pod. It
// stands apart: Envoy behind its internal listener does not see that address.
func (g *Generator) SourceIP() *Subject {
	s := g.subject("source-ip", "BASE")
	r := PolicyRule{From: []Fields{{"ipBlocks": some(g, pools["ipBlocks"], 2)}}}
	if g.chance(50) {
		r = PolicyRule{When: []Condition{{Key: "source.ip", Values: some(g, pools["source.ip"], 2)}}}
	}
	s.Policies = []Policy{{Name: s.Name, Action: one(g, []string{"ALLOW", "DENY"}), Rules: []PolicyRule{r}}}
	return s
}

// Policies adds a service with several policies of all actions.
func (g *Generator) Policies() *Subject {
	s := g.subject("policies", "BASE")
	for i := range 2 + g.r.IntN(3) {
		p := Policy{Name: fmt.Sprint(s.Name, "-", i), Action: one(g, []string{"ALLOW", "ALLOW", "DENY", "AUDIT"})}
		for range 1 + g.r.IntN(3) {
			r := g.rule()
			for !g.decides(s, &r) {
				r = g.rule()
			}
			p.Rules = append(p.Rules, r)
		}
		s.Policies = append(s.Policies, p)
	}
	return s
}

// PolicyQuestion is aimed at a rule of s: to meet it, or to miss it closely.
func (g *Generator) PolicyQuestion(s *Subject, r *PolicyRule, meet bool) *Question {
	q := g.base(s)
	q.Client, q.Host, q.Method = one(g, Clients), one(g, hosts), one(g, methods)
	if len(r.From) > 0 {
		g.meetFields(q, one(g, r.From))
	}
	if len(r.To) > 0 {
		g.meetFields(q, one(g, r.To))
	}
	for _, c := range r.When {
		if len(c.Values) > 0 {
			g.meet(q, c.Key, one(g, c.Values))
		} else if g.chance(50) {
			g.meet(q, c.Key, one(g, pools[c.Key]))
		}
	}
	if !meet {
		for range 1 + g.r.IntN(2) {
			switch g.r.IntN(6) {
			case 0:
				q.Client = one(g, Clients)
			case 1:
				q.Method = one(g, methods)
			case 2:
				q.Host = one(g, hosts)
			case 3:
				q.Headers = nil
			case 4:
				for _, k := range []string{"paths", "remoteIpBlocks", "request.headers[x-team]"} {
					g.meet(q, k, one(g, pools[k]))
				}
			default:
				q.Target = one(g, []string{q.Target + "x", q.Target + "/", q.Target + "/y", g.path(), strings.ToUpper(q.Target), "/z/.." + q.Target, q.Target + "?q=/admin"})
			}
		}
	}
	return q
}

func (g *Generator) meetFields(q *Question, f Fields) {
	for _, k := range slices.Sorted(keys(f)) {
		if strings.HasPrefix(k, "not") {
			continue
		}
		g.meet(q, k, one(g, f[k]))
	}
}

func keys(f Fields) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range f {
			if !yield(k) {
				return
			}
		}
	}
}

// meet makes q satisfy one value of a field, if it can.
func (g *Generator) meet(q *Question, field, v string) {
	client := func(ok func(Client) bool) {
		var fit []Client
		for _, c := range Clients {
			if ok(c) {
				fit = append(fit, c)
			}
		}
		if len(fit) > 0 {
			q.Client = one(g, fit)
		}
	}
	switch field {
	case "principals", "source.principal":
		client(func(c Client) bool {
			return fits(v, "cluster.local/ns/"+c.Namespace+"/sa/"+c.ServiceAccount)
		})
	case "namespaces", "source.namespace":
		client(func(c Client) bool { return fits(v, c.Namespace) })
	case "serviceAccounts":
		client(func(c Client) bool { return c.Namespace+"/"+c.ServiceAccount == v })
	case "ipBlocks", "source.ip":
		client(func(c Client) bool {
			return strings.HasPrefix(c.Addr, strings.TrimRight(v[:strings.LastIndexByte(v, '.')+1], "."))
		})
	case "remoteIpBlocks", "remote.ip":
		ip := strings.TrimSuffix(v[:strings.LastIndexByte(v, '.')+1], ".") + ".7"
		q.Headers = append(q.Headers, [2]string{"X-Forwarded-For", one(g, []string{ip, "192.0.2.1, " + ip, ip + ", 192.0.2.1"})})
	case "hosts":
		q.Host = sample(v, one(g, []string{"web", "www"}))
	case "methods":
		for _, m := range methods {
			if fits(v, m) {
				q.Method = m
			}
		}
	case "paths":
		if v == "/a/*/b" {
			q.Target = one(g, []string{"/a/*/b", "/a/x/b"})
			return
		}
		t := strings.NewReplacer("{*}", one(g, []string{"x", "a%20b", "a.b", "*"}), "{**}", one(g, []string{"", "x", "x/y", "x/y/"})).Replace(v)
		q.Target = sample(t, "/"+one(g, []string{"x", "x/y"}))
		if !strings.HasPrefix(q.Target, "/") {
			q.Target = "/" + q.Target
		}
	default:
		if name, ok := strings.CutPrefix(field, "request.headers["); ok {
			q.Headers = append(q.Headers, [2]string{strings.TrimSuffix(name, "]"), sample(v, "z")})
		}
	}
}

// sample is a text for an exact, prefix, suffix or presence pattern.
func sample(v, fill string) string {
	switch {
	case v == "*":
		return fill
	case strings.HasPrefix(v, "*"):
		return fill + v[1:]
	case strings.HasSuffix(v, "*"):
		return v[:len(v)-1] + strings.TrimPrefix(fill, "/")
	}
	return v
}

func fits(v, s string) bool {
	switch {
	case v == "*":
		return true
	case strings.HasPrefix(v, "*"):
		return strings.HasSuffix(s, v[1:])
	case strings.HasSuffix(v, "*"):
		return strings.HasPrefix(s, v[:len(v)-1])
	}
	return v == s
}

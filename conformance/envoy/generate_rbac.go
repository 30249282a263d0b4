package envoy

import (
	"fmt"
	"slices"
	"strings"
)

// rule is a random rule. Fields that only narrow it stay few, so that requests
// that meet it exist.
func (g *Generator) rule(words *vocabulary) PolicyRule {
	var r PolicyRule
	fields := func(names []string) Fields {
		f := Fields{}
		for _, n := range some(g, names, 2) {
			if f[n] != nil || f[negated(n)] != nil {
				continue
			}
			if len(f) > 0 && (n == "serviceAccounts" || f["serviceAccounts"] != nil || f["notServiceAccounts"] != nil) {
				continue // serviceAccounts and principals may not stand together
			}
			if g.chance(75) {
				f[n] = some(g, pools[n], 2)
			}
			if f[n] == nil || n == "paths" && g.chance(30) {
				f[negated(n)] = some(g, pools[n], 1)
			}
		}
		return f
	}
	k := g.r.IntN(8)
	if k <= 4 {
		for range 1 + g.r.IntN(2) {
			r.To = append(r.To, fields(words.operations))
		}
	}
	if k >= 3 && k <= 6 {
		for range 1 + g.r.IntN(2) {
			r.From = append(r.From, fields(words.sources))
		}
	}
	if k == 7 || g.chance(25) {
		key := one(g, words.conditions)
		c := Condition{Key: key, Values: some(g, pools[key], 2)}
		if g.chance(25) {
			c.Values, c.NotValues = nil, some(g, pools[key], 1)
		}
		r.When = append(r.When, c)
	}
	return r
}

// reads reports whether a rule has one of these fields.
func (r *PolicyRule) reads(names ...string) bool {
	for _, fs := range [][]Fields{r.From, r.To} {
		for _, f := range fs {
			for _, n := range names {
				if f[n] != nil || f[negated(n)] != nil {
					return true
				}
			}
		}
	}
	return slices.ContainsFunc(r.When, func(c Condition) bool { return slices.Contains(names, c.Key) })
}

// Policy adds a service with one policy of one rule, so that the rule alone decides.
func (g *Generator) Policy() *Subject {
	return g.policies("rbac", &httpWords, func(s *Subject) { s.Policies = []Policy{g.policy(s, 0, 1, &httpWords, "ALLOW", "DENY")} })
}

// Policies adds a service with several policies of all actions.
func (g *Generator) Policies() *Subject {
	return g.policies("policies", &httpWords, func(s *Subject) {
		for i := range 2 + g.r.IntN(3) {
			s.Policies = append(s.Policies, g.policy(s, i, 3, &httpWords, "ALLOW", "ALLOW", "DENY", "AUDIT"))
		}
	})
}

// SourceIP adds a service with rules that ask for the address of the client's pod,
// which the oracle's tunnels do not show.
func (g *Generator) SourceIP() *Subject {
	return g.policies("source-ip", &directWords, func(s *Subject) {
		s.Direct = true
		for i := range 1 + g.r.IntN(2) {
			s.Policies = append(s.Policies, g.policy(s, i, 1, &directWords, "ALLOW", "DENY"))
		}
		if !slices.ContainsFunc(s.rules(), func(r flatRule) bool { return r.rule.reads("ipBlocks", "source.ip") }) {
			s.Policies = nil // what it is about is missing
		}
	})
}

// Claims adds a service whose rules ask for what a token says.
func (g *Generator) Claims() *Subject {
	return g.policies("claims", &claimWords, func(s *Subject) {
		s.JWT = jwtRules[:1+g.r.IntN(2)]
		for i := range 1 + g.r.IntN(2) {
			s.Policies = append(s.Policies, g.policy(s, i, 2, &claimWords, "ALLOW", "ALLOW", "DENY", "AUDIT"))
		}
		if !slices.ContainsFunc(s.rules(), func(r flatRule) bool { return r.rule.reads(append(claimConditions, "requestPrincipals")...) }) {
			s.Policies = nil
		}
	})
}

// Connections adds a service of a TCP port with one rule.
func (g *Generator) Connections() *Subject {
	return g.policies("tcp", &tcpWords, func(s *Subject) {
		s.TCP = true
		s.Policies = []Policy{g.policy(s, 0, 1, &tcpWords, "ALLOW", "DENY")}
	})
}

// Anything adds a service with random policies of everything, whether their rules
// decide something or not.
func (g *Generator) Anything(tcp bool) *Subject {
	s := g.subject("anything", "BASE")
	s.TCP = tcp
	if !tcp {
		s.JWT = jwtRules
	}
	for i := range 1 + g.r.IntN(3) {
		s.Policies = append(s.Policies, g.policy(s, i, 3, &allWords, "ALLOW", "ALLOW", "DENY", "AUDIT"))
	}
	if g.chance(5) {
		s.Policies[0].Action, s.Policies[0].Rules = "ALLOW", nil
	}
	if g.chance(5) {
		s.Policies[0].Rules = []PolicyRule{{}}
	}
	return s
}

// policy is a random policy of up to n rules.
func (g *Generator) policy(s *Subject, i, n int, words *vocabulary, actions ...string) Policy {
	p := Policy{Name: fmt.Sprint(s.Name, "-", i), Action: one(g, actions)}
	for range 1 + g.r.IntN(n) {
		p.Rules = append(p.Rules, g.rule(words))
	}
	return p
}

// policies adds a service whose policies fill makes, anew until every rule of
// theirs decides some requests and not others.
func (g *Generator) policies(kind string, words *vocabulary, fill func(*Subject)) *Subject {
	s := g.subject(kind, "BASE")
	for {
		s.Policies, s.JWT = nil, nil
		if fill(s); len(s.Policies) > 0 && g.decides(s) {
			return s
		}
	}
}

// decides reports whether each rule of a service decides enough of the questions
// that are aimed at it.
func (g *Generator) decides(s *Subject) bool {
	const sampled, enough = 80, 6
	n := g.n
	defer func() { g.n = n }()
	for i := range s.rules() {
		yes, no := 0, 0
		for k := range sampled {
			m := s.predict(g.aimed(s, i, k%2 == 0))
			switch {
			case !s.decides(m, i):
			case m[i]:
				yes++
			default:
				no++
			}
		}
		if yes < enough || no < enough {
			return false
		}
	}
	return true
}

// aimed is a question that shall meet or miss a rule and, where there are others,
// often meets one of them too: a rule decides only what others leave to it.
func (g *Generator) aimed(s *Subject, rule int, meet bool) *Question {
	rules := s.rules()
	var also *PolicyRule
	if len(rules) > 1 && g.chance(50) {
		also = rules[g.r.IntN(len(rules))].rule
	}
	return g.policyQuestion(s, rules[rule].rule, also, meet)
}

// Decisive is a question that a rule seems to decide this way.
func (g *Generator) Decisive(s *Subject, rule int, yes bool) *Question {
	n := g.n
	for range 200 {
		g.n = n
		q := g.aimed(s, rule, yes)
		if m := s.predict(q); m[rule] == yes && s.decides(m, rule) {
			return q.sign()
		}
	}
	return g.aimed(s, rule, yes).sign()
}

// policyQuestion is aimed at a rule of s, and at another one if there is one: to
// meet it, or to miss it closely.
func (g *Generator) policyQuestion(s *Subject, r, also *PolicyRule, meet bool) *Question {
	q := g.base(s)
	q.Client, q.Host, q.Method, q.Direct = one(g, Clients), one(g, hosts), one(g, methods), s.Direct
	if s.TCP {
		q.TCP, q.Raw = true, []byte(tcpHello+q.ID+"\n")
	}
	t := g.token(s)
	for _, r := range []*PolicyRule{also, r} {
		if r == nil {
			continue
		}
		if len(r.From) > 0 {
			g.meetFields(q, t, one(g, r.From))
		}
		if len(r.To) > 0 {
			g.meetFields(q, t, one(g, r.To))
		}
		for _, c := range r.When {
			if len(c.Values) > 0 {
				g.meet(q, t, c.Key, one(g, c.Values))
			} else if g.chance(50) {
				g.meet(q, t, c.Key, one(g, pools[c.Key]))
			}
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
				if t != nil && g.chance(40) {
					t.claims = nil
				}
			case 4:
				for _, k := range []string{"paths", "remoteIpBlocks", "request.headers[x-team]"} {
					g.meet(q, t, k, one(g, pools[k]))
				}
				if t != nil {
					k := one(g, claimConditions)
					g.meet(q, t, k, one(g, pools[k]))
				}
			default:
				q.Target = one(g, []string{q.Target + "x", q.Target + "/", q.Target + "/y", g.path(), strings.ToUpper(q.Target), "/z/.." + q.Target, q.Target + "?q=/admin"})
			}
		}
	}
	t.carry(q)
	if s.audited() {
		q.Audit = true
		q.Headers = append(q.Headers, [2]string{"User-Agent", auditAgent + q.ID})
	}
	return q
}

// audited reports whether a policy of s only leaves a mark.
func (s *Subject) audited() bool {
	return slices.ContainsFunc(s.Policies, func(p Policy) bool { return p.Action == "AUDIT" })
}

func (g *Generator) meetFields(q *Question, t *token, f Fields) {
	for _, k := range slices.Sorted(keys(f)) {
		if strings.HasPrefix(k, "not") {
			continue
		}
		g.meet(q, t, k, one(g, f[k]))
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
func (g *Generator) meet(q *Question, t *token, field, v string) {
	if _, ok := claimPath(field); ok {
		if t != nil {
			g.meetClaim(t, field, v)
		}
		return
	}
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
	case "serviceAccounts", "source.serviceAccount":
		client(func(c Client) bool { return c.Namespace+"/"+c.ServiceAccount == v })
	case "ipBlocks", "source.ip":
		client(func(c Client) bool {
			return strings.HasPrefix(c.Addr, strings.TrimRight(v[:strings.LastIndexByte(v, '.')+1], "."))
		})
	case "remoteIpBlocks", "remote.ip":
		ip := strings.TrimSuffix(v[:strings.LastIndexByte(v, '.')+1], ".") + ".7"
		q.Headers = append(q.Headers, [2]string{"X-Forwarded-For", one(g, []string{ip, "192.0.2.1, " + ip, ip + ", 192.0.2.1"})})
	case "connection.sni":
		q.SNI = sample(v, "api.x")
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

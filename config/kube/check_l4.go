package kube

func (g *GRPCRoute) fill() {
	for i := range g.ParentRefs {
		g.ParentRefs[i].fill()
	}
	for i := range g.Rules {
		r := &g.Rules[i]
		for j := range r.Matches {
			m := &r.Matches[j]
			if m.Method != nil {
				set(&m.Method.Type, "Exact")
			}
			fillValues(m.Headers)
		}
		fillFilters(r.Filters)
		fillBackends(r.BackendRefs)
	}
}

func (g *GRPCRoute) check(r *report) {
	checkParents(r, g.ParentRefs)
	checkHostnames(r, g.Hostnames)
	if n := len(g.Rules); n > maxRules {
		r.addf("spec.rules", "has %d rules, at most %d are allowed", n, maxRules)
	}
	for i := range g.Rules {
		rule, p := &g.Rules[i], at("spec.rules", i)
		checkName(r, p+".name", rule.Name)
		if len(rule.Matches) > maxMatches {
			r.addf(p+".matches", "has %d entries, at most %d are allowed", len(rule.Matches), maxMatches)
		}
		for j := range rule.Matches {
			m, q := &rule.Matches[j], at(p+".matches", j)
			if x := m.Method; x != nil {
				oneOf(r, q+".method.type", *x.Type, "Exact", "RegularExpression")
				if (x.Service == nil || *x.Service == "") && (x.Method == nil || *x.Method == "") {
					r.addf(q+".method", "one or both of 'service' or 'method' must be specified")
				}
				for _, v := range []*string{x.Service, x.Method} {
					switch {
					case v == nil:
					case *x.Type == "RegularExpression":
						checkRegex(r, q+".method", *v)
					case *v != "" && !grpcName.MatchString(*v):
						r.addf(q+".method", "%q is no gRPC service or method name", *v)
					}
				}
			}
			checkValues(r, q+".headers", m.Headers)
		}
		checkFilters(r, p+".filters", rule.Filters, grpcFilters, false)
		checkBackends(r, p+".backendRefs", rule.BackendRefs, grpcFilters, false)
		rule.SessionPersistence.check(r, p+".sessionPersistence")
	}
}

func (t *TCPRoute) fill() { fillL4(t.ParentRefs, t.Rules) }

func (t *TCPRoute) check(r *report) { checkL4(r, t.ParentRefs, t.Rules) }

func (t *TLSRoute) fill() { fillL4(t.ParentRefs, t.Rules) }

func (t *TLSRoute) check(r *report) {
	checkL4(r, t.ParentRefs, t.Rules)
	checkHostnames(r, t.Hostnames)
}

func fillL4(ps []ParentRef, rules []L4Rule) {
	for i := range ps {
		ps[i].fill()
	}
	for i := range rules {
		for j := range rules[i].BackendRefs {
			b := &rules[i].BackendRefs[j]
			b.fill()
			set(&b.Weight, 1)
		}
	}
}

func checkL4(r *report, ps []ParentRef, rules []L4Rule) {
	checkParents(r, ps)
	if n := len(rules); n < 1 || n > maxRules {
		r.addf("spec.rules", "has %d rules, 1 to %d are allowed", n, maxRules)
	}
	for i := range rules {
		p := at("spec.rules", i)
		checkName(r, p+".name", rules[i].Name)
		if n := len(rules[i].BackendRefs); n < 1 || n > maxBackends {
			r.addf(p+".backendRefs", "has %d entries, 1 to %d are allowed", n, maxBackends)
		}
		for j := range rules[i].BackendRefs {
			b, q := &rules[i].BackendRefs[j], at(p+".backendRefs", j)
			b.BackendObject.check(r, q)
			if *b.Weight < 0 || *b.Weight > maxWeight {
				r.addf(q+".weight", "%d is not between 0 and %d", *b.Weight, maxWeight)
			}
		}
	}
}

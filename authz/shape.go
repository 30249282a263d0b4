package authz

import "strings"

// principalShape recognizes the regular expressions that Istio writes for peer
// identities; nil if re is none of them.
func principalShape(re string) *Expr {
	if ns, ok := between(re, ".*/ns/", "/.*"); ok {
		if g, ok := parseGlobRegex(ns); ok {
			return namespaceExpr(g)
		}
	}
	if mid, ok := between(re, spiffeScheme+".+/ns/", "(/.+)?"); ok {
		ns, sa, ok := strings.Cut(mid, "/(.+/|)sa/")
		nsText, okNS := literalRegex(ns)
		saText, okSA := literalRegex(sa)
		if ok && okNS && okSA {
			return serviceAccountExpr(nsText, saText)
		}
	}
	return nil
}

func between(s, prefix, suffix string) (string, bool) {
	if len(s) <= len(prefix)+len(suffix) || !strings.HasPrefix(s, prefix) || !strings.HasSuffix(s, suffix) {
		return "", false
	}
	return s[len(prefix) : len(s)-len(suffix)], true
}

func literalRegex(re string) (string, bool) {
	g, ok := parseGlobRegex(re)
	if !ok || len(g.lits) != 1 || g.gaps[0] != noGap || g.gaps[1] != noGap {
		return "", false
	}
	return g.lits[0], true
}

// namespaceExpr matches .*/ns/NS/.* where g is the pattern NS.
func namespaceExpr(g globParts) *Expr {
	n := len(g.lits)
	full := globParts{gaps: make([]int8, 1, n+3)} // the leading .*
	// "/ns/" joins the first literal unless a gap starts NS, and "/" the last.
	lits := append([]string{}, g.lits...)
	gaps := append([]int8{}, g.gaps...)
	if gaps[0] == noGap && n > 0 {
		lits[0] = "/ns/" + lits[0]
	} else {
		lits = append([]string{"/ns/"}, lits...)
		gaps = append([]int8{noGap}, gaps...)
	}
	if last := len(gaps) - 1; gaps[last] == noGap {
		lits[len(lits)-1] += "/"
	} else {
		lits = append(lits, "/")
		gaps = append(gaps, noGap)
	}
	full.lits = lits
	full.gaps = append(full.gaps, gaps[1:len(gaps)-1]...)
	full.gaps = append(full.gaps, 0) // the trailing .*
	e := &Expr{op: opNamespace, str: &matcher{kind: MatchRegex, glob: true, parts: full}}
	if len(full.lits) == 1 {
		e.name = strings.TrimSuffix(strings.TrimPrefix(full.lits[0], "/ns/"), "/")
	}
	return e
}

// namespaceWildcard is the pattern of a namespaces value: every * is any text.
func namespaceWildcard(v string) globParts {
	var g globParts
	gap := noGap
	for i, part := range strings.Split(v, "*") {
		if i > 0 {
			gap = 0
		}
		if part != "" {
			g.lits = append(g.lits, part)
			g.gaps = append(g.gaps, gap)
			gap = noGap
		}
	}
	g.gaps = append(g.gaps, gap)
	return g
}

// serviceAccountExpr keeps the pieces that matchServiceAccount looks for.
func serviceAccountExpr(ns, sa string) *Expr {
	return &Expr{op: opServiceAccount, name: ns, path: []string{"/ns/" + ns + "/", "sa/" + sa}}
}

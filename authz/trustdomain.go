package authz

import (
	"slices"
	"strings"
)

// clusterLocal in a principal always means the mesh, whatever its trust domain.
const clusterLocal = "cluster.local"

func (s *Scope) bundle() []string {
	if s.TrustDomain == "" {
		return s.TrustAliases
	}
	return append([]string{s.TrustDomain}, s.TrustAliases...)
}

// expandPrincipals repeats principals of the mesh's trust domain for its aliases,
// as Istio does: only values of exactly five parts whose first is not "*" name a
// trust domain; one that the bundle does not know stays as written.
func (s *Scope) expandPrincipals(values []string) []string {
	bundle := s.bundle()
	if len(bundle) == 0 {
		return values
	}
	out := make([]string, 0, len(values))
	for _, v := range values {
		parts := strings.Split(v, "/")
		td := parts[0]
		if len(parts) != 5 || td == "*" || td != clusterLocal && !anyTrustDomain(td, bundle) {
			out = append(out, v)
			continue
		}
		rest := v[len(td):]
		first := len(out)
		for _, b := range bundle {
			p := b + rest
			if suffixPattern(b, td) {
				p = v // *-td covers b as it is
			}
			if !slices.Contains(out[first:], p) {
				out = append(out, p)
			}
		}
	}
	return out
}

func (s *Scope) expandTrustDomains(values []string) []string {
	bundle := s.bundle()
	out := make([]string, 0, len(values))
	for _, v := range values {
		if slices.Contains(bundle, v) {
			for _, b := range bundle {
				if !slices.Contains(out, b) {
					out = append(out, b)
				}
			}
			continue
		}
		out = append(out, v)
	}
	return out
}

func anyTrustDomain(td string, bundle []string) bool {
	for _, b := range bundle {
		if td == b || prefixPattern(td, b) || prefixPattern(b, td) || suffixPattern(td, b) || suffixPattern(b, td) {
			return true
		}
	}
	return false
}

func prefixPattern(s, pattern string) bool {
	p, ok := strings.CutSuffix(pattern, "*")
	return ok && strings.HasPrefix(s, p)
}

func suffixPattern(s, pattern string) bool {
	p, ok := strings.CutPrefix(pattern, "*")
	return ok && strings.HasSuffix(s, p)
}

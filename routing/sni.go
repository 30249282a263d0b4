package routing

// MatchSNI reports whether a TLS server name matches one of patterns: a name, or
// "*.suffix" for any number of labels before the suffix (not the suffix itself), or
// "*". Names compare without regard to ASCII case and to one trailing dot. No
// patterns match everything; an empty name (a hello without SNI) matches only those
// and "*".
func MatchSNI(patterns []string, name string) bool {
	if len(patterns) == 0 {
		return true
	}
	if n := len(name); n > 0 && name[n-1] == '.' {
		name = name[:n-1]
	}
	for _, p := range patterns {
		switch {
		case p == "*":
			return true
		case len(p) > 2 && p[0] == '*' && p[1] == '.':
			if len(name) >= len(p) && hasSuffix(name, p[1:], true) {
				return true
			}
		case name != "" && equal(name, p, true):
			return true
		}
	}
	return false
}

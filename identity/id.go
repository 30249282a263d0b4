package identity

import (
	"errors"
	"strings"

	"waypoint.dev/waypoint/internal/attrs"
)

// ErrNotSPIFFE is returned for a URI that is no mesh workload identity.
var ErrNotSPIFFE = errors.New("identity: not a spiffe://<trust-domain>/ns/<namespace>/sa/<service-account> URI")

// maxURI bounds a SPIFFE id (SPIFFE-ID 2.3: up to 2048 bytes).
const maxURI = 2048

// Parse splits a SPIFFE URI of the mesh form. The parts borrow from uri.
// Characters outside the SPIFFE-ID set (section 2.1, 2.2) are refused, percent
// escapes among them: policies compare the text as it stands.
func Parse(uri string) (attrs.Principal, error) {
	rest, ok := strings.CutPrefix(uri, "spiffe://")
	if !ok || len(uri) > maxURI {
		return attrs.Principal{}, ErrNotSPIFFE
	}
	td, rest, ok := strings.Cut(rest, "/ns/")
	if !ok || !segment(td) {
		return attrs.Principal{}, ErrNotSPIFFE
	}
	ns, sa, ok := strings.Cut(rest, "/sa/")
	if !ok || !segment(ns) || !segment(sa) {
		return attrs.Principal{}, ErrNotSPIFFE
	}
	return attrs.Principal{URI: uri, TrustDomain: td, Namespace: ns, ServiceAccount: sa}, nil
}

// URI is the inverse of Parse.
func URI(trustDomain, namespace, serviceAccount string) string {
	return "spiffe://" + trustDomain + "/ns/" + namespace + "/sa/" + serviceAccount
}

// segment reports whether s is a non-empty run of [A-Za-z0-9._-] that is no dot
// segment.
func segment(s string) bool {
	if s == "" || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

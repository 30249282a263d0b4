package identity

import (
	"errors"
	"strings"

	"waypoint.dev/waypoint/internal/attrs"
)

// ErrNotSPIFFE is returned for a URI that is no mesh workload identity.
var ErrNotSPIFFE = errors.New("identity: not a spiffe://<trust-domain>/ns/<namespace>/sa/<service-account> URI")

// Parse splits a SPIFFE URI of the mesh form. The parts borrow from uri.
func Parse(uri string) (attrs.Principal, error) {
	rest, ok := strings.CutPrefix(uri, "spiffe://")
	if !ok {
		return attrs.Principal{}, ErrNotSPIFFE
	}
	td, rest, ok := strings.Cut(rest, "/ns/")
	if !ok || td == "" || strings.Contains(td, "/") {
		return attrs.Principal{}, ErrNotSPIFFE
	}
	ns, sa, ok := strings.Cut(rest, "/sa/")
	if !ok || ns == "" || sa == "" || strings.Contains(ns, "/") || strings.Contains(sa, "/") {
		return attrs.Principal{}, ErrNotSPIFFE
	}
	return attrs.Principal{URI: uri, TrustDomain: td, Namespace: ns, ServiceAccount: sa}, nil
}

// URI is the inverse of Parse.
func URI(trustDomain, namespace, serviceAccount string) string {
	return "spiffe://" + trustDomain + "/ns/" + namespace + "/sa/" + serviceAccount
}

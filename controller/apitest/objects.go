package apitest

import (
	"strings"

	"sigs.k8s.io/yaml"
)

// Parse reads objects from YAML documents. It panics on a slip in them.
func Parse(text string) (out []Object) {
	for doc := range strings.SplitSeq(text, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		b, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			panic(err)
		}
		o := decode(b)
		if o == nil {
			panic("apitest: no object: " + doc)
		}
		out = append(out, o)
	}
	return out
}

// Load puts the objects of YAML documents; of kind X into resource x + "s", but for
// the kinds whose plural is another.
func (s *Server) Load(text string) {
	for _, o := range Parse(text) {
		s.Put(Resource(o), o)
	}
}

// Resource is the plural of an object's kind.
func Resource(o Object) string {
	kind, _ := o["kind"].(string)
	switch kind {
	case "GatewayClass":
		return "gatewayclasses"
	case "AuthorizationPolicy", "WaypointPolicy", "ServiceEntry", "WorkloadEntry", "XBackendTrafficPolicy":
		return strings.ToLower(strings.TrimSuffix(kind, "y")) + "ies"
	}
	return strings.ToLower(kind) + "s"
}

// CRD is an established CustomResourceDefinition.
func CRD(group, kind, plural string, versions ...string) Object {
	var vs []any
	for _, v := range versions {
		vs = append(vs, Object{"name": v, "served": true})
	}
	return Object{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": Object{"name": plural + "." + group},
		"spec":     Object{"group": group, "names": Object{"kind": kind, "plural": plural}, "versions": vs},
		"status":   Object{"conditions": []any{Object{"type": "Established", "status": "True"}}},
	}
}

// Define puts the definitions of the kinds that waypoints read.
func (s *Server) Define() {
	const gw = "gateway.networking.k8s.io"
	for _, d := range []Object{
		CRD(gw, "GatewayClass", "gatewayclasses", "v1"), CRD(gw, "Gateway", "gateways", "v1"),
		CRD(gw, "HTTPRoute", "httproutes", "v1", "v1beta1"), CRD(gw, "GRPCRoute", "grpcroutes", "v1"),
		CRD("security.istio.io", "AuthorizationPolicy", "authorizationpolicies", "v1", "v1beta1"),
		CRD("waypoint.dev", "WaypointPolicy", "waypointpolicies", "v1alpha1"),
	} {
		s.Put("customresourcedefinitions", d)
	}
}

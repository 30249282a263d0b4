package objects

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/xds"
)

// TypeURL is the type of the resources: a google.protobuf.BytesValue that holds
// the JSON of one object.
const TypeURL = "type.googleapis.com/waypoint.dev.v1alpha1.Object"

// Complete is the name of the resource, without an object, that closes a set of
// changes: what came until then is one state of the server, to be applied at once.
// Its version counts those states.
const Complete = "complete"

// Name is the name of an object's resource: kind/namespace/name. The namespace of
// a cluster-wide object is empty: "Node//n1".
func Name(kind, namespace, name string) string { return kind + "/" + namespace + "/" + name }

// ParseName is the inverse of Name.
func ParseName(s string) (kind, namespace, name string, ok bool) {
	kind, rest, ok := strings.Cut(s, "/")
	if !ok {
		return "", "", "", false
	}
	namespace, name, ok = strings.Cut(rest, "/")
	return kind, namespace, name, ok && kind != "" && name != "" && !strings.Contains(name, "/")
}

// nodeRole is the first part of a node's id, as of Istio's waypoints.
const nodeRole = "waypoint"

// NewNode makes the node of a stream: the Gateway that the waypoint runs for, and
// which of its replicas asks. The Gateway's class may be empty.
func NewNode(gw config.Owner, instance string) (*corev3.Node, error) {
	for _, s := range []string{gw.Namespace, gw.Name, gw.Class, instance} {
		if strings.ContainsAny(s, "~/") {
			return nil, fmt.Errorf("objects: %q has a character that separates the parts of a node id", s)
		}
	}
	if gw.Namespace == "" || gw.Name == "" {
		return nil, fmt.Errorf("objects: a node is of a Gateway, with namespace and name")
	}
	id := strings.Join([]string{nodeRole, instance, gw.Namespace + "/" + gw.Name, gw.Class}, "~")
	return xds.NewNode(id, gw.Name+"."+gw.Namespace, "", "", "", map[string]any{})
}

// ParseNode is the inverse of NewNode.
func ParseNode(n *corev3.Node) (gw config.Owner, instance string, err error) {
	p := strings.Split(n.GetId(), "~")
	if len(p) != 4 || p[0] != nodeRole {
		return gw, "", fmt.Errorf("objects: node id %q is not waypoint~instance~namespace/name~class", n.GetId())
	}
	ns, name, ok := strings.Cut(p[2], "/")
	if !ok || ns == "" || name == "" || strings.Contains(name, "/") {
		return gw, "", fmt.Errorf("objects: node id %q names no Gateway", n.GetId())
	}
	return config.Owner{Namespace: ns, Name: name, Class: p[3]}, p[1], nil
}

package provision

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Gateway is what is read of a Gateway.
type Gateway struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     GatewaySpec       `json:"spec"`
}

// GatewaySpec is the part of a Gateway's spec that a waypoint means.
type GatewaySpec struct {
	GatewayClassName string            `json:"gatewayClassName"`
	Listeners        []Listener        `json:"listeners"`
	Addresses        []json.RawMessage `json:"addresses"`
	Infrastructure   *Infrastructure   `json:"infrastructure"`
}

// Listener is one listener of a Gateway.
type Listener struct {
	Name          string `json:"name"`
	Port          int32  `json:"port"`
	Protocol      string `json:"protocol"`
	AllowedRoutes *struct {
		Kinds []RouteKind `json:"kinds"`
	} `json:"allowedRoutes"`
}

// RouteKind names a kind of routes.
type RouteKind struct {
	Group *string `json:"group,omitempty"`
	Kind  string  `json:"kind"`
}

// Infrastructure is spec.infrastructure.
type Infrastructure struct {
	Labels        map[string]string `json:"labels"`
	Annotations   map[string]string `json:"annotations"`
	ParametersRef *ParametersRef    `json:"parametersRef"`
}

// ParametersRef names the object that holds parameters. Namespace is that of a
// GatewayClass's reference only.
type ParametersRef struct {
	Group     string `json:"group"`
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// Class is what is read of a GatewayClass.
type Class struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		ControllerName string         `json:"controllerName"`
		ParametersRef  *ParametersRef `json:"parametersRef"`
	} `json:"spec"`
}

// hbonePort is where ztunnel calls a waypoint (ISTIO: ZTUNNEL_INBOUND_PORT's peer,
// the HBONE port of every mesh).
const hbonePort = 15008

// hbone is the one protocol of a waypoint's listener.
const hbone = "HBONE"

// routeKinds may be attached to services that a waypoint serves.
var routeKinds = []string{"HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"}

const gatewayGroup = "gateway.networking.k8s.io"

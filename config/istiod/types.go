package istiod

import "fmt"

// Type URLs of the resources that a waypoint subscribes to.
const (
	ListenerType  = "type.googleapis.com/envoy.config.listener.v3.Listener"
	ClusterType   = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointsType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ExtensionType = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
	SecretType    = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	WorkloadType  = "type.googleapis.com/istio.workload.Workload"
	AddressType   = "type.googleapis.com/istio.workload.Address"
)

// Resource is one resource of a delta response.
type Resource struct {
	Name    string
	Version string
	Body    []byte // the serialized message: the value of the Any. Borrowed until Apply returns
}

// ResourceError says why one resource was refused; the previous version stays.
type ResourceError struct {
	Type, Name string
	Err        error
}

// Error names the resource and the cause.
func (e *ResourceError) Error() string {
	return fmt.Sprintf("%s %q: %v", shortType(e.Type), e.Name, e.Err)
}

// Unwrap returns the cause.
func (e *ResourceError) Unwrap() error { return e.Err }

// Reasons of the problems of this package; they are stable.
const (
	ReasonNotImplemented = "not_implemented" // does less than it says, opens nothing
	ReasonUnsupported    = "unsupported"     // refused: the destination, rule or backend fails closed
	ReasonInvalid        = "invalid"         // cannot be understood: fails closed
)

// Options are facts that no resource carries.
type Options struct {
	Namespace     string // of the waypoint
	Gateway       string // name of its Gateway
	Class         string // its GatewayClass, "istio-waypoint"
	TrustDomain   string // "cluster.local"
	TrustAliases  []string
	RootNamespace string // "istio-system"
	ClusterID     string // "Kubernetes"
	Network       string // own network; workloads of others are not found by address
	MeshID        string
	Domain        string // "cluster.local", DNS suffix
}

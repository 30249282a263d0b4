package provision

import (
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ControllerName is the controllerName of our GatewayClass and the field manager of
// all that is applied.
const ControllerName = "waypoint.dev/gateway-controller"

// Settings say what every waypoint of this controller has in common. Controller is
// required where there is an image.
type Settings struct {
	ControllerName string            // empty: ControllerName
	Image          string            // empty: waypoints are run by others, and only Gateways' statuses are kept
	PullPolicy     corev1.PullPolicy // empty: the API server's default

	Controller string // host:port at which waypoints reach the controller's object server
	ServerName string // in its certificate; empty: the host of Controller
	Audience   string // of the token they show it
	Roots      []byte // PEM, what verifies the controller's certificate; set by the reconciler

	Mesh     Mesh
	Identity Identity

	// Replicas and MaxReplicas bound the autoscaler. With MaxReplicas not above
	// Replicas there is none, and the Deployment has Replicas.
	Replicas, MaxReplicas int32
	CPUPercent            int32 // of the request, at which the autoscaler adds replicas

	Args []string // further flags of `waypoint run`
}

// Mesh is what a waypoint is told of its mesh.
type Mesh struct {
	TrustDomain   string
	TrustAliases  []string
	RootNamespace string
	Domain        string
	ClusterID     string
	Network       string
}

// Modes of Identity.
const (
	IdentityIstiod = "istiod" // certificates signed by istiod, or a CA of its protocol
	IdentitySPIFFE = "spiffe" // certificates of a SPIFFE Workload API
	IdentityFiles  = "files"  // certificates mounted as files
)

// Identity says where waypoints get their mesh certificate from.
type Identity struct {
	Mode string

	// For istiod: the CA's address, the audience of the token for it, and the
	// ConfigMap of each namespace that holds its root in root-cert.pem.
	CAAddress, CAAudience, CARoots string

	// Volume is the volume source, for spiffe and files. "$(gateway)" and
	// "$(namespace)" in its strings stand for the Gateway's name and namespace.
	Volume json.RawMessage
	Socket string // for spiffe: the socket's name in the volume
	// For files: names in the volume.
	Cert, Key, CAFile string
}

// Check reports what is missing for making waypoints.
func (s *Settings) Check() error {
	if s.Image == "" {
		return fmt.Errorf("an image for the waypoints is required")
	}
	if s.Controller == "" {
		return fmt.Errorf("the address of the controller's object server is required")
	}
	i := &s.Identity
	switch i.Mode {
	case IdentityIstiod:
		if i.CAAddress == "" {
			return fmt.Errorf("identity %s needs the address of a CA", i.Mode)
		}
	case IdentitySPIFFE, IdentityFiles:
		if len(i.Volume) == 0 {
			return fmt.Errorf("identity %s needs a volume", i.Mode)
		}
		if _, err := i.source("x", "x"); err != nil {
			return err
		}
	default:
		return fmt.Errorf("identity %q is none of istiod, spiffe, files", i.Mode)
	}
	if s.Replicas < 1 {
		return fmt.Errorf("a waypoint needs at least one replica")
	}
	return nil
}

// source returns the volume source for one Gateway.
func (i *Identity) source(namespace, gateway string) (corev1.VolumeSource, error) {
	var v corev1.VolumeSource
	text := strings.NewReplacer("$(gateway)", gateway, "$(namespace)", namespace).Replace(string(i.Volume))
	if err := strict([]byte(text), &v); err != nil {
		return v, fmt.Errorf("the identity volume is no volume source: %w", err)
	}
	return v, nil
}

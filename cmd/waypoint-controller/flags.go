package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"waypoint.dev/waypoint/admin"
	"waypoint.dev/waypoint/controller"
	"waypoint.dev/waypoint/controller/provision"
)

type flags struct {
	kubeconfig, logFormat, logLevel string
	pullPolicy, volume              string
	o                               controller.Options
}

func (f *flags) register(fs *pflag.FlagSet) {
	fs.SortFlags = false
	o, p, m, i := &f.o, &f.o.Provision, &f.o.Mesh, &f.o.Provision.Identity
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "how to reach the API server (default: as a pod of its cluster)")
	fs.StringVar(&o.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the controller: its Lease, its Secret, its Service (default: $POD_NAMESPACE)")
	fs.StringVar(&o.Identity, "identity-name", os.Getenv("POD_NAME"), "name of this replica in the Lease (default: $POD_NAME, else the host's name)")
	fs.StringVar(&o.Service, "service", "waypoint-controller", "name of the Service in front of the controller")

	fs.StringVar(&o.FeedAddr, "xds-addr", ":15012", "where waypoints connect")
	fs.StringVar(&o.MetricsAddr, "metrics-addr", ":15014", "metrics, /healthz and /readyz")
	fs.StringVar(&o.DebugAddr, "debug-addr", "", "profiles, on loopback only (default: off)")
	fs.StringVar(&o.Cert, "tls-cert", "", "server certificate, PEM (default: from a CA of its own, kept in a Secret)")
	fs.StringVar(&o.Key, "tls-key", "", "its private key, PEM")
	fs.StringVar(&o.Roots, "tls-roots", "", "roots by which waypoints verify it, PEM")
	fs.StringVar(&o.CASecret, "ca-secret", "waypoint-controller-ca", "Secret of its own CA")
	fs.StringVar(&o.ClientRoots, "client-roots", "", "roots of the mesh, PEM, followed: a waypoint's certificate then proves it without a token (default: only tokens do)")
	fs.StringVar(&o.Audience, "audience", "waypoint-controller", "audience of the tokens by which waypoints prove themselves")

	fs.StringVar(&m.TrustDomain, "trust-domain", "cluster.local", "trust domain of the mesh")
	fs.StringSliceVar(&m.TrustAliases, "trust-domain-alias", nil, "further trust domains that count as the mesh's own")
	fs.StringVar(&m.RootNamespace, "root-namespace", "istio-system", "namespace whose policies hold everywhere")
	fs.StringVar(&m.Domain, "domain", "cluster.local", "DNS domain of the cluster")
	fs.StringVar(&m.ClusterID, "cluster-id", "Kubernetes", "cluster name in metrics")
	fs.StringVar(&m.Network, "network", "", "network of the waypoints")

	fs.StringVar(&p.ControllerName, "controller-name", provision.ControllerName, "controllerName of the GatewayClasses to serve")
	fs.StringVar(&p.Image, "waypoint-image", "", "image of the waypoints; empty: none is made, only fed")
	fs.StringVar(&f.pullPolicy, "waypoint-pull-policy", "", "their imagePullPolicy")
	fs.Int32Var(&p.Replicas, "waypoint-replicas", 1, "replicas of a waypoint, at least")
	fs.Int32Var(&p.MaxReplicas, "waypoint-max-replicas", 5, "replicas of a waypoint, at most; not above --waypoint-replicas: no autoscaler")
	fs.Int32Var(&p.CPUPercent, "waypoint-cpu-percent", 80, "percent of the CPU request at which replicas are added")
	fs.StringArrayVar(&p.Args, "waypoint-arg", nil, "further flag of the waypoints, as --waypoint-arg=--access-log=-")
	fs.StringVar(&p.Controller, "waypoint-xds", "", "where waypoints find the controller (default: the Service at the port of --xds-addr)")
	fs.StringVar(&p.ServerName, "waypoint-xds-server-name", "", "name in the controller's certificate (default: the host of --waypoint-xds)")

	fs.StringVar(&i.Mode, "identity", provision.IdentityIstiod, "where waypoints get their mesh certificate: istiod (or a CA of its protocol), spiffe (a Workload API), files")
	fs.StringVar(&i.CAAddress, "identity-ca", "istiod.istio-system.svc:15012", "istiod: address of the CA")
	fs.StringVar(&i.CAAudience, "identity-ca-audience", "istio-ca", "istiod: audience of the token for it")
	fs.StringVar(&i.CARoots, "identity-ca-roots", "istio-ca-root-cert", "istiod: ConfigMap of every namespace with the CA's root in root-cert.pem")
	fs.StringVar(&f.volume, "identity-volume", "", `spiffe, files: the volume source as JSON, such as {"secret":{"secretName":"$(gateway)-identity"}}; $(gateway) and $(namespace) are replaced`)
	fs.StringVar(&i.Socket, "identity-socket", "socket", "spiffe: name of the socket in the volume")
	fs.StringVar(&i.Cert, "identity-cert", "tls.crt", "files: name of the certificate chain in the volume")
	fs.StringVar(&i.Key, "identity-key", "tls.key", "files: name of the private key")
	fs.StringVar(&i.CAFile, "identity-roots", "ca.crt", "files: name of the trusted roots")

	fs.Float32Var(&o.StatusPerSecond, "status-writes", 20, "status writes a second, at most")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warning or error")
}

func (f *flags) options() (controller.Options, error) {
	o := f.o
	if o.Namespace == "" {
		return o, fmt.Errorf("--namespace is required (in a pod: the environment POD_NAMESPACE)")
	}
	switch corev1.PullPolicy(f.pullPolicy) {
	case "", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
		o.Provision.PullPolicy = corev1.PullPolicy(f.pullPolicy)
	default:
		return o, fmt.Errorf("--waypoint-pull-policy %q: use Always, IfNotPresent or Never", f.pullPolicy)
	}
	o.Identity = cmp.Or(o.Identity, hostname())
	o.Provision.Identity.Volume = json.RawMessage(f.volume)
	level, ok := admin.ParseLevel(f.logLevel)
	if !ok {
		return o, fmt.Errorf("--log-level %q: use debug, info, warning or error", f.logLevel)
	}
	h := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, h))
	case "json":
		o.Log = slog.New(slog.NewJSONHandler(os.Stderr, h))
	default:
		return o, fmt.Errorf("--log-format %q: use text or json", f.logFormat)
	}
	return o, nil
}

func hostname() string {
	h, _ := os.Hostname()
	return strings.ToLower(h)
}

// memoryShare is how much of GOMEMLIMIT, which the chart sets to the container's
// limit, the Go heap may use; the rest is the binary's and the kernel's.
const memoryShare = 0.9

func limitMemory() {
	if limit := debug.SetMemoryLimit(-1); limit > 0 && limit < math.MaxInt64 {
		debug.SetMemoryLimit(int64(float64(limit) * memoryShare))
	}
}

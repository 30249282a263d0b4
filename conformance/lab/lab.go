package lab

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"waypoint.dev/waypoint/conformance/lab/build"
	"waypoint.dev/waypoint/conformance/lab/cluster"
	"waypoint.dev/waypoint/conformance/lab/dns"
	"waypoint.dev/waypoint/conformance/lab/kubelet"
	"waypoint.dev/waypoint/conformance/lab/sandbox"
	"waypoint.dev/waypoint/conformance/lab/svc"
	"waypoint.dev/waypoint/conformance/lab/ztunnel"
	"waypoint.dev/waypoint/identity"
)

const (
	services    = "10.96.0.0/16"
	adminToken  = "lab-admin"
	trustDomain = "cluster.local"
	nodeName    = "node"
	apiPort     = 6443
	startLimit  = time.Minute
	// DriverSPIFFE is the CSI driver by which a pod gets its SPIFFE certificate: the name,
	// files and format of cert-manager's.
	DriverSPIFFE = "spiffe.csi.cert-manager.io"
	// ImageWaypoint holds the waypoint and its controller.
	ImageWaypoint = "waypoint.lab/waypoint"
	// imageEcho is the suite's application.
	imageEcho = "registry.k8s.io/gateway-api/echo-advanced"
	// EchoMetrics is the port at which the echo application counts what it served.
	EchoMetrics = 15014
)

// Options of a lab.
type Options struct {
	Binaries *build.Binaries
	// Dir takes everything the lab writes; it is made, and its logs stay.
	Dir string
	Log *slog.Logger
	// CRDs are files, or folders of them, applied before Start returns.
	CRDs []string
}

// Lab is a running cluster. It must be closed.
type Lab struct {
	// Fixed after Start.
	Config     *rest.Config // of a client that may do everything
	Kubeconfig string       // the same as a file
	Client     kubernetes.Interface
	Dynamic    dynamic.Interface
	Kubelet    *kubelet.Kubelet
	View       *cluster.View
	Mesh       *ztunnel.Proxy
	CA         *identity.CA

	opts    Options
	applier *applier
	close   []func() // in the order of their making

	box box
}

// Start brings a cluster up. The process must be inside a node's namespaces
// ([sandbox.Enter]), and there is one lab a process.
func Start(ctx context.Context, o Options) (*Lab, error) {
	l := &Lab{opts: o}
	if err := l.start(ctx); err != nil {
		l.Close()
		return nil, fmt.Errorf("lab: %w", err)
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context) error {
	for _, d := range []string{"logs", "box"} {
		if err := os.MkdirAll(filepath.Join(l.opts.Dir, d), 0o755); err != nil {
			return err
		}
	}
	begin := time.Now()
	done := func(what string) {
		l.opts.Log.Info(what, "after", time.Since(begin).Round(time.Millisecond))
	}
	if err := l.writeBoxFiles(); err != nil {
		return err
	}
	l.close = append(l.close, l.StopControlPlane)
	if err := l.StartControlPlane(ctx); err != nil {
		return err
	}
	done("the control plane serves")
	if err := l.connect(); err != nil {
		return err
	}
	live, cancel := context.WithCancel(context.Background())
	var err error
	if l.View, err = cluster.New(l.Client, l.Dynamic); err != nil {
		cancel()
		return err
	}
	l.close = append(l.close, func() { cancel(); l.View.Close() })
	if err := l.View.Start(live); err != nil {
		return err
	}
	if err := l.startNode(ctx); err != nil {
		return err
	}
	if err := l.publishAPI(ctx); err != nil {
		return err
	}
	done("the node runs")
	if len(l.opts.CRDs) == 0 {
		return nil
	}
	if err := l.applyCRDs(ctx, l.opts.CRDs); err != nil {
		return err
	}
	done("custom resources are established")
	return l.View.WatchGateways(live)
}

// Close ends everything, pods first.
func (l *Lab) Close() {
	for i := len(l.close) - 1; i >= 0; i-- {
		l.close[i]()
	}
	l.close = nil
}

func (l *Lab) startNode(ctx context.Context) error {
	var err error
	if l.CA, err = identity.NewCA(trustDomain); err != nil {
		return err
	}
	d, err := dns.Serve(l.View, sandbox.NodeIP+":53")
	if err != nil {
		return err
	}
	l.close = append(l.close, d.Close)
	s, err := svc.Serve(l.View, netip.MustParsePrefix(services))
	if err != nil {
		return err
	}
	l.close = append(l.close, s.Close)
	l.Mesh = ztunnel.New(l.View, l.CA, l.opts.Log.With("component", "ztunnel"))
	chain, key, err := l.issue("kube-system", "kubelet")
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return err
	}
	l.Kubelet = kubelet.New(kubelet.Config{
		Client: l.Client, Node: nodeName, Dir: l.opts.Dir, Certificate: pair,
		Attach: l.attach, CSI: map[string]kubelet.Volume{DriverSPIFFE: l.spiffeVolume},
		Log: l.opts.Log.With("component", "kubelet"),
	})
	// The echo application's own image holds a certificate of its project's tests.
	if chain, key, err = l.issue("default", "echo"); err != nil {
		return err
	}
	if err := writeFiles(l.opts.Dir, map[string][]byte{"echo.crt": chain, "echo.key": key}); err != nil {
		return err
	}
	l.setImages()
	if err := l.Kubelet.Start(ctx); err != nil {
		return err
	}
	l.close = append(l.close, l.Kubelet.Close)
	return nil
}

// attach is the CNI plugin.
func (l *Lab) attach(pod *corev1.Pod, n *sandbox.Net) (map[string]string, func(), error) {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	ns, err := l.Client.CoreV1().Namespaces().Get(ctx, pod.Namespace, metav1.GetOptions{})
	if err != nil {
		return nil, nil, err
	}
	if !cluster.Captured(pod, ns) {
		return nil, nil, nil
	}
	detach, err := l.Mesh.Attach(pod, n)
	if err != nil {
		return nil, nil, err
	}
	return map[string]string{cluster.Redirection: "enabled"}, detach, nil
}

// publishAPI makes the Service "kubernetes" reach the API server, whose own way of doing
// so asks for an address that is not loopback's.
func (l *Lab) publishAPI(ctx context.Context) error {
	name, port, tcp := "https", int32(apiPort), corev1.ProtocolTCP
	_, err := l.Client.DiscoveryV1().EndpointSlices("default").Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{sandbox.NodeIP}}},
	}, metav1.CreateOptions{})
	return err
}

// connect makes the clients.
func (l *Lab) connect() error {
	cfg, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig)
	if err != nil {
		return err
	}
	cfg.QPS, cfg.Burst = 500, 1000 // nothing here needs protection from itself
	cfg.WarningHandler = rest.NoWarnings{}
	l.Config = cfg
	if l.Client, err = kubernetes.NewForConfig(cfg); err != nil {
		return err
	}
	if l.Dynamic, err = dynamic.NewForConfig(cfg); err != nil {
		return err
	}
	l.applier, err = newApplier(cfg, l.Dynamic)
	return err
}

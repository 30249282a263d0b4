package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

const (
	// HBONE is the port of tunnels, of pods and of waypoints.
	HBONE = 15008

	labelUse   = "istio.io/use-waypoint"
	labelUseNS = "istio.io/use-waypoint-namespace"
	labelFor   = "istio.io/waypoint-for"
	labelMode  = "istio.io/dataplane-mode"
	// labelManaged is on everything that belongs to a waypoint.
	labelManaged = "gateway.istio.io/managed"
	labelGateway = "gateway.networking.k8s.io/gateway-name"

	byAddress = "address"
)

// Redirection is the annotation of a pod whose traffic the node proxy handles.
const Redirection = "ambient.istio.io/redirection"

var gateways = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gateways"}

// View answers questions about a cluster.
type View struct {
	// Fixed after New.
	factory    informers.SharedInformerFactory
	dynamic    dynamicinformer.DynamicSharedInformerFactory
	services   corelisters.ServiceLister
	namespaces corelisters.NamespaceLister
	slices     discoverylisters.EndpointSliceLister
	podIndex   cache.Indexer
	svcIndex   cache.Indexer
	gateways   cache.GenericLister
	ready      []cache.InformerSynced
}

// New returns a View that knows nothing until Start.
func New(client kubernetes.Interface, dyn dynamic.Interface) (*View, error) {
	f := informers.NewSharedInformerFactory(client, 0)
	d := dynamicinformer.NewDynamicSharedInformerFactory(dyn, 0)
	v := &View{
		factory: f, dynamic: d,
		services: f.Core().V1().Services().Lister(), namespaces: f.Core().V1().Namespaces().Lister(),
		slices: f.Discovery().V1().EndpointSlices().Lister(), gateways: d.ForResource(gateways).Lister(),
	}
	pods, svcs := f.Core().V1().Pods().Informer(), f.Core().V1().Services().Informer()
	v.podIndex, v.svcIndex = pods.GetIndexer(), svcs.GetIndexer()
	if err := pods.AddIndexers(cache.Indexers{byAddress: func(o any) ([]string, error) {
		p := o.(*corev1.Pod)
		if p.Status.PodIP == "" || p.Spec.HostNetwork {
			return nil, nil
		}
		return []string{p.Status.PodIP}, nil
	}}); err != nil {
		return nil, err
	}
	if err := svcs.AddIndexers(cache.Indexers{byAddress: func(o any) ([]string, error) {
		return o.(*corev1.Service).Spec.ClusterIPs, nil
	}}); err != nil {
		return nil, err
	}
	v.ready = []cache.InformerSynced{
		pods.HasSynced, svcs.HasSynced, f.Core().V1().Namespaces().Informer().HasSynced,
		f.Discovery().V1().EndpointSlices().Informer().HasSynced,
	}
	return v, nil
}

// Start begins to watch and returns when everything that exists is known. The Gateways
// come once their CRD exists.
func (v *View) Start(ctx context.Context) error {
	v.factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), v.ready...) {
		return errors.New("cluster: the watches do not start")
	}
	return nil
}

// WatchGateways is for when the Gateway API's CRDs are established.
func (v *View) WatchGateways(ctx context.Context) error {
	v.dynamic.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), v.dynamic.ForResource(gateways).Informer().HasSynced) {
		return errors.New("cluster: the watch of Gateways does not start")
	}
	return nil
}

// Close waits for the watches to end, after the context of Start did.
func (v *View) Close() {
	v.factory.Shutdown()
	v.dynamic.Shutdown()
}

// Service returns the Service with a cluster IP.
func (v *View) Service(ip netip.Addr) *corev1.Service {
	os, _ := v.svcIndex.ByIndex(byAddress, ip.String())
	if len(os) == 0 {
		return nil
	}
	return os[0].(*corev1.Service)
}

// ServiceNamed returns a Service by name.
func (v *View) ServiceNamed(namespace, name string) *corev1.Service {
	s, err := v.services.Services(namespace).Get(name)
	if err != nil {
		return nil
	}
	return s
}

// Pod returns the pod with an address that has not ended.
func (v *View) Pod(ip netip.Addr) *corev1.Pod {
	os, _ := v.podIndex.ByIndex(byAddress, ip.String())
	for _, o := range os {
		if p := o.(*corev1.Pod); p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			return p
		}
	}
	return nil
}

// Endpoint returns a ready endpoint of a Service's port, by chance; false if it has none.
func (v *View) Endpoint(svc *corev1.Service, port uint16) (netip.AddrPort, bool) {
	all := v.Endpoints(svc, port)
	if len(all) == 0 {
		return netip.AddrPort{}, false
	}
	return all[rand.IntN(len(all))], true
}

// Endpoints returns the ready endpoints of a Service's port.
func (v *View) Endpoints(svc *corev1.Service, port uint16) []netip.AddrPort {
	i := slices.IndexFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return uint16(p.Port) == port })
	if i < 0 {
		return nil
	}
	name := svc.Spec.Ports[i].Name
	list, _ := v.slices.EndpointSlices(svc.Namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: svc.Name}))
	var out []netip.AddrPort
	for _, s := range list {
		j := slices.IndexFunc(s.Ports, func(p discoveryv1.EndpointPort) bool { return p.Name != nil && *p.Name == name && p.Port != nil })
		if j < 0 {
			continue
		}
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, a := range e.Addresses {
				if ip, err := netip.ParseAddr(a); err == nil {
					out = append(out, netip.AddrPortFrom(ip, uint16(*s.Ports[j].Port)))
				}
			}
		}
	}
	return out
}

// Captured reports whether a pod's traffic is to be handled by the node proxy. It is asked
// once in a pod's life, so the namespace is not looked up in a view that may be behind.
func Captured(pod *corev1.Pod, ns *corev1.Namespace) bool {
	if pod.Spec.HostNetwork || pod.Labels[labelManaged] != "" || pod.Labels[labelGateway] != "" {
		return false
	}
	mode := pod.Labels[labelMode]
	if mode == "" {
		mode = ns.Labels[labelMode]
	}
	return mode == "ambient"
}

// Tunnelled reports whether HBONE reaches a pod.
func Tunnelled(pod *corev1.Pod) bool { return pod.Annotations[Redirection] == "enabled" }

// Waypoint of a Service or a pod.
type Waypoint struct {
	Namespace, Name string
	// Addr is a ready replica's.
	Addr netip.AddrPort
	// Account is its service account, for the identity that it must prove.
	Account string
}

// ErrNoWaypoint means that traffic must go through a waypoint that cannot be reached.
var ErrNoWaypoint = errors.New("the waypoint has no ready replica")

// ForService returns the waypoint of a Service, nil for none.
func (v *View) ForService(s *corev1.Service) (*Waypoint, error) {
	if s.Labels[labelManaged] != "" || s.Labels[labelGateway] != "" {
		return nil, nil
	}
	return v.waypoint(&s.ObjectMeta, "service")
}

// ForPod returns the waypoint of traffic to a pod's own address, nil for none.
func (v *View) ForPod(p *corev1.Pod) (*Waypoint, error) {
	if p.Labels[labelManaged] != "" || p.Labels[labelGateway] != "" {
		return nil, nil
	}
	return v.waypoint(&p.ObjectMeta, "workload")
}

func (v *View) waypoint(m *metav1.ObjectMeta, kind string) (*Waypoint, error) {
	from := m.Labels
	if from[labelUse] == "" {
		ns, err := v.namespaces.Get(m.Namespace)
		if err != nil {
			return nil, nil
		}
		from = ns.Labels
	}
	name, namespace := from[labelUse], from[labelUseNS]
	if name == "" || name == "none" {
		return nil, nil
	}
	if namespace == "" {
		namespace = m.Namespace
	}
	o, err := v.gateways.ByNamespace(namespace).Get(name)
	if err != nil {
		return nil, nil // ztunnel goes past a waypoint that does not exist
	}
	gw := o.(*unstructured.Unstructured)
	switch f := gw.GetLabels()[labelFor]; f {
	case kind, "all":
	case "":
		if kind != "service" {
			return nil, nil
		}
	default:
		return nil, nil
	}
	svc := v.addressOf(gw)
	if svc == nil {
		return nil, fmt.Errorf("Gateway %s/%s: %w", namespace, name, ErrNoWaypoint)
	}
	addr, ok := v.Endpoint(svc, HBONE)
	if !ok {
		return nil, fmt.Errorf("Gateway %s/%s: %w", namespace, name, ErrNoWaypoint)
	}
	w := &Waypoint{Namespace: namespace, Name: name, Addr: addr, Account: name}
	if p := v.Pod(addr.Addr()); p != nil && p.Spec.ServiceAccountName != "" {
		w.Account = p.Spec.ServiceAccountName
	}
	return w, nil
}

// addressOf finds the Service of a Gateway by the first address of its status.
func (v *View) addressOf(gw *unstructured.Unstructured) *corev1.Service {
	list, _, _ := unstructured.NestedSlice(gw.Object, "status", "addresses")
	for _, a := range list {
		m, ok := a.(map[string]any)
		if !ok {
			continue
		}
		value, _ := m["value"].(string)
		if ip, err := netip.ParseAddr(value); err == nil {
			return v.Service(ip)
		}
		if p := strings.SplitN(value, ".", 3); len(p) == 3 {
			return v.ServiceNamed(p[1], p[0])
		}
	}
	return nil
}

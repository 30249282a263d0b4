package kube

import (
	"net/netip"
	"reflect"
	"strings"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
)

// workload is a pod or WorkloadEntry with what only this package needs of it.
type workload struct {
	*config.Workload
	obj   *Object
	ports map[string]uint32 // named ports
	entry *WorkloadEntry    // nil for pods
}

// collectWorkloads reads pods and WorkloadEntries.
func (r *build) collectWorkloads() {
	pods := r.objs.All("", "Pod")
	for _, o := range pods {
		r.mark(o)
	}
	for _, o := range pods {
		if w := r.podWorkload(o); w != nil {
			r.addWorkload(w)
		}
	}
	r.podCount = len(r.list)
	for _, o := range r.objs.All(groupNet, "WorkloadEntry") {
		w := r.entryWorkload(o, o.Body.(*WorkloadEntry), "WorkloadEntry", o.Name)
		r.complete(w)
		r.addWorkload(w)
	}
}

// mark notes a pod that the CNI plugin marked.
func (r *build) mark(o *Object) {
	if o.Meta.Annotations[annRedirection] != "enabled" {
		return
	}
	if r.annotated[o.Namespace] == nil {
		r.annotated[o.Namespace] = map[string]bool{}
	}
	r.annotated[o.Namespace][o.Name] = true
}

// podWorkload makes the workload of a pod; nil for one that has ended.
func (r *build) podWorkload(o *Object) *workload {
	p := o.Body.(*Pod)
	if p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" {
		return nil
	}
	w := &workload{obj: o}
	for _, c := range p.Spec.Containers {
		for _, x := range c.Ports {
			if x.Name != "" {
				if w.ports == nil {
					w.ports = map[string]uint32{}
				}
				w.ports[x.Name] = uint32(x.ContainerPort)
			}
		}
	}
	sa := p.Spec.ServiceAccountName
	if sa == "" {
		sa = "default" // the API server's default
	}
	var addrs []netip.Addr
	for _, s := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(s.IP); err == nil {
			addrs = append(addrs, a)
		}
	}
	if a, err := netip.ParseAddr(p.Status.PodIP); err == nil && len(addrs) == 0 {
		addrs = append(addrs, a)
	}
	name, typ := owner(o)
	w.Workload = &config.Workload{
		UID:  r.mesh.ClusterID + "//Pod/" + o.Namespace + "/" + o.Name,
		Name: o.Name, Namespace: o.Namespace, Addrs: addrs, ServiceAccount: sa,
		WorkloadName: name, WorkloadType: typ, Node: p.Spec.NodeName,
		Tunnel: r.captured(o, p.Spec.HostNetwork), Labels: o.Meta.Labels,
		Locality: r.nodeLocality(p.Spec.NodeName), Healthy: p.ready(),
	}
	if p.Spec.HostNetwork {
		// Its address is the node's and names no workload.
		w.Addrs = nil
	}
	r.complete(w)
	return w
}

func (p *Pod) ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return p.Status.Phase == "" || p.Status.Phase == "Running"
}

// entryWorkload makes the workload of a WorkloadEntry, or of one written inside a
// ServiceEntry.
func (r *build) entryWorkload(o *Object, e *WorkloadEntry, kind, name string) *workload {
	labels := map[string]string{}
	for _, m := range []map[string]string{o.Meta.Labels, e.Labels} {
		for k, v := range m {
			labels[k] = v
		}
	}
	w := &workload{obj: o, entry: e, ports: e.Ports, Workload: &config.Workload{
		UID:  r.mesh.ClusterID + "/" + groupNet + "/" + kind + "/" + o.Namespace + "/" + name,
		Name: name, Namespace: o.Namespace, WorkloadName: name, WorkloadType: "pod",
		ServiceAccount: e.ServiceAccount, Network: e.Network, Labels: labels, Healthy: true,
		Tunnel: kind == "WorkloadEntry" && r.captured(o, false), Locality: parseLocality(e.Locality),
	}}
	if e.ServiceAccount == "" && kind == "WorkloadEntry" {
		w.ServiceAccount = "default"
	}
	if w.Network == "" {
		w.Network = labels["topology.istio.io/network"]
	}
	if a, err := netip.ParseAddr(e.Address); err == nil {
		w.Addrs = []netip.Addr{a}
	}
	return w
}

// complete adds what the mesh says of every workload.
func (r *build) complete(w *workload) {
	w.TrustDomain, w.ClusterID = r.mesh.TrustDomain, r.mesh.ClusterID
	if w.Network == "" {
		w.Network = r.mesh.Network
	}
	w.CanonicalName, w.CanonicalRevision = canonical(w.Labels, w.WorkloadName)
}

func (r *build) addWorkload(w *workload) {
	if old := r.former.workloads[w.UID]; old != nil && reflect.DeepEqual(old, w.Workload) {
		w.Workload = old
	}
	r.list = append(r.list, w)
	if w.entry == nil {
		r.pods[w.Namespace+"/"+w.Name] = w
	}
	for _, a := range w.Addrs {
		if s := a.String(); r.byIP[s] == nil {
			r.byIP[s] = w
		} else {
			r.shared = true
		}
	}
}

// canonical returns the service name and revision that Istio shows.
func canonical(labels map[string]string, name string) (string, string) {
	for _, k := range []string{"service.istio.io/canonical-name", "app.kubernetes.io/name", "app"} {
		if v := labels[k]; v != "" {
			name = v
			break
		}
	}
	for _, k := range []string{"service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"} {
		if v := labels[k]; v != "" {
			return name, v
		}
	}
	return name, "latest"
}

// owner returns the name and kind of what made a pod: of a ReplicaSet with a pod
// template hash, its Deployment.
func owner(o *Object) (name, typ string) {
	for _, ref := range o.Meta.OwnerReferences {
		if ref.Controller == nil || !*ref.Controller {
			continue
		}
		switch ref.Kind {
		case "ReplicaSet":
			if h := o.Meta.Labels["pod-template-hash"]; h != "" {
				if d, ok := strings.CutSuffix(ref.Name, "-"+h); ok {
					return d, "deployment"
				}
			}
		case "Job":
			return ref.Name, "job"
		case "DaemonSet", "StatefulSet", "ReplicationController":
			// Istio knows these as pods by their owner's name.
		default:
			continue
		}
		return ref.Name, "pod"
	}
	return o.Name, "pod"
}

const (
	annRedirection = "ambient.istio.io/redirection"
	annSidecar     = "sidecar.istio.io/status"
	labelTunnel    = "networking.istio.io/tunnel"
)

// captured reports whether HBONE reaches a workload on port 15008. The CNI plugin
// marks a captured pod with an annotation. Hand-written manifests have none: where
// no pod of a namespace is marked, the labels that make the plugin capture decide.
func (r *build) captured(o *Object, hostNetwork bool) bool {
	m := &o.Meta
	switch {
	case hostNetwork:
		return false
	case m.Annotations[annRedirection] == "enabled",
		m.Labels[labelTunnel] == "http", m.Annotations[labelTunnel] == "http":
		return true
	case o.Kind != "Pod", len(r.annotated[o.Namespace]) > 0, m.Annotations[annRedirection] != "":
		return false
	case m.Annotations[annSidecar] != "", m.Labels["sidecar.istio.io/inject"] == "true":
		return false
	}
	if mode := m.Labels[labelMode]; mode != "" {
		return mode == "ambient"
	}
	ns := r.namespaces[o.Namespace]
	return ns != nil && ns.Meta.Labels[labelMode] == "ambient"
}

func (r *build) nodeLocality(node string) balance.Locality {
	o := r.nodes[node]
	if o == nil {
		return balance.Locality{}
	}
	first := func(keys ...string) string {
		for _, k := range keys {
			if v := o.Meta.Labels[k]; v != "" {
				return v
			}
		}
		return ""
	}
	return balance.Locality{
		Region:  first("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
		Zone:    first("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
		Subzone: first("topology.istio.io/subzone"),
	}
}

func parseLocality(s string) balance.Locality {
	p := strings.SplitN(s+"//", "/", 4)
	return balance.Locality{Region: p[0], Zone: p[1], Subzone: p[2]}
}

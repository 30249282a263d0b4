package provision

import (
	"encoding/json"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/watch"
)

// childKinds are the kinds of what is made.
var childKinds = []watch.Kind{
	{Version: "v1", Kind: "ServiceAccount", Resource: "serviceaccounts"},
	{Version: "v1", Kind: "ConfigMap", Resource: "configmaps"},
	{Version: "v1", Kind: "Service", Resource: "services"},
	{Group: "apps", Version: "v1", Kind: "Deployment", Resource: "deployments"},
	{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler", Resource: "horizontalpodautoscalers"},
	{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget", Resource: "poddisruptionbudgets"},
}

func childKind(kind string) watch.Kind {
	for _, k := range childKinds {
		if k.Kind == kind {
			return k
		}
	}
	panic("provision: nothing of kind " + kind + " is made")
}

// child is one object that carries our labels.
type child struct {
	kind    watch.Kind
	key     kube.Key
	gateway string // name by its label
	uid     types.UID
	owner   string // uid of the Gateway that owns it, empty if none does
	sum     uint64

	available int32     // of a Deployment
	addresses []address // of a Service
	tunnels   bool      // a Service with the port of HBONE
}

func newChild(k watch.Kind, it *watch.Item) *child {
	var o struct {
		Metadata struct {
			Labels          map[string]string `json:"labels"`
			OwnerReferences []struct {
				Kind       string `json:"kind"`
				UID        string `json:"uid"`
				Controller bool   `json:"controller"`
			} `json:"ownerReferences"`
		} `json:"metadata"`
		Spec struct {
			ClusterIP  string   `json:"clusterIP"`
			ClusterIPs []string `json:"clusterIPs"`
			Ports      []struct {
				Port int32 `json:"port"`
			} `json:"ports"`
		} `json:"spec"`
	}
	c := &child{kind: k, key: it.Key, uid: types.UID(it.UID), sum: it.Sum()}
	if json.Unmarshal(it.JSON, &o) != nil {
		return c
	}
	c.gateway = o.Metadata.Labels[labelGateway]
	for _, r := range o.Metadata.OwnerReferences {
		if r.Controller && r.Kind == "Gateway" {
			c.owner = r.UID
		}
	}
	switch k.Kind {
	case "Deployment":
		var st struct {
			AvailableReplicas int32 `json:"availableReplicas"`
		}
		if json.Unmarshal(it.Status, &st) == nil {
			c.available = st.AvailableReplicas
		}
	case "Service":
		ips := o.Spec.ClusterIPs
		if len(ips) == 0 && o.Spec.ClusterIP != "" {
			ips = []string{o.Spec.ClusterIP}
		}
		for _, p := range o.Spec.Ports {
			c.tunnels = c.tunnels || p.Port == hbonePort
		}
		for _, ip := range ips {
			if ip != "None" {
				c.addresses = append(c.addresses, address{"IPAddress", ip})
			}
		}
		if len(c.addresses) == 0 && len(ips) > 0 { // headless: its name is all it has
			c.addresses = []address{{"Hostname", ""}}
		}
	}
	return c
}

// childSink files what carries our labels.
type childSink struct {
	r      *Reconciler
	kind   watch.Kind
	synced chan<- struct{}
}

func (s *childSink) Put(it *watch.Item, _ bool) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.put(it)
}

func (s *childSink) put(it *watch.Item) {
	c := newChild(s.kind, it)
	s.r.children[it.Key] = c
	s.r.wake(name{it.Key.Namespace, c.gateway})
}

func (s *childSink) Delete(k kube.Key) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.drop(k)
}

func (s *childSink) drop(k kube.Key) {
	if c := s.r.children[k]; c != nil {
		delete(s.r.children, k)
		s.r.wake(name{k.Namespace, c.gateway})
	}
}

func (s *childSink) Replace(group, kind string, items []*watch.Item) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	have := map[kube.Key]bool{}
	for _, it := range items {
		have[it.Key] = true
		s.put(it)
	}
	for _, k := range slices.Collect(maps.Keys(s.r.children)) {
		if k.Group == group && k.Kind == kind && !have[k] {
			s.drop(k)
		}
	}
}

func (s *childSink) Synced() { s.synced <- struct{}{} }

// putService keeps the Service of a waypoint that others run; mu is held.
func (r *Reconciler) putService(it *watch.Item) {
	n := name{it.Key.Namespace, it.Key.Name}
	c := newChild(watch.Kind{Version: "v1", Kind: "Service", Resource: "services"}, it)
	if !c.tunnels {
		r.dropService(n)
		return
	}
	r.services[n] = c
	r.wake(n)
}

func (r *Reconciler) dropService(n name) {
	if r.services[n] != nil {
		delete(r.services, n)
		r.wake(n)
	}
}

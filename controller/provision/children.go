package provision

import (
	"encoding/json"

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
	owner   string // uid of the Gateway that owns it, empty if none does
	sum     uint64

	available int32     // of a Deployment
	addresses []address // of a Service
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
		} `json:"spec"`
	}
	c := &child{kind: k, key: it.Key, sum: it.Sum()}
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

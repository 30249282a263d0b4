package watch

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// The types below hold the fields of core kinds that package kube reads, by the
// names that the API gives them.

type keptService struct {
	ClusterIP           string               `json:"clusterIP,omitempty"`
	ClusterIPs          []string             `json:"clusterIPs,omitempty"`
	Selector            map[string]string    `json:"selector,omitempty"`
	Type                string               `json:"type,omitempty"`
	TrafficDistribution *string              `json:"trafficDistribution,omitempty"`
	Ports               []corev1.ServicePort `json:"ports,omitempty"`
	PublishNotReady     bool                 `json:"publishNotReadyAddresses,omitempty"`
}

func serviceSpec(s *corev1.ServiceSpec) *keptService {
	return &keptService{
		ClusterIP: s.ClusterIP, ClusterIPs: s.ClusterIPs, Selector: s.Selector, Type: string(s.Type),
		TrafficDistribution: s.TrafficDistribution, Ports: s.Ports, PublishNotReady: s.PublishNotReadyAddresses,
	}
}

type keptPod struct {
	ServiceAccountName string          `json:"serviceAccountName,omitempty"`
	NodeName           string          `json:"nodeName,omitempty"`
	HostNetwork        bool            `json:"hostNetwork,omitempty"`
	Containers         []keptContainer `json:"containers,omitempty"`
}

type keptContainer struct {
	Ports []keptPort `json:"ports,omitempty"`
}

type keptPort struct {
	Name          string `json:"name,omitempty"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol,omitempty"`
}

// podSpec keeps the named ports: a number needs no container to stand for.
func podSpec(s *corev1.PodSpec) *keptPod {
	out := &keptPod{ServiceAccountName: s.ServiceAccountName, NodeName: s.NodeName, HostNetwork: s.HostNetwork}
	add := func(c *corev1.Container) {
		var ports []keptPort
		for _, p := range c.Ports {
			if p.Name != "" {
				ports = append(ports, keptPort{p.Name, p.ContainerPort, string(p.Protocol)})
			}
		}
		if len(ports) > 0 {
			out.Containers = append(out.Containers, keptContainer{ports})
		}
	}
	for i := range s.Containers {
		add(&s.Containers[i])
	}
	return out
}

type keptPodStatus struct {
	Phase      string          `json:"phase,omitempty"`
	PodIP      string          `json:"podIP,omitempty"`
	PodIPs     []corev1.PodIP  `json:"podIPs,omitempty"`
	Conditions []keptCondition `json:"conditions,omitempty"`
}

type keptCondition struct {
	Type   string `json:"type"`
	Status string `json:"status"`
}

// podStatus keeps the condition Ready, the only one that is read.
func podStatus(s *corev1.PodStatus) *keptPodStatus {
	out := &keptPodStatus{Phase: string(s.Phase), PodIP: s.PodIP, PodIPs: s.PodIPs}
	for _, c := range s.Conditions {
		if c.Type == corev1.PodReady {
			out.Conditions = append(out.Conditions, keptCondition{string(c.Type), string(c.Status)})
		}
	}
	return out
}

type keptSlicePort struct {
	Name     *string `json:"name,omitempty"`
	Port     *int32  `json:"port,omitempty"`
	Protocol string  `json:"protocol,omitempty"`
}

func slicePorts(ps []discoveryv1.EndpointPort) []keptSlicePort {
	out := make([]keptSlicePort, 0, len(ps))
	for _, p := range ps {
		q := keptSlicePort{Name: p.Name, Port: p.Port}
		if p.Protocol != nil {
			q.Protocol = string(*p.Protocol)
		}
		out = append(out, q)
	}
	return out
}

type keptEndpoint struct {
	Addresses  []string `json:"addresses"`
	Conditions struct {
		Ready       *bool `json:"ready,omitempty"`
		Serving     *bool `json:"serving,omitempty"`
		Terminating *bool `json:"terminating,omitempty"`
	} `json:"conditions"`
	NodeName  string      `json:"nodeName,omitempty"`
	Zone      string      `json:"zone,omitempty"`
	TargetRef *keptTarget `json:"targetRef,omitempty"`
}

type keptTarget struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}

func sliceEndpoints(es []discoveryv1.Endpoint) []keptEndpoint {
	out := make([]keptEndpoint, 0, len(es))
	for i := range es {
		e := &es[i]
		k := keptEndpoint{Addresses: e.Addresses}
		k.Conditions.Ready, k.Conditions.Serving, k.Conditions.Terminating = e.Conditions.Ready, e.Conditions.Serving, e.Conditions.Terminating
		if e.NodeName != nil {
			k.NodeName = *e.NodeName
		}
		if e.Zone != nil {
			k.Zone = *e.Zone
		}
		if t := e.TargetRef; t != nil {
			k.TargetRef = &keptTarget{t.Kind, t.Name, t.Namespace}
		}
		out = append(out, k)
	}
	return out
}

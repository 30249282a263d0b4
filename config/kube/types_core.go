package kube

import (
	"encoding/json"
	"net/netip"
	"strconv"
)

// Empty is a kind of which only the metadata is read.
type Empty struct{}

// Service is the part of a Kubernetes Service that is read.
type Service struct {
	Spec struct {
		ClusterIP           string            `json:"clusterIP,omitempty"`
		ClusterIPs          []string          `json:"clusterIPs,omitempty"`
		Selector            map[string]string `json:"selector,omitempty"`
		Type                string            `json:"type,omitempty"`
		TrafficDistribution string            `json:"trafficDistribution,omitempty"`
		Ports               []ServicePort     `json:"ports,omitempty"`
		PublishNotReady     bool              `json:"publishNotReadyAddresses,omitempty"`
	} `json:"spec,omitempty,omitzero"`
}

// ServicePort is one port of a Service.
type ServicePort struct {
	Name        string    `json:"name,omitempty"`
	Port        int32     `json:"port,omitempty"`
	Protocol    string    `json:"protocol,omitempty"`
	AppProtocol string    `json:"appProtocol,omitempty"`
	TargetPort  IntString `json:"targetPort,omitempty"`
}

// IntString is a port number or name.
type IntString string

// UnmarshalJSON accepts a number and a string.
func (s *IntString) UnmarshalJSON(b []byte) error {
	var n int64
	if json.Unmarshal(b, &n) == nil {
		*s = IntString(strconv.FormatInt(n, 10))
		return nil
	}
	return json.Unmarshal(b, (*string)(s))
}

func decodeService(raw []byte) (any, error) {
	v, err := lenient[Service](raw)
	if err != nil {
		return nil, err
	}
	s := v.(*Service)
	var r report
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.Protocol == "" {
			p.Protocol = "TCP"
		}
		if p.TargetPort == "" || p.TargetPort == "0" {
			p.TargetPort = IntString(strconv.Itoa(int(p.Port)))
		}
		at := "spec.ports[" + strconv.Itoa(i) + "]"
		if p.Port < 1 || p.Port > 65535 {
			r.addf(at+".port", "%d is not between 1 and 65535", p.Port)
		}
		if p.Name == "" && len(s.Spec.Ports) > 1 {
			r.addf(at+".name", "required with several ports")
		}
	}
	seen := map[string]int{}
	for i, p := range s.Spec.Ports {
		number, name := p.Protocol+" port "+strconv.Itoa(int(p.Port)), "name "+p.Name
		for _, k := range []string{number, name} {
			if j, twice := seen[k]; twice && k != "name " {
				r.addf("spec.ports["+strconv.Itoa(i)+"]", "%s is that of spec.ports[%d] too", k, j)
			}
			seen[k] = i
		}
	}
	for i, ip := range s.Spec.ClusterIPs {
		if !isClusterIP(ip) {
			r.addf("spec.clusterIPs["+strconv.Itoa(i)+"]", "%q is no IP address and not None", ip)
		}
	}
	if !isClusterIP(s.Spec.ClusterIP) {
		r.addf("spec.clusterIP", "%q is no IP address and not None", s.Spec.ClusterIP)
	}
	if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP != "" {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	return s, r.err()
}

// isClusterIP reports whether a Service can have that address, or have none by it.
func isClusterIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil || s == "" || s == "None"
}

// Pod is the part of a Pod that is read.
type Pod struct {
	Spec struct {
		ServiceAccountName string `json:"serviceAccountName,omitempty"`
		NodeName           string `json:"nodeName,omitempty"`
		HostNetwork        bool   `json:"hostNetwork,omitempty"`
		Containers         []struct {
			Ports []struct {
				Name          string `json:"name,omitempty"`
				ContainerPort int32  `json:"containerPort,omitempty"`
				Protocol      string `json:"protocol,omitempty"`
			} `json:"ports,omitempty,omitzero"`
		} `json:"containers,omitempty,omitzero"`
	} `json:"spec,omitempty,omitzero"`
	Status struct {
		Phase  string `json:"phase,omitempty"`
		PodIP  string `json:"podIP,omitempty"`
		PodIPs []struct {
			IP string `json:"ip,omitempty"`
		} `json:"podIPs,omitempty,omitzero"`
		Conditions []struct {
			Type   string `json:"type,omitempty"`
			Status string `json:"status,omitempty"`
		} `json:"conditions,omitempty,omitzero"`
	} `json:"status,omitempty,omitzero"`
}

// EndpointSlice is the part of an EndpointSlice that is read.
type EndpointSlice struct {
	AddressType string `json:"addressType,omitempty"`
	Ports       []struct {
		Name     *string `json:"name,omitempty"`
		Port     *int32  `json:"port,omitempty"`
		Protocol string  `json:"protocol,omitempty"`
	} `json:"ports,omitempty,omitzero"`
	Endpoints []SliceEndpoint `json:"endpoints,omitempty"`
}

// SliceEndpoint is one endpoint of an EndpointSlice.
type SliceEndpoint struct {
	Addresses  []string `json:"addresses,omitempty"`
	Conditions struct {
		Ready       *bool `json:"ready,omitempty"`
		Serving     *bool `json:"serving,omitempty"`
		Terminating *bool `json:"terminating,omitempty"`
	} `json:"conditions,omitempty,omitzero"`
	NodeName  string `json:"nodeName,omitempty"`
	Zone      string `json:"zone,omitempty"`
	TargetRef *struct {
		Kind      string `json:"kind,omitempty"`
		Name      string `json:"name,omitempty"`
		Namespace string `json:"namespace,omitempty"`
	} `json:"targetRef,omitempty,omitzero"`
}

// GatewayClass is the part of a GatewayClass that is read.
type GatewayClass struct {
	Spec struct {
		ControllerName string `json:"controllerName,omitempty"`
	} `json:"spec,omitempty,omitzero"`
}

// Gateway is the part of a Gateway that is read.
type Gateway struct {
	Spec struct {
		GatewayClassName string     `json:"gatewayClassName,omitempty"`
		Listeners        []Listener `json:"listeners,omitempty"`
		Addresses        []Address  `json:"addresses,omitempty"`
	} `json:"spec,omitempty,omitzero"`
	Status struct {
		Addresses []Address `json:"addresses,omitempty"`
	} `json:"status,omitempty,omitzero"`
}

// Address is one address of a Gateway.
type Address struct {
	Type  string `json:"type,omitempty"`
	Value string `json:"value,omitempty"`
}

// Listener is one listener of a Gateway.
type Listener struct {
	Name          string `json:"name,omitempty"`
	Port          int32  `json:"port,omitempty"`
	Protocol      string `json:"protocol,omitempty"`
	AllowedRoutes *struct {
		Namespaces *struct {
			From     string         `json:"from,omitempty"`
			Selector *LabelSelector `json:"selector,omitempty"`
		} `json:"namespaces,omitempty,omitzero"`
	} `json:"allowedRoutes,omitempty,omitzero"`
}

// LabelSelector selects objects by label.
type LabelSelector struct {
	MatchLabels      map[string]string `json:"matchLabels,omitempty"`
	MatchExpressions []struct {
		Key      string   `json:"key,omitempty"`
		Operator string   `json:"operator,omitempty"`
		Values   []string `json:"values,omitempty"`
	} `json:"matchExpressions,omitempty,omitzero"`
}

// matches reports whether the labels are selected. A nil selector selects nothing,
// an empty one everything, an unknown operator nothing.
func (s *LabelSelector) matches(labels map[string]string) bool {
	if s == nil || !subset(s.MatchLabels, labels) {
		return false
	}
	for _, e := range s.MatchExpressions {
		v, has := labels[e.Key]
		in := false
		for _, x := range e.Values {
			in = in || has && x == v
		}
		ok := false
		switch e.Operator {
		case "In":
			ok = in
		case "NotIn":
			ok = !in
		case "Exists":
			ok = has
		case "DoesNotExist":
			ok = !has
		}
		if !ok {
			return false
		}
	}
	return true
}

// subset reports whether labels has every pair of want.
func subset(want, labels map[string]string) bool {
	for k, v := range want {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

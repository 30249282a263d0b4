package kube

import (
	"encoding/json"
	"strconv"
)

// Empty is a kind of which only the metadata is read.
type Empty struct{}

// Service is the part of a Kubernetes Service that is read.
type Service struct {
	Spec struct {
		ClusterIP           string            `json:"clusterIP"`
		ClusterIPs          []string          `json:"clusterIPs"`
		Selector            map[string]string `json:"selector"`
		Type                string            `json:"type"`
		TrafficDistribution string            `json:"trafficDistribution"`
		Ports               []ServicePort     `json:"ports"`
		PublishNotReady     bool              `json:"publishNotReadyAddresses"`
	} `json:"spec"`
}

// ServicePort is one port of a Service.
type ServicePort struct {
	Name        string    `json:"name"`
	Port        int32     `json:"port"`
	Protocol    string    `json:"protocol"`
	AppProtocol string    `json:"appProtocol"`
	TargetPort  IntString `json:"targetPort"`
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
	if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP != "" {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	return s, r.err()
}

// Pod is the part of a Pod that is read.
type Pod struct {
	Spec struct {
		ServiceAccountName string `json:"serviceAccountName"`
		NodeName           string `json:"nodeName"`
		HostNetwork        bool   `json:"hostNetwork"`
		Containers         []struct {
			Ports []struct {
				Name          string `json:"name"`
				ContainerPort int32  `json:"containerPort"`
				Protocol      string `json:"protocol"`
			} `json:"ports"`
		} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase  string `json:"phase"`
		PodIP  string `json:"podIP"`
		PodIPs []struct {
			IP string `json:"ip"`
		} `json:"podIPs"`
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"status"`
}

// EndpointSlice is the part of an EndpointSlice that is read.
type EndpointSlice struct {
	AddressType string `json:"addressType"`
	Ports       []struct {
		Name     *string `json:"name"`
		Port     *int32  `json:"port"`
		Protocol string  `json:"protocol"`
	} `json:"ports"`
	Endpoints []SliceEndpoint `json:"endpoints"`
}

// SliceEndpoint is one endpoint of an EndpointSlice.
type SliceEndpoint struct {
	Addresses  []string `json:"addresses"`
	Conditions struct {
		Ready       *bool `json:"ready"`
		Serving     *bool `json:"serving"`
		Terminating *bool `json:"terminating"`
	} `json:"conditions"`
	NodeName  string `json:"nodeName"`
	Zone      string `json:"zone"`
	TargetRef *struct {
		Kind      string `json:"kind"`
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"targetRef"`
}

// GatewayClass is the part of a GatewayClass that is read.
type GatewayClass struct {
	Spec struct {
		ControllerName string `json:"controllerName"`
	} `json:"spec"`
}

// Gateway is the part of a Gateway that is read.
type Gateway struct {
	Spec struct {
		GatewayClassName string     `json:"gatewayClassName"`
		Listeners        []Listener `json:"listeners"`
		Addresses        []Address  `json:"addresses"`
	} `json:"spec"`
	Status struct {
		Addresses []Address `json:"addresses"`
	} `json:"status"`
}

// Address is one address of a Gateway.
type Address struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// Listener is one listener of a Gateway.
type Listener struct {
	Name          string `json:"name"`
	Port          int32  `json:"port"`
	Protocol      string `json:"protocol"`
	AllowedRoutes *struct {
		Namespaces *struct {
			From     string         `json:"from"`
			Selector *LabelSelector `json:"selector"`
		} `json:"namespaces"`
	} `json:"allowedRoutes"`
}

// LabelSelector selects objects by label.
type LabelSelector struct {
	MatchLabels      map[string]string `json:"matchLabels"`
	MatchExpressions []struct {
		Key      string   `json:"key"`
		Operator string   `json:"operator"`
		Values   []string `json:"values"`
	} `json:"matchExpressions"`
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

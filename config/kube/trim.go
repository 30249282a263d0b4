package kube

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Trim returns an object's JSON without what this package never reads, so that a
// cluster's objects stay small in a feed: of core kinds and Gateways only the fields
// that are read, of routes and policies everything that their strict decoding
// judges. Of metadata neither managedFields, which are most of an object, nor the
// resourceVersion stay: objects whose trimmed form is equal are equal here.
// ok is false for kinds that a waypoint does not read, Secrets among them.
func Trim(raw []byte) (out []byte, ok bool, err error) {
	var head trimmedHead
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, false, err
	}
	group, _ := splitAPIVersion(head.APIVersion)
	k := groupKind{group, head.Kind}
	f, ok := trims[k]
	if info := kinds[k]; !ok && info != nil && info.decode != nil && k != (groupKind{"", "ServiceAccount"}) {
		f, ok = trimSpec, true
	}
	if !ok || k == (groupKind{"", "ConfigMap"}) && head.Metadata.Name != "istio" {
		return nil, false, nil
	}
	head.Metadata.trim()
	if out, err = f(raw, &head); err != nil {
		return nil, false, fmt.Errorf("%s %s/%s: %w", head.Kind, head.Metadata.Namespace, head.Metadata.Name, err)
	}
	return out, true, nil
}

// trimmedHead is what stays of an object beside its body.
type trimmedHead struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	Metadata   trimmedMeta `json:"metadata"`
}

// trimmedMeta is what stays of metadata.
type trimmedMeta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace,omitempty"`
	Generation        int64             `json:"generation,omitempty"`
	CreationTimestamp string            `json:"creationTimestamp,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
	OwnerReferences   []trimmedOwner    `json:"ownerReferences,omitempty"`
}

type trimmedOwner struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Controller *bool  `json:"controller,omitempty"`
}

// trim drops annotations that nothing reads. The sidecar's state is long, and only
// read for being there.
func (m *trimmedMeta) trim() {
	for k := range m.Annotations {
		switch {
		case k == annSidecar:
			m.Annotations[k] = "{}"
		case !strings.Contains(k, "istio.io/") && !strings.Contains(k, "waypoint.dev/"):
			delete(m.Annotations, k)
		}
	}
}

// trims are the kinds of which only the fields that are read stay. Generation and
// owner go where they change nothing.
var trims = map[groupKind]func(raw []byte, head *trimmedHead) ([]byte, error){
	{"", "Namespace"}: trimCore(func(m *trimmedMeta, _ *Empty) { m.plain() }),
	{"", "Node"}: trimCore(func(m *trimmedMeta, _ *Empty) {
		m.plain()
		m.Annotations = nil
		for k := range m.Labels {
			if !strings.HasPrefix(k, "topology.") && !strings.HasPrefix(k, "failure-domain.") {
				delete(m.Labels, k)
			}
		}
	}),
	{"", "Service"}: trimCore(func(m *trimmedMeta, _ *Service) { m.plain() }),
	{"", "Pod"}: trimCore(func(m *trimmedMeta, p *Pod) {
		m.Generation = 0
		p.trim()
	}),
	{"discovery.k8s.io", "EndpointSlice"}: trimCore(func(m *trimmedMeta, _ *EndpointSlice) {
		m.plain()
		m.Annotations = nil
		const owner = "kubernetes.io/service-name" // the others are copies of the Service's
		m.Labels = map[string]string{owner: m.Labels[owner]}
	}),
	{groupGateway, "GatewayClass"}: trimCore(func(m *trimmedMeta, _ *GatewayClass) { m.plain() }),
	{groupGateway, "Gateway"}: trimCore(func(m *trimmedMeta, g *Gateway) {
		m.OwnerReferences = nil
		g.Spec.Addresses, g.Status.Addresses = nil, nil
	}),
	{"", "ConfigMap"}: trimCore(func(m *trimmedMeta, c *meshMap) {
		m.plain()
		for k := range c.Data {
			if k != "mesh" {
				delete(c.Data, k)
			}
		}
	}),
}

// meshMap is the ConfigMap of the mesh configuration.
type meshMap struct {
	Data map[string]string `json:"data,omitempty"`
}

// plain leaves name, creation, labels and annotations.
func (m *trimmedMeta) plain() { m.Generation, m.OwnerReferences = 0, nil }

// trim leaves named ports and readiness.
func (p *Pod) trim() {
	var named = p.Spec.Containers[:0]
	for _, c := range p.Spec.Containers {
		ports := c.Ports[:0]
		for _, x := range c.Ports {
			if x.Protocol = ""; x.Name != "" {
				ports = append(ports, x)
			}
		}
		if c.Ports = ports; len(ports) > 0 {
			named = append(named, c)
		}
	}
	p.Spec.Containers = named
	ready := p.Status.Conditions[:0]
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			ready = append(ready, c)
		}
	}
	if p.Status.Conditions = ready; len(p.Status.PodIPs) > 0 {
		p.Status.PodIP = ""
	}
}

// trimCore keeps the fields of T, less what prune takes away.
func trimCore[T any](prune func(*trimmedMeta, *T)) func([]byte, *trimmedHead) ([]byte, error) {
	return func(raw []byte, head *trimmedHead) ([]byte, error) {
		var body T
		if err := json.Unmarshal(raw, &body); err != nil {
			return nil, err
		}
		prune(&head.Metadata, &body)
		out, err := json.Marshal(head)
		if err != nil {
			return nil, err
		}
		rest, err := json.Marshal(&body)
		if err != nil {
			return nil, err
		}
		if len(rest) <= len("{}") {
			return out, nil
		}
		// One object of both: the fields of the second behind those of the first.
		out[len(out)-1] = ','
		return append(out, rest[1:]...), nil
	}
}

// trimSpec keeps all but the status, which only ServiceEntries have for others to
// read, and most of the metadata.
func trimSpec(raw []byte, head *trimmedHead) ([]byte, error) {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	head.Metadata.OwnerReferences = nil
	meta, err := json.Marshal(&head.Metadata)
	if err != nil {
		return nil, err
	}
	doc["metadata"] = meta
	if head.Kind != "ServiceEntry" {
		delete(doc, "status")
	}
	return json.Marshal(doc)
}

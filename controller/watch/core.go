package watch

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"waypoint.dev/waypoint/config/kube"
)

// core are the built-in kinds: what to ask for, and what of an object to keep. A
// field that package kube reads must be kept here; a test compares the two.
var core = map[groupKind]struct {
	resource string
	keep     func(obj any) (*metav1.ObjectMeta, document, error)
}{
	{"", "Namespace"}: {"namespaces", func(obj any) (*metav1.ObjectMeta, document, error) {
		o, err := as[*corev1.Namespace](obj)
		if err != nil {
			return nil, document{}, err
		}
		return &o.ObjectMeta, document{}, nil
	}},
	{"", "Node"}: {"nodes", func(obj any) (*metav1.ObjectMeta, document, error) {
		o, err := as[*corev1.Node](obj)
		if err != nil {
			return nil, document{}, err
		}
		// Kubelets and operators annotate nodes all the time; nothing of it is read.
		m := o.ObjectMeta
		m.Annotations, m.OwnerReferences = nil, nil
		return &m, document{}, nil
	}},
	{"", "Service"}: {"services", func(obj any) (*metav1.ObjectMeta, document, error) {
		o, err := as[*corev1.Service](obj)
		if err != nil {
			return nil, document{}, err
		}
		return &o.ObjectMeta, document{Spec: serviceSpec(&o.Spec)}, nil
	}},
	{"", "Pod"}: {"pods", func(obj any) (*metav1.ObjectMeta, document, error) {
		o, err := as[*corev1.Pod](obj)
		if err != nil {
			return nil, document{}, err
		}
		m := o.ObjectMeta
		m.Annotations = meshAnnotations(m.Annotations)
		return &m, document{Spec: podSpec(&o.Spec), Status: podStatus(&o.Status)}, nil
	}},
	{"", "ConfigMap"}: {"configmaps", func(obj any) (*metav1.ObjectMeta, document, error) {
		o, err := as[*corev1.ConfigMap](obj)
		if err != nil {
			return nil, document{}, err
		}
		return &o.ObjectMeta, document{Data: o.Data}, nil
	}},
	{"discovery.k8s.io", "EndpointSlice"}: {"endpointslices", func(obj any) (*metav1.ObjectMeta, document, error) {
		o, err := as[*discoveryv1.EndpointSlice](obj)
		if err != nil {
			return nil, document{}, err
		}
		m := o.ObjectMeta
		// The time of the last change of a pod, which comes with each change anyway.
		m.Annotations = meshAnnotations(m.Annotations)
		return &m, document{AddressType: string(o.AddressType), Ports: slicePorts(o.Ports), Endpoints: sliceEndpoints(o.Endpoints)}, nil
	}},
}

func as[T any](obj any) (T, error) {
	o, ok := obj.(T)
	if !ok {
		return o, fmt.Errorf("watch: the API server sent a %T, not a %T", obj, o)
	}
	return o, nil
}

// document is what is kept of a core object.
type document struct {
	APIVersion  string            `json:"apiVersion"`
	Kind        string            `json:"kind"`
	Metadata    metadata          `json:"metadata"`
	Spec        any               `json:"spec,omitempty"`
	Status      any               `json:"status,omitempty"`
	Data        map[string]string `json:"data,omitempty"`
	AddressType string            `json:"addressType,omitempty"`
	Ports       any               `json:"ports,omitempty"`
	Endpoints   any               `json:"endpoints,omitempty"`
}

type metadata struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace,omitempty"`
	UID               string            `json:"uid,omitempty"`
	Generation        int64             `json:"generation,omitempty"`
	CreationTimestamp string            `json:"creationTimestamp,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
	OwnerReferences   []owner           `json:"ownerReferences,omitempty"`
}

type owner struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Controller *bool  `json:"controller,omitempty"`
}

// builtin makes the item of a core object. It changes nothing of obj.
func builtin(k Kind, obj any) (*Item, error) {
	m, doc, err := core[groupKind{k.Group, k.Kind}].keep(obj)
	if err != nil {
		return nil, err
	}
	doc.APIVersion, doc.Kind = k.APIVersion(), k.Kind
	doc.Metadata = metadata{
		Name: m.Name, Namespace: m.Namespace, UID: string(m.UID), Generation: m.Generation,
		Labels: m.Labels, Annotations: m.Annotations,
	}
	if _, ok := m.Annotations[lastApplied]; ok {
		rest := make(map[string]string, len(m.Annotations))
		for k, v := range m.Annotations {
			if k != lastApplied {
				rest[k] = v
			}
		}
		doc.Metadata.Annotations = rest
	}
	if t := m.CreationTimestamp; !t.IsZero() {
		doc.Metadata.CreationTimestamp = t.UTC().Format(time.RFC3339)
	}
	for _, r := range m.OwnerReferences {
		doc.Metadata.OwnerReferences = append(doc.Metadata.OwnerReferences, owner{r.Kind, r.Name, r.Controller})
	}
	it := &Item{
		Key:        kube.Key{Group: k.Group, Kind: k.Kind, Namespace: m.Namespace, Name: m.Name},
		UID:        string(m.UID),
		Version:    m.ResourceVersion,
		Generation: m.Generation,
	}
	if it.JSON, err = json.Marshal(&doc); err != nil {
		return nil, fmt.Errorf("%s: %w", it.Key, err)
	}
	return it.seal(), nil
}

// meshAnnotations keeps those that a mesh may mean.
func meshAnnotations(m map[string]string) map[string]string {
	var out map[string]string
	for k, v := range m {
		if host, _, _ := strings.Cut(k, "/"); strings.HasSuffix(host, "istio.io") || strings.HasSuffix(host, "waypoint.dev") {
			if out == nil {
				out = map[string]string{}
			}
			out[k] = v
		}
	}
	return out
}

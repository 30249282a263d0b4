package watch

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"waypoint.dev/waypoint/config/kube"
)

// Kind is one kind at the version and path it is watched at.
type Kind struct {
	Group, Version, Kind string
	Resource             string // its plural in paths
}

// APIVersion is the apiVersion of its objects.
func (k Kind) APIVersion() string {
	if k.Group == "" {
		return k.Version
	}
	return k.Group + "/" + k.Version
}

// GVR is its address for the dynamic client.
func (k Kind) GVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.Group, Version: k.Version, Resource: k.Resource}
}

type groupKind struct{ group, kind string }

// wanted are the kinds that come from a CustomResourceDefinition, with the versions
// that can be read, the best first.
func wanted() map[groupKind][]string {
	out := map[groupKind][]string{}
	for _, k := range kube.AppliedKinds() {
		if _, builtin := core[groupKind{k.Group, k.Kind}]; !builtin {
			out[groupKind{k.Group, k.Kind}] = k.Versions
		}
	}
	return out
}

package kube

import (
	"cmp"
	"slices"
)

// AppliedKind is a kind of which objects are applied.
type AppliedKind struct {
	Group, Kind string
	Versions    []string // that can be read, the best first
	Cluster     bool     // its objects have no namespace
}

// AppliedKinds lists the kinds that a source has to feed, ordered. Of ConfigMaps
// only the mesh configuration is read, see [MeshConfigName]. A ServiceAccount is
// known by its name alone, which the pods tell.
func AppliedKinds() []AppliedKind {
	var out []AppliedKind
	for k, info := range kinds {
		if info.decode == nil || k.kind == "ServiceAccount" || info.note != "" && k.kind != "ConfigMap" {
			continue
		}
		out = append(out, AppliedKind{k.group, k.kind, slices.Clone(info.versions), info.cluster})
	}
	slices.SortFunc(out, func(a, b AppliedKind) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}

// MeshConfigName is the ConfigMap of the root namespace that holds Istio's mesh
// configuration.
const MeshConfigName = "istio"

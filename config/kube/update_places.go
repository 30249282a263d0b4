package kube

import (
	"maps"

	"waypoint.dev/waypoint/resilience/balance"
)

// updateNamespace follows a namespace. It returns false when something in it hangs on
// what changed: then only a whole build follows.
func (r *build) updateNamespace(k Key) bool {
	old, now := r.namespaces[k.Name], r.objs.Get(k)
	if now == nil {
		delete(r.namespaces, k.Name)
	} else {
		r.namespaces[k.Name] = now
	}
	return r.alike(old, now) || !r.inhabited(k.Name)
}

// alike reports whether two versions of a namespace, nil for none, mean the same to
// what is in it: its choice of a waypoint, whether it is captured, and its labels if
// a Gateway selects by them.
func (r *build) alike(a, b *Object) bool {
	var x, y Meta
	if a != nil {
		x = a.Meta
	}
	if b != nil {
		y = b.Meta
	}
	for _, l := range []string{labelUse, labelUseNS} {
		if x.Labels[l] != y.Labels[l] || x.Annotations[l] != y.Annotations[l] {
			return false
		}
	}
	return x.Labels[labelMode] == y.Labels[labelMode] && (maps.Equal(x.Labels, y.Labels) || !r.selectsNamespaces())
}

func (r *build) selectsNamespaces() bool {
	for _, g := range r.objs.All(groupGateway, "Gateway") {
		for _, l := range g.Body.(*Gateway).Spec.Listeners {
			if l.AllowedRoutes != nil && l.AllowedRoutes.Namespaces != nil && l.AllowedRoutes.Namespaces.From == "Selector" {
				return true
			}
		}
	}
	return false
}

// inhabited reports whether a service or a workload is in a namespace.
func (r *build) inhabited(namespace string) bool {
	for _, s := range r.services {
		if s.obj.Namespace == namespace {
			return true
		}
	}
	for _, w := range r.list {
		if w.Namespace == namespace {
			return true
		}
	}
	return false
}

// updateNode follows a node: what runs there moves to another place with it. It
// returns false when that is too much, or the waypoint itself.
func (r *build) updateNode(k Key, d *dirty) bool {
	had := r.nodeLocality(k.Name)
	if now := r.objs.Get(k); now == nil {
		delete(r.nodes, k.Name)
	} else {
		r.nodes[k.Name] = now
	}
	if r.nodeLocality(k.Name) == had {
		return true
	}
	if k.Name == r.opts.Node {
		return false
	}
	var pods []Key
	for _, w := range r.list[:r.podCount] {
		if w.Node == k.Name {
			pods = append(pods, w.obj.Key)
		}
	}
	if len(pods) > maxUpdate {
		return false
	}
	for _, p := range pods {
		if !r.updatePod(p, d) {
			return false
		}
	}
	for of, list := range r.slices {
		for _, o := range list {
			if o.Body.(*EndpointSlice).on(k.Name) {
				for _, u := range r.bySlices[of] {
					d.backends[u] = true
				}
				break
			}
		}
	}
	return true
}

// on reports whether an endpoint is on a node.
func (s *EndpointSlice) on(node string) bool {
	for i := range s.Endpoints {
		if s.Endpoints[i].NodeName == node {
			return true
		}
	}
	return false
}

// here is where this proxy is: as it was told, else where its node is.
func (r *build) here() balance.Locality {
	if l := r.opts.Locality; l != (balance.Locality{}) {
		return l
	}
	return r.nodeLocality(r.opts.Node)
}

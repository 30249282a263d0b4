package status

import (
	"cmp"
	"reflect"
	"slices"
	"sync/atomic"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/feed"
)

// judge makes for one Gateway the build that its waypoint makes, of the objects that
// concern that waypoint, and says what became of routes and policies. Engine.Run's
// goroutine owns it.
type judge struct {
	gw       kube.Key
	follower *feed.Follower
	objs     *kube.Objects
	builder  *kube.Builder

	// Of the last build, ordered.
	routes   []kube.RouteStatus
	policies []kube.PolicyStatus
	attached int32 // of the routes

	builds *atomic.Int64 // of the engine
}

// read are the kinds that a status depends on. Where endpoints are does not.
func read(_, kind string) bool {
	switch kind {
	case "Pod", "Node", "EndpointSlice", "WorkloadEntry", "DestinationRule":
		return false
	}
	return true
}

// follow begins to judge for a Gateway.
func (e *Engine) follow(gw kube.Key) *judge {
	o := config.Owner{Namespace: gw.Namespace, Name: gw.Name}
	return &judge{
		gw: gw, objs: kube.NewObjects(), builds: &e.builds,
		follower: e.opts.Store.Follow(o, read, e.wake),
		builder:  kube.NewBuilder(kube.Options{Waypoint: o, Mesh: e.opts.Mesh, UpstreamTLS: true}),
	}
}

// look builds if anything has changed, and returns the objects of which something
// else is said than before. What it costs follows from the change and the objects of
// this Gateway, not from the mesh.
func (j *judge) look() []kube.Key {
	changes := j.follower.Take()
	if len(changes) == 0 {
		return nil
	}
	for _, c := range changes {
		if c.Object == nil {
			j.objs.Delete(c.Key)
		} else {
			j.objs.Put(c.Object)
		}
	}
	j.builder.Build(j.objs)
	j.builds.Add(1)
	routes, policies := j.builder.RouteStatuses(), j.builder.PolicyStatuses()
	var out []kube.Key
	if !sameSlice(routes, j.routes) {
		out = diff(out, j.routes, routes, routeKey, sameRoute)
		j.attached = attached(routes)
	}
	if !sameSlice(policies, j.policies) {
		out = diff(out, j.policies, policies, policyKey, samePolicy)
	}
	j.routes, j.policies = routes, policies
	return out
}

// everything returns the objects of which something is said.
func (j *judge) everything() []kube.Key {
	return diff(diff(nil, j.routes, nil, routeKey, sameRoute), j.policies, nil, policyKey, samePolicy)
}

// says reports whether anything is said of an object.
func (j *judge) says(k kube.Key) bool {
	_, route := find(j.routes, k, routeKey)
	_, policy := find(j.policies, k, policyKey)
	return route || policy
}

// say adds what is said of an object.
func (j *judge) say(k kube.Key, d *desired) {
	if i, ok := find(j.routes, k, routeKey); ok {
		d.route(j.gw, &j.routes[i])
	}
	if i, ok := find(j.policies, k, policyKey); ok {
		d.policy(&j.policies[i])
	}
}

func routeKey(r *kube.RouteStatus) kube.Key {
	return kube.Key{Group: groupGateway, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
}

func policyKey(p *kube.PolicyStatus) kube.Key {
	return kube.Key{Group: p.Group, Kind: p.Kind, Namespace: p.Namespace, Name: p.Name}
}

// sameRoute compares statuses; those that a build left alone share their parents.
func sameRoute(a, b *kube.RouteStatus) bool {
	return a.Generation == b.Generation && (sameSlice(a.Parents, b.Parents) || reflect.DeepEqual(a.Parents, b.Parents))
}

func samePolicy(a, b *kube.PolicyStatus) bool {
	return a.Generation == b.Generation && reflect.DeepEqual(a.Targets, b.Targets)
}

// sameSlice reports whether two slices are the same piece of memory.
func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// order is that in which a build lists statuses.
func order(a, b kube.Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func find[T any](list []T, k kube.Key, key func(*T) kube.Key) (int, bool) {
	i, ok := slices.BinarySearchFunc(list, k, func(x T, k kube.Key) int { return order(key(&x), k) })
	return i, ok && key(&list[i]) == k
}

// diff appends the keys of what came, went or differs between two ordered lists.
func diff[T any](out []kube.Key, old, new []T, key func(*T) kube.Key, same func(a, b *T) bool) []kube.Key {
	for len(old)+len(new) > 0 {
		where := 0
		switch {
		case len(old) == 0:
			where = 1
		case len(new) == 0:
			where = -1
		default:
			where = order(key(&old[0]), key(&new[0]))
		}
		switch {
		case where < 0:
			out, old = append(out, key(&old[0])), old[1:]
		case where > 0:
			out, new = append(out, key(&new[0])), new[1:]
		default:
			if !same(&old[0], &new[0]) {
				out = append(out, key(&new[0]))
			}
			old, new = old[1:], new[1:]
		}
	}
	return out
}

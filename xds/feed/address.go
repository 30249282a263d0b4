package feed

import (
	"slices"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"waypoint.dev/waypoint/config/istiod"
	"waypoint.dev/waypoint/xds"
)

// unwrapped returns the resources of r. A control plane may answer for workloads with
// what it has, Addresses: of those, workloads are taken and services left out.
func unwrapped(r *xds.Response) []*discovery.Resource {
	isAddress := func(u *discovery.Resource) bool { return u.Resource.GetTypeUrl() == istiod.AddressType }
	if r.Type != istiod.WorkloadType || !slices.ContainsFunc(r.Upserts, isAddress) {
		return r.Upserts
	}
	out := make([]*discovery.Resource, 0, len(r.Upserts))
	for _, u := range r.Upserts {
		if isAddress(u) {
			body, ok := istiod.WorkloadIn(u.Resource.Value)
			if !ok {
				continue
			}
			u = &discovery.Resource{Name: u.Name, Version: u.Version, Resource: &anypb.Any{TypeUrl: istiod.WorkloadType, Value: body}}
		}
		out = append(out, u)
	}
	return out
}

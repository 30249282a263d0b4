package kube

import (
	"net/netip"
	"strconv"

	"waypoint.dev/waypoint/config"
)

// serve makes the destinations of a service.
func (r *build) serve(s *service) (out []*config.Destination) {
	if s.kube != nil && (s.kube.Spec.Type == "ExternalName") {
		r.problem(config.Warning, s.obj, "spec.type", "NoAddress", "an ExternalName Service has no address; a waypoint cannot serve it")
		return nil
	}
	if len(s.vips) == 0 {
		r.problem(config.Info, s.obj, "", "NoAddress", "has no service address; clients reach its pods past a waypoint for services")
	}
	for i := range s.ports {
		p := &s.ports[i]
		d := &config.Destination{
			Key:      s.host + ":" + strconv.Itoa(int(p.number)),
			Addrs:    s.vips,
			Port:     p.number,
			Hosts:    []string{s.host},
			Protocol: p.proto,
			Service:  describe(s, p),
			Backend:  r.backend(s, p),
			Settings: r.settings(),
		}
		r.subsets(s, p)
		r.guard(d, s.obj, s.obj.Namespace)
		ref := r.route(d, s, p)
		r.ownHTTP(d, s.obj.Key, ref)
		out = append(out, d)
	}
	return out
}

// annXFCC on the Gateway asks for the caller's identity in x-forwarded-client-cert.
const annXFCC = "ambient.istio.io/xfcc-include-client-identity"

// settings are those of the mesh and of this waypoint's Gateway.
func (r *build) settings() config.HTTPSettings {
	return config.HTTPSettings{
		Normalization: r.mesh.Normalization,
		XFCC:          r.gw.Meta.Annotations[annXFCC] == "true",
	}
}

// workloads makes the destinations of workloads that chose this waypoint.
func (r *build) workloads() (out []*config.Destination) {
	if !r.covers(r.gw, "workload") {
		return nil
	}
	for _, w := range r.list {
		if len(w.Addrs) == 0 || !sameObject(r.waypointOf(w.obj, "workload"), r.gw) {
			continue
		}
		d := &config.Destination{Key: "workload/" + w.UID, Workload: true,
			Service: config.Service{Namespace: w.Namespace}, Settings: r.settings()}
		for _, a := range w.Addrs {
			d.Addrs = append(d.Addrs, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
		}
		r.guard(d, nil, w.Namespace)
		r.ownHTTP(d, w.obj.Key, nil)
		out = append(out, d)
	}
	return out
}

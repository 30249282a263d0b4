package kube

import (
	"net/netip"
	"strings"
)

// classOfMesh is the class of Istio's waypoints, whose policies hold for every
// waypoint of the mesh.
const classOfMesh = "istio-waypoint"

// backend files a service and wants what is read of every service.
func (l *linker) backend(host string) {
	ns := l.o.Namespace
	l.tag(Topic{By: ByHost, Name: host})
	for _, space := range []string{Mine, ns, l.RootNamespace} {
		l.want(backing, Topic{ByRule, "", space, host})
		l.want(backing, Topic{By: ByWildRule, Namespace: space})
	}
}

// serviceLinks is what Services and ServiceEntries have in common.
func (l *linker) serviceLinks() {
	ns := l.o.Namespace
	l.tag(l.itself(ByBackend))
	l.tag(l.itself(ByExists))
	l.want(served, l.itself(ByParent))
	l.want(served, l.itself(BySecurity))
	l.want(served, Topic{By: ByUntargeted, Namespace: ns})
	l.want(backing, l.itself(ByTraffic))
	l.chooser(exists, backing)
}

func (l *linker) service() {
	l.serviceLinks()
	l.tag(Topic{By: ByGuard, Namespace: l.o.Namespace, Name: l.o.Name})
	l.want(backing|ways(ByGuard), Topic{By: BySlice, Namespace: l.o.Namespace, Name: l.o.Name})
	l.want(ways(ByGuard), Topic{By: ByChoice, Namespace: l.o.Namespace})
	l.backend(l.o.Name + "." + l.o.Namespace + ".svc." + l.Domain)
}

func (l *linker) entry() {
	l.serviceLinks()
	e, ok := l.o.Body.(*ServiceEntry)
	if !ok {
		return
	}
	for _, h := range e.Hosts {
		l.backend(strings.ToLower(h))
		if len(e.assigned) > 0 || autoAllocates(l.o, e, strings.ToLower(h)) {
			l.tag(Topic{By: ByAllocated})
			l.want(exists&^ways(ByAllocated), Topic{By: ByAllocated})
		}
	}
	switch {
	case e.Resolution == "NONE" || e.Resolution == "DYNAMIC_DNS":
		l.want(backing, Topic{By: ByAnyWorkload})
	case e.WorkloadSelector != nil:
		l.want(backing, Topic{By: ByNamespace, Namespace: l.o.Namespace})
	}
	for i := range e.Endpoints {
		if a, err := netip.ParseAddr(e.Endpoints[i].Address); err == nil {
			l.want(backing, Topic{By: ByAddress, Name: a.String()})
		}
	}
}

func (l *linker) slice() {
	s, ok := l.o.Body.(*EndpointSlice)
	name := l.o.Meta.Labels[labelService]
	if !ok || name == "" {
		return
	}
	l.tag(Topic{By: BySlice, Namespace: l.o.Namespace, Name: name})
	// Every endpoint is another one: no need to look for what is there already.
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if t := e.TargetRef; t != nil && t.Kind == "Pod" {
			ns := t.Namespace
			if ns == "" {
				ns = l.o.Namespace
			}
			l.Wants = append(l.Wants, Want{ways(BySlice), Topic{By: ByPod, Namespace: ns, Name: t.Name}})
		}
		// The way through another waypoint finds its pods by their addresses.
		if len(e.Addresses) > 0 && (e.TargetRef == nil || e.TargetRef.Kind != "Pod") {
			if a, err := netip.ParseAddr(e.Addresses[0]); err == nil {
				l.Wants = append(l.Wants, Want{ways(BySlice), Topic{By: ByAddress, Name: a.String()}})
			}
		}
	}
}

func (l *linker) pod() {
	p, ok := l.o.Body.(*Pod)
	if !ok {
		return
	}
	ns := l.o.Namespace
	l.tag(Topic{By: ByPod, Namespace: ns, Name: l.o.Name})
	if !p.Spec.HostNetwork {
		for _, s := range p.Status.PodIPs {
			if a, err := netip.ParseAddr(s.IP); err == nil {
				l.tag(Topic{By: ByAddress, Name: a.String()})
			}
		}
		if a, err := netip.ParseAddr(p.Status.PodIP); err == nil && len(p.Status.PodIPs) == 0 {
			l.tag(Topic{By: ByAddress, Name: a.String()})
		}
	}
	if gw := l.o.Meta.Labels[labelGateway]; gw != "" {
		l.tag(Topic{By: ByGuard, Namespace: ns, Name: gw})
	}
	l.workload()
	if l.o.Meta.Annotations[annRedirection] == "enabled" {
		l.tag(Topic{By: ByWitness, Namespace: ns})
	}
	l.want(pods, Topic{By: ByWitness, Namespace: ns})
}

// workload is what pods and WorkloadEntries have in common.
func (l *linker) workload() {
	ns := l.o.Namespace
	l.tag(Topic{By: ByNamespace, Namespace: ns})
	l.tag(Topic{By: ByAnyWorkload})
	l.chooser(pods|ways(ByWitness), 0)
	l.want(served, Topic{By: ByUntargeted, Namespace: ns})
}

func (l *linker) workloadEntry() {
	e, ok := l.o.Body.(*WorkloadEntry)
	if !ok {
		return
	}
	if a, err := netip.ParseAddr(e.Address); err == nil {
		l.tag(Topic{By: ByAddress, Name: a.String()})
	}
	l.workload()
}

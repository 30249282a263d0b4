package kube

import "slices"

// A waypoint reads few of a cluster's objects. Which ones follows from what refers
// to what, by the rules of this package, and a feed of objects needs to know it
// before anything is built. So every object is filed under topics, and names the
// topics of what it needs beside it: starting with [Roots], what is filed under the
// topics wanted so far wants further ones. By is ordered so that an object joined by
// one way never wants, directly or not, the same way of itself again: what is no
// longer wanted can be told by counting.
//
// Where a rule reads more than can be told by names, the topic is wider, never
// narrower: a namespace's workloads for the selector of a ServiceEntry, all
// workloads for a service that goes to the address that a client chose.

// By is a way of being needed.
type By uint8

const (
	ByAll         By = iota // every waypoint needs it: namespaces, nodes' places, classes, the mesh configuration
	BySelf                  // a Gateway, for the waypoint that runs for it
	ByUse                   // chose the Gateway that the topic names, by its own label
	ByInherit               // made no choice of its own, in that namespace
	ByParent                // a route, by what it attaches to
	ByBackend               // a service, as a backend
	ByHost                  // a service, as a backend, by its hostname
	BySecurity              // a security policy, by its target
	ByTraffic               // a traffic policy, by its target
	ByUntargeted            // a security policy without targets, or whose targets cannot be read, of a namespace
	ByRule                  // a DestinationRule, by namespace and host
	ByWildRule              // one with a wildcard, by namespace
	ByAllocated             // a ServiceEntry whose address others must keep clear of
	ByGuard                 // the Service and the pods of a waypoint, by its Gateway
	ByGuardOf               // a namespace, for the waypoint that its services inherit
	ByExists                // an object that a message or a check is about
	ByChoice                // a namespace, for the Gateway that it chose
	BySlice                 // an EndpointSlice, by its Service
	ByPod                   // a pod, by its name
	ByAddress               // a workload, by its address
	ByNamespace             // a workload, by its namespace
	ByAnyWorkload           // any workload
	ByWitness               // a pod that shows that the CNI plugin marks pods in its namespace
	byEnd
)

// Topic is what objects are filed under and wanted by.
type Topic struct {
	By                    By
	Kind, Namespace, Name string // as By needs them
}

// Mine stands in the namespace of a wanted topic for that of the waypoint.
const Mine = "."

// Want is a topic that an object wants when it is needed in one of the ways.
type Want struct {
	Via   Ways
	Topic Topic
}

// Ways is a set of By.
type Ways uint32

// Has reports whether b is in the set.
func (w Ways) Has(b By) bool { return w>>b&1 != 0 }

func ways(bs ...By) (w Ways) {
	for _, b := range bs {
		w |= 1 << b
	}
	return w
}

var (
	served  = ways(ByUse, ByInherit)                // services and workloads that this waypoint serves
	backing = served | ways(ByBackend, ByHost)      // services of which endpoints and settings are read
	exists  = backing | ways(ByExists, ByAllocated) // services that stand in the index of services
	pods    = served | ways(ByPod, ByAddress, ByNamespace, ByAnyWorkload, ByGuard)
)

// Links say where an object is filed and what it wants. They may share the
// object's strings.
type Links struct {
	Tags  []Topic
	Wants []Want
}

// Scope is what of the mesh links depend on.
type Scope struct {
	RootNamespace string // "istio-system"
	Domain        string // "cluster.local"
}

// Roots returns the topics that a waypoint's needs begin with.
func Roots(s Scope, namespace, name string) []Topic {
	out := []Topic{
		{By: ByAll}, {By: BySelf, Namespace: namespace, Name: name}, {By: ByUse, Namespace: namespace, Name: name},
		{By: ByUntargeted, Namespace: s.RootNamespace},
	}
	if namespace != s.RootNamespace {
		out = append(out, Topic{By: ByUntargeted, Namespace: namespace})
	}
	return out
}

// linker collects the links of one object.
type linker struct {
	Scope
	o *Object
	Links
}

// LinksOf returns the links of an object. One of a kind that no waypoint reads has
// no tags; of one that is broken it takes what can be read.
func LinksOf(o *Object, s Scope) Links {
	l := &linker{Scope: s, o: o}
	switch o.Kind {
	case "Namespace":
		l.namespace()
	case "Node", "GatewayClass":
		l.tag(Topic{By: ByAll})
	case "ConfigMap":
		l.mesh()
	case "Gateway":
		l.gateway()
	case "Service":
		l.service()
	case "ServiceEntry":
		l.entry()
	case "EndpointSlice":
		l.slice()
	case "Pod":
		l.pod()
	case "WorkloadEntry":
		l.workloadEntry()
	case "HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute":
		l.route()
	case "AuthorizationPolicy", "RequestAuthentication":
		l.security()
	case "WaypointPolicy", "XBackendTrafficPolicy":
		l.traffic()
	case "DestinationRule":
		l.rule()
	}
	return l.Links
}

func (l *linker) tag(t Topic) {
	if !slices.Contains(l.Tags, t) {
		l.Tags = append(l.Tags, t)
	}
}

func (l *linker) want(via Ways, t Topic) {
	if w := (Want{via, t}); !slices.Contains(l.Wants, w) {
		l.Wants = append(l.Wants, w)
	}
}

// itself files the object under its own name, by a way.
func (l *linker) itself(b By) Topic { return Topic{b, l.o.Kind, l.o.Namespace, l.o.Name} }

// chosen is the Gateway that the labels, or annotations, of the object name.
func (l *linker) chosen() (ns, name string, ok bool) {
	m := l.o.Meta.Labels
	if m[labelUse] == "" {
		if m = l.o.Meta.Annotations; m[labelUse] == "" {
			return "", "", false
		}
	}
	if ns = m[labelUseNS]; ns == "" {
		ns = l.o.Namespace
		if l.o.Kind == "Namespace" {
			ns = l.o.Name
		}
	}
	return ns, m[labelUse], true
}

// chooser files what can choose a waypoint, and wants the Gateway it chose, also
// one that does not exist: whether it does decides who is asked. guards are the
// ways in which that waypoint's own endpoints are needed.
func (l *linker) chooser(all, guards Ways) {
	ns, name, ok := l.chosen()
	switch {
	case !ok:
		l.tag(Topic{By: ByInherit, Namespace: l.o.Namespace})
		l.want(all, Topic{By: ByChoice, Namespace: l.o.Namespace})
		if guards != 0 {
			l.want(guards, Topic{By: ByGuardOf, Namespace: l.o.Namespace})
		}
	case name != "none":
		l.tag(Topic{By: ByUse, Namespace: ns, Name: name})
		l.want(all, Topic{ByExists, "Gateway", ns, name})
		if guards != 0 {
			l.want(guards, Topic{By: ByGuard, Namespace: ns, Name: name})
		}
	}
}

func (l *linker) namespace() {
	n := l.o.Name
	l.tag(Topic{By: ByAll})
	l.tag(Topic{By: ByChoice, Namespace: n})
	l.tag(Topic{By: ByGuardOf, Namespace: n})
	if ns, name, ok := l.chosen(); ok && name != "none" {
		l.tag(Topic{By: ByUse, Namespace: ns, Name: name})
		l.want(ways(ByUse), Topic{By: ByInherit, Namespace: n})
		l.want(ways(ByChoice, ByGuardOf), Topic{ByExists, "Gateway", ns, name})
		l.want(ways(ByGuardOf), Topic{By: ByGuard, Namespace: ns, Name: name})
	}
}

// mesh is the mesh configuration, which names the services of external authorizers.
func (l *linker) mesh() {
	m, ok := l.o.Body.(*MeshConfig)
	if l.o.Namespace != l.RootNamespace || l.o.Name != "istio" {
		return
	}
	l.tag(Topic{By: ByAll})
	if !ok {
		return
	}
	for i := range m.ExtensionProviders {
		if x := m.ExtensionProviders[i].authz(); x != nil {
			for _, h := range providerHosts(x.Service, l.Domain) {
				l.want(ways(ByAll), Topic{By: ByHost, Name: h})
			}
		}
	}
}

func (l *linker) gateway() {
	l.tag(l.itself(ByExists))
	l.tag(Topic{By: BySelf, Namespace: l.o.Namespace, Name: l.o.Name})
	self := ways(BySelf)
	l.want(self, Topic{BySecurity, "Gateway", l.o.Namespace, l.o.Name})
	l.want(self, Topic{ByTraffic, "Gateway", l.o.Namespace, l.o.Name})
	l.want(self, Topic{ByParent, "Gateway", l.o.Namespace, l.o.Name}) // which are told that they name no parent
	l.want(self, Topic{BySecurity, "GatewayClass", "", classOfMesh})
	if g, ok := l.o.Body.(*Gateway); ok {
		l.want(self, Topic{BySecurity, "GatewayClass", "", g.Spec.GatewayClassName})
	}
}

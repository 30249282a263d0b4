package kube

import (
	"cmp"
	"fmt"
	"maps"
	"strings"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
)

// Options say for whom a Builder builds.
type Options struct {
	// Waypoint names the Gateway; without a name the only waypoint Gateway of the
	// objects is taken.
	Waypoint config.Owner
	Mesh     config.Mesh // empty fields get Istio's defaults

	// Locality and Node are those of this proxy, for traffic distribution and
	// locality failover. Empty: every endpoint is equally near.
	Locality balance.Locality
	Node     string
	Labels   map[string]string // of this proxy's pod, for failoverPriority

	// UpstreamTLS says that who runs the models speaks TLS and the PROXY protocol to
	// backends. Without it a backend that asks for them answers 503.
	UpstreamTLS bool
}

// Builder turns objects into models. Destinations, backends and workloads that did
// not change keep their pointers from one Build to the next. It belongs to one
// goroutine.
type Builder struct {
	opts           Options
	policies       map[*Object]*policy // compiled, of objects in use
	good           map[Key]*policy     // last one that compiled
	meshSum        string              // trust domain and aliases that policies are compiled for
	statuses       []RouteStatus
	policyStatuses []PolicyStatus

	last *build   // what the next Build may go on from; nil: nothing
	objs *Objects // that last was built from
	seen uint64   // moment of objs that last stands for
}

// NewBuilder returns a builder that has built nothing.
func NewBuilder(o Options) *Builder {
	m := &o.Mesh
	m.TrustDomain = cmp.Or(m.TrustDomain, "cluster.local")
	m.RootNamespace = cmp.Or(m.RootNamespace, "istio-system")
	m.ClusterID = cmp.Or(m.ClusterID, "Kubernetes")
	m.Domain = cmp.Or(m.Domain, "cluster.local")
	m.MeshID = cmp.Or(m.MeshID, m.TrustDomain)
	return &Builder{opts: o, policies: map[*Object]*policy{}, good: map[Key]*policy{}}
}

// RouteStatuses returns the status of every route of the last Build.
func (b *Builder) RouteStatuses() []RouteStatus { return b.statuses }

// build is what one model is made of: tables of the objects, and units that were
// computed from them. Update brings it up to later objects.
type build struct {
	*Builder
	objs *Objects
	mesh config.Mesh
	gw   *Object // this waypoint's Gateway, nil if there is none
	sink *[]config.Problem
	unit *unit // that is being computed

	namespaces      map[string]*Object
	nodes           map[string]*Object
	pods            map[string]*workload                  // by "namespace/name"
	byIP            map[string]*workload                  // by address
	shared          bool                                  // two workloads have one address
	list            []*workload                           // all, ordered: pods, then entries
	podCount        int                                   // of list
	labelled        map[string]map[labelPlace][]*workload // pods by label, see podsByLabel; nil until it is needed
	slices          map[string][]*Object                  // EndpointSlices by "namespace/service"
	sliceOf         map[Key]string                        // the service of an EndpointSlice
	users           map[string][]string                   // services by pod and address, see collectUsers
	annotated       map[string]map[string]bool            // pods that the CNI plugin marked, by namespace
	services        []*service                            // ordered
	byHost          map[string][]*service                 // by hostname
	byName          map[Key]*service                      // by object, first host of a ServiceEntry
	ofObject        map[Key][]*service                    // by object, all hosts
	routes          []*route
	routeOf         map[Key]*route
	routesOf        map[Key][]*route      // by parent
	destRules       map[string]*ruleIndex // by namespace, see rules
	ruleHosts       map[Key]string        // of DestinationRules
	meshLocality    *LocalityLB           // of the mesh configuration
	backendPolicies map[Key]backendPolicy // by target, see collectBackendPolicies
	attached        map[Key][]*policy     // by target
	targetsOf       map[Key][]Key         // of policies
	unreadable      map[Key]bool          // security policies that close their namespace
	meshRetry       *resilience.Retry     // of the mesh configuration
	meshObj         *Object               // the ConfigMap it stands in, nil without one
	providers       map[string]*ExtensionProvider
	own             map[Key]*WaypointPolicy // by target, see collectOwn
	ownTargets      map[Key]bool            // of WaypointPolicies, also those that are missing
	ownRoutes       bool                    // a WaypointPolicy has a route as a target
	targeted        map[Key]bool            // of policies that have a status
	statusOf        map[Key]*PolicyStatus
	jwt             map[Key][]*Object

	units    []*unit                   // of served services, ordered
	unitOf   map[*service]*unit        //
	direct   *unit                     // workloads that chose this waypoint
	backends map[string]*backendUnit   // in use, by key
	bySlices map[string][]*backendUnit // see backendUnit.reads

	account string                   // of the waypoint, see waypointPrincipal; "" until it is needed
	managed []*workload              // pods of waypoints, see managedPods; nil until they are needed
	notes   map[Key][]config.Problem // of readiness, by policy
	stale   map[*backendUnit]bool    // whose services changed, while units are computed

	problems struct{ base, rules, policies []config.Problem }
	model    *config.Model // the last one
	changed  changes       // against it
	former   *former       // of the build before, while this one is made
}

// Build computes what the waypoint serves. It never fails; see Model.Problems.
func (b *Builder) Build(objs *Objects) *config.Model {
	keys, now, ok := objs.since(b.seen)
	if !ok || b.last == nil || b.objs != objs || !b.last.update(keys) {
		b.last = b.whole(objs)
	}
	b.objs, b.seen = objs, now
	return b.last.model
}

// whole builds from all objects.
func (b *Builder) whole(objs *Objects) *build {
	r := &build{
		Builder: b, objs: objs, mesh: b.opts.Mesh,
		namespaces: map[string]*Object{}, nodes: map[string]*Object{},
		pods: map[string]*workload{}, byIP: map[string]*workload{}, slices: map[string][]*Object{}, sliceOf: map[Key]string{},
		annotated: map[string]map[string]bool{}, byHost: map[string][]*service{}, byName: map[Key]*service{}, ofObject: map[Key][]*service{},
		routesOf: map[Key][]*route{}, routeOf: map[Key]*route{},
		unitOf: map[*service]*unit{}, backends: map[string]*backendUnit{}, stale: map[*backendUnit]bool{}, bySlices: map[string][]*backendUnit{},
	}
	r.sink = &r.problems.base
	for _, o := range objs.All("", "Namespace") {
		r.namespaces[o.Name] = o
	}
	for _, o := range objs.All("", "Node") {
		r.nodes[o.Name] = o
	}
	r.readMesh()
	r.findGateway()
	if r.meshSum != r.meshScope() {
		// What principals mean has changed with the mesh: nothing compiled holds.
		r.meshSum, r.Builder.policies, r.good = r.meshScope(), map[*Object]*policy{}, map[Key]*policy{}
	}
	r.former = b.before()
	r.collectWorkloads()
	r.collectServices()
	r.rules()
	r.security()
	r.collectRoutes()
	if r.gw != nil {
		for _, s := range r.services {
			if s.served {
				r.add(s)
			}
		}
		r.serveWorkloads()
	}
	r.readiness()
	r.routeStatuses(r.routes)
	r.policyStatusesOf()
	r.collectUsers()
	r.assemble()
	return r
}

// security reads all policies. What is compiled of those that are gone is forgotten.
func (r *build) security() {
	r.problems.policies = nil
	r.into(&r.problems.policies, func() {
		r.attached, r.jwt, r.targetsOf = map[Key][]*policy{}, map[Key][]*Object{}, map[Key][]Key{}
		r.statusOf, r.unreadable, r.targeted = map[Key]*PolicyStatus{}, map[Key]bool{}, map[Key]bool{}
		r.collectPolicies()
		r.collectOwn()
		r.collectBackendPolicies()
	})
	live := map[*Object]*policy{}
	keys := map[Key]bool{}
	for o, p := range r.Builder.policies {
		if p.used {
			p.used, live[o] = false, p
			keys[o.Key] = true
		}
	}
	r.Builder.policies = live
	maps.DeleteFunc(r.good, func(k Key, _ *policy) bool { return !keys[k] })
}

// policyStatusesOf tells the statuses of what security found, once the routes are
// known.
func (r *build) policyStatusesOf() {
	r.into(&r.problems.policies, r.invalidPolicies)
}

// into runs f with its problems going elsewhere.
func (r *build) into(sink *[]config.Problem, f func()) {
	old := r.sink
	r.sink = sink
	f()
	r.sink = old
}

// meshScope is what of the mesh compiled policies depend on.
func (r *build) meshScope() string {
	return r.mesh.TrustDomain + "," + strings.Join(r.mesh.TrustAliases, ",")
}

func (r *build) problem(sev config.Severity, o *Object, field, reason, format string, args ...any) {
	*r.sink = append(*r.sink, config.Problem{
		Severity: sev, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, Source: r.objs.source(o.Key),
		Field: field, Reason: reason, Message: fmt.Sprintf(format, args...),
	})
}

// policy is one compiled AuthorizationPolicy.
type policy struct {
	authz.Policy
	obj      *Object
	warnings []Fields
	err      error
	used     bool
}

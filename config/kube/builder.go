package kube

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
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
	destinations   map[string]*config.Destination
	backends       map[string]*config.Backend
	workloads      map[string]*config.Workload
	policies       map[*Object]*policy // compiled, of objects in use
	good           map[Key]*policy     // last one that compiled
	meshSum        string              // trust domain and aliases that policies are compiled for
	statuses       []RouteStatus
	policyStatuses []PolicyStatus
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

// build is one run of Build.
type build struct {
	*Builder
	objs  *Objects
	mesh  config.Mesh
	gw    *Object // this waypoint's Gateway, nil if there is none
	model *config.Model

	namespaces   map[string]*Object
	nodes        map[string]*Object
	pods         map[string]*workload  // by "namespace/name"
	byIP         map[string]*workload  // by address
	list         []*workload           // all, ordered
	slices       map[string][]*Object  // EndpointSlices by "namespace/service"
	annotated    map[string]bool       // namespaces with a pod that the CNI plugin marked
	services     []*service            // ordered
	byHost       map[string][]*service // by hostname
	byName       map[Key]*service      // by object, first host of a ServiceEntry
	routes       []*route
	routesOf     map[Key][]*route                // by parent
	destRules    map[string]*ruleIndex           // by namespace, see rules
	meshLocality *LocalityLB                     // of the mesh configuration
	constraints  map[Key]*resilience.RetryBudget // by target, see retryConstraint
	attached     map[Key][]*policy               // by target
	meshRetry    *resilience.Retry               // of the mesh configuration
	meshObj      *Object                         // the ConfigMap it stands in, nil without one
	providers    map[string]*ExtensionProvider
	own          map[Key]*WaypointPolicy // by target, see collectOwn
	statusOf     map[Key]*PolicyStatus
	jwt          map[Key][]*Object
}

// Build computes what the waypoint serves. It never fails; see Model.Problems.
func (b *Builder) Build(objs *Objects) *config.Model {
	r := &build{
		Builder: b, objs: objs, mesh: b.opts.Mesh,
		model:      &config.Model{Backends: map[string]*config.Backend{}},
		namespaces: map[string]*Object{}, nodes: map[string]*Object{},
		pods: map[string]*workload{}, byIP: map[string]*workload{}, slices: map[string][]*Object{},
		annotated: map[string]bool{}, byHost: map[string][]*service{}, byName: map[Key]*service{},
		routesOf: map[Key][]*route{}, attached: map[Key][]*policy{}, jwt: map[Key][]*Object{},
		statusOf: map[Key]*PolicyStatus{},
	}
	r.model.Problems = objs.Problems()
	for _, o := range objs.All("", "Namespace") {
		r.namespaces[o.Name] = o
	}
	for _, o := range objs.All("", "Node") {
		r.nodes[o.Name] = o
	}
	r.readMesh()
	r.findGateway()
	r.model.Mesh = r.mesh
	if r.meshSum != r.meshScope() {
		// What principals mean has changed with the mesh: nothing compiled holds.
		r.meshSum, r.Builder.policies, r.good = r.meshScope(), map[*Object]*policy{}, map[Key]*policy{}
	}
	r.collectWorkloads()
	r.collectServices()
	r.collectPolicies()
	r.collectOwn()
	r.collectConstraints()
	r.collectRoutes()
	if r.gw != nil {
		for _, s := range r.services {
			if s.served {
				r.serve(s)
			}
		}
		r.serveWorkloads()
	}
	r.collectReadiness()
	for _, w := range r.list {
		r.model.Workloads = append(r.model.Workloads, w.Workload)
	}
	r.finishStatuses()
	r.invalidPolicies()
	r.reuse()
	sortProblems(r.model.Problems)
	r.model.Problems = slices.CompactFunc(r.model.Problems, func(a, b config.Problem) bool { return a == b })
	return r.model
}

// meshScope is what of the mesh compiled policies depend on.
func (r *build) meshScope() string {
	return r.mesh.TrustDomain + "," + strings.Join(r.mesh.TrustAliases, ",")
}

// reuse replaces what equals its former version by that version.
func (r *build) reuse() {
	b := r.Builder
	dests := make(map[string]*config.Destination, len(r.model.Destinations))
	for i, d := range r.model.Destinations {
		if old := b.destinations[d.Key]; old != nil && reflect.DeepEqual(old, d) {
			d = old
			r.model.Destinations[i] = old
		}
		dests[d.Key] = d
	}
	for key, n := range r.model.Backends {
		if old := b.backends[key]; old != nil && reflect.DeepEqual(old, n) {
			r.model.Backends[key] = old
		}
	}
	b.destinations, b.backends = dests, r.model.Backends
	b.workloads = make(map[string]*config.Workload, len(r.list))
	for _, w := range r.list {
		b.workloads[w.UID] = w.Workload
	}
	// Policies of objects that are gone are forgotten.
	live := map[*Object]*policy{}
	keys := map[Key]bool{}
	for o, p := range b.policies {
		if p.used {
			p.used, live[o] = false, p
			keys[o.Key] = true
		}
	}
	b.policies = live
	maps.DeleteFunc(b.good, func(k Key, _ *policy) bool { return !keys[k] })
}

func (r *build) problem(sev config.Severity, o *Object, field, reason, format string, args ...any) {
	r.model.Problems = append(r.model.Problems, config.Problem{
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

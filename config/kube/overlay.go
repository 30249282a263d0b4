package kube

import (
	"maps"
	"slices"
	"strings"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
)

// Overlay lays WaypointPolicies over models that another control plane made, which
// knows nothing of them. What it makes keeps its pointers as long as the model's and
// the policies stay. It belongs to one goroutine.
type Overlay struct {
	waypoint config.Owner
	r        *build // holds the policies; nil before the first Set
	problems []config.Problem

	dests    map[*config.Destination]*config.Destination
	backends map[*config.Backend]*config.Backend
}

// NewOverlay returns an Overlay for the waypoint of a Gateway that changes nothing.
func NewOverlay(waypoint config.Owner) *Overlay { return &Overlay{waypoint: waypoint} }

// Set replaces the policies by those among objs.
func (o *Overlay) Set(objs *Objects) {
	gw := Key{groupGateway, "Gateway", o.waypoint.Namespace, o.waypoint.Name}
	r := &build{Builder: NewBuilder(Options{Waypoint: o.waypoint}), objs: objs, own: map[Key]*WaypointPolicy{}, gw: &Object{Key: gw}, statusOf: map[Key]*PolicyStatus{}}
	o.r, o.dests, o.backends = r, nil, nil
	o.problems = objs.Problems()
	r.sink = &o.problems
	for _, p := range r.byAge(groupOwn, "WaypointPolicy") {
		w := p.Body.(*WaypointPolicy)
		for i, t := range w.TargetRefs {
			k := Key{t.Group, t.Kind, p.Namespace, t.Name}
			switch {
			case t.Kind != "Service" && t.Kind != "Gateway":
				// What istiod sends of a route does not say which object it comes from.
				r.problem(config.Warning, p, at("spec.targetRefs", i), "NotApplied", "under istiod a policy has effect for a Service or the Gateway, not for an %s", t.Kind)
				continue
			case t.Kind == "Gateway" && k != gw:
				continue // of another waypoint
			}
			have := r.own[k]
			if have == nil {
				have = &WaypointPolicy{}
				r.own[k] = have
			}
			if lost := have.add(w); lost != "" {
				r.conflicted(p, i, &t, lost)
			}
		}
	}
}

// Apply returns m with the policies laid over it. m is not changed.
func (o *Overlay) Apply(m *config.Model) *config.Model {
	if o.r == nil || len(o.r.own) == 0 && len(o.problems) == 0 {
		return m
	}
	out := *m
	found := map[Key]bool{o.r.gw.Key: true}
	out.Destinations = make([]*config.Destination, len(m.Destinations))
	dests := make(map[*config.Destination]*config.Destination, len(m.Destinations))
	for i, d := range m.Destinations {
		k := serviceKey(&d.Service)
		found[k] = true
		laid := o.dests[d]
		if laid == nil {
			laid = o.destination(d, k)
		}
		dests[d], out.Destinations[i] = laid, laid
	}
	out.Backends = make(map[string]*config.Backend, len(m.Backends))
	backends := make(map[*config.Backend]*config.Backend, len(m.Backends))
	for name, b := range m.Backends {
		laid := o.backends[b]
		if laid == nil {
			laid = o.backend(b)
		}
		backends[b], out.Backends[name] = laid, laid
	}
	o.dests, o.backends = dests, backends
	out.Problems = append(slices.Clone(m.Problems), o.problems...)
	o.r.into(&out.Problems, func() {
		for _, p := range o.r.byAge(groupOwn, "WaypointPolicy") {
			for i, t := range p.Body.(*WaypointPolicy).TargetRefs {
				if k := (Key{t.Group, t.Kind, p.Namespace, t.Name}); t.Kind == "Service" && !found[k] {
					o.r.problem(config.Warning, p, at("spec.targetRefs", i), "TargetNotFound", "istiod sends nothing of a Service %s in namespace %s to this waypoint", t.Name, p.Namespace)
				}
			}
		}
	})
	return &out
}

// serviceKey is the Service that a model's service comes from. Without metadata its
// host says so: name.namespace.svc.domain.
func serviceKey(s *config.Service) Key {
	if s.Name != "" {
		return Key{"", "Service", s.Namespace, s.Name}
	}
	name, rest, _ := strings.Cut(s.Host, ".")
	ns, rest, _ := strings.Cut(rest, ".")
	if !strings.HasPrefix(rest, "svc.") {
		return Key{}
	}
	return Key{"", "Service", ns, name}
}

// destination is d with the policies of k over it, d itself if there are none.
func (o *Overlay) destination(d *config.Destination, k Key) *config.Destination {
	w := o.r.ownOf(k)
	if w.ClientIdentity == nil && w.LocalRateLimit == nil && w.Retry == nil && w.Timeouts == nil {
		return d
	}
	c := *d
	c.Service.Namespace, c.Service.Name = k.Namespace, k.Name
	c.Refs, c.Retries, c.Stages = slices.Clone(d.Refs), slices.Clone(d.Retries), slices.Clone(d.Stages)
	c.Routes = o.open(d, d.Routes)
	c.Consumers = maps.Clone(d.Consumers)
	for ns, rules := range c.Consumers {
		c.Consumers[ns] = o.open(d, rules)
	}
	o.r.ownHTTP(&c, k, func(key string) int {
		if i := slices.Index(c.Refs, key); i >= 0 {
			return i
		}
		c.Refs = append(c.Refs, key)
		return len(c.Refs) - 1
	})
	c.Service = d.Service
	return &c
}

// open returns rules whose retries are left open where they are Istio's default,
// which istiod writes into every route.
func (o *Overlay) open(d *config.Destination, rules []routing.Rule) []routing.Rule {
	rules = slices.Clone(rules)
	def := resilience.DefaultRetry()
	for i := range rules {
		if n := rules[i].Retry; n >= 0 && n < len(d.Retries) {
			p := d.Retries[n]
			if p.Attempts == def.Attempts && p.On == def.On && len(p.Codes) == 0 && p.TryTimeout == 0 && p.Backoff == 0 {
				rules[i].Retry = -1
			}
		}
	}
	return rules
}

func (o *Overlay) backend(b *config.Backend) *config.Backend {
	w := o.r.ownOf(serviceKey(&b.Service))
	if w.CircuitBreaker == nil && (w.OutlierDetection == nil || b.Settings.Outlier == nil) {
		return b
	}
	c := *b
	if b.Settings.Outlier != nil {
		x := *b.Settings.Outlier
		c.Settings.Outlier = &x
	}
	w.settings(&c)
	return &c
}

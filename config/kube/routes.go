package kube

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/routing"
)

// route is one route object with its status while it is built.
type route struct {
	obj      *Object
	parents  []ParentRef
	broken   func(rule int) string // why a rule is broken by an error of the object; nil: none is
	status   RouteStatus
	alone    []ParentStatus   // what the references say by themselves
	said     []config.Problem // of the references by themselves
	findings []finding        // what was found wrong with rules and backends, in their order
}

// kindRank orders route kinds: the best kind on a service port wins (GEP-1294).
var kindRank = map[string]int{"GRPCRoute": 4, "HTTPRoute": 3, "TLSRoute": 2, "TCPRoute": 1}

// collectRoutes reads all routes. One that cannot be applied and never could still
// takes its place, its broken rules answering 500: its service must not fall back
// to a looser rule.
func (r *build) collectRoutes() {
	for kind := range kindRank {
		for _, o := range r.objs.All(groupGateway, kind) {
			r.routes = append(r.routes, r.newRoute(o, nil))
		}
	}
	for _, e := range r.objs.bad() {
		if x := r.brokenRoute(&e); x != nil {
			r.routes = append(r.routes, x)
		}
	}
	slices.SortFunc(r.routes, compareRoutes)
	for _, x := range r.routes {
		r.routeOf[x.obj.Key] = x
		for _, k := range x.parentKeys() {
			r.routesOf[k] = append(r.routesOf[k], x)
		}
	}
}

// newRoute makes a route of an object. broken tells which rules are broken.
func (r *build) newRoute(o *Object, broken func(int) string) *route {
	x := &route{obj: o, broken: broken}
	switch b := o.Body.(type) {
	case *HTTPRoute:
		x.parents = b.ParentRefs
	case *GRPCRoute:
		x.parents = b.ParentRefs
	case *TLSRoute:
		x.parents = b.ParentRefs
	case *TCPRoute:
		x.parents = b.ParentRefs
	}
	x.status = RouteStatus{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, Generation: o.Meta.Generation}
	r.judge(x)
	return x
}

// faulty reports whether an error of the object is about the part of it at path.
func (x *route) faulty(path string) bool {
	fields, _ := x.obj.Err.(Fields)
	return slices.ContainsFunc(fields, func(f FieldError) bool { return strings.HasPrefix(f.Path, path) })
}

// ruleNames are the names of the rules, nil for those without.
func (x *route) ruleNames() (out []*string) {
	switch b := x.obj.Body.(type) {
	case *HTTPRoute:
		for i := range b.Rules {
			out = append(out, b.Rules[i].Name)
		}
	case *GRPCRoute:
		for i := range b.Rules {
			out = append(out, b.Rules[i].Name)
		}
	}
	return out
}

// named reports whether a rule before i has that name. Its own then does not tell it
// apart, and it goes by its index.
func (x *route) named(i int, name string) bool {
	return slices.ContainsFunc(x.ruleNames()[:i], func(n *string) bool { return n != nil && *n == name })
}

// judge checks a route's parent references by themselves.
func (r *build) judge(x *route) {
	x.alone, x.said = nil, nil
	r.into(&x.said, func() {
		for i := range x.parents {
			x.alone = append(x.alone, r.parentStatus(x, &x.parents[i]))
		}
		if len(x.parents) == 0 {
			r.problem(config.Warning, x.obj, "spec.parentRefs", "NoMatchingParent", "is empty, so the route acts on nothing: "+namesService)
		}
		for i, n := range x.ruleNames() {
			if n != nil && x.named(i, *n) {
				r.problem(config.Warning, x.obj, at("spec.rules", i)+".name", "Duplicate", "%q is the name of an earlier rule; this one goes by its index", *n)
			}
		}
	})
}

// brokenRoute makes the route of an object that was never right; nil for others.
func (r *build) brokenRoute(e *entry) *route {
	if o := e.current; isRoute(o.Kind) && e.good == nil && o.Body != nil && o.Err != nil {
		return r.newRoute(o, brokenRules(o.Err))
	}
	return nil
}

// compareRoutes orders routes by age, as conflicts are decided.
func compareRoutes(a, b *route) int {
	return cmp.Or(cmp.Compare(a.obj.created, b.obj.created), compareKeys(a.obj.Key, b.obj.Key))
}

// parentKeys are what a route attaches to, each once.
func (x *route) parentKeys() (out []Key) {
	for i := range x.parents {
		ns := x.obj.Namespace
		if p := x.parents[i].Namespace; p != nil {
			ns = *p
		}
		if k := parentKey(&x.parents[i], ns); !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

// brokenRules tells which rules an object's error concerns: those it names, or all.
func brokenRules(err error) func(int) string {
	by := map[int]string{}
	all := ""
	fields, ok := err.(Fields)
	if !ok {
		all = err.Error()
	}
	for _, f := range fields {
		var i int
		rest, found := cutPrefix(f.Path, "spec.rules[")
		end := 0
		for found && end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
			end++
		}
		if n, err := strconv.Atoi(rest[:end]); found && err == nil {
			i = n
			if by[i] == "" {
				by[i] = f.Error()
			}
		} else if all == "" {
			all = f.Error()
		}
	}
	return func(i int) string {
		if by[i] != "" {
			return by[i]
		}
		return all
	}
}

func cutPrefix(s, p string) (string, bool) {
	if len(s) >= len(p) && s[:len(p)] == p {
		return s[len(p):], true
	}
	return "", false
}

// attaches reports whether a parent reference means that service port.
func (x *route) attaches(p *ParentRef, s *service, port uint16) bool {
	ns := x.obj.Namespace
	if p.Namespace != nil {
		ns = *p.Namespace
	}
	return parentKey(p, ns) == s.obj.Key && (p.Port == nil || *p.Port == int32(port))
}

func parentKey(p *ParentRef, ns string) Key {
	g := *p.Group
	if g == "core" {
		g = ""
	}
	return Key{g, *p.Kind, ns, p.Name}
}

// route attaches all routes of a service port to its destination. It returns what
// makes references to backends.
func (r *build) route(d *config.Destination, s *service, p *port) (ref func(key string) int) {
	t := &translator{build: r, d: d, index: map[string]int{}}
	byNS := map[string][]*route{} // by client namespace; "" for producer routes
	for _, x := range r.routesOf[s.obj.Key] {
		for i := range x.parents {
			if !x.attaches(&x.parents[i], s, p.number) {
				continue
			}
			ns := ""
			if x.obj.Namespace != s.obj.Namespace {
				ns = x.obj.Namespace
			}
			if !slices.Contains(byNS[ns], x) {
				byNS[ns] = append(byNS[ns], x)
			}
		}
	}
	if len(byNS) == 0 {
		return t.ref
	}
	names := make([]string, 0, len(byNS))
	for ns := range byNS {
		names = append(names, ns)
	}
	slices.Sort(names)
	for _, ns := range names {
		kind, winners := r.pickKind(r.able(byNS[ns], d, s, p), d, s, p)
		if kind == "" {
			continue
		}
		if kind == "TLSRoute" || kind == "TCPRoute" {
			var rules []config.TCPRoute
			for _, x := range winners {
				rules = append(rules, t.l4(x)...)
			}
			if ns == "" {
				d.TCPRoutes, d.RouteKind = rules, kind
				continue
			}
			if d.ConsumerTCP == nil {
				d.ConsumerTCP = map[string][]config.TCPRoute{}
			}
			d.ConsumerTCP[ns] = rules
			continue
		}
		var rules []routing.Rule
		for _, x := range winners {
			rules = append(rules, t.rules(x)...)
		}
		if ns == "" {
			d.Routes, d.RouteKind = rules, kind
		} else {
			if d.Consumers == nil {
				d.Consumers = map[string][]routing.Rule{}
			}
			d.Consumers[ns] = rules
		}
		d.HTTPOnly = true
	}
	return t.ref
}

// able keeps the routes of kinds that can act on the port and rejects the others: a
// kind that cannot act must not win the port from one that can. A route that names no
// port means those of its own sort.
func (r *build) able(xs []*route, d *config.Destination, s *service, p *port) (out []*route) {
	http := d.Protocol != config.ProtocolTCP && d.Protocol != config.ProtocolTLS
	is := "no HTTP port"
	if http {
		is = "an HTTP port"
	}
	for _, x := range xs {
		if d.Protocol == config.ProtocolAuto || (kindRank[x.obj.Kind] >= kindRank["HTTPRoute"]) == http {
			out = append(out, x)
			continue
		}
		if named := r.reject(x, s, p, "UnsupportedProtocol", "port "+strconv.Itoa(int(p.number))+" is "+is); named || len(s.ports) == 1 {
			r.problem(config.Error, x.obj, "spec.parentRefs", "UnsupportedProtocol", "%s cannot act on %s, which is %s", x.obj.Kind, d.Key, is)
		}
	}
	return out
}

// pickKind keeps the routes of the best kind and rejects the others.
func (r *build) pickKind(xs []*route, d *config.Destination, s *service, p *port) (kind string, winners []*route) {
	for _, x := range xs {
		if kindRank[x.obj.Kind] > kindRank[kind] {
			kind = x.obj.Kind
		}
	}
	for _, x := range xs {
		if x.obj.Kind == kind {
			winners = append(winners, x)
			continue
		}
		r.reject(x, s, p, "Conflicted", "port "+strconv.Itoa(int(p.number))+" has a "+kind)
		r.problem(config.Error, x.obj, "spec.parentRefs", "Conflicted", "%s has a %s, which takes precedence over a %s (GEP-1294); this route is not used there", d.Key, kind, x.obj.Kind)
	}
	return kind, winners
}

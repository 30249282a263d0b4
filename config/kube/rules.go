package kube

import (
	"cmp"
	"slices"
	"strings"

	"waypoint.dev/waypoint/config"
)

// ruleIndex finds the DestinationRules of one namespace by host.
type ruleIndex struct {
	exact map[string]*rule
	wild  []*rule // "*.suffix" and "*", the longest first
}

// rule is what all DestinationRules of one namespace say of one host.
type rule struct {
	obj  *Object // the oldest, which is named in problems
	host string
	spec DestinationRule
}

// ruleOf finds the DestinationRule of a service: in the waypoint's namespace unless
// that is the root, in the service's, in the root; of a namespace only those that
// are exported to the waypoint's. In each an exact host comes before a wildcard,
// the longer wildcard first. Rules of clients' namespaces do not count, as in Istio.
func (r *build) ruleOf(s *service) *rule {
	spaces := [3]string{r.mesh.Waypoint.Namespace, s.obj.Namespace, r.mesh.RootNamespace}
	from := 0
	if spaces[0] == spaces[2] {
		from = 1
	}
	for _, ns := range spaces[from:] {
		x := r.rules()[ns]
		if x == nil {
			continue
		}
		if f := x.exact[s.host]; f != nil {
			return f
		}
		for _, w := range x.wild {
			if strings.HasSuffix(s.host, w.host[1:]) {
				return w
			}
		}
	}
	return nil
}

// rules returns the DestinationRules by namespace.
func (r *build) rules() map[string]*ruleIndex {
	if r.destRules != nil {
		return r.destRules
	}
	r.destRules, r.ruleHosts, r.problems.rules = map[string]*ruleIndex{}, map[Key]string{}, nil
	r.into(&r.problems.rules, r.collectRules)
	return r.destRules
}

// collectRules reads the DestinationRules.
func (r *build) collectRules() {
	all := slices.Clone(r.objs.All(groupNet, "DestinationRule"))
	slices.SortStableFunc(all, func(a, b *Object) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.created, b.created), cmp.Compare(a.Name, b.Name))
	})
	for _, o := range all {
		d := o.Body.(*DestinationRule)
		r.ruleHosts[o.Key] = ruleHost(d.Host, o.Namespace, r.mesh.Domain)
		switch {
		case d.WorkloadSelector != nil:
			r.problem(config.Warning, o, "spec.workloadSelector", "NotApplied", "a DestinationRule with a workloadSelector acts on sidecars only; a waypoint ignores it: remove the selector")
			continue
		case o.Namespace != r.mesh.Waypoint.Namespace && !exported(d.ExportTo, o.Namespace, r.mesh.Waypoint.Namespace):
			continue
		}
		x := r.destRules[o.Namespace]
		if x == nil {
			x = &ruleIndex{exact: map[string]*rule{}}
			r.destRules[o.Namespace] = x
		}
		h := r.ruleHosts[o.Key]
		f := x.exact[h]
		if f == nil {
			f = &rule{obj: o, host: h, spec: *d}
			x.exact[h] = f
			if strings.HasPrefix(h, "*") {
				x.wild = append(x.wild, f)
			}
			continue
		}
		r.mergeRule(f, o, d)
	}
	for _, x := range r.destRules {
		slices.SortStableFunc(x.wild, func(a, b *rule) int { return cmp.Compare(len(b.host), len(a.host)) })
	}
}

// ruleHost is the full name that a DestinationRule's host stands for.
func ruleHost(host, namespace, domain string) string {
	h := strings.ToLower(host)
	if !strings.Contains(h, ".") && h != "*" {
		h += "." + namespace + ".svc." + domain
	}
	return h
}

// mergeRule adds a younger rule for the same host, as Istio does: its subsets that
// are new, and its policy where there is none.
func (r *build) mergeRule(f *rule, o *Object, d *DestinationRule) {
	f.spec.Subsets = slices.Clone(f.spec.Subsets)
	for _, s := range d.Subsets {
		if !slices.ContainsFunc(f.spec.Subsets, func(x Subset) bool { return x.Name == s.Name }) {
			f.spec.Subsets = append(f.spec.Subsets, s)
		}
	}
	if f.spec.TrafficPolicy == nil {
		f.spec.TrafficPolicy = d.TrafficPolicy
	} else if d.TrafficPolicy != nil {
		r.problem(config.Warning, o, "spec.trafficPolicy", "Merged", "DestinationRule %s has the same host and is older, so its trafficPolicy counts; put both into one", f.obj.Name)
	}
}

func exported(to []string, own, ns string) bool {
	if len(to) == 0 {
		return true
	}
	for _, t := range to {
		if t == "*" || t == ns || t == "." && own == ns {
			return true
		}
	}
	return false
}

// effective is the policy of one port, or of a subset of it.
func effective(t *TrafficPolicy, sub *Subset, port uint16) TrafficPolicy {
	out := TrafficPolicy{}
	out.over(t, port)
	if sub != nil {
		out.over(sub.TrafficPolicy, port)
	}
	out.PortLevelSettings = nil
	return out
}

// over lays one level over another by Istio's rules: fields replace fields as a
// whole, and a port's settings replace all four together, inheriting nothing.
func (t *TrafficPolicy) over(x *TrafficPolicy, port uint16) {
	if x == nil {
		return
	}
	if x.LoadBalancer != nil {
		t.LoadBalancer = x.LoadBalancer
	}
	if x.ConnectionPool != nil {
		t.ConnectionPool = x.ConnectionPool
	}
	if x.OutlierDetection != nil {
		t.OutlierDetection = x.OutlierDetection
	}
	if x.TLS != nil {
		t.TLS = x.TLS
	}
	if x.Tunnel != nil {
		t.Tunnel = x.Tunnel
	}
	if x.ProxyProtocol != nil {
		t.ProxyProtocol = x.ProxyProtocol
	}
	if x.RetryBudget != nil {
		t.RetryBudget = x.RetryBudget
	}
	for i := range x.PortLevelSettings {
		if x.PortLevelSettings[i].Port.Number == uint32(port) {
			t.PortPolicy = x.PortLevelSettings[i].PortPolicy
			return
		}
	}
}

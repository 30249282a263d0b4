package kube

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
)

// LocalityLB is localityLbSetting, of a DestinationRule and of the mesh.
type LocalityLB struct {
	Enabled    *bool `json:"enabled"`
	Distribute []struct {
		From string            `json:"from"`
		To   map[string]uint32 `json:"to"`
	} `json:"distribute"`
	Failover []struct {
		From string `json:"from"`
		To   string `json:"to"`
	} `json:"failover"`
	FailoverPriority []string `json:"failoverPriority"`
}

func (l *LocalityLB) check(r *report, p string) {
	if l == nil {
		return
	}
	n := 0
	for _, set := range []bool{len(l.Distribute) > 0, len(l.Failover) > 0} {
		if set {
			n++
		}
	}
	if n > 1 {
		r.addf(p, "can not simultaneously specify 'distribute' and 'failover'")
	}
	for i, d := range l.Distribute {
		sum := uint32(0)
		for _, w := range d.To {
			if w == 0 || w > 100 {
				r.addf(at(p+".distribute", i)+".to", "a weight must be in range [1, 100]")
			}
			sum += min(w, 1000)
		}
		if sum != 100 {
			r.addf(at(p+".distribute", i)+".to", "the weights sum up to %d, not 100", sum)
		}
	}
	for i, f := range l.Failover {
		if f.From == f.To || f.From == "" || f.To == "" {
			r.addf(at(p+".failover", i), "from and to must be two regions")
		}
		if strings.ContainsAny(f.From+f.To, "*/") {
			r.addf(at(p+".failover", i), "names regions only")
		}
	}
}

// localityRules returns what decides over near and far endpoints, nil for nothing:
// the DestinationRule, else the service's traffic distribution, else the mesh.
// Failover needs outlier detection, which tells when to fail over, unless a traffic
// distribution forces it.
func (r *build) localityRules(s *service, t *TrafficPolicy) *balance.LocalityRules {
	var l *LocalityLB
	if t.LoadBalancer != nil {
		l = t.LoadBalancer.LocalityLbSetting
	}
	if l == nil {
		distribution := s.obj.Meta.Annotations["networking.istio.io/traffic-distribution"]
		if s.kube != nil && s.kube.Spec.TrafficDistribution != "" {
			distribution = s.kube.Spec.TrafficDistribution
		}
		if labels := balance.TrafficDistribution(distribution); labels != nil {
			return &balance.LocalityRules{FailoverPriority: labels}
		}
		if distribution != "" && !strings.EqualFold(distribution, "Any") {
			r.problem(config.Warning, s.obj, "spec.trafficDistribution", "Invalid", "%q is none of PreferClose, PreferSameZone, PreferSameNode; ignored", distribution)
		}
		l = r.meshLocality
	}
	if l != nil && l.Enabled != nil && !*l.Enabled {
		return nil
	}
	out := &balance.LocalityRules{}
	if l != nil {
		for _, d := range l.Distribute {
			x := balance.Distribute{From: d.From}
			for _, k := range sortedLocalities(d.To) {
				x.To = append(x.To, balance.LocalityShare{Pattern: k, Weight: d.To[k]})
			}
			out.Distribute = append(out.Distribute, x)
		}
		if len(out.Distribute) > 0 {
			return out
		}
	}
	if t.OutlierDetection == nil {
		return nil
	}
	if l != nil {
		out.FailoverPriority = l.FailoverPriority
		for _, f := range l.Failover {
			out.Failover = append(out.Failover, balance.Failover{From: f.From, To: f.To})
		}
	}
	return out
}

// sortedLocalities orders patterns from the most to the least particular, so that
// a wildcard takes what no other names.
func sortedLocalities(to map[string]uint32) []string {
	keys := slices.Collect(maps.Keys(to))
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(
			cmp.Compare(strings.Count(a, "*"), strings.Count(b, "*")),
			cmp.Compare(strings.Count(b, "/"), strings.Count(a, "/")),
			cmp.Compare(a, b),
		)
	})
	return keys
}

// prioritize ranks the endpoints of a backend as seen from this proxy.
func (r *build) prioritize(b *config.Backend, l *balance.LocalityRules) {
	if l == nil || b.Balance.Kind == balance.Passthrough {
		return
	}
	here := &balance.Place{Locality: r.here(), Network: r.mesh.Network, Node: r.opts.Node, Labels: r.opts.Labels}
	if len(l.Distribute) == 0 && !r.placed(l) {
		return // this proxy does not know where it is: everything is equally near
	}
	if slices.Contains(l.FailoverPriority, balance.LabelNetwork) || slices.Contains(l.FailoverPriority, balance.LabelNode) {
		for _, e := range b.Endpoints {
			if w, ok := e.Workload.(*config.Workload); ok && w != nil {
				e.Labels = r.placeLabels(w, e.Labels)
			}
		}
	}
	b.Endpoints = balance.Prioritize(here, l, b.Endpoints)
	b.Balance.LocalityWeighted = len(l.Distribute) > 0
	if !b.Balance.LocalityWeighted {
		for _, e := range b.Endpoints {
			e.Locality.Weight = 0 // nothing reads it
		}
	}
}

// placed reports whether anything is known that the rules could compare.
func (r *build) placed(l *balance.LocalityRules) bool {
	o := &r.opts
	if o.Locality.Region != "" || o.Locality.Zone != "" || o.Node != "" || len(o.Labels) > 0 {
		return true
	}
	return slices.ContainsFunc(l.FailoverPriority, func(s string) bool { return strings.Contains(s, "=") })
}

// placeLabels adds a workload's network and node to an endpoint's labels, where
// package balance looks for them.
func (r *build) placeLabels(w *config.Workload, labels map[string]string) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	if w.Network != "" && out[balance.LabelNetwork] == "" {
		out[balance.LabelNetwork] = w.Network
	}
	if w.Node != "" {
		out[balance.LabelNode] = w.Node
	}
	return out
}
